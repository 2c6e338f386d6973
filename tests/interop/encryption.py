"""Encrypted connections between this project and other clients, as a matrix: rows say how both are
told to speak, columns are a client and who gives to whom. Run by the script `encryption`."""

import argparse
import os
import shutil
import time

import lab
import table
from cases import Way
from cases.encryption import Pair, refused, they_dial, we_dial
from clients.aria2 import Aria2
from clients.rasterbar import Libtorrent
from clients.transmission import Transmission
from table import Cell

CLIENTS = [Libtorrent, Transmission, Aria2]
PLAIN_ONLY = "it cannot be told to speak plain text alone"
NO_CHOICE = "it cannot be told to encrypt the handshake alone"

# A title, what is done, between whom, and who cannot and why not.
ROWS = [
    ("we require, they require", we_dial, Pair("require", "rc4", True), {}),
    ("we allow, they require", we_dial, Pair("allow", "rc4", True), {}),
    ("we prefer, they require", we_dial, Pair("prefer", "rc4", True), {}),
    ("we require, they allow", we_dial, Pair("require", "", True), {}),
    ("we prefer, they allow", we_dial, Pair("prefer", "", True, (Libtorrent, Aria2)), {}),
    ("they dial: both require", they_dial, Pair("require", "rc4", True), {}),
    ("they dial: we allow, they require", they_dial, Pair("allow", "rc4", True), {}),
    (
        "we prefer, they plain text after the handshake", we_dial, Pair("prefer", "plaintext", False),
        {Transmission: NO_CHOICE, Aria2: NO_CHOICE},
    ),
    (
        "they dial: we allow, they plain text after the handshake", they_dial,
        Pair("allow", "plaintext", False), {Transmission: NO_CHOICE, Aria2: NO_CHOICE},
    ),
    (
        "we prefer, they never", we_dial, Pair("prefer", "never", False),
        {Transmission: PLAIN_ONLY, Aria2: PLAIN_ONLY},
    ),
    (
        "we require, they never: refused", None, None,
        {Transmission: PLAIN_ONLY, Aria2: PLAIN_ONLY},
    ),
]  # fmt: skip


def cell(title, case, pair, cannot, client, way):
    column = f"{client.title} {way.value}"
    if client in cannot:
        return Cell(title, column, reason=cannot[client])

    def run(room):
        if case is None:
            return refused(room, client, way)
        return case(room, client, way, pair)

    return Cell(title, column, run, limit=100)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True, help="for logs; what is there is removed")
    parser.add_argument("--only", default="", help="cells whose name contains this text")
    parser.add_argument("--at-once", type=int, default=8, help="cells at a time")
    options = parser.parse_args()
    lab.only_loopback()
    shutil.rmtree(options.folder, ignore_errors=True)
    os.makedirs(options.folder)
    columns = [f"{client.title} {way.value}" for client in CLIENTS for way in Way]
    cells = [cell(*row, client, way) for row in ROWS for client in CLIENTS for way in Way]
    cells = [one for one in cells if options.only in one.name]
    began = time.monotonic()
    table.execute(cells, options.folder, options.at_once)
    rows = [title for title, *_ in ROWS if any(one.row == title for one in cells)]
    columns = [name for name in columns if any(one.column == name for one in cells)]
    good = table.report(rows, columns, cells)
    lab.say(f"this took {time.monotonic() - began:.0f} s")
    lab.leave(not good)


if __name__ == "__main__":
    main()
