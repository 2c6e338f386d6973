"""What leaves our sockets when a torrent is private, or when something is switched off: every
packet that a process of ours sends is read off the loopback interface. Each case runs side by side
with one in which nothing is withheld, so that it would be seen. Run by the script `leaks`."""

import argparse
import os
import shutil
import socket
import struct
import threading
import time

import dht
import lab
import table
import tracker
from lab import Failure
from room import Content
from table import Cell

SIZE = 256 << 10
# Whoever sends from another address than those is a process of ours.
OTHERS = [*range(31, 60), 1, 250]
OURS, SEEDER, TRACKER = 2, 1, 250
PACKET_OUTGOING = 4
ETH_P_ALL = 3
LSD = "239.192.152.143"


class Wiretap:
    """Every packet that leaves a process of ours, by IPv4: UDP as (to, port, payload), TCP streams
    by (from, port, to, port)."""

    def __init__(self, room):
        self.others = {room.host(n) for n in OTHERS}
        self.udp, self.tcp, self.syns = [], {}, []
        self.raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            packet, about = self.raw.recvfrom(1 << 17)
            if about[2] == PACKET_OUTGOING and packet[0] >> 4 == 4:
                self._note(packet)

    def _note(self, packet):
        source, to = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
        if source in self.others:
            return
        total = struct.unpack(">H", packet[2:4])[0] or len(packet)
        payload = packet[(packet[0] & 15) * 4 : total]
        if packet[9] == socket.IPPROTO_UDP:
            self.udp.append((to, struct.unpack(">H", payload[2:4])[0], payload[8:]))
        elif packet[9] == socket.IPPROTO_TCP:
            ports = struct.unpack(">HH", payload[:4])
            if payload[13] & 0x12 == 0x02:
                self.syns.append((to, ports[1]))
            flow = self.tcp.setdefault((source, ports[0], to, ports[1]), bytearray())
            flow += payload[(payload[12] >> 4) * 4 :]

    def sent(self, info_hash, room):
        """Which of the ways of telling others of a torrent were used."""
        streams = [bytes(flow) for flow in self.tcp.values()]
        elsewhere = [data for to, _, data in self.udp if to not in (room.host(TRACKER), LSD)]
        shown = {
            "DHT": any(info_hash in data for data in elsewhere),
            "datagrams": bool(elsewhere),
            "LSD": any(to == LSD for to, _, _ in self.udp),
            "PEX": any(b"ut_pex" in data or b"5:added" in data for data in streams),
            "PORT": any(_has_port_message(data) for data in streams),
            "tracker": any(to == room.host(TRACKER) for to, _, _ in self.udp)
            or any(to == room.host(TRACKER) for _, _, to, _ in self.tcp),
            "connections": any(to != room.host(TRACKER) for to, _ in self.syns),
        }
        return {name for name, used in shown.items() if used}


def _has_port_message(stream):
    """Whether a stream of frames has one of id 9 (BEP 5)."""
    at = 68 if stream.startswith(b"\x13BitTorrent protocol") else len(stream)
    while at + 5 <= len(stream):
        length = int.from_bytes(stream[at : at + 4], "big")
        if length and stream[at + 4] == 9:
            return True
        at += 4 + length
    return False


def private_of(content, room):
    """The same torrent, private; returns its path and info-hash."""
    with open(content.torrent, "rb") as file:
        document = lab.lt.bdecode(file.read())
    document[b"info"][b"private"] = 1
    data = lab.lt.bencode(document)
    path = os.path.join(room.folder, "private.torrent")
    with open(path, "wb") as file:
        file.write(data)
    info = lab.lt.torrent_info(lab.lt.bdecode(data))
    return path, info.info_hashes().v1.to_bytes()


# Everything, when nothing is withheld.
ALL = {"DHT", "datagrams", "LSD", "PEX", "PORT", "tracker", "connections"}


def watch(binary, flags, private, allowed, finds):
    """Ours downloads; what it sends must be all that is allowed and nothing else. `finds`: it has
    a way to the seeder."""

    # The seeder may be the first of the two to connect.
    needed = allowed - {"connections"}

    def run(room):
        heard = tracker.Tracker()
        url = tracker.udp(heard, room.host(TRACKER))
        content = Content(room, SIZE, trackers=[url])
        path, info_hash = content.torrent, bytes.fromhex(content.info_hash)
        if private:
            path, info_hash = private_of(content, room)
        network = dht.Dht(room, False)
        seeder = lab.session(room.host(SEEDER), network.contacts, enable_lsd=True)
        seeder.add_extension("ut_pex")
        with open(path, "rb") as file:
            torrent = file.read()
        handle = lab.add(seeder, content.home, torrent=torrent, lsd=True, pex=True)
        lab.wait_until("libtorrent seeds", 30, lambda: handle.status().is_seeding)
        known = lambda: heard.events_of(room.host(SEEDER))
        lab.wait_until("the tracker knows the seeder", 30, known)
        tap = Wiretap(room)
        command = [binary, "download", path, "-o", room.folder_of("away"), "--seed", "--json"]
        command += ["--lab", "--listen", f"{room.host(OURS)}:{lab.PORT}", *flags]
        command += ["--state-dir", room.folder_of("state")]
        for contact in network.contacts:
            command += ["--bootstrap", contact]
        child = lab.Child(command, "ours", room.folder)
        if finds:
            lab.wait_until("it has everything", 60, lambda: child.last("complete"))
            content.compare(room.folder_of("away"))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            sent = tap.sent(info_hash, room)
            if not sent <= allowed:
                raise Failure(f"it also used {sorted(sent - allowed)}")
            # What is withheld gets as much time as the rest needs, and more.
            if sent >= needed:
                deadline = min(deadline, time.monotonic() + 6)
            time.sleep(0.5)
        if not sent >= needed:
            raise Failure(f"it was to use {sorted(needed - sent)} as well: nothing is shown")
        return "sent by " + ", ".join(sorted(sent))

    return run


CASES = [
    # name, flags, private, what is used, whether it gets the content
    ("nothing withheld", [], False, ALL, True),
    ("private", [], True, ALL - {"DHT", "LSD", "PEX", "PORT"}, True),
    ("private, no trackers", ["--no-trackers"], True, {"datagrams"}, False),
    ("--no-dht", ["--no-dht"], False, ALL - {"DHT", "datagrams", "PORT"}, True),
    ("--no-lsd", ["--no-lsd"], False, ALL - {"LSD"}, True),
    ("--no-pex", ["--no-pex"], False, ALL - {"PEX"}, True),
    ("--no-trackers", ["--no-trackers"], False, ALL - {"tracker"}, True),
    (
        "all of them",
        ["--no-dht", "--no-lsd", "--no-pex", "--no-trackers"],
        False,
        set(),
        False,
    ),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True, help="for logs; what is there is removed")
    parser.add_argument("--only", default="", help="cells whose name contains this text")
    options = parser.parse_args()
    lab.only_loopback()
    shutil.rmtree(options.folder, ignore_errors=True)
    os.makedirs(options.folder)
    binaries = {
        "tokio": os.environ["TRACKERLESS_BINARY"],
        "mio": os.environ["TRACKERLESS_OTHER"],
    }
    cells = [
        Cell(name, column, watch(binary, flags, private, allowed, finds), limit=150)
        for name, flags, private, allowed, finds in CASES
        for column, binary in binaries.items()
    ]
    cells = [cell for cell in cells if options.only in cell.name]
    table.execute(cells, options.folder, 6)
    rows = [name for name, *_ in CASES if any(cell.row == name for cell in cells)]
    good = table.report(rows, list(binaries), cells)
    lab.leave(not good)


if __name__ == "__main__":
    main()
