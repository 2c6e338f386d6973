"""The cases of the matrix: each is a function of a room, a client and a direction."""

import enum

from clients import Task
from clients.ours import Ours
from lab import Failure


class Way(enum.Enum):
    """Who seeds, as a column says it."""

    TO_US = "→ us"
    FROM_US = "← us"


def check_sources(ours, allowed, needed=frozenset()):
    """Our command learnt of peers only in ways that were left to it."""
    sources = ours.found()
    if not sources or not needed <= sources <= allowed:
        raise Failure(f"peers were to come from {sorted(allowed)}, not from {sorted(sources)}")


def transfer(room, client, way, content, seconds, seeder, leecher, between=None):
    """Content from one to the other; `seeder` and `leecher` are what their tasks add. Who is told
    of the other starts second. `between(gives)` waits for what else must come before the leecher.
    Returns the client that was ours."""
    giver, taker = (client, Ours) if way is Way.TO_US else (Ours, client)
    away = room.folder_of("away")
    seeder = {"seeds": True, **seeder}
    leecher = {"folder": away, **leecher}
    if seeder.get("peers"):
        takes = start(room, taker, "leecher", content, **leecher).wait_ready()
        gives = start(room, giver, "seeder", content, **seeder).wait_ready()
    else:
        gives = start(room, giver, "seeder", content, **seeder).wait_ready()
        if between:
            between(gives)
        takes = start(room, taker, "leecher", content, **leecher)
    try:
        takes.wait_complete(seconds)
    except Failure as failure:
        raise Failure(f"{failure}\nthe seeder says: {gives.says()}\n{gives.tail()}") from None
    content.compare(away, empty=taker.makes_empty_files)
    return takes if taker is Ours else gives


def start(room, client, name, content, **more):
    more.setdefault("source", content.torrent)
    more.setdefault("folder", content.home)
    return client(Task(room, f"{name}-{client.title}", **more))
