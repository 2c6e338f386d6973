"""Peer exchange (BEP 11) between libtorrent and us; nothing else tells of peers.

Three hosts each time: a seeder that exchanges no peers and connects to nobody, a middle one that
knows the seeder and has nothing, and a leecher that knows the middle one.
1. Seeder and middle are libtorrent's, the leecher is ours.
2. Seeder and middle are ours, the leecher is libtorrent's.
3. As 1, but our leecher declines (`--no-pex`): it must not learn of the seeder."""

import argparse
import os
import tempfile
import time

import lab
from lab import PORT, Failure, lt, say

PIECE = 4 << 20
QUIET = ["--no-dht", "--no-lsd", "--no-trackers"]


class Case:
    """Content, its torrent, and the addresses of one case."""

    def __init__(self, binary, folder, number, size, seed):
        self.binary, self.number = binary, number
        self.sessions = []  # one that nobody holds on to ends at once
        self.folder = os.path.join(folder, f"case-{number}")
        for place in ("seeder", "middle", "leecher"):
            os.makedirs(os.path.join(self.folder, place))
        self.name = f"pex-{number}.bin"
        path = self.path("seeder")
        self.wanted = lab.write_random(path, size, seed)
        self.torrent, _ = lab.make_torrent(path, PIECE)
        self.file = os.path.join(self.folder, "content.torrent")
        with open(self.file, "wb") as out:
            out.write(self.torrent)
        self.address = {
            place: f"10.77.{100 + number}.{at}"
            for at, place in enumerate(("seeder", "middle", "leecher"), 1)
        }

    def path(self, place):
        return os.path.join(self.folder, place, self.name)

    def endpoint(self, place):
        return f"{self.address[place]}:{PORT}"

    def theirs(self, place, exchanges):
        """A libtorrent session's torrent; only the middle one and the leecher have
        the extension. Seeds stay connected to whoever has nothing to give."""
        # Connections leave from the address it listens on: two from one are taken for one peer.
        address = self.address[place]
        made = lab.session(
            address,
            [],
            enable_dht=False,
            close_redundant_connections=False,
            outgoing_interfaces=address,
        )
        self.sessions.append(made)
        if exchanges:
            made.add_extension("ut_pex")
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(lt.bdecode(self.torrent))
        params.save_path = os.path.join(self.folder, place)
        flags = lt.torrent_flags
        params.flags &= ~(flags.auto_managed | flags.paused | flags.disable_pex)
        params.flags |= flags.disable_lsd | flags.disable_dht
        if not exchanges:
            params.flags |= flags.disable_pex
        if place == "middle":
            params.flags |= flags.upload_mode  # it asks for nothing
        return made.add_torrent(params)

    def ours(self, place, *command):
        state = os.path.join(self.folder, f"state-{place}")
        arguments = [self.binary, *command, "--lab", "--json", "--state-dir", state, *QUIET]
        arguments += ["--listen", self.endpoint(place)]
        child = lab.Child(arguments, f"{self.number}-{place}", self.folder)

        def listening():
            if not child.running():
                raise Failure(f"{child.name} ended by itself:\n{child.tail()}")
            return child.last("listening")

        lab.wait_until(f"{child.name} listens", 10, listening)
        return child

    def compare(self):
        got = lab.sha256(self.path("leecher"))
        if got != self.wanted:
            raise Failure(f"SHA-256 differs: {got} arrived, {self.wanted} was sent")
        return got


def found(child, address):
    """The sources that told our command of `address`."""
    events = [e for e in list(child.events) if e.get("event") == "peer_found"]
    return [e["source"] for e in events if e["address"] == address]


def their_middle(case):
    """libtorrent seeds; libtorrent in the middle is connected and has nothing."""
    seeding = case.theirs("seeder", False)
    lab.wait_until("libtorrent has checked its file", 10, lambda: seeding.status().is_seeding)
    middle = case.theirs("middle", True)
    middle.connect_peer((case.address["seeder"], PORT))
    lab.wait_until("the middle one is connected", 10, lambda: middle.status().num_peers == 1)
    return middle


def we_learn(case):
    middle = their_middle(case)
    child = case.ours(
        "leecher", "download", case.file, "-o", os.path.join(case.folder, "leecher"),
        "--peer", case.endpoint("middle"),
    )
    try:
        lab.wait_until("our download ends", 20, lambda: not child.running())
    except Failure as failure:
        raise Failure(f"{failure}; {child.last('progress')}\n{child.tail()}") from None
    if child.end() != 0:
        raise Failure(f"our download failed:\n{child.tail()}")
    sources = found(child, case.endpoint("seeder"))
    if sources != ["pex"]:
        raise Failure(f"the seeder was to be found by PEX, not by {sources}")
    if middle.status().num_pieces != 0:
        raise Failure("the middle one was to have nothing")
    told = [e for e in child.events if e.get("event") == "source" and e.get("source") == "pex"]
    if not any(e.get("peers", 0) >= 1 for e in told):
        raise Failure(f"the source told of no peers: {told}")
    return case.compare()


def they_learn(case):
    seeder = case.ours("seeder", "seed", case.file, "--data", os.path.join(case.folder, "seeder"),
                       "--no-pex")
    lab.wait_until("our seeder has checked its file", 10, lambda: seeder.last("verified"))
    # What arrives is less than a piece in the time this takes, and next to nothing leaves.
    middle = case.ours(
        "middle", "download", case.file, "-o", os.path.join(case.folder, "middle"),
        "--peer", case.endpoint("seeder"), "--download-limit", "32K", "--upload-limit", "1",
    )
    lab.wait_until("our middle one is connected", 10, lambda: middle.last("peer_connected"))
    leecher = case.theirs("leecher", True)
    leecher.connect_peer((case.address["middle"], PORT))
    learnt = {}

    def done():
        for peer in leecher.get_peer_info():
            learnt[peer.ip[0]] = int(peer.source)
        return leecher.status().is_seeding

    try:
        lab.wait_until("libtorrent completes", 25, done)
    except Failure as failure:
        status = leecher.status()
        detail = f"{status.progress:.1%}, peers and their sources {learnt}"
        raise Failure(f"{failure} ({detail})\n{middle.tail()}") from None
    if not learnt.get(case.address["seeder"], 0) & int(lt.peer_info.pex):
        raise Failure(f"libtorrent was to learn of the seeder by PEX: {learnt}")
    if (middle.last("progress") or {}).get("done", 0) != 0:
        raise Failure(f"the middle one was to have nothing: {middle.last('progress')}")
    # What libtorrent has verified may not be in the file yet.
    case.sessions[-1].remove_torrent(leecher)
    time.sleep(1)
    return case.compare()


def we_decline(case):
    their_middle(case)
    child = case.ours(
        "leecher", "download", case.file, "-o", os.path.join(case.folder, "leecher"),
        "--peer", case.endpoint("middle"), "--no-pex",
    )
    lab.wait_until("our leecher is connected", 10, lambda: child.last("peer_connected"))
    time.sleep(5)
    if found(child, case.endpoint("seeder")) or not child.running():
        raise Failure(f"--no-pex: it was told of the seeder all the same\n{child.tail()}")
    child.end()
    return "nothing was learnt"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, help="our command")
    parser.add_argument("--mebibytes", type=int, default=32)
    options = parser.parse_args()
    lab.only_loopback()
    seed = int.from_bytes(os.urandom(4), "big")
    say(f"content from seed {seed}")
    failed = []
    with tempfile.TemporaryDirectory(prefix="trackerless-pex-") as folder:
        cases = [
            ("we learn the seeder from libtorrent", we_learn),
            ("libtorrent learns the seeder from us", they_learn),
            ("with --no-pex nobody is learnt", we_decline),
        ]
        for number, (what, run) in enumerate(cases, 1):
            try:
                case = Case(options.binary, folder, number, options.mebibytes << 20, seed + number)
                say(f"{number}: {what}: ok, {run(case)}")
            except Failure as failure:
                failed.append(number)
                say(f"{number}: {what}: FAILED: {failure}")
            finally:
                lab.end_children()
    lab.leave(failed)


if __name__ == "__main__":
    main()
