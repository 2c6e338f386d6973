"""32 MiB each way between libtorrent and us, by local service discovery (BEP 14) alone: no DHT, no
tracker, no PEX, and nobody is named a peer.

1. libtorrent seeds and `trackerless-tokio download` fetches;
2. `trackerless-tokio seed` seeds and libtorrent fetches;
3. with `--no-lsd` the same seeder is not found: what was seen before was discovery."""

import os
import sys
import time

import lab
from lab import PORT, Failure, say

SIZE = 32 << 20


def ours(binary, folder, name, *command, address):
    state = os.path.join(folder, f"state-{name}")
    arguments = [binary, *command, "--no-dht", "--no-pex", "--no-trackers", "--lab", "--json"]
    arguments += ["--state-dir", state, "--listen", f"{address}:{PORT}"]
    return lab.Child(arguments, name, folder)


def theirs(address):
    return lab.session(address, [], enable_dht=False, enable_lsd=True)


def content(folder, number):
    home = os.path.join(folder, f"seed-{number}")
    away = os.path.join(folder, f"leech-{number}")
    os.mkdir(home)
    os.mkdir(away)
    path = os.path.join(home, "content.bin")
    wanted = lab.write_random(path, SIZE, number)
    torrent, magnet = lab.make_torrent(path, 256 << 10)
    return home, away, torrent, magnet, wanted


def compare(number, away, wanted, began):
    got = lab.sha256(os.path.join(away, "content.bin"))
    if got != wanted:
        raise Failure(f"SHA-256 differs: {got} arrived, {wanted} was sent")
    say(f"{number}: done in {time.monotonic() - began:.1f} s, SHA-256 {got}")


def check_sources(child, allowed, needed=frozenset()):
    sources = {e.get("source") for e in list(child.events) if e.get("event") == "peer_found"}
    if not sources or not needed <= sources <= allowed:
        raise Failure(f"peers were to come from {sorted(allowed)}, not from {sorted(sources)}")


def to_us(binary, folder):
    home, away, torrent, magnet, wanted = content(folder, 1)
    session = theirs("10.77.3.1")
    handle = lab.add(session, home, torrent=torrent, lsd=True)
    lab.wait_until("libtorrent has checked its file", 60, lambda: handle.status().is_seeding)
    began = time.monotonic()
    child = ours(binary, folder, "down", "download", magnet, "-o", away, address="10.77.3.2")
    try:
        lab.wait_until("our download ends", 60, lambda: not child.running())
    except Failure as failure:
        raise Failure(f"{failure}\n{child.tail()}") from None
    if child.end() != 0:
        raise Failure(f"our download failed:\n{child.tail()}")
    # libtorrent hears our search and connects, or we hear its.
    check_sources(child, {"lsd", "incoming"})
    compare(1, away, wanted, began)
    away = os.path.join(folder, "leech-3")
    os.mkdir(away)
    child = ours(
        binary, folder, "blind", "download", magnet, "-o", away, "--no-lsd", address="10.77.3.3"
    )
    time.sleep(5)
    found = child.last("peer_found")
    child.end()
    if found:
        raise Failure(f"--no-lsd, and yet a peer was found: {found}")
    say("3: nobody is found with --no-lsd")
    session.remove_torrent(handle)


def from_us(binary, folder):
    home, away, torrent, magnet, wanted = content(folder, 2)
    file = os.path.join(folder, "2.torrent")
    with open(file, "wb") as out:
        out.write(torrent)
    child = ours(binary, folder, "up", "seed", file, "--data", home, address="10.77.4.1")
    lab.wait_until("our seeder has checked its file", 60, lambda: child.last("verified"))
    began = time.monotonic()
    session = theirs("10.77.4.2")
    handle = lab.add(session, away, magnet=magnet, lsd=True)
    try:
        lab.wait_until("libtorrent completes", 60, lambda: handle.status().is_seeding)
    except Failure as failure:
        status = handle.status()
        detail = f"{status.state}, {status.progress:.1%}, {status.num_peers} peers"
        raise Failure(f"{failure} ({detail})\n{child.tail()}") from None
    # What libtorrent has verified may not be in the file yet.
    session.remove_torrent(handle)
    time.sleep(1)
    child.end()
    # Our own search came before it was there: only what it said can have brought us together.
    check_sources(child, {"lsd", "incoming"}, {"lsd"})
    compare(2, away, wanted, began)


def main():
    binary = sys.argv[1]
    lab.run_steps("lsd", [lambda folder: to_us(binary, folder), lambda folder: from_us(binary, folder)])


if __name__ == "__main__":
    main()
