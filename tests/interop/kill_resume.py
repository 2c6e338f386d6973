"""A download that is killed twenty times at random moments, then left to finish.

libtorrent seeds at a limited rate and reports every block it uploads. After each kill the pieces
that are right on disk are noted: the next run must not ask for any block of them. At the end the
SHA-256 must be that of the source."""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time

import lab
import libtorrent as lt
from lab import Failure, say

SEEDER, LEECHER = "10.77.3.1", "10.77.3.2"
PIECE = 64 << 10
RATE = 2 << 20
# Seconds that a run lasts at most before it is killed.
LONGEST = 2.0
# More than all runs together can fetch, whatever the dice say: a seeder that was idle gives more
# than its rate for a moment.
SIZE = (112 << 20) + 12_345


class Seeder:
    def __init__(self, folder, torrent):
        self.session = lab.session(
            SEEDER,
            [],
            enable_dht=False,
            upload_rate_limit=RATE,
            rate_limit_ip_overhead=False,
            alert_mask=lt.alert.category_t.upload_notification,
            alert_queue_size=1_000_000,
        )
        # Peer class limits leave local addresses out; here every peer is local.
        self.session.set_peer_class_filter(lt.ip_filter())
        self.handle = lab.add(self.session, folder, torrent=torrent)
        lab.wait_until("the seeder has checked its file", 60, lambda: self.handle.status().is_seeding)
        self.limit(RATE)

    def limit(self, rate):
        self.session.apply_settings({"upload_rate_limit": rate})
        self.handle.set_upload_limit(rate)

    def uploaded(self):
        """Pieces of which blocks left since the last call, and how many blocks."""
        pieces, blocks = set(), 0
        for alert in self.session.pop_alerts():
            if isinstance(alert, lt.block_uploaded_alert):
                pieces.add(alert.piece_index)
                blocks += 1
        return pieces, blocks


def right_pieces(path, hashes):
    """Indices of the pieces of the file that are what they should be."""
    right = set()
    if os.path.exists(path):
        with open(path, "rb") as file:
            for index, wanted in enumerate(hashes):
                if hashlib.sha1(file.read(PIECE)).digest() == wanted:
                    right.add(index)
    return right


def run(binary, kills, folder):
    seed = int.from_bytes(os.urandom(4), "big")
    dice = random.Random(seed)
    say(f"seed {seed}")
    home, away = os.path.join(folder, "seed"), os.path.join(folder, "leech")
    os.mkdir(home)
    os.mkdir(away)
    source, target = os.path.join(home, "content.bin"), os.path.join(away, "content.bin")
    wanted = lab.write_random(source, SIZE, seed)
    torrent, _ = lab.make_torrent(source, PIECE)
    pieces = lt.bdecode(torrent)[b"info"][b"pieces"]
    hashes = [pieces[at : at + 20] for at in range(0, len(pieces), 20)]
    file = os.path.join(folder, "content.torrent")
    with open(file, "wb") as out:
        out.write(torrent)
    seeder = Seeder(home, torrent)
    command = [binary, "download", file, "-o", away, "--peer", f"{SEEDER}:{lab.PORT}"]
    command += ["--no-dht", "--no-lsd", "--no-pex", "--no-trackers", "--lab", "--json"]
    command += ["--listen", f"{LEECHER}:{lab.PORT}", "--state-dir", os.path.join(folder, "state")]

    blocks_in_all = again = killed = midway = 0
    for attempt in range(kills + 1):
        have = right_pieces(target, hashes)
        seeder.uploaded()
        last = attempt == kills
        if last:
            seeder.limit(0)
        child = lab.Child(command, f"run-{attempt}", folder)
        if last:
            lab.wait_until("the last run ends", 120, lambda: not child.running())
            if child.end() != 0:
                raise Failure(f"the last run failed:\n{child.tail()}")
        else:
            time.sleep(dice.uniform(0.05, LONGEST))
            if not child.running():
                raise Failure(f"run {attempt} ended before it was killed:\n{child.tail()}")
            child.end(signal.SIGKILL)
            killed += 1
        time.sleep(0.2)
        fetched, blocks = seeder.uploaded()
        blocks_in_all += blocks
        midway += blocks > 0 and not last
        repeated = fetched & have
        again += len(repeated)
        say(
            f"run {attempt}: began with {len(have)} of {len(hashes)} pieces, "
            f"{blocks} blocks of {len(fetched)} pieces fetched, {len(repeated)} pieces again"
        )
    if again:
        raise Failure(f"{again} pieces that were in their file were fetched again")
    if midway < kills // 4:
        raise Failure(f"only {midway} of {kills} kills came while blocks arrived")
    got = lab.sha256(target)
    if got != wanted:
        raise Failure(f"SHA-256 differs: {got}, wanted {wanted}")
    needed = -(-SIZE // (16 << 10))
    say(f"killed {killed} times, {midway} of them midway; {blocks_in_all} blocks for {needed}, SHA-256 right")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    lab.only_loopback()
    status = 0
    with tempfile.TemporaryDirectory(prefix="trackerless-kill-") as folder:
        try:
            run(options.binary, options.kills, folder)
        except Failure as failure:
            say(f"FAILED: {failure}")
            status = 1
        finally:
            lab.end_children()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
