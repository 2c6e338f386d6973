"""Those who are compared: how each is started as a leecher and as a seeder."""

import json
import os
import sys

import lab

BENCH = os.path.dirname(os.path.abspath(__file__))
ADDRESS = "10.77.4.2"


class Contestant:
    """`leech` is a command that ends by itself, unless `ends` is false: then it makes the file
    `done` when it has everything. `seed` is a command that goes on until it is ended."""

    name = ""
    ends = True
    # Told of peers by a tracker.
    by_tracker = False
    # So many MiB of a seeder's content are fetched, at most.
    most = 1 << 20

    def leech(self, torrent, folder, state, peers, tracker):
        raise NotImplementedError

    def seed(self, torrent, folder, state):
        raise NotImplementedError


class Ours(Contestant):
    def __init__(self, name, binary):
        self.name, self.binary = name, binary

    def _quiet(self, state):
        command = ["-q", "--lab", "--no-dht", "--no-lsd", "--no-pex", "--no-trackers"]
        return [*command, "--listen", f"{ADDRESS}:{lab.PORT}", "--state-dir", state]

    def leech(self, torrent, folder, state, peers, tracker):
        command = [self.binary, "download", torrent, "-o", folder, *self._quiet(state)]
        command += ["--max-peers", str(max(200, len(peers) + 10))]
        for host, port in peers:
            command += ["--peer", f"{host}:{port}"]
        return command

    def seed(self, torrent, folder, state):
        return [self.binary, "seed", torrent, "--data", folder, *self._quiet(state)]


class Floor(Contestant):
    name = "floor"

    def leech(self, torrent, folder, state, peers, tracker):
        host, port = peers[0]
        file = os.path.join(folder, "content.bin")
        return [os.environ["TRACKERLESS_LEAN"], "floor", torrent, f"{host}:{port}", file]


class Libtorrent(Contestant):
    name = "libtorrent"

    def _command(self, what, *arguments):
        return [sys.executable, os.path.join(BENCH, "libtorrent_alone.py"), what, *arguments]

    def leech(self, torrent, folder, state, peers, tracker):
        return self._command("leech", torrent, folder, ADDRESS, json.dumps(peers))

    def seed(self, torrent, folder, state):
        return self._command("seed", torrent, folder, ADDRESS)

    def nothing(self):
        """What its interpreter costs by itself."""
        return self._command("nothing")


class Transmission(Contestant):
    name = "Transmission"
    ends = False
    by_tracker = True
    most = 64

    def leech(self, torrent, folder, state, peers, tracker):
        settings = {
            "bind-address-ipv4": ADDRESS,
            "bind-address-ipv6": "::1",
            "peer-port": lab.PORT,
            "peer-port-random-on-start": False,
            "port-forwarding-enabled": False,
            "dht-enabled": False,
            "lpd-enabled": False,
            "pex-enabled": False,
            "utp-enabled": False,
            "encryption": 0,
            "rename-partial-files": False,
            "speed-limit-down-enabled": False,
            "speed-limit-up-enabled": False,
            "ratio-limit-enabled": False,
            "peer-limit-per-torrent": 250,
            "peer-limit-global": 250,
            "upload-slots-per-torrent": 14,
        }
        os.makedirs(state, exist_ok=True)
        with open(os.path.join(state, "settings.json"), "w") as file:
            json.dump(settings, file)
        script = os.path.join(state, "done.sh")
        with open(script, "w") as file:
            file.write(f"#!/bin/sh\n: > '{state}/done'\n")
        os.chmod(script, 0o755)
        return ["transmission-cli", "-g", state, "-w", folder, "-f", script, "-et", torrent]

    def seed(self, torrent, folder, state):
        return self.leech(torrent, folder, state, [], None)


class Aria2(Contestant):
    name = "aria2"
    by_tracker = True

    def _command(self, folder, *more):
        return [
            "aria2c", "--no-conf", "--no-netrc", "--quiet=true", "--summary-interval=0",
            "--show-console-readout=false", "--enable-dht=false", "--enable-dht6=false",
            "--bt-enable-lpd=false", "--enable-peer-exchange=false", "--file-allocation=none",
            "--bt-max-peers=0", "--bt-max-open-files=1000", f"--interface={ADDRESS}",
            f"--listen-port={lab.PORT}", f"--dir={folder}", *more,
        ]  # fmt: skip

    def leech(self, torrent, folder, state, peers, tracker):
        return self._command(folder, "--seed-time=0", torrent)

    def seed(self, torrent, folder, state):
        more = ("--seed-ratio=0.0", "--bt-seed-unverified=true", "--allow-overwrite=true")
        return self._command(folder, *more, torrent)


def everybody():
    return [
        Floor(),
        Ours("tokio", os.environ["TRACKERLESS_BINARY"]),
        Ours("mio", os.environ["TRACKERLESS_OTHER"]),
        Libtorrent(),
        Transmission(),
        Aria2(),
    ]


OURS = ("tokio", "mio")
THEIRS = ("libtorrent", "Transmission", "aria2")
