"""Torrents that each client makes are read by all others, who call them by the same info-hash."""

import json
import os
import re
import subprocess

import lab
from cases import Way
from clients.aria2 import Aria2
from clients.ours import Ours
from clients.rasterbar import Libtorrent
from clients.transmission import Transmission
from lab import Failure, lt

NODES = ["10.77.0.9:6881", "router.example.org:8991"]
FILES = {"b/c/second.bin": 200_001, "a.txt": 0, "\u00fcml\u00e4ut \u65e5\u672c.bin": 70_000, "z": 16_384}


def read_by_all(room, client, way):
    """To us: made by them; from us: made by us, with nodes."""
    content = os.path.join(room.folder, "content")
    for number, (name, size) in enumerate(FILES.items()):
        os.makedirs(os.path.dirname(os.path.join(content, name)), exist_ok=True)
        lab.write_random(os.path.join(content, name), size, number)
    torrent = os.path.join(room.folder, "made.torrent")
    maker = client if way is Way.TO_US else Ours
    MAKERS[maker](content, torrent)
    names = {reader.title: READERS[reader](torrent) for reader in READERS}
    if len(set(names.values())) != 1:
        raise Failure(f"made by {maker.title}, read as {names}")
    with open(torrent, "rb") as file:
        document = lt.bdecode(file.read())
    if maker is Ours:
        written = [f"{host.decode()}:{port}" for host, port in document[b"nodes"]]
        read = [f"{host}:{port}" for host, port in lt.torrent_info(document).nodes()]
        if written != NODES or read != NODES:
            raise Failure(f"`nodes` has {written}, libtorrent reads {read}")
    return names[maker.title]


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise Failure(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _ours():
    return os.environ["TRACKERLESS_BINARY"]


def _make_ours(content, torrent):
    state = torrent + ".state"
    _run(_ours(), "create", content, "-o", torrent, "--node", ",".join(NODES), "--state-dir", state)


def _make_libtorrent(content, torrent):
    data, _ = lab.make_torrent(content, 16 << 10)
    with open(torrent, "wb") as file:
        file.write(data)


def _make_transmission(content, torrent):
    _run("transmission-create", "-o", torrent, content)


def _read_ours(torrent):
    return json.loads(_run(_ours(), "show", torrent, "--json"))["info_hash_v1"]


def _read_libtorrent(torrent):
    return str(lt.torrent_info(torrent).info_hashes().v1)


def _read_transmission(torrent):
    return _found(r"Hash: ([0-9a-f]{40})", _run("transmission-show", torrent))


def _read_aria2(torrent):
    return _found(r"Info Hash: ([0-9a-f]{40})", _run("aria2c", "--no-conf", "-S", torrent))


def _found(pattern, text):
    match = re.search(pattern, text)
    if not match:
        raise Failure(f"no info-hash in {text}")
    return match[1]


MAKERS = {Ours: _make_ours, Libtorrent: _make_libtorrent, Transmission: _make_transmission}
READERS = {
    Ours: _read_ours,
    Libtorrent: _read_libtorrent,
    Transmission: _read_transmission,
    Aria2: _read_aria2,
}
