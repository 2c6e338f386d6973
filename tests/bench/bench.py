"""Tables of what downloads and uploads cost. Run by the script `run`.

Rates are from the first block to the last as the other end sees them; "first" is from the start of
the process until the first block is asked for; CPU seconds are those of the whole process; memory
is the peak of what is resident and not backed by a file."""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "interop"))
import lab  # noqa: E402
import tracker  # noqa: E402
from contestants import ADDRESS, OURS, THEIRS, everybody  # noqa: E402
from lab import Failure, say  # noqa: E402

LEAN = os.environ["TRACKERLESS_LEAN"]
SEEDER_PORT = 7000
TRACKER_HOST = "10.77.3.1"
LIMIT = 180
IDLE_SECONDS = 20


class Content:
    """A torrent, its content in one piece for the lean seeder, and its files."""

    def __init__(self, folder, files, piece_length, announce):
        self.home = os.path.join(folder, "home")
        os.makedirs(self.home)
        self.whole = os.path.join(folder, "whole.bin")
        self.size = sum(files)
        if len(files) == 1:
            top = os.path.join(self.home, "content.bin")
            lab.write_random(top, self.size, 1)
        else:
            top = os.path.join(self.home, "content")
            for n, size in enumerate(files):
                path = os.path.join(top, f"{n // 100:03}", f"{n % 100:02}.bin")
                os.makedirs(os.path.dirname(path), exist_ok=True)
                lab.write_random(path, size, n)
        # Without pad files, so that the content is what the files hold one after another.
        data, _ = lab.make_torrent(top, piece_length, [announce])
        pads = lab.pad_files(data)
        if pads:
            raise Failure(f"the torrent has {len(pads)} pad files")
        listed = lab.lt.torrent_info(lab.lt.bdecode(data)).files()
        self.names = [listed.file_path(n) for n in range(listed.num_files())]
        self.sha256 = self._digest(self.home, copy=self.whole)
        self.torrent = os.path.join(folder, "content.torrent")
        with open(self.torrent, "wb") as file:
            file.write(data)

    def _digest(self, folder, copy=os.devnull):
        """Of all files one after another, in the torrent's order."""
        digest = lab.hashlib.sha256()
        with open(copy, "wb") as out:
            for name in self.names:
                with open(os.path.join(folder, name), "rb") as file:
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
                        out.write(chunk)
        return digest.hexdigest()

    def check(self, folder):
        if self._digest(folder) != self.sha256:
            raise Failure("the SHA-256 of what was downloaded is wrong")


class Lean:
    """The seeder that costs next to nothing, with its own account of when what was asked for."""

    def __init__(self, content):
        command = [LEAN, "seed", content.torrent, content.whole, f"0.0.0.0:{SEEDER_PORT}"]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.child.stdout.readline().strip() != b"ready":
            raise Failure("the lean seeder does not start")

    def end(self):
        told, _ = self.child.communicate(timeout=30)
        return json.loads(told)


def peak_of(pid, result, ended):
    """Watches what is resident beyond files until the process ends."""
    while not ended.wait(0.02):
        try:
            with open(f"/proc/{pid}/status") as status:
                for line in status:
                    if line.startswith("RssAnon"):
                        result.append(int(line.split()[1]) / 1024)
        except OSError:
            return


def run_leecher(who, command, state):
    """Wall and CPU seconds and peak memory of a leecher, which must succeed."""
    began = time.monotonic()
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    memory, ended = [0.0], threading.Event()
    watcher = threading.Thread(target=peak_of, args=(child.pid, memory, ended), daemon=True)
    watcher.start()
    killer = threading.Timer(LIMIT, child.kill)
    killer.start()
    try:
        if not who.ends:
            done = os.path.join(state, "done")
            lab.wait_until(f"{who.name} completes", LIMIT, lambda: os.path.exists(done), 0.005)
            child.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    finally:
        killer.cancel()
        ended.set()
        watcher.join()
        if child.returncode is None:
            child.kill()
            child.wait()
    if who.ends and child.returncode != 0:
        raise Failure(f"{who.name} ended with {child.returncode}")
    return began, usage.ru_utime + usage.ru_stime, max(memory)


def touch(folder, size):
    """The first touch of a page costs a virtual machine more than the download."""
    path = os.path.join(folder, "touched")
    lab.write_random(path, size, 2)
    os.remove(path)


def leech(content, contestants, rounds, peers, swarm):
    """Rows of rate, CPU seconds per GiB, seconds to the first request, peak memory."""
    swarm.peers = {peer: 0 for peer in peers}
    rows = {who.name: [] for who in contestants}
    free = 0.0
    for round_ in range(rounds):
        for who in contestants:
            with tempfile.TemporaryDirectory(dir=os.path.dirname(content.whole)) as away:
                folder, state = os.path.join(away, "out"), os.path.join(away, "state")
                os.mkdir(folder)
                touch(away, content.size)
                if who.name == "libtorrent":
                    free = run_leecher(who, who.nothing(), state)[1]
                lean = Lean(content)
                try:
                    command = who.leech(content.torrent, folder, state, peers, None)
                    began, cpu, memory = run_leecher(who, command, state)
                finally:
                    times = lean.end()
                content.check(folder)
                cpu -= free if who.name == "libtorrent" else 0
            gib = content.size / 2**30
            span = times["last"] - times["first"]
            row = (content.size / 2**20 / span, cpu / gib, times["first"] - began, memory)
            rows[who.name].append(row)
            swarm.peers = {peer: 0 for peer in peers}
    return rows


def table_of(title, rows, heads, formats):
    """Medians, and in brackets the least and the greatest."""
    print(f"\n{title}\n")
    print("| " + " | ".join(["", *heads]) + " |")
    print("|---" * (len(heads) + 1) + "|")
    medians = {}
    for name, runs in rows.items():
        columns = list(zip(*runs))
        medians[name] = [statistics.median(column) for column in columns]
        cells = [
            f"{form.format(statistics.median(c))} ({form.format(min(c))}–{form.format(max(c))})"
            for form, c in zip(formats, columns)
        ]
        print("| " + " | ".join([name, *cells]) + " |")
    print(flush=True)
    return medians


LEECH = ("MiB/s", "CPU s/GiB", "first, s", "memory, MiB")
LEECH_FORMATS = ("{:.0f}", "{:.2f}", "{:.3f}", "{:.0f}")


def compare_leechers(title, rows):
    medians = table_of(title, rows, LEECH, LEECH_FORMATS)
    theirs = [medians[name] for name in THEIRS if name in medians]
    for name in OURS:
        if name not in medians or not theirs:
            continue
        rate, cpu = medians[name][:2]
        text = f"{name}: rate {rate / max(t[0] for t in theirs):.2f} of the best of the others, "
        text += f"CPU {cpu / min(t[1] for t in theirs):.2f} of the least"
        if "floor" in medians:
            text += f" and {cpu / medians['floor'][1]:.2f} of the floor"
        print(text, flush=True)


def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fetch(content, who):
    """What the leecher measured; of a slow seeder, of less than all."""
    mebibytes = min(who.most, content.size >> 20)
    command = [LEAN, "leech", content.torrent, str(mebibytes), f"{ADDRESS}:{lab.PORT}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout) if done.returncode == 0 else None


@contextlib.contextmanager
def seeding(who, content):
    """A seeder that gives away everything, so that it has checked its files."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(content.whole)) as state:
        command = who.seed(content.torrent, content.home, os.path.join(state, "s"))
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            lab.wait_until(f"{who.name} seeds", LIMIT, lambda: fetch(content, who))
            yield child
        finally:
            child.kill()
            child.wait()


def seed(content, contestants, rounds):
    rows = {who.name: [] for who in contestants}
    for _ in range(rounds):
        for who in contestants:
            with seeding(who, content) as child:
                time.sleep(1)
                before = cpu_of(child.pid)
                # Transmission hangs up now and then on who comes back at once.
                tries = (fetch(content, who) for _ in range(5))
                all_times = list(itertools.islice(filter(None, tries), 2))
                if len(all_times) < 2:
                    raise Failure(f"{who.name} stops to seed")
                cpu = cpu_of(child.pid) - before
            size = sum(times["bytes"] for times in all_times)
            span = sum(times["last"] - times["first"] for times in all_times)
            row = (size / 2**20 / span, cpu / (size / 2**30))
            rows[who.name].append(row)
    medians = table_of("As seeder", rows, ("MiB/s", "CPU s/GiB"), ("{:.0f}", "{:.2f}"))
    theirs = [medians[name] for name in THEIRS if name in medians]
    for name in OURS:
        if name in medians and theirs:
            rate, cpu = medians[name]
            text = f"{name}: rate {rate / max(t[0] for t in theirs):.2f} of the best of the others, "
            print(text + f"CPU {cpu / min(t[1] for t in theirs):.2f} of the least", flush=True)


def switches_of(pid):
    """Times that threads of a process went to sleep: as often they were woken."""
    total = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as status:
            lines = dict(line.split(":", 1) for line in status)
        name = lines["Name"].strip()
        total[name] = total.get(name, 0) + int(lines["voluntary_ctxt_switches"])
    return total


def idle(content, contestants):
    print(f"\nWake-ups in {IDLE_SECONDS} s of a seeder that nobody asks\n")
    for who in contestants:
        if who.name == "floor":
            continue
        with seeding(who, content) as child:
            time.sleep(5)
            before, cpu = switches_of(child.pid), cpu_of(child.pid)
            time.sleep(IDLE_SECONDS)
            after, cpu = switches_of(child.pid), cpu_of(child.pid) - cpu
        woken = {name: n - before.get(name, 0) for name, n in after.items()}
        told = ", ".join(f"{name} {n}" for name, n in woken.items() if n)
        print(f"{who.name}: {sum(woken.values())} ({told or 'none'}), CPU {cpu:.2f} s", flush=True)


TABLES = ("leech", "seed", "peers", "files", "idle")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=int, default=200)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--only", help="contestants, comma-separated")
    options = parser.parse_args()
    tables = options.tables or TABLES
    unknown = set(tables) - set(TABLES)
    if unknown:
        parser.error(f"no table is called {', '.join(unknown)}; there are {', '.join(TABLES)}")
    lab.only_loopback()
    all_ = everybody()
    if options.only:
        wanted = options.only.split(",")
        all_ = [who for who in all_ if who.name in wanted]
    swarm = tracker.Tracker()
    announce = tracker.http(swarm, TRACKER_HOST)
    size = options.mebibytes << 20
    stats = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    roomy = stats and stats.f_bavail * stats.f_frsize > size * 4
    if not roomy:
        say("no tmpfs with enough room: the disk is measured too")
    folder = tempfile.mkdtemp(dir="/dev/shm" if roomy else None)
    seeder = ("10.77.5.1", SEEDER_PORT)
    say(f"libtorrent {lab.lt.__version__}, {os.cpu_count()} processors, {options.mebibytes} MiB")
    try:
        whole = None
        if {"leech", "seed", "peers", "idle"} & set(tables):
            os.mkdir(os.path.join(folder, "one"))
            whole = Content(os.path.join(folder, "one"), [size], 1 << 20, announce)
        if "leech" in tables:
            rows = leech(whole, all_, options.rounds, [seeder], swarm)
            compare_leechers("As leecher of one seeder", rows)
        if "seed" in tables:
            seed(whole, [w for w in all_ if w.name != "floor"], options.rounds)
        if "peers" in tables:
            peers = [(f"10.77.5.{1 + n}", SEEDER_PORT) for n in range(options.peers)]
            many = [w for w in all_ if w.name != "floor"]
            rows = leech(whole, many, max(1, options.rounds // 2), peers, swarm)
            compare_leechers(f"As leecher of {options.peers} seeders", rows)
        if "idle" in tables:
            idle(whole, all_)
        if "files" in tables:
            shutil.rmtree(os.path.join(folder, "one"), ignore_errors=True)
            os.mkdir(os.path.join(folder, "many"))
            each = size // options.files
            sizes = [each + (n * 7919) % 1000 for n in range(options.files)]
            content = Content(os.path.join(folder, "many"), sizes, 1 << 20, announce)
            many = [w for w in all_ if w.name != "floor"]
            rows = leech(content, many, max(1, options.rounds // 2), [seeder], swarm)
            compare_leechers(f"As leecher of {options.files} files", rows)
    except Failure as failure:
        say(f"FAILED: {failure}")
        lab.leave(True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lab.leave(False)


if __name__ == "__main__":
    main()
