"""Trackers of the laboratory, over HTTP and UDP (BEP 3, 15, 23)."""

import os
import socket
import struct
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import lab


class Tracker:
    """One swarm, over HTTP or UDP. Remembers what was announced: by whom, and the event."""

    def __init__(self):
        self.peers, self.heard, self.lock = {}, [], threading.Lock()

    def announce(self, address, port, event, left):
        with self.lock:
            self.heard.append(((address, port), event))
            others = [peer for peer in self.peers if peer != (address, port)]
            family = _family(address)
            others = [peer for peer in others if _family(peer[0]) == family]
            if event == "stopped":
                self.peers.pop((address, port), None)
            else:
                self.peers[(address, port)] = left
            seeds = sum(left == 0 for left in self.peers.values())
            packed = ((socket.inet_pton(family, a), struct.pack(">H", p)) for a, p in others)
            compact = b"".join(ip + port for ip, port in packed)
            return compact, seeds, len(self.peers) - seeds

    def events_of(self, address, port=lab.PORT):
        with self.lock:
            return [event for of, event in self.heard if of == (address, port)]


def _family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve_http(host, answer):
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

    class Server(ThreadingHTTPServer):
        address_family = _family(host)
        daemon_threads = True

    server = Server((host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{lab.endpoint(host, server.server_address[1])}/announce"


def http(tracker, host):
    def answer(handler):
        path, query = urllib.parse.urlsplit(handler.path)[2:4]
        if path != "/announce":
            return 404, {}, []
        pairs = dict(urllib.parse.parse_qsl(query, encoding="latin-1"))
        if len(pairs["info_hash"]) != 20 or len(pairs["peer_id"]) != 20:
            return 400, {}, [b"d14:failure reason9:bad querye"]
        peers, seeds, leechers = tracker.announce(
            handler.client_address[0],
            int(pairs["port"]),
            pairs.get("event", ""),
            int(pairs["left"]),
        )
        key = b"6:peers6" if _family(host) == socket.AF_INET6 else b"5:peers"
        head = b"d8:completei%de10:incompletei%de8:intervali1800e%s%d:"
        return 200, {}, [head % (seeds, leechers, key, len(peers)), peers, b"e"]

    return serve_http(host, answer)


def serve_udp(host, answer):
    server = socket.socket(_family(host), socket.SOCK_DGRAM)
    server.bind((host, 0))

    def run():
        while True:
            request, address = server.recvfrom(2048)
            reply = answer(request, address)
            if reply:
                server.sendto(reply, address)

    threading.Thread(target=run, daemon=True).start()
    return f"udp://{lab.endpoint(host, server.getsockname()[1])}/announce"


# libtorrent keeps the id that a tracker gave it for the whole host, whatever the port.
CONNECTION = os.urandom(8)


def udp(tracker, host):
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

    return serve_udp(host, answer)
