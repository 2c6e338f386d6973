"""Kinds of content, each between us and one client that we are told of."""

import random

from cases.finding import between_two
from lab import lt
from room import V1, Content

# Empty and tiny ones, some that fill a piece, deep folders, names in several scripts.
ODD = {
    "a": 0,
    "b/c/d/e/f/deep.bin": 300_001,
    "\u00fcml\u00e4ut/\u65e5\u672c\u8a9e.txt": 12_345,
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u05e9\u05dc\u05d5\u05dd": 70_000,
    "one byte": 1,
    "two pieces": 65_536,
    "z-empty": 0,
    **{f"many/{n:03}": random.Random(n).randrange(60_000) for n in range(194)},
}
PADDED = {"first.bin": 300_001, "folder/second.bin": 700_003, "last": 5}


def _kind(size, piece_length, flags=V1, seconds=30):
    def run(room, client, way):
        content = Content(room, size, piece_length, flags=flags)
        between_two(room, client, way, content, seconds=seconds)

    return run


odd_files = _kind(ODD, 32 << 10)
pad_files = _kind(PADDED, 64 << 10, V1 | lt.create_torrent.canonical_files)
hybrid = _kind(PADDED, 64 << 10, 0)
large_pieces = _kind(20_000_001, 16 << 20)
small_pieces = _kind(6_000_001, 16 << 10)
one_byte = _kind(1, 16 << 10)
gibibyte = _kind(1 << 30, 1 << 20, seconds=150)
