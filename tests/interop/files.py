"""Every kind of content between libtorrent and us, both ways: bytes, modes and links of what
arrives are those of what was there. Peers are named; no source of peers is needed.

1. 200 files of odd sizes, empty ones, deep folders, names in several scripts, executables, links;
   as v1 and as hybrid with pad files, made by each side.
2. Piece lengths from 16 KiB to 16 MiB.
3. Names that collide or lead out: we and libtorrent may call a file otherwise, its bytes are the
   same, and nothing lies outside of the folder.
4. Some files only: we have just those, and serve libtorrent the pieces that they are in."""

import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile

import lab
from lab import Failure, say, lt

US, THEM = "10.77.0.1", "10.77.0.2"
NAMES = [
    "Ünïcödé.txt", "Привет, мир", "Ελληνικά.ogg", "שלום עולם", "مرحبا.pdf", "नमस्ते", "你好，世界.flac",
    "こんにちは", "안녕하세요.mkv", "🦀 🎉.bin", "a:b*c?.txt", "CON",
]


def write(path, size, source, executable=False):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(source.randbytes(size))
    os.chmod(path, 0o755 if executable else 0o644)


def album(folder):
    """A folder with files of every kind."""
    at, source = os.path.join(folder, "album"), random.Random(7)
    odd = [0, 1, 2, 7, 999, 16383, 16384, 16385, 32767, 32768, 32769, 50021]
    for n in range(200):
        write(f"{at}/many/{n % 17:02}/{n:03}.bin", odd[n % len(odd)], source)
    for n, name in enumerate(NAMES):
        write(f"{at}/names/{name}", 3001 + n, source)
        write(f"{at}/names/in {n}/{name}/{name}", n + 1, source)
    write(f"{at}/{'/'.join(f'folder {n}' for n in range(30))}/far below", 12345, source)
    write(f"{at}/run me.sh", 500, source, executable=True)
    write(f"{at}/tools/empty.sh", 0, source, executable=True)
    os.symlink("many/03/003.bin", f"{at}/to a file")
    os.symlink("../names/CON", f"{at}/many/up and down")
    os.symlink("empty.sh", f"{at}/tools/beside")
    return at


def tree(folder):
    """What is below a folder: bytes and mode of files, targets of links."""
    found = {}
    for at, folders, names in os.walk(folder):
        for name in names + [name for name in folders if os.path.islink(os.path.join(at, name))]:
            path = os.path.join(at, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                what = ("link", os.readlink(path))
            else:
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                what = ("file", digest, bool(mode & 0o100))
            found[os.path.relpath(path, folder)] = what
    return found


def same(what, wanted, got):
    for path in sorted(wanted.keys() | got.keys()):
        if wanted.get(path) != got.get(path):
            raise Failure(f"{what}: {path}: {got.get(path)} instead of {wanted.get(path)}")
    say(f"{what}: {len(wanted)} files and links are the same")


def made_by_them(path, piece_length, flags):
    """A torrent that libtorrent makes; of links it keeps what they say, from the torrent's folder."""
    storage = lt.file_storage()
    symlinks = lt.create_torrent.symlinks
    lt.add_files(storage, path, flags=flags | symlinks)
    torrent = lt.create_torrent(storage, piece_length, flags | symlinks)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    return lt.bencode(torrent.generate())


def made_by_us(binary, folder, path, piece_length, form):
    file = os.path.join(folder, "made.torrent")
    command = [binary, "create", path, "-o", file, form, "--piece-length", str(piece_length)]
    command += ["--node", f"{US}:9", "--state-dir", os.path.join(folder, "create")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Failure(f"create ended with {done.returncode}: {done.stderr}")
    with open(file, "rb") as made:
        return made.read()


class Bench:
    """One session of libtorrent for all, and a number for each transfer."""

    def __init__(self, binary):
        self.binary, self.number = binary, 0
        self.session = lab.session(THEM, [], enable_dht=False)

    def fresh(self, folder):
        """A folder of its own for what is saved and fetched."""
        self.number += 1
        made = os.path.join(folder, str(self.number))
        os.makedirs(made)
        return made

    def ours(self, at, verb, torrent, folder, *more):
        file = os.path.join(at, "a.torrent")
        with open(file, "wb") as out:
            out.write(torrent)
        command = [self.binary, verb, file, "--data" if verb == "seed" else "-o", folder, *more]
        command += ["--no-dht", "--no-lsd", "--no-pex", "--no-trackers", "--lab", "--json"]
        command += ["--listen", f"{US}:{8000 + self.number}"]
        command += ["--state-dir", os.path.join(at, "state")]
        return lab.Child(command, f"{verb}-{self.number}", at)

    def theirs(self, torrent, folder, done, select=None):
        """A torrent of libtorrent's, once it is done or checked."""
        handle = lab.add(self.session, folder, torrent=torrent)
        if select is not None:
            count = handle.torrent_file().files().num_files()
            handle.prioritize_files([4 if n in select else 0 for n in range(count)])
        if done:
            lab.wait_until("libtorrent has checked", 30, lambda: handle.status().is_seeding)
        return handle

    def to_us(self, folder, torrent, home, *more):
        """libtorrent seeds from `home`: the folder with what we fetched."""
        at = self.fresh(folder)
        handle = self.theirs(torrent, home, done=True)
        away = os.path.join(at, "away")
        child = self.ours(at, "download", torrent, away, "--peer", f"{THEM}:{lab.PORT}", *more)
        try:
            lab.wait_until("our download ends", 30, lambda: not child.running())
        except Failure as failure:
            raise Failure(f"{failure}\n{child.tail()}") from None
        if child.end() != 0:
            raise Failure(f"our download failed:\n{child.tail()}")
        self.session.remove_torrent(handle)
        return away

    def from_us(self, folder, torrent, home):
        """We seed from `home`: the folder with what libtorrent fetched."""
        at = self.fresh(folder)
        child = self.ours(at, "seed", torrent, home)
        lab.wait_until("we have checked", 30, lambda: child.last("verified") or not child.running())
        return self.fetch_from(at, torrent, child)

    def fetch_from(self, at, torrent, child, select=None):
        if not child.running():
            raise Failure(f"ours ended:\n{child.tail()}")
        away = os.path.join(at, "theirs")
        handle = self.theirs(torrent, away, done=False, select=select)
        port = int(child.last("listening")["address"].rsplit(":", 1)[1])

        def complete():
            status = handle.status()
            if status.num_peers == 0:
                handle.connect_peer((US, port))
            return status.is_finished

        try:
            lab.wait_until("libtorrent completes", 30, complete)
        except Failure as failure:
            status = handle.status()
            detail = f"{status.state}, {status.progress:.1%}, {status.num_peers} peers"
            raise Failure(f"{failure} ({detail})\n{child.tail()}") from None
        # What it has verified is in the files once it has let go of them.
        handle.pause()
        self.session.remove_torrent(handle)
        lab.wait_until("libtorrent closes", 10, lambda: not self.session.get_torrents())
        wait_for_writes(away)
        child.end()
        return away


def wait_for_writes(folder):
    """Until two looks at a folder find the same."""
    seen = [None]

    def settled():
        before, seen[0] = seen[0], tree(folder)
        return before == seen[0]

    lab.wait_until("libtorrent has written", 10, settled, every=0.3)


def every_kind(bench, folder):
    home = os.path.join(folder, "home")
    at = album(home)
    wanted = tree(home)
    for form, flags in (("--v1", lt.create_torrent.v1_only), ("--hybrid", 0)):
        theirs = made_by_them(at, 1 << 15, flags)
        ours = made_by_us(bench.binary, folder, at, 1 << 15, form)
        for maker, torrent in (("libtorrent's", theirs), ("our", ours)):
            same(f"1: {maker} {form[2:]} torrent, to us", wanted, tree(bench.to_us(folder, torrent, home)))
            same(
                f"1: {maker} {form[2:]} torrent, from us",
                wanted,
                tree(bench.from_us(folder, torrent, home)),
            )


def piece_lengths(bench, folder):
    home = os.path.join(folder, "lengths")
    write(f"{home}/file", (16 << 20) + 12345, random.Random(8))
    wanted = tree(home)
    for shift in (14, 17, 20, 24):
        torrent = made_by_us(bench.binary, folder, f"{home}/file", 1 << shift, "--v1")
        same(f"2: pieces of {1 << shift}, to us", wanted, tree(bench.to_us(folder, torrent, home)))
        same(f"2: pieces of {1 << shift}, from us", wanted, tree(bench.from_us(folder, torrent, home)))


# Elements of a path as the torrent has them, and its length.
HOSTILE = [
    ([b"Readme"], 20001), ([b"README"], 5), ([b"readme"], 70), ([b"..", b"..", b"bin", b"sh"], 40000),
    ([b"/etc/passwd"], 11), ([b"."], 13), ([b"\xff\xfe.bin"], 14), ([b"nul"], 17), ([b"a", b"b"], 900),
    ([b"a"], 901), ([b"\xc3\xa9"], 300), ([b"e\xcc\x81"], 301),
]


def hostile_names(bench, folder):
    source = random.Random(9)
    contents = [source.randbytes(length) for _, length in HOSTILE]
    whole = b"".join(contents)
    pieces = [whole[at : at + 16384] for at in range(0, len(whole), 16384)]
    info = {
        b"files": [{b"length": length, b"path": path} for path, length in HOSTILE],
        b"name": b"../../name",
        b"piece length": 16384,
        b"pieces": b"".join(hashlib.sha1(piece).digest() for piece in pieces),
    }
    torrent = lt.bencode({b"info": info})
    at = bench.fresh(folder)
    file = os.path.join(at, "a.torrent")
    with open(file, "wb") as out:
        out.write(torrent)
    shown = subprocess.run([bench.binary, "show", file, "--json"], capture_output=True, timeout=60)
    home = os.path.join(at, "home")
    for entry, content in zip(lab.json.loads(shown.stdout)["files"], contents):
        path = os.path.join(home, entry["path"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(content)
    wanted = tree(home)
    theirs = bench.from_us(folder, torrent, home)
    digests = sorted(hashlib.sha256(content).hexdigest() for content in contents)
    if sorted(what[1] for what in tree(theirs).values()) != digests:
        raise Failure(f"3: libtorrent has other files: {sorted(tree(theirs))}")
    same("3: names that collide or lead out, both ways", wanted, tree(bench.to_us(folder, torrent, theirs)))


def some_files(bench, folder):
    home = os.path.join(folder, "some")
    source = random.Random(10)
    for n, size in enumerate([40001, 30002, 0, 100003, 5, 60004, 50000]):
        write(f"{home}/t/{n}", size, source)
    torrent = made_by_us(bench.binary, folder, f"{home}/t", 1 << 14, "--v1")
    wanted = {path: what for path, what in tree(home).items() if path in ("t/3", "t/4")}
    select = ("--select", "3-4")
    away = bench.to_us(folder, torrent, home, *select)
    shutil.rmtree(os.path.join(folder, str(bench.number), "state"))
    got = {path: what for path, what in tree(away).items() if not path.startswith(".")}
    same("4: two files of seven, to us", wanted, got)
    # From what we have libtorrent gets the same two, though their pieces reach into others.
    at = bench.fresh(folder)
    child = bench.ours(at, "download", torrent, away, *select, "--seed")
    lab.wait_until("ours is complete", 30, lambda: child.last("complete") or not child.running())
    theirs = bench.fetch_from(at, torrent, child, select=(3, 4))
    got = {path: what for path, what in tree(theirs).items() if path in wanted}
    same("4: two files of seven, from us", wanted, got)


def main():
    bench = Bench(sys.argv[1])
    lab.only_loopback()
    failed = False
    with tempfile.TemporaryDirectory(prefix="trackerless-files-") as folder:
        for number, kind in enumerate((every_kind, piece_lengths, hostile_names, some_files), 1):
            try:
                kind(bench, folder)
            except Failure as failure:
                failed = True
                say(f"{number}: FAILED: {failure}")
            finally:
                lab.end_children()
    lab.leave(failed)


if __name__ == "__main__":
    main()
