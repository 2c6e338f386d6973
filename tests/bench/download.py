"""One download of one file from a libtorrent seeder: by us and by libtorrent, in turn.

Prints wall seconds and CPU seconds of each leecher's whole process, their medians, and ours
divided by libtorrent's. Run by `tests/bench/run`."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "interop"))
import lab  # noqa: E402
from lab import Failure, say  # noqa: E402

SEEDER, LEECHER = "10.77.4.1", "10.77.4.2"


def seed(file, folder):
    """A process of its own, so that its CPU time is nobody else's."""
    session = lab.session(SEEDER, [], enable_dht=False)
    with open(file, "rb") as torrent:
        handle = lab.add(session, folder, torrent=torrent.read())
    lab.wait_until("the seeder has checked its file", 120, lambda: handle.status().is_seeding)
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


def leech(file, folder):
    session = lab.session(LEECHER, [], enable_dht=False)
    session.apply_settings({"alert_mask": lab.lt.alert.category_t.storage_notification})
    with open(file, "rb") as torrent:
        handle = lab.add(session, folder, torrent=torrent.read())
    handle.connect_peer((SEEDER, lab.PORT))
    lab.wait_until("libtorrent completes", 300, lambda: handle.status().is_seeding, every=0.01)
    # Written to its file, as ours is when it ends; the call only asks for it.
    handle.flush_cache()
    flushed = lambda: any(isinstance(a, lab.lt.cache_flushed_alert) for a in session.pop_alerts())
    lab.wait_until("libtorrent has written its file", 60, flushed, every=0.01)
    session.pause()
    os._exit(0)


def timed(command):
    """Wall and CPU seconds of a process that must succeed."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failure(f"{command[0]} ended with {process.returncode}: {process.stderr.read()!r}")
    return wall, usage.ru_utime + usage.ru_stime


def measure(options, folder):
    home = os.path.join(folder, "seed")
    os.mkdir(home)
    source, size = os.path.join(home, "content.bin"), options.mebibytes << 20
    wanted = lab.write_random(source, size, 1)
    torrent, _ = lab.make_torrent(source, 1 << 20)
    file = os.path.join(folder, "content.torrent")
    with open(file, "wb") as out:
        out.write(torrent)
    own = [sys.executable, os.path.abspath(__file__)]
    seeder = subprocess.Popen(
        [*own, "--seed", file, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        if seeder.stdout.readline().strip() != b"ready":
            raise Failure("the seeder does not start")
        results = {"trackerless": [], "libtorrent": []}
        for round_ in range(options.rounds):
            for who in results:
                away = os.path.join(folder, f"leech-{who}-{round_}")
                os.mkdir(away)
                # The first touch of a page costs a virtual machine more than the download.
                touched = os.path.join(away, "touch")
                lab.write_random(touched, size, 2)
                os.remove(touched)
                if who == "libtorrent":
                    command = [*own, "--leech", file, away]
                else:
                    command = [options.binary, "download", file, "-o", away, "-q", "--lab"]
                    command += ["--no-dht", "--no-lsd", "--no-pex", "--no-trackers"]
                    command += ["--peer", f"{SEEDER}:{lab.PORT}", "--listen"]
                    command += [f"{LEECHER}:{lab.PORT}", "--state-dir", os.path.join(away, "state")]
                wall, cpu = timed(command)
                got = lab.sha256(os.path.join(away, "content.bin"))
                if got != wanted:
                    raise Failure(f"{who}: SHA-256 differs")
                os.remove(os.path.join(away, "content.bin"))
                results[who].append((wall, cpu))
                say(f"round {round_}: {who:12} {wall:6.2f} s wall, {cpu:6.2f} s CPU")
    finally:
        seeder.stdin.close()
        seeder.wait(10)
    medians = {who: [statistics.median(c) for c in zip(*runs)] for who, runs in results.items()}
    for who, (wall, cpu) in medians.items():
        rate = size / wall / 2**20
        say(f"median:  {who:12} {wall:6.2f} s wall, {cpu:6.2f} s CPU, {rate:.0f} MiB/s")
    ours, theirs = medians["trackerless"], medians["libtorrent"]
    say(f"ratio:   wall {ours[0] / theirs[0]:.2f}, CPU {ours[1] / theirs[1]:.2f} (ours / libtorrent's)")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", nargs=2)
    parser.add_argument("--leech", nargs=2)
    options = parser.parse_args()
    lab.only_loopback()
    if options.seed:
        seed(*options.seed)
    if options.leech:
        leech(*options.leech)
    stats = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    roomy = stats and stats.f_bavail * stats.f_frsize > (options.mebibytes << 20) * 5 // 2
    if not roomy:
        say("no tmpfs with enough room: the disk is measured too")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if roomy else None) as folder:
        try:
            measure(options, folder)
        except Failure as failure:
            sys.exit(f"FAILED: {failure}")


if __name__ == "__main__":
    main()
