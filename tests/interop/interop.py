"""256 MiB each way between libtorrent and us, from nothing but a magnet link and a DHT.

Twenty DHT nodes, ten of them libtorrent's, live on 10.77.0.1 to 10.77.0.20. Then
1. libtorrent seeds and `trackerless-tokio download` fetches;
2. `trackerless-tokio seed` seeds and libtorrent fetches.
Trackers, PEX and LSD are off everywhere. With `--self-check` libtorrent takes our part too, which
shows that the laboratory itself works."""

import argparse
import os
import shutil
import tempfile
import time

import lab
from lab import PORT, Failure, say

OURS, THEIRS = 10, 10


def peer_flags():
    return ["--no-lsd", "--no-pex", "--no-trackers"]


class Laboratory:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.bootstrap = [f"10.77.0.{host}:{PORT}" for host in (1, 2, 11)]
        self.sessions, self.nodes = [], []

    def ours(self, name, *command, address):
        state = os.path.join(self.folder, f"state-{name}")
        arguments = [self.binary, *command, "--lab", "--json", "--state-dir", state]
        arguments += ["--listen", f"{address}:{PORT}"]
        for node in self.bootstrap:
            if node != f"{address}:{PORT}":
                arguments += ["--bootstrap", node]
        return lab.Child(arguments, name, self.folder)

    def start(self):
        for host in range(1, THEIRS + 1):
            address = f"10.77.0.{host}"
            nodes = [node for node in self.bootstrap if node != f"{address}:{PORT}"]
            self.sessions.append(lab.session(address, nodes))
        for host in range(THEIRS + 1, THEIRS + OURS + 1):
            address = f"10.77.0.{host}"
            if self.binary:
                self.nodes.append(self.ours(f"node-{host}", "dht", "run", address=address))
            else:
                nodes = [node for node in self.bootstrap if node != f"{address}:{PORT}"]
                self.sessions.append(lab.session(address, nodes))
        self.dht = lab.Dht(self.sessions)

        def ready():
            for node in self.nodes:
                if not node.running():
                    raise Failure(f"{node.name} ended by itself:\n{node.tail()}")
            return min(self.dht.nodes()) >= 5

        try:
            lab.wait_until("every libtorrent node knows five others", 60, ready)
        except Failure as failure:
            raise Failure(f"{failure}; they know {self.dht.nodes()}") from None
        say(f"the DHT stands: libtorrent's nodes know {sorted(self.dht.nodes())} others")

    def findable(self, magnet, handle):
        def found():
            if handle:
                # An announce that came too early is otherwise repeated only minutes later.
                handle.force_dht_announce()
            return self.dht.peers_of(self.sessions[4], magnet)

        lab.wait_until("the seeder is found by a lookup of another node", 60, found)
        say("the seeder is in the DHT")

    def ready_to_seed(self, child):
        def listening():
            if not child.running():
                raise Failure(f"{child.name} ended by itself:\n{child.tail()}")
            return child.last("listening")

        lab.wait_until(f"{child.name} listens", 60, listening)


def transfer(laboratory, direction, size, seed):
    """One transfer; raises Failure unless the content arrives whole."""
    giver = "libtorrent" if direction == 1 or not laboratory.binary else "trackerless"
    taker = "libtorrent" if direction == 2 or not laboratory.binary else "trackerless"
    say(f"{direction}: {giver} seeds, {taker} downloads {size >> 20} MiB")
    home = os.path.join(laboratory.folder, f"seed-{direction}")
    away = os.path.join(laboratory.folder, f"leech-{direction}")
    os.mkdir(home)
    os.mkdir(away)
    name = f"content-{direction}.bin"
    wanted = lab.write_random(os.path.join(home, name), size, seed)
    torrent, magnet = lab.make_torrent(os.path.join(home, name), 256 << 10)
    file = os.path.join(laboratory.folder, f"{direction}.torrent")
    with open(file, "wb") as out:
        out.write(torrent)

    seeder, leecher = f"10.77.{direction}.1", f"10.77.{direction}.2"
    session = handle = child = None
    if giver == "libtorrent":
        session = lab.session(seeder, laboratory.bootstrap)
        handle = lab.add(session, home, torrent=torrent)
        lab.wait_until("libtorrent has checked its file", 60, lambda: handle.status().is_seeding)
    else:
        child = laboratory.ours(
            f"seed-{direction}", "seed", file, "--data", home, *peer_flags(), address=seeder
        )
        laboratory.ready_to_seed(child)
    try:
        laboratory.findable(magnet, handle)
        began = time.monotonic()
        if taker == "libtorrent":
            download_theirs(laboratory, leecher, magnet, away)
        else:
            download_ours(laboratory, leecher, magnet, away, direction)
        took = time.monotonic() - began
    except Failure as failure:
        if child:
            raise Failure(f"{failure}\n--- the seeder's last lines\n{child.tail()}") from None
        raise
    finally:
        if child:
            child.end()
        if session:
            session.remove_torrent(handle)
    got = lab.sha256(os.path.join(away, name))
    if got != wanted:
        raise Failure(f"SHA-256 differs: {got} arrived, {wanted} was sent")
    say(f"{direction}: done in {took:.1f} s, {size / took / 2**20:.0f} MiB/s, SHA-256 {got}")
    shutil.rmtree(home)
    shutil.rmtree(away)


def download_theirs(laboratory, address, magnet, folder):
    session = lab.session(address, laboratory.bootstrap)
    handle = lab.add(session, folder, magnet=magnet)
    asked = time.monotonic()

    def done():
        nonlocal asked
        status = handle.status()
        # A lookup that came too early is otherwise repeated only minutes later.
        if status.num_peers == 0 and time.monotonic() - asked > 3:
            handle.force_dht_announce()
            asked = time.monotonic()
        return status.is_seeding

    try:
        lab.wait_until("libtorrent completes", 180, done)
        # What libtorrent has verified may not be in the file yet.
        session.remove_torrent(handle)
        time.sleep(1)
    except Failure as failure:
        status = handle.status()
        detail = f"{status.state}, {status.progress:.1%}, {status.num_peers} peers"
        raise Failure(f"{failure} ({detail})") from None


def download_ours(laboratory, address, magnet, folder, direction):
    child = laboratory.ours(
        f"download-{direction}", "download", magnet, "-o", folder, *peer_flags(), address=address
    )
    try:
        lab.wait_until("our download ends", 180, lambda: not child.running())
    except Failure as failure:
        raise Failure(f"{failure}; last progress {child.last('progress')}\n{child.tail()}") from None
    status = child.end()
    if status != 0:
        raise Failure(f"our download ended with status {status}:\n{child.tail()}")
    sources = {e.get("source") for e in list(child.events) if e.get("event") == "peer_found"}
    if not sources <= {"dht", "incoming"} or "dht" not in sources:
        raise Failure(f"peers were to come from the DHT alone, not from {sorted(map(str, sources))}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", help="our command")
    parser.add_argument("--self-check", action="store_true", help="libtorrent on both sides")
    parser.add_argument("--mebibytes", type=int, default=256)
    options = parser.parse_args()
    if bool(options.binary) == options.self_check:
        parser.error("give either --binary or --self-check")
    lab.only_loopback()
    seed = int.from_bytes(os.urandom(4), "big")
    say(f"content from seed {seed}")
    failed = []
    with tempfile.TemporaryDirectory(prefix="trackerless-interop-") as folder:
        try:
            laboratory = Laboratory(options.binary, folder)
            laboratory.start()
            for direction in (1, 2):
                try:
                    transfer(laboratory, direction, options.mebibytes << 20, seed + direction)
                except Failure as failure:
                    failed.append(direction)
                    say(f"{direction}: FAILED: {failure}")
        except Failure as failure:
            failed.append(0)
            say(f"FAILED: {failure}")
        finally:
            lab.end_children()
    lab.leave(failed)


if __name__ == "__main__":
    main()
