"""Items (BEP 44), samples (BEP 51) and counts (BEP 33) between us, libtorrent and mainline.

The nodes of a cell's network are of one kind: what is put into it is kept by nodes of that kind
alone. An arrow goes from who puts and announces to whose nodes keep it."""

import argparse
import concurrent.futures
import functools
import itertools
import json
import os
import shutil
import subprocess
import time

import lab
import table
from clients.mainline import Mainline
from lab import Failure, lt
from table import Cell

# The keys of BEP 44's test vectors: libtorrent wants the private one expanded.
PUBLIC = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
PRIVATE = bytes.fromhex(
    "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d"
    "b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d"
)
NODES, PUTS = 8, itertools.count(1)
NOT_MAINLINE = "it knows neither samples (BEP 51) nor counts (BEP 33)"
NO_COUNTS = "its sessions ask for no counts (BEP 33), its nodes answer them"
OURS_IN, LT_IN, LT_OUT = "us ← us", "libtorrent ← us", "libtorrent → us"
ML_IN, ML_OUT = "mainline ← us", "mainline → us"


class Command:
    """Our command, one question at a time."""

    def __init__(self, binary, room, address, contacts):
        self.binary, self.folder, self.contacts = binary, room.folder, contacts
        self.address = address
        self.kind = os.path.basename(binary).rsplit("-", 1)[1]

    def ask(self, *words, status=(0,)):
        """The rows of results of one `dht` command, and that of the lookup."""
        command = [self.binary, "dht", *words, "--lab", "--json", "--listen", f"{self.address}:0"]
        command += ["--state-dir", os.path.join(self.folder, f"state-{self.kind}")]
        for contact in self.contacts:
            command += ["--bootstrap", contact]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode not in status:
            raise Failure(f"{' '.join(words)}: status {done.returncode}: {done.stderr.strip()}")
        results = [row for row in rows if row["event"] == "result"]
        lookup = [row for row in rows if row["event"] == "lookup"]
        if len(lookup) != 1 or rows.index(lookup[0]) < len(results):
            raise Failure(f"{' '.join(words)}: {rows}")
        return results, lookup[0]

    def put(self, *words):
        results, lookup = self.ask("put", *words)
        if len(results) != 1 or lookup["results"] < 1:
            raise Failure(f"put {words}: {results} {lookup}")
        return results[0]

    def get(self, *words):
        results, _ = self.ask("get", *words)
        return results[-1]

    def key(self):
        return os.path.join(self.folder, f"{self.kind}.key")


class Libtorrent:
    """A session that asks and is told by alerts."""

    def __init__(self, address, contacts):
        mask = lt.alert.category_t.dht_notification | lt.alert.category_t.dht_operation_notification
        self.session = lab.session(address, contacts, alert_mask=mask)

    def known(self):
        return self.session.status().dht_nodes

    def alert(self, kind, ask, good, again=5, seconds=25):
        """Asks until an alert of that kind is what it should be."""
        end = time.monotonic() + seconds
        seen = None
        while time.monotonic() < end:
            ask()
            pause = min(time.monotonic() + again, end)
            while time.monotonic() < pause:
                for alert in self.session.pop_alerts():
                    if isinstance(alert, kind):
                        seen = alert.message()
                        if good(alert):
                            return alert
                time.sleep(0.1)
        raise Failure(f"libtorrent: no good {kind.__name__}, last: {seen}")

    def put(self, value):
        targets = []

        def ask():
            targets.append(self.session.dht_put_immutable_item(value))

        self.alert(lt.dht_put_alert, ask, lambda alert: alert.num_success > 0)
        return str(targets[0])

    def get(self, target, wanted):
        target = lt.sha1_hash(bytes.fromhex(target))
        self.alert(
            lt.dht_immutable_item_alert,
            lambda: self.session.dht_get_immutable_item(target),
            lambda alert: plain(alert.item) == wanted,
        )

    def put_mutable(self, value, salt):
        """Puts it with the number after the one that is there, which is returned."""

        def ask():
            self.session.dht_put_mutable_item(PRIVATE, PUBLIC, value, salt)

        # Asked again it would take the next number.
        good = self.alert(lt.dht_put_alert, ask, lambda alert: alert.num_success > 0, again=25)
        return good.seq

    def get_mutable(self, key, salt, wanted, seq):
        self.alert(
            lt.dht_mutable_item_alert,
            lambda: self.session.dht_get_mutable_item(key, salt),
            lambda alert: plain(alert.item) == wanted and alert.seq == seq,
        )

    def samples(self, endpoints, wanted):
        """Until what the nodes tell has all that is wanted."""
        seen = set()

        def ask():
            for endpoint in endpoints:
                self.session.dht_sample_infohashes(udp(endpoint), lt.sha1_hash(bytes(20)))

        def good(alert):
            if alert.num_infohashes < alert.num_samples:
                raise Failure(f"{alert.num_samples} samples of {alert.num_infohashes}")
            seen.update(str(sample) for sample in alert.samples)
            return wanted <= seen

        self.alert(lt.dht_sample_infohashes_alert, ask, good)


def udp(endpoint):
    host, port = endpoint.rsplit(":", 1)
    return host, int(port)


def plain(item):
    """The value of an alert: a string, or one in a dictionary, as versions have it."""
    value = item.get("value") if isinstance(item, dict) and "value" in item else item
    return value.decode() if isinstance(value, bytes) else value


def expect(what, got, wanted):
    if got != wanted:
        raise Failure(f"{what}: {got!r}, expected {wanted!r}")


# --- networks --------------------------------------------------------------------------------


class Network:
    """Nodes of one kind, and whoever asks them."""

    def __init__(self, room, binaries):
        self.room, self.binaries = room, binaries
        self.addresses = [room.host(n) for n in range(1, 1 + NODES)]
        self.nodes = [lab.endpoint(address) for address in self.addresses]

    def commands(self):
        hosts = (self.room.host(n) for n in range(101, 103))
        return [Command(b, self.room, host, self.nodes[:3]) for b, host in zip(self.binaries, hosts)]

    def askers(self):
        """Two sessions of libtorrent that are not of the network."""
        made = [Libtorrent(self.room.host(n), self.nodes[:1]) for n in range(111, 113)]
        self.introduce(made)
        return made

    def introduce(self, sessions):
        """Until those know enough nodes: contacts to bootstrap from never enter their tables."""

        def stands():
            if min(session.known() for session in sessions) >= 5:
                return True
            # A node that was asked before it was there is not asked again by itself.
            for session in sessions:
                for node in self.nodes:
                    session.session.add_dht_node(udp(node))
            return False

        lab.wait_until("every libtorrent node knows five others", 30, stands, every=1)


def of_ours(room, binaries):
    network = Network(room, binaries)
    for n, endpoint in enumerate(network.nodes):
        command = [binaries[n % 2], "dht", "run", "--lab", "--json", "--listen", endpoint]
        command += ["--state-dir", room.folder_of(f"state-{n}")]
        for contact in network.nodes[:2]:
            command += ["--bootstrap", contact] if contact != endpoint else []
        child = lab.Child(command, f"node-{n}", room.folder)
        lab.wait_until(f"node {n} listens", 10, lambda: child.last("listening"))
    return network


def of_libtorrent(room, binaries):
    network = Network(room, binaries)
    network.sessions = [
        Libtorrent(address, network.nodes[:1] if n else []) for n, address in enumerate(network.addresses)
    ]
    network.introduce(network.sessions)
    return network


def of_mainline(room, binaries):
    network = Network(room, binaries)
    network.mainline = [
        Mainline(room, f"mainline-{n}", address, network.nodes[:2])
        for n, address in enumerate(network.addresses)
    ]
    time.sleep(2)
    return network


# --- cells -----------------------------------------------------------------------------------


def immutable_among(network, reads=lambda target, text: None):
    """Both commands put and get; `reads` raises Failure unless somebody else reads it too."""
    for us in network.commands():
        text = f"by {us.kind}"
        target = us.put(text)["target"]
        for reader in network.commands():
            expect(f"what {reader.kind} gets", reader.get(target)["value"], text)
        reads(target, text)
        long = us.kind[0] * 990
        expect("a long value", us.get(us.put(long)["target"])["value"], long)
    us.ask("get", "0" * 39 + "1", status=(1,))


def mutable_among(network, reads=lambda key, text, seq: None):
    first, second = network.commands()
    keys = at_once(put_signed, (first, second))
    # What one puts the other gets, and whoever else reads.
    for us, reader, key in ((first, second, keys[0]), (second, first, keys[1])):
        row = reader.get(key, "--salt", "s")
        expect(f"what {reader.kind} gets", (row["value"], row["seq"]), (us.kind, 9))
        reads(key, us.kind, 9)


def put_signed(us):
    """Puts one after another, each only in the place of what it may replace; returns the key."""
    words = ["--key", us.key(), "--salt", "s"]
    for seq in (1, 2):
        row = us.put(f"{us.kind} {seq}", *words)
        expect("the number of a put", row["seq"], seq)
    row = us.get(row["target"], "--salt", "s")
    expect("by target", (row["value"], row["seq"]), (f"{us.kind} 2", 2))
    us.ask("put", "old", *words, "--seq", "1", status=(1,))
    us.ask("put", "other", *words, "--seq", "9", "--cas", "7", status=(1,))
    us.put(us.kind, *words, "--seq", "9", "--cas", "2")
    return row["key"]


def at_once(work, each):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(work, each))


def announced(network):
    """Info-hashes that our commands have announced."""
    hashes = {f"{n:x}" * 40 for n in (1, 6, 12)}

    def announce(us):
        for info_hash in hashes:
            us.ask("announce", info_hash, "--port", "7000")

    at_once(announce, network.commands())
    return hashes


def samples_among(network):
    hashes = announced(network)
    for us in network.commands():
        # A node keeps what is close to it; one that keeps nothing has no sample to give.
        told = [us.ask("sample", node, status=(0, 1)) for node in network.nodes]
        for rows, lookup in told:
            if rows and lookup["num"] != len(rows):
                raise Failure(f"{us.kind} samples {len(rows)} of {lookup['num']}")
        expect("samples", {row["info_hash"] for rows, _ in told for row in rows}, hashes)


def counts_among(network):
    for info_hash in announced(network):
        for us in network.commands():
            [row], _ = us.ask("scrape", info_hash)
            # Two addresses announced it; a filter says about how many.
            if row["seeds"] != 0 or not 1 <= row["downloaders"] <= 3 or row["nodes"] < 1:
                raise Failure(f"{us.kind} counts {row}")
    us.ask("scrape", "f" * 40, status=(1,))


def by_libtorrent_immutable(network):
    writer, reader = network.askers()
    for n, us in enumerate(network.commands()):
        text = f"by libtorrent {n}"
        target = writer.put(text)
        expect("our get", us.get(target)["value"], text)
        reader.get(target, text)
        reader.get(us.put(f"by us {n}")["target"], f"by us {n}")


def by_libtorrent_mutable(network):
    writer, reader = network.askers()
    for us in network.commands():
        for _ in range(2):
            text = f"signed {next(PUTS)}"
            seq = writer.put_mutable(text, us.kind)
            row = us.get(PUBLIC.hex(), "--salt", us.kind)
            expect("our get", (row["value"], row["seq"]), (text, seq))
            reader.get_mutable(PUBLIC, us.kind, text, seq)


def by_libtorrent_samples(network):
    hashes = announced(network)
    network.askers()[0].samples(network.nodes, hashes)


def libtorrent_immutable(network):
    immutable_among(network, network.sessions[-1].get)


def libtorrent_mutable(network):
    reader = network.sessions[-1]
    reads = lambda key, text, seq: reader.get_mutable(bytes.fromhex(key), "s", text, seq)
    mutable_among(network, reads)


def mainline_in(network, writer, reader, signed):
    """What `writer` or one of our commands puts the others get."""
    for n, us in enumerate(network.commands()):
        if not signed:
            [target] = writer.ask(f"put mainline-{n}")
            expect("our get", us.get(target)["value"], f"mainline-{n}")
            target = us.put(us.kind)["target"]
            expect("mainline's get", reader.ask(f"get {target}"), [us.kind])
            continue
        seed = f"{n + 1:064x}"
        for seq in (3, 4):
            key, _ = writer.ask(f"put-signed {seed} salt {seq} value-{seq}")
            row = us.get(key, "--salt", "salt")
            expect("our get", (row["value"], row["seq"]), (f"value-{seq}", seq))
        with open(us.key(), "w") as file:
            file.write(seed)
        row = us.put("ours", "--key", file.name, "--salt", "salt")
        expect("what comes after theirs", (row["key"], row["seq"]), (key, 5))
        expect("mainline's get", reader.ask(f"get-signed {key} salt"), ["5", "ours"])


def among_mainline(network, signed):
    mainline_in(network, network.mainline[0], network.mainline[-1], signed)


def by_mainline(network, signed):
    hosts = [network.room.host(n) for n in range(121, 123)]
    made = [Mainline(network.room, f"asker-{host}", host, network.nodes[:3]) for host in hosts]
    time.sleep(1)
    mainline_in(network, *made, signed)


CASES = [
    ("immutable items", OURS_IN, of_ours, immutable_among),
    ("mutable items", OURS_IN, of_ours, mutable_among),
    ("samples", OURS_IN, of_ours, samples_among),
    ("counts", OURS_IN, of_ours, counts_among),
    ("immutable items", LT_IN, of_libtorrent, libtorrent_immutable),
    ("mutable items", LT_IN, of_libtorrent, libtorrent_mutable),
    ("samples", LT_IN, of_libtorrent, samples_among),
    ("counts", LT_IN, of_libtorrent, counts_among),
    ("immutable items", LT_OUT, of_ours, by_libtorrent_immutable),
    ("mutable items", LT_OUT, of_ours, by_libtorrent_mutable),
    ("samples", LT_OUT, of_ours, by_libtorrent_samples),
    ("immutable items", ML_IN, of_mainline, functools.partial(among_mainline, signed=False)),
    ("mutable items", ML_IN, of_mainline, functools.partial(among_mainline, signed=True)),
    ("immutable items", ML_OUT, of_ours, functools.partial(by_mainline, signed=False)),
    ("mutable items", ML_OUT, of_ours, functools.partial(by_mainline, signed=True)),
]
CANNOT = [
    ("counts", LT_OUT, NO_COUNTS),
    ("samples", ML_IN, NOT_MAINLINE),
    ("counts", ML_IN, NOT_MAINLINE),
    ("samples", ML_OUT, NOT_MAINLINE),
    ("counts", ML_OUT, NOT_MAINLINE),
]
ROWS = ["immutable items", "mutable items", "samples", "counts"]
COLUMNS = [OURS_IN, LT_IN, LT_OUT, ML_IN, ML_OUT]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--folder", required=True, help="logs of what fails are kept there")
    options.add_argument("--only", default="", help="only cells whose name contains this")
    options = options.parse_args()
    lab.only_loopback()
    shutil.rmtree(options.folder, ignore_errors=True)
    binaries = [os.environ["TRACKERLESS_BINARY"], os.environ["TRACKERLESS_OTHER"]]

    def running(make, case):
        return lambda room: case(make(room, binaries))

    # Lookups among libtorrent's nodes take longest: those begin first.
    limits = {LT_IN: 90}
    cells = [
        Cell(row, column, running(make, case), limit=limits.get(column, 60))
        for row, column, make, case in CASES
    ]
    cells += [Cell(row, column, reason=reason) for row, column, reason in CANNOT]
    cells = [cell for cell in cells if options.only in cell.name]
    table.execute(cells, options.folder, at_once=5)
    rows = [row for row in ROWS if any(cell.row == row for cell in cells)]
    columns = [column for column in COLUMNS if any(cell.column == column for cell in cells)]
    lab.leave(not table.report(rows, columns, cells))


if __name__ == "__main__":
    main()
