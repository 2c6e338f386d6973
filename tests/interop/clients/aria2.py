"""aria2, spoken to by its RPC."""

import json
import os
import re
import socket
import urllib.request

import lab
from clients import Client

RPC_PORT = 6800


class Aria2(Client):
    title = "aria2"
    drops_idle_peers = True  # after 30 s; peers it exchanges after 60

    def launch(self):
        task, state = self.task, self.task.state
        v6 = ":" in task.address
        host = task.room.partner(task.address) if v6 else task.address
        # It listens to calls on 127.0.0.1 alone: several share that address.
        port = RPC_PORT + int(host.rsplit(".", 1)[1])
        self.rpc = f"http://127.0.0.1:{port}/jsonrpc"
        # Fresh tables of the DHT: those of another run would name hosts that are not there.
        command = [
            "aria2c", "--no-conf", "--no-netrc", "--enable-color=false", "--summary-interval=0",
            "--show-console-readout=false", f"--log={state}/aria2.log", "--log-level=debug",
            "--enable-rpc", f"--rpc-listen-port={port}",
            f"--dir={task.folder}", f"--interface={task.address}", f"--listen-port={task.port}",
            f"--dht-listen-port={task.port}", f"--dht-file-path={state}/dht4-{os.getpid()}",
            f"--dht-file-path6={state}/dht6-{os.getpid()}",
            # The machine of UDP trackers is its DHT's.
            f"--enable-dht={_word((task.contacts is not None and not v6) or task.trackers)}",
            f"--enable-dht6={_word(task.contacts is not None and v6)}",
            f"--bt-external-ip={task.address}",
            f"--bt-enable-lpd={_word(task.lsd)}", f"--enable-peer-exchange={_word(task.pex)}",
            f"--max-overall-download-limit={task.down}", f"--max-overall-upload-limit={task.up}",
            "--follow-torrent=mem", "--file-allocation=none", "--disk-cache=0", "--quiet=true",
            "--allow-overwrite=true", "--seed-ratio=0.0", "--check-integrity=true",
        ]  # fmt: skip
        if task.encryption:
            # It knows no way to speak after the handshake of encryption in plain text alone.
            assert task.encryption == "rc4"
            command += ["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"]
        if task.lsd:
            command.append(f"--bt-lpd-interface={task.address}")
        if v6:
            command.append(f"--dht-listen-addr6={task.address}")
        for contact in task.contacts or ():
            command.append(f"--dht-entry-point{'6' if v6 else ''}={contact}")
        if not task.trackers:
            command.append("--bt-exclude-tracker=*")
        return lab.Child([*command, task.source], task.name, task.room.folder)

    def _call(self, method, *arguments):
        body = {"jsonrpc": "2.0", "id": "1", "method": f"aria2.{method}", "params": arguments}
        request = urllib.request.Request(self.rpc, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)["result"]
        except (OSError, ValueError):
            return None

    def status(self):
        """Of the content: a magnet link's metadata is a download of its own before it."""
        downloads = self._call("tellActive") or []
        for download in [*downloads, *(self._call("tellStopped", 0, 9) or [])]:
            if download.get("errorCode", "0") != "0":
                raise lab.Failure(f"aria2: {download.get('errorMessage')}")
        content = [d for d in downloads if "info" in d.get("bittorrent", {})]
        return content[-1] if content else {}

    def ready(self):
        if not self.task.seeds:
            return self._listens()
        return self.complete()

    def _listens(self):
        try:
            socket.create_connection((self.task.address, self.task.port), 1).close()
        except OSError:
            return False
        return True

    def complete(self):
        return self.status().get("seeder") == "true" and self.has() > 0

    def says(self):
        status = self.status()
        keys = ("status", "completedLength", "totalLength", "connections", "numSeeders")
        return {key: status.get(key) for key in keys}

    def tail(self):
        """What it said of peers; most lines are about the calls that ask how it does."""
        with open(os.path.join(self.task.state, "aria2.log"), errors="replace") as log:
            lines = [line for line in log if "[" in line and not re.search("Http|rpc|Socket", line)]
        return f"--- the last lines of {self.task.name}\n" + "".join(lines[-15:])

    def uploaded(self):
        return int(self.status().get("uploadLength", 0))

    def has(self):
        return int(self.status().get("completedLength", 0))


def _word(value):
    return "true" if value else "false"
