"""Encrypted connections (MSE/PE) between us and one client, in all the ways both may want them."""

import dataclasses

import lab
from cases import Way, start, transfer
from clients.ours import Ours
from lab import Failure
from room import Content

SIZE = 4 << 20
REFUSED = "encryption: plain text is not allowed"
LACKING = "encryption: the peer does not answer in cipher"


@dataclasses.dataclass
class Pair:
    """How we are told to speak, and how they are; whether what comes of it is encrypted. Clients
    that are offered both methods and choose plain text by themselves are in `but_not`."""

    ours: str
    theirs: str
    encrypted: bool
    but_not: tuple = ()


def we_dial(room, client, way, pair):
    _between(room, client, way, pair, {}, {"peers": [lab.endpoint(room.host(2))]})


def they_dial(room, client, way, pair):
    """Who cannot be told of a peer finds it on the local network, as we may find it."""
    if client.takes_peers:
        _between(room, client, way, pair, {"peers": [lab.endpoint(room.host(1))]}, {})
    else:
        _between(room, client, way, pair, {"lsd": True}, {"lsd": True})


def _between(room, client, way, pair, them, us):
    content = Content(room, SIZE)
    them = {"address": room.host(2), "encryption": pair.theirs, **them}
    us = {"address": room.host(1), "encryption": pair.ours, **us}
    seeder, leecher = (them, us) if way is Way.TO_US else (us, them)
    ours = transfer(room, client, way, content, 60, seeder, leecher)
    met = ours.met()
    encrypted = pair.encrypted and client not in pair.but_not
    if not met or set(met) != {encrypted}:
        wanted = "encrypted" if encrypted else "plain"
        raise Failure(f"connections were to be {wanted}; encrypted: {met}\n{ours.tail()}")


def refused(room, client, way):
    """Who speaks plain text only gets nothing of us where we require encryption, and we say why:
    when they dial (they fetch), and when we do (they seed)."""
    content = Content(room, SIZE)
    away = room.folder_of("away")
    theirs = {"address": room.host(2), "encryption": "never"}
    ours = {"address": room.host(1), "encryption": "require"}
    if way is Way.TO_US:
        theirs, ours = {"seeds": True, **theirs}, {"folder": away, **ours}
        them = start(room, client, "them", content, **theirs).wait_ready()
        us = start(room, Ours, "us", content, peers=[them.task.endpoint], **ours)
        reason = LACKING
    else:
        theirs, ours = {"folder": away, **theirs}, {"seeds": True, **ours}
        us = start(room, Ours, "us", content, **ours).wait_ready()
        them = start(room, client, "them", content, peers=[us.task.endpoint], **theirs)
        reason = REFUSED
    lab.wait_until(f"we say {reason!r}", 20, lambda: reason in us.closed())
    taker = us if way is Way.TO_US else them
    if us.met() or taker.has():
        raise Failure(f"plain text was spoken: {us.met()}, {taker.has()} bytes")
