"""One matrix of everything that this project and other clients do with each other: rows are cases,
columns are a client and who gives to whom. Run by the script `matrix`."""

import argparse
import functools
import os
import shutil
import time

import lab
import table
import tracker
from cases import Way, crowd, finding, kinds, reading, returning, trackers
from clients.aria2 import Aria2
from clients.mainline import Mainline
from clients.rasterbar import Libtorrent
from clients.transmission import Transmission
from table import Cell

FULL = [Libtorrent, Transmission, Aria2]
NODE_ONLY = "a DHT node, it transfers nothing"


class Row:
    """`case(room, client, way)` for every client; `cannot` says of (client, way) why not."""

    def __init__(self, title, case, limit, cannot=lambda client, way: None):
        self.title, self.case, self.limit, self.cannot = title, case, limit, cannot

    def cell(self, client, way):
        if client is Mainline:
            reason = None if self.case is by_dht4 else NODE_ONLY
        else:
            reason = self.cannot(client, way)
        if reason:
            return Cell(self.title, column(client, way), reason=reason)
        return Cell(
            self.title,
            column(client, way),
            lambda room: self.case(room, client, way),
            limit=self.limit,
        )


def column(client, way):
    return f"{client.title} {way.value}"


def v4(case):
    return functools.partial(case, v6=False)


def v6(case):
    return functools.partial(case, v6=True)


over_http = functools.partial(trackers.alone, make=tracker.http)
over_udp = functools.partial(trackers.alone, make=tracker.udp)


def has_udp_trackers_by_ipv4(client, way):
    return {
        Transmission: "it looks up the IPv6 address of a UDP tracker as a name",
        Aria2: "its UDP trackers are IPv4 only",
    }.get(client)


def has_lsd_by_ipv4(client, way):
    return "its LSD is IPv4 only" if client in (Transmission, Aria2) else None


def by_dht4(room, client, way):
    if client is Mainline:
        return finding.by_mainline(room, client, way)
    return finding.by_dht(room, client, way, v6=False)


def makes_no_torrents(client, way):
    return "it makes no torrents" if way is Way.TO_US and client not in reading.MAKERS else None


def reads_no_hybrid(client, way):
    return {
        Transmission: "it refuses hybrid torrents as corrupt",
        Aria2: "it takes a hybrid torrent for another, with an info-hash of its own",
    }.get(client)


def has_no_super_seeding(client, way):
    lacks = way is Way.TO_US and not client.super_seeds
    return "it has no super-seeding" if lacks else None


def link_names_no_peer(client, way):
    if way is Way.FROM_US and not client.takes_peers:
        return "it knows no x.pe in a link"
    return None


ROWS = [
    Row("1 magnet, DHT only, IPv4", by_dht4, 220),
    Row("1 magnet, DHT only, IPv6", v6(finding.by_dht), 220),
    Row("2 --peer only, IPv4", v4(finding.by_name), 60),
    Row("2 --peer only, IPv6", v6(finding.by_name), 60),
    Row("2 x.pe in the link only", finding.by_link, 60, cannot=link_names_no_peer),
    Row("3 LSD only, IPv4", v4(finding.by_lsd), 75),
    Row("3 LSD only, IPv6", v6(finding.by_lsd), 75, cannot=has_lsd_by_ipv4),
    Row("4 PEX only, IPv4", v4(finding.by_pex), 120),
    Row("4 PEX only, IPv6", v6(finding.by_pex), 120),
    Row("5 HTTP tracker, IPv4", v4(over_http), 60),
    Row("5 HTTP tracker, IPv6", v6(over_http), 60),
    Row("5 UDP tracker, IPv4", v4(over_udp), 60),
    Row("5 UDP tracker, IPv6", v6(over_udp), 60, cannot=has_udp_trackers_by_ipv4),
    Row("5 behind bad trackers", trackers.behind_bad_ones, 60),
    Row("6 many odd files", kinds.odd_files, 60),
    Row("6 pad files", kinds.pad_files, 60),
    Row("6 hybrid", kinds.hybrid, 60, cannot=reads_no_hybrid),
    Row("6 pieces of 16 MiB", kinds.large_pieces, 60),
    Row("6 pieces of 16 KiB", kinds.small_pieces, 60),
    Row("6 one byte", kinds.one_byte, 60),
    Row("6 1 GiB in one file", kinds.gibibyte, 200),
    Row("7 four of ours, three others, one slow seeder", crowd.behind_one_seeder, 150),
    Row("8 torrents are read by all", reading.read_by_all, 40, cannot=makes_no_torrents),
    Row("9 the seeder dies and returns", returning.seeder_dies, 120),
    Row("9 the leecher dies and returns", returning.leecher_dies, 120),
    Row("9 the seeder moves", returning.seeder_moves, 120),
    Row("10 three behind a super-seeder", crowd.behind_a_super_seeder, 150, has_no_super_seeding),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True, help="for logs; what is there is removed")
    parser.add_argument("--only", default="", help="cells whose name contains this text")
    parser.add_argument("--at-once", type=int, default=12, help="cells at a time")
    options = parser.parse_args()
    lab.only_loopback()
    shutil.rmtree(options.folder, ignore_errors=True)
    os.makedirs(options.folder)
    clients = [*FULL, Mainline]
    columns = [column(client, way) for client in clients for way in Way]
    cells = [row.cell(client, way) for row in ROWS for client in clients for way in Way]
    cells = [cell for cell in cells if options.only in cell.name]
    began = time.monotonic()
    table.execute(cells, options.folder, options.at_once)
    rows = [row.title for row in ROWS]
    if options.only:
        rows = [row for row in rows if any(cell.row == row for cell in cells)]
        columns = [name for name in columns if any(cell.column == name for cell in cells)]
    good = table.report(rows, columns, cells)
    lab.say(f"the matrix took {time.monotonic() - began:.0f} s")
    lab.leave(not good)


if __name__ == "__main__":
    main()
