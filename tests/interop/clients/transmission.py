"""Transmission's daemon, spoken to by its RPC."""

import base64
import json
import os
import socket
import urllib.error
import urllib.request

import lab
from clients import Client

RPC_PORT = 9091
SEEDING = 6
FIELDS = [
    "status", "percentDone", "leftUntilDone", "haveValid", "uploadedEver", "errorString",
    "peersConnected", "peersFrom", "metadataPercentComplete", "peers",
]  # fmt: skip


class Transmission(Client):
    title = "Transmission"
    makes_empty_files = False

    def launch(self):
        task, home = self.task, self.task.state
        v6 = ":" in task.address
        # What it fetches comes from the IPv4 address, if it has one of its own: then no IPv6 host
        # is reached.
        settings = {
            "bind-address-ipv4": "0.0.0.0" if v6 else task.address,
            "bind-address-ipv6": task.address if v6 else "::1",
            "peer-port": task.port,
            "peer-port-random-on-start": False,
            "port-forwarding-enabled": False,
            "dht-enabled": task.contacts is not None,
            "lpd-enabled": task.lsd,
            "pex-enabled": task.pex,
            # Where uTP fails this version connects over TCP and closes that at once. It does
            # without uTP the next time only if it was not answered at all, and not if it was
            # refused: as later versions and libtorrent understand at once, and as we do.
            "utp-enabled": task.utp,
            # Required, or preferred as it comes.
            "encryption": {"rc4": 2, "": 1}[task.encryption],
            "download-dir": task.folder,
            "incomplete-dir-enabled": False,
            "rename-partial-files": False,
            "preallocation": 0,
            "cache-size-mb": 0,
            "speed-limit-down-enabled": bool(task.down),
            "speed-limit-down": max(task.down >> 10, 1),
            "speed-limit-up-enabled": bool(task.up),
            "speed-limit-up": max(task.up >> 10, 1),
            "ratio-limit-enabled": False,
            "rpc-enabled": True,
            "rpc-bind-address": self._rpc_host(),
            "rpc-port": RPC_PORT,
            "rpc-whitelist-enabled": False,
            "rpc-host-whitelist-enabled": False,
            "message-level": 3,
        }
        with open(os.path.join(home, "settings.json"), "w") as file:
            json.dump(settings, file)
        if task.contacts:
            self._write_contacts(home)
        self.session, self.hash = "", None
        command = ["transmission-daemon", "-f", "-g", home, "--log-debug"]
        child = lab.Child(command, task.name, task.room.folder, env={**os.environ, "HOME": home})
        self.child = child
        lab.wait_until("Transmission's RPC answers", 20, self._answers)
        self._add()
        return child

    def _rpc_host(self):
        address = self.task.address
        return self.task.room.partner(address) if ":" in address else address

    def _write_contacts(self, home):
        """Its saved routing table: what it starts from where there are no well-known routers."""
        packed = {4: b"", 6: b""}
        for contact in self.task.contacts:
            host, port = contact.rsplit(":", 1)
            host = host.strip("[]")
            family, length = (socket.AF_INET6, 6) if ":" in host else (socket.AF_INET, 4)
            packed[length] += socket.inet_pton(family, host) + int(port).to_bytes(2, "big")
        document = b"d2:id20:" + os.urandom(20)
        for key, length in ((b"nodes", 4), (b"nodes6", 6)):
            if packed[length]:
                document += b"%d:%s%d:%s" % (len(key), key, len(packed[length]), packed[length])
        with open(os.path.join(home, "dht.dat"), "wb") as file:
            file.write(document + b"e")

    def _call(self, method, **arguments):
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        for _ in range(2):
            request = urllib.request.Request(
                f"http://{self._rpc_host()}:{RPC_PORT}/transmission/rpc",
                body,
                {"X-Transmission-Session-Id": self.session},
            )
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    answer = json.load(answer)
                    if answer["result"] != "success":
                        raise lab.Failure(f"Transmission refuses {method}: {answer['result']}")
                    return answer["arguments"]
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    raise lab.Failure(f"Transmission answers {error.code}") from None
                self.session = error.headers["X-Transmission-Session-Id"]
        raise lab.Failure("Transmission's RPC wants another session each time")

    def _answers(self):
        self.alive()
        try:
            return self._call("session-get")
        except OSError:
            return None

    def _add(self):
        arguments = {"download-dir": self.task.folder, "paused": False}
        if self.task.source.startswith("magnet:"):
            arguments["filename"] = self.task.source
        else:
            with open(self.task.source, "rb") as file:
                arguments["metainfo"] = base64.b64encode(file.read()).decode()
        added = self._call("torrent-add", **arguments)
        again = added.get("torrent-duplicate")
        self.hash = (again or added["torrent-added"])["hashString"]
        if again:
            # It was killed before it saved what it has, and would believe that it has nothing.
            self._call("torrent-verify", ids=[self.hash])

    def status(self):
        try:
            (torrent,) = self._call("torrent-get", ids=[self.hash], fields=FIELDS)["torrents"]
        except (OSError, ValueError):
            return {}
        return torrent

    def ready(self):
        status = self.status()
        return status and (status["status"] == SEEDING or not self.task.seeds)

    def complete(self):
        status = self.status()
        # A magnet link without metadata has nothing left to fetch either.
        return status and status["status"] == SEEDING and status["percentDone"] == 1

    def says(self):
        status = self.status()
        status["peers"] = [(p["address"], p["flagStr"]) for p in status.get("peers", [])]
        return status

    def uploaded(self):
        return self.status().get("uploadedEver", 0)

    def has(self):
        return self.status().get("haveValid", 0)
