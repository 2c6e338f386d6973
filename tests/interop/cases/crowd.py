"""Leechers behind one slow seeder: all finish, and most of what they get is from each other."""

import time

import lab
import tracker
from cases import Way, start
from clients.aria2 import Aria2
from clients.ours import Ours
from clients.rasterbar import Libtorrent
from clients.transmission import Transmission
from lab import Failure
from room import Content

SIZE, PIECE = 8 << 20, 64 << 10
UPLINK = 512 << 10
# Of the seven copies the seeder gives this many at most, and of three a super-seeder.
COPIES, SUPER_COPIES = 3, 2


def behind_one_seeder(room, client, way):
    """To us: theirs seeds, for four of ours and one of each other client. From us: ours seeds, for
    four of ours and three of theirs."""
    if way is Way.TO_US:
        return _share(room, client, [Ours] * 4 + [Libtorrent, Transmission, Aria2], COPIES)
    return _share(room, Ours, [Ours] * 4 + [client] * 3, COPIES)


def behind_a_super_seeder(room, client, way):
    """To us: theirs gives each piece once, to three of ours. From us: ours, to three of theirs."""
    giver, taker = (client, Ours) if way is Way.TO_US else (Ours, client)
    return _share(room, giver, [taker] * 3, SUPER_COPIES, super_seeds=True)


def _share(room, giver, takers, copies, **seeding):
    heard = tracker.Tracker()
    url = tracker.udp(heard, room.host(250))
    content = Content(room, SIZE, PIECE, trackers=[url])
    seed = {"seeds": True, "trackers": True, "up": UPLINK, **seeding}
    gives = start(room, giver, "seeder", content, address=room.host(1), **seed).wait_ready()
    lab.wait_until("the tracker knows it", 30, lambda: heard.events_of(gives.task.address))
    takes = []
    for n, taker in enumerate(takers, 2):
        name = f"leecher-{n}"
        more = {"folder": room.folder_of(name), "trackers": True, "stays": True}
        takes.append(start(room, taker, name, content, address=room.host(n), **more))
    try:
        for one in takes:
            one.wait_complete(100)
    except Failure as failure:
        told = [f"{one.task.name}: {one.says()}" for one in (gives, *takes)]
        raise Failure("\n".join([str(failure), *told])) from None
    for one in takes:
        content.compare(one.task.folder)
    # What it gave last is told a second later.
    time.sleep(1.5)
    given = gives.uploaded() / SIZE
    shares = [(one.task.name, one.uploaded() / SIZE) for one in takes]
    told = ", ".join(f"{name} {share:.2f}" for name, share in shares)
    told = f"copies given: the seeder {given:.2f}; {told}"
    if not 0.9 < given < copies:
        raise Failure(f"the seeder was to give one to {copies} copies; {told}")
    ours = [share for name, share in shares if name.endswith("-us")]
    if sum(share > 0 for share in ours) < len(ours) - 1:
        raise Failure(f"ours gave too little away; {told}")
    return told
