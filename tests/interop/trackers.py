"""16 MiB each way between libtorrent and us, by a tracker alone (BEP 3, 15, 23): no DHT, no LSD,
no PEX, and nobody is named a peer.

1. and 2. over UDP, 3. and 4. over HTTP: libtorrent seeds and `trackerless-tokio download` fetches
   from a magnet link; then `trackerless-tokio seed` seeds and libtorrent fetches.
5. Trackers that answer with garbage, never end, list a million peers, lie about the transaction or
   redirect to where no tracker is come before the good one: the download completes, and our
   process stays small."""

import os
import socket
import struct
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import lab
from lab import Failure, say, lt

SIZE = 16 << 20
# What a process that took every byte of its trackers would be far above, in MiB.
MEMORY = 150
# Every party is at this address, at a port of its own: over HTTP the tracker sees who asks by the
# address the system picks.
HOST = "10.77.0.1"


class Tracker:
    """One swarm, over HTTP or UDP. Remembers what was announced: port and event."""

    def __init__(self):
        self.peers, self.heard, self.lock = {}, [], threading.Lock()

    def announce(self, address, port, event, left):
        with self.lock:
            self.heard.append((port, event))
            others = [peer for peer in self.peers if peer != (address, port)]
            if event == "stopped":
                self.peers.pop((address, port), None)
            else:
                self.peers[(address, port)] = left
            seeds = sum(left == 0 for left in self.peers.values())
            compact = b"".join(socket.inet_aton(a) + struct.pack(">H", p) for a, p in others)
            return compact, seeds, len(self.peers) - seeds

    def events_of(self, port):
        with self.lock:
            return [event for of, event in self.heard if of == port]


def serve_http(answer):
    """A server that answers every request with what `answer(handler)` returns."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                status, headers, body = answer(self)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for part in body:
                    self.wfile.write(part)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{HOST}:{server.server_address[1]}/announce"


def http_tracker(tracker):
    def answer(handler):
        query = urllib.parse.urlsplit(handler.path).query
        pairs = dict(urllib.parse.parse_qsl(query, encoding="latin-1"))
        if len(pairs["info_hash"]) != 20 or len(pairs["peer_id"]) != 20:
            return 400, {}, [b"d14:failure reason9:bad querye"]
        peers, seeds, leechers = tracker.announce(
            handler.client_address[0],
            int(pairs["port"]),
            pairs.get("event", ""),
            int(pairs["left"]),
        )
        head = b"d8:completei%de10:incompletei%de8:intervali1800e5:peers%d:"
        return 200, {}, [head % (seeds, leechers, len(peers)), peers, b"e"]

    return serve_http(answer)


def serve_udp(answer):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((HOST, 0))

    def run():
        while True:
            request, address = server.recvfrom(2048)
            reply = answer(request, address)
            if reply:
                server.sendto(reply, address)

    threading.Thread(target=run, daemon=True).start()
    return f"udp://{HOST}:{server.getsockname()[1]}/announce"


# libtorrent keeps the id that a tracker gave it for the whole host, whatever the port.
CONNECTION = os.urandom(8)


def udp_tracker(tracker):
    def answer(request, address):
        first, action, transaction = struct.unpack(">8sI4s", request[:16])
        if action == 0:
            return struct.pack(">I4s8s", 0, transaction, CONNECTION)
        if action != 1 or first != CONNECTION or len(request) < 98:
            return struct.pack(">I4s", 3, transaction) + b"bad request"
        left, event, port = (
            int.from_bytes(request[64:72], "big"),
            request[83],
            int.from_bytes(request[96:98], "big"),
        )
        event = ["", "completed", "started", "stopped"][event]
        peers, seeds, leechers = tracker.announce(address[0], port, event, left)
        return struct.pack(">I4sIII", 1, transaction, 1800, leechers, seeds) + peers

    return serve_udp(answer)


def ours(binary, folder, name, *command, port):
    state = os.path.join(folder, f"state-{name}")
    arguments = [binary, *command, "--no-dht", "--no-pex", "--no-lsd", "--lab", "--json"]
    arguments += ["--state-dir", state, "--listen", f"{HOST}:{port}"]
    return lab.Child(arguments, name, folder)


def theirs(port):
    return lab.session(HOST, [], enable_dht=False, listen_interfaces=f"{HOST}:{port}")


def with_trackers(torrent, tiers):
    document = lt.bdecode(torrent)
    document[b"announce"] = tiers[0][0]
    document[b"announce-list"] = tiers
    return lt.bencode(document)


def content(folder, number):
    home = os.path.join(folder, f"seed-{number}")
    away = os.path.join(folder, f"leech-{number}")
    os.mkdir(home)
    os.mkdir(away)
    path = os.path.join(home, "content.bin")
    wanted = lab.write_random(path, SIZE, number)
    torrent, magnet = lab.make_torrent(path, 256 << 10)
    return home, away, torrent, magnet, wanted


def compare(number, what, away, wanted, began):
    got = lab.sha256(os.path.join(away, "content.bin"))
    if got != wanted:
        raise Failure(f"SHA-256 differs: {got} arrived, {wanted} was sent")
    say(f"{number}: {what}: done in {time.monotonic() - began:.1f} s, SHA-256 {got}")


def check_ours(child, tracker, port, leeches):
    sources = {e.get("source") for e in list(child.events) if e.get("event") == "peer_found"}
    if not sources <= {"tracker", "incoming"}:
        raise Failure(f"peers were to come from the tracker alone, not from {sorted(sources)}")
    told = [e for e in list(child.events) if e.get("event") == "source" and e.get("url")]
    if not any(e["status"] == "idle" and e["seeds"] is not None for e in told):
        raise Failure(f"no tracker is told of with its seeds: {told}")
    events = tracker.events_of(port)
    if events != (["started", "completed", "stopped"] if leeches else ["started", "stopped"]):
        raise Failure(f"the tracker heard {events}")
    if leeches and "tracker" not in sources:
        raise Failure("we were to learn of the seeder from the tracker")


def finished(child, seconds=60):
    try:
        lab.wait_until("our download ends", seconds, lambda: not child.running())
    except Failure as failure:
        raise Failure(f"{failure}\n{child.tail()}") from None
    if child.end() != 0:
        raise Failure(f"our download failed:\n{child.tail()}")


def to_us(binary, folder, number, make):
    home, away, torrent, magnet, wanted = content(folder, number)
    tracker = Tracker()
    url = make(tracker)
    session = theirs(7000 + number)
    handle = lab.add(session, home, torrent=with_trackers(torrent, [[url]]))
    lab.wait_until("libtorrent is known", 30, lambda: tracker.events_of(7000 + number))
    began, port = time.monotonic(), 8000 + number
    link = f"{magnet}&tr={urllib.parse.quote(url, safe='')}"
    child = ours(binary, folder, f"down-{number}", "download", link, "-o", away, port=port)
    finished(child)
    check_ours(child, tracker, port, leeches=True)
    session.remove_torrent(handle)
    compare(number, url.split(":")[0], away, wanted, began)


def from_us(binary, folder, number, make):
    home, away, torrent, _, wanted = content(folder, number)
    tracker = Tracker()
    url = make(tracker)
    torrent = with_trackers(torrent, [[url]])
    file = os.path.join(folder, f"{number}.torrent")
    with open(file, "wb") as out:
        out.write(torrent)
    port = 8000 + number
    child = ours(binary, folder, f"up-{number}", "seed", file, "--data", home, port=port)
    lab.wait_until("our seeder is known", 30, lambda: tracker.events_of(port))
    began = time.monotonic()
    session = theirs(7000 + number)
    handle = lab.add(session, away, torrent=torrent)
    try:
        lab.wait_until("libtorrent completes", 60, lambda: handle.status().is_seeding)
    except Failure as failure:
        status = handle.status()
        detail = f"{status.state}, {status.progress:.1%}, {status.num_peers} peers"
        raise Failure(f"{failure} ({detail})\n{child.tail()}") from None
    # What libtorrent has verified may not be in the file yet.
    session.remove_torrent(handle)
    time.sleep(1)
    child.end()
    check_ours(child, tracker, port, leeches=False)
    compare(number, url.split(":")[0], away, wanted, began)


def peak_mebibytes(child):
    try:
        with open(f"/proc/{child.process.pid}/status") as status:
            lines = [line for line in status if line.startswith("VmHWM")]
        return int(lines[0].split()[1]) >> 10 if lines else 0
    except OSError:
        return 0


def bad_ones():
    def endless(_):
        return 200, {}, (b"d" * 65536 for _ in range(1 << 20))

    def million(_):
        return 200, {}, [b"d8:intervali60e5:peers6000000:", b"\x09" * 6_000_000, b"e"]

    # Answers with another transaction than the one asked with.
    def liar(request, _):
        return b"\0\0\0\0" + bytes([request[12] ^ 1]) + request[13:16] + b"connect!"

    return [
        serve_http(lambda _: (200, {}, [b"<html>"])),
        serve_http(endless),
        serve_http(million),
        serve_http(lambda _: (302, {"Location": "http://127.0.0.1:9/announce"}, [])),
        serve_http(lambda _: (302, {"Location": "file:///etc/passwd"}, [])),
        serve_udp(liar),
        "wss://tracker.example:443",
    ]


def bad_trackers(binary, folder, number):
    home, away, torrent, _, wanted = content(folder, number)
    tracker = Tracker()
    url, bad = udp_tracker(tracker), bad_ones()
    session = theirs(7000 + number)
    handle = lab.add(session, home, torrent=with_trackers(torrent, [[url]]))
    lab.wait_until("libtorrent is known", 30, lambda: tracker.events_of(7000 + number))
    file = os.path.join(folder, f"{number}.torrent")
    with open(file, "wb") as out:
        out.write(with_trackers(torrent, [[one] for one in [*bad, url]]))
    began, port = time.monotonic(), 8000 + number
    child = ours(binary, folder, f"bad-{number}", "download", file, "-o", away, port=port)
    peak = 0

    def ended():
        nonlocal peak
        peak = max(peak, peak_mebibytes(child))
        return not child.running()

    lab.wait_until("our download ends", 60, ended, every=0.05)
    finished(child)
    check_ours(child, tracker, port, leeches=True)
    told = [e for e in list(child.events) if e.get("event") == "source"]
    for one in bad:
        reasons = {e.get("message") for e in told if e.get("url") == one} - {None}
        if not reasons:
            raise Failure(f"nothing is told against {one}")
        say(f"{number}: {one.split('/')[2]}: {', '.join(sorted(reasons))}")
    if not 0 < peak < MEMORY:
        raise Failure(f"our process had {peak} MiB, and was to stay below {MEMORY}")
    session.remove_torrent(handle)
    compare(number, f"behind {len(bad)} bad trackers, {peak} MiB at most", away, wanted, began)


def main():
    binary = sys.argv[1]
    steps = [
        lambda folder: to_us(binary, folder, 1, udp_tracker),
        lambda folder: from_us(binary, folder, 2, udp_tracker),
        lambda folder: to_us(binary, folder, 3, http_tracker),
        lambda folder: from_us(binary, folder, 4, http_tracker),
        lambda folder: bad_trackers(binary, folder, 5),
    ]
    lab.run_steps("trackers", steps)


if __name__ == "__main__":
    main()
