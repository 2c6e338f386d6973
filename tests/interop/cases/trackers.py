"""A tracker of the laboratory as the only way to find a peer (BEP 3, 12, 15, 23), alone or behind
others that do what they can to harm."""

import time
import urllib.parse

import lab
import tracker
from cases import Way, check_sources, transfer
from lab import Failure
from room import Content

SIZE = 4 << 20
# What a process that took every byte of bad trackers would be far above, in MiB.
MEMORY = 150


class Swarm:
    """A good tracker, and who comes from where."""

    def __init__(self, room, make, v6=False):
        host = room.hosts(v6)
        self.heard = tracker.Tracker()
        # Over HTTP some come from the address that the system picks. Over IPv4 that is the first
        # one, ours, as the others name theirs; over IPv6 the one that is spoken to: all have it.
        self.url = make(self.heard, host(1))
        self.us = {"address": host(1), "trackers": True}
        self.them = {"address": host(1 if v6 else 2), "port": 7000, "trackers": True}

    def known(self, client):
        """Waits until the tracker knows the client."""

        def heard():
            return self.heard.events_of(client.task.address, client.task.port)

        lab.wait_until(f"the tracker knows {client.task.name}", 30, heard)

    def check(self, ours, way):
        """What the tracker heard of us, and we of it."""
        needed = {"tracker"} if way is Way.TO_US else frozenset()
        check_sources(ours, {"tracker", "incoming"}, needed)
        told = [e for e in list(ours.child.events) if e.get("url") == self.url]
        if not any(e["status"] == "idle" and e["seeds"] is not None for e in told):
            raise Failure(f"the tracker is not told of with its seeds: {told}")
        ours.end()
        time.sleep(0.5)
        wanted = ["started", "completed", "stopped"] if way is Way.TO_US else ["started", "stopped"]
        events = self.heard.events_of(ours.task.address, ours.task.port)
        if events != wanted:
            raise Failure(f"the tracker heard of us {events}")


def alone(room, client, way, make, v6):
    """The only tracker, over HTTP or UDP; who fetches has it from a magnet link."""
    swarm = Swarm(room, make, v6)
    content = Content(room, SIZE, trackers=[swarm.url])
    link = f"{content.magnet}&tr={urllib.parse.quote(swarm.url, safe='')}"
    to_us = way is Way.TO_US
    seeder, leecher = (swarm.them, swarm.us) if to_us else (swarm.us, swarm.them)
    leecher["source"] = link
    ours = transfer(room, client, way, content, 50, seeder, leecher, between=swarm.known)
    swarm.check(ours, way)


def behind_bad_ones(room, client, way):
    """We have a torrent whose first tiers answer with garbage, never end, list a million peers, lie
    about the transaction or redirect to where no tracker is; they have the good one alone."""
    swarm = Swarm(room, tracker.udp)
    bad = bad_ones(room.host(5))
    theirs = Content(room, SIZE, trackers=[swarm.url])
    swarm.us["source"] = theirs.with_trackers("bad.torrent", [*bad, swarm.url])
    to_us = way is Way.TO_US
    seeder, leecher = (swarm.them, swarm.us) if to_us else (swarm.us, swarm.them)
    ours = transfer(room, client, way, theirs, 50, seeder, leecher, between=swarm.known)
    told = [e for e in list(ours.child.events) if e.get("event") == "source"]
    for one in bad:
        if not {e.get("message") for e in told if e.get("url") == one} - {None}:
            raise Failure(f"nothing is told against {one}")
    swarm.check(ours, way)
    if not 0 < ours.child.peak_mebibytes < MEMORY:
        raise Failure(f"our process had {ours.child.peak_mebibytes} MiB, of {MEMORY} at most")


def bad_ones(host):
    def endless(_):
        return 200, {}, (b"d" * 65536 for _ in range(1 << 20))

    def million(_):
        return 200, {}, [b"d8:intervali60e5:peers6000000:", b"\x09" * 6_000_000, b"e"]

    def elsewhere(url):
        return tracker.serve_http(host, lambda _: (302, {"Location": url}, []))

    # Answers with another transaction than the one asked with.
    def liar(request, _):
        return b"\0\0\0\0" + bytes([request[12] ^ 1]) + request[13:16] + b"connect!"

    return [
        tracker.serve_http(host, lambda _: (200, {}, [b"<html>"])),
        tracker.serve_http(host, endless),
        tracker.serve_http(host, million),
        elsewhere("http://127.0.0.1:9/announce"),
        elsewhere("file:///etc/passwd"),
        tracker.serve_udp(host, liar),
        "wss://tracker.example:443",
    ]
