"""Torrents of the same files, made by our command and by libtorrent: the same v1 and v2 hashes,
byte for byte the same `info`, and each reads what the other made."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings

warnings.simplefilter("ignore", DeprecationWarning)
import libtorrent as lt  # noqa: E402
import random  # noqa: E402

FORMATS = {
    "--v1": lt.create_torrent.v1_only,
    "--v2": lt.create_torrent.v2_only,
    "--hybrid": 0,
}

# Names and lengths; several fill a piece exactly, end in the middle of a block, or are empty.
TREES = {
    "one.bin": 300_001,
    "tiny": 1,
    "a-piece": 1 << 15,
    "a-piece-and-a-byte": (1 << 15) + 1,
    "zeros": {"test1MB": 1 << 20},
    "album": {
        "a": {"b": 70_000, "c.txt": 16_384},
        "a.txt": 5,
        "a b": {"deep": {"er": {"file": 100_000}}},
        "empty": 0,
        "run.sh*": 40_000,
        "\u00fcml\u00e4ut": 12_345,
        "z": 65_536,
        "z-last-empty": 0,
    },
    "two": {"first": 32_768, "second": 32_768},
    "small": {"a": 1, "b": 2, "c": 3},
    "alone-in-a-folder": {"a": 50_000},
}

# Published by libtorrent's test suite; the content of both files is nothing but zeros.
PUBLISHED = [
    ("test64K", 1 << 16, "--hybrid", "597b180c1a170a585dfc5e85d834d69013ceda174b8f357d5bb1a0ca509faf0a"),
    ("test1MB", 1 << 20, "--hybrid", "108ac2c3718ce722e6896edc56c4afa98f1d711ecaace7aad74fca418ebd03de"),
    ("test1MB", 1 << 20, "--v2", "95e04d0c4bad94ab206efa884666fd89777dbe4f7bd9945af1829037a85c6192"),
]


def write(path, tree, source):
    """Makes a file of so many bytes, or a folder; a name that ends in * is executable."""
    executable = path.endswith("*")
    path = path.rstrip("*")
    if isinstance(tree, dict):
        os.mkdir(path)
        for name, below in tree.items():
            write(os.path.join(path, name), below, source)
        return
    with open(path, "wb") as file:
        file.write(bytes(tree) if os.path.basename(path).startswith("test") else source.randbytes(tree))
    os.chmod(path, 0o755 if executable else 0o644)


def files_below(path):
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]


def theirs(path, piece_length, flags):
    storage = lt.file_storage()
    if flags == lt.create_torrent.v1_only and os.path.isdir(path):
        # Without a file tree that orders them, they are listed as they come: sorted here.
        for file in sorted(files_below(path), key=lambda file: file.split(os.sep)):
            executable = os.stat(file).st_mode & 0o100
            flag = lt.file_flags_t.flag_executable if executable else 0
            name = os.path.relpath(file, os.path.dirname(path))
            storage.add_file(name, os.path.getsize(file), flag)
    else:
        lt.add_files(storage, path)
    torrent = lt.create_torrent(storage, piece_length, flags)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    return lt.bencode(torrent.generate())


def ours(binary, path, piece_length, form, out):
    command = [binary, "create", path, "-o", out, "--json", form, "--state-dir", out + ".state"]
    command += ["--piece-length", str(piece_length)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise SystemExit(f"create ended with {done.returncode}: {done.stderr}")
    (line,) = done.stdout.splitlines()
    event = json.loads(line)
    if event["event"] != "metadata" or not event["magnet"].startswith("magnet:?xt=urn:bt"):
        raise SystemExit(f"create --json printed {line}")
    with open(out, "rb") as file:
        return file.read(), event["magnet"]


def hashes(data):
    info = lt.torrent_info(lt.bdecode(data))
    both = info.info_hashes()
    return [str(both.v1) if both.has_v1() else None, str(both.v2) if both.has_v2() else None]


def show(binary, file):
    done = subprocess.run([binary, "show", file, "--json"], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise SystemExit(f"show ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def check(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"FAILED: {what}: {got} instead of {wanted}")


def compare(binary, folder, name, piece_length, form):
    what = f"{name} {form} {piece_length}"
    path = os.path.join(folder, "content", name)
    mine, magnet = ours(binary, path, piece_length, form, os.path.join(folder, "ours.torrent"))
    other = theirs(path, piece_length, FORMATS[form])
    check(f"{what}: hashes", hashes(mine), hashes(other))
    raw = [lt.bencode(lt.bdecode(data)[b"info"]) for data in (mine, other)]
    check(f"{what}: info", raw[0], raw[1])
    layers = [lt.bdecode(data).get(b"piece layers", {}) for data in (mine, other)]
    check(f"{what}: piece layers", layers[0], layers[1])

    both = lt.parse_magnet_uri(magnet).info_hashes
    linked = [str(both.v1) if both.has_v1() else None, str(both.v2) if both.has_v2() else None]
    check(f"{what}: magnet link", linked, hashes(mine))
    file = os.path.join(folder, "theirs.torrent")
    with open(file, "wb") as out:
        out.write(other)
    shown = show(binary, file)
    check(f"{what}: show", [shown["info_hash_v1"], shown["info_hash_v2"]], hashes(other))
    verified = subprocess.run(
        [binary, "verify", file, "--data", os.path.dirname(path)], capture_output=True, timeout=60
    )
    check(f"{what}: verify", verified.returncode, 0)
    return hashes(mine)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, help="our command")
    binary = os.path.abspath(parser.parse_args().binary)
    count = 0
    with tempfile.TemporaryDirectory(prefix="trackerless-torrents-") as folder:
        os.mkdir(os.path.join(folder, "content"))
        source = random.Random(7)
        for name, tree in TREES.items():
            write(os.path.join(folder, "content", name), tree, source)
        for name in TREES:
            for form in FORMATS:
                for piece_length in (1 << 14, 1 << 15, 1 << 18):
                    compare(binary, folder, name, piece_length, form)
                    count += 1
        for name, length, form, wanted in PUBLISHED:
            path = os.path.join(folder, "content", name)
            with open(path, "wb") as file:
                file.write(bytes(length))
            found = compare(binary, folder, name, 1 << 16, form)
            check(f"{name} {form}: published hash", found[1], wanted)
            count += 1
    print(f"{count} torrents are the same as those of libtorrent {lt.__version__}")


if __name__ == "__main__":
    sys.exit(main())
