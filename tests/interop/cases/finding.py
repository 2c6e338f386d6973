"""Every way to find a peer without trackers, alone: the DHT, a peer that is named, LSD, PEX."""

import time

import dht
import lab
from cases import Way, check_sources, start, transfer
from clients.mainline import Mainline
from clients.ours import Ours
from lab import Failure
from room import Content

SIZE = 4 << 20


def by_dht(room, client, way, v6):
    """From nothing but a magnet link and contacts."""
    content = Content(room, SIZE)
    host = room.hosts(v6)
    network = dht.Dht(room, v6)
    common = {"contacts": network.contacts}

    def findable(gives):
        network.wait_findable(content.magnet, gives.task.address)

    seeder = {"address": host(1), **common}
    leecher = {"address": host(2), "source": content.magnet, **common}
    ours = transfer(room, client, way, content, 60, seeder, leecher, between=findable)
    check_sources(ours, {"dht", "incoming"}, {"dht"} if way is Way.TO_US else frozenset())


def by_mainline(room, client, way):
    """A DHT of nothing but nodes of the other implementation: a peer that one of them announces
    is found by our download, and one that we announce by them."""
    content = Content(room, SIZE)
    contacts = [lab.endpoint(room.host(n)) for n in (11, 12)]
    nodes = [Mainline(room, f"node-{n}", room.host(n), contacts) for n in range(11, 23)]
    where = {"address": room.host(1), "port": 7000}
    if way is Way.TO_US:
        gives = start(room, Ours, "seeder", content, seeds=True, **where).wait_ready()
        announcer = Mainline(room, "announcer", room.host(1), contacts)
        announcer.ask(f"announce {content.info_hash} {gives.task.port}")
        away = room.folder_of("away")
        takes = start(
            room, Ours, "leecher", content,
            folder=away, address=room.host(2), contacts=contacts, source=content.magnet,
        )  # fmt: skip
        takes.wait_complete(40)
        content.compare(away)
        check_sources(takes, {"dht"}, {"dht"})
        return
    gives = start(room, Ours, "seeder", content, seeds=True, contacts=contacts, **where)
    gives.wait_ready()

    def found():
        return gives.task.endpoint in nodes[5].ask(f"peers {content.info_hash}")

    lab.wait_until("mainline finds what we announced", 40, found, every=1)


def by_name(room, client, way, v6):
    """Our `--peer`; it may speak uTP, which we do not."""
    between_two(room, client, way, Content(room, SIZE), v6, utp=True)


def between_two(room, client, way, content, v6=False, seconds=30, **them):
    """Any content, with a peer that we are told of."""
    host = room.hosts(v6)
    them, us = {"address": host(2), **them}, {"address": host(1)}
    endpoint = lab.endpoint(them["address"])
    if way is Way.TO_US:
        ours = transfer(room, client, way, content, seconds, them, {**us, "peers": [endpoint]})
    else:
        ours = transfer(room, client, way, content, seconds, {**us, "peers": [endpoint]}, them)
    check_sources(ours, {"manual"}, {"manual"})


def by_link(room, client, way):
    """`x.pe` in the link: ours when we fetch, and when they fetch theirs, or the peer that they
    are told of in their own way."""
    content = Content(room, SIZE)
    gives = {"address": room.host(1)}
    endpoint = lab.endpoint(gives["address"])
    source = f"{content.magnet}&x.pe={endpoint}"
    takes = {"address": room.host(2), "source": source}
    ours = transfer(room, client, way, content, 30, gives, takes)
    if way is Way.TO_US:
        check_sources(ours, {"manual"}, {"manual"})
    else:
        check_sources(ours, {"incoming"}, {"incoming"})


def by_lsd(room, client, way, v6):
    """Multicast alone. Whoever sends from no address of its own sends from the first one, over
    IPv6 from the last."""
    content = Content(room, SIZE)
    host = room.neighbour6 if v6 else room.host
    order = [3, 2, 1] if v6 else [1, 2, 3]
    hosts = {n: host(n) for n in order}
    them = {"address": hosts[1], "lsd": True}
    us = {"address": hosts[2], "lsd": True}
    seeder, leecher = (them, us) if way is Way.TO_US else (us, them)
    ours = transfer(room, client, way, content, 60, seeder, leecher)
    check_sources(ours, {"lsd", "incoming"})
    if way is Way.TO_US:
        blind = {"address": hosts[3], "folder": room.folder_of("blind")}
        blind = start(room, Ours, "blind", content, **blind)
        time.sleep(3)
        if blind.found():
            raise Failure(f"--no-lsd, and yet a peer was found\n{blind.tail()}")


class PexRoom:
    """Three hosts: a seeder that exchanges no peers, one in the middle that has nothing, and a
    leecher that knows nobody else."""

    def __init__(self, room, v6):
        self.room, self.host = room, room.hosts(v6)
        self.content = Content(room, 16 << 20, piece_length=4 << 20)
        self.away = room.folder_of("away")

    def seeder(self, **more):
        where = {"address": self.host(1), "seeds": True}
        return start(self.room, Ours, "seeder", self.content, **where, **more).wait_ready()

    def middle(self, client, **more):
        """It has less than a piece more in the time this takes."""
        slow = {"address": self.host(2), "pex": True, "down": 16 << 10, "up": 4 << 10}
        folder = self.room.folder_of("middle")
        if client.drops_idle_peers:
            # There nothing is too little: it has the first piece.
            self.content.begin(folder, self.content.piece_length)
        made = start(self.room, client, "middle", self.content, folder=folder, **slow, **more)
        return made.wait_ready()

    def leecher(self, client, name="leecher", **more):
        folder = self.room.folder_of(name)
        where = {"address": self.host(3), "folder": folder, **more}
        return start(self.room, client, name, self.content, **where)

    def finish(self, gives, between, takes):
        try:
            takes.wait_complete(100)
        except Failure as failure:
            raise Failure(f"{failure}\n{between.tail()}\n{gives.tail()}") from None
        if between.has() > self.content.size // 2:
            raise Failure(f"the middle one was to have next to nothing, not {between.has()} bytes")
        self.content.compare(takes.task.folder)


def by_pex(room, client, way, v6):
    """To us: the one in the middle is theirs; from us: it is ours."""
    scene = PexRoom(room, v6)
    if way is Way.FROM_US:
        gives = scene.seeder()
        takes = scene.leecher(client, pex=True).wait_ready()
        between = scene.middle(Ours, peers=[gives.task.endpoint, takes.task.endpoint])
        scene.finish(gives, between, takes)
        if gives.found(takes.task.endpoint) - {"incoming"}:
            raise Failure("the seeder was not to know of the leecher")
        return
    between = scene.middle(client)
    known = {"peers": [between.task.endpoint]}
    if client.drops_idle_peers:
        # Over its limit it reads from nobody, and below it from the first that came.
        takes = scene.leecher(Ours, pex=True, **known)
        lab.wait_until("we are connected", 30, lambda: takes.child.last("peer_connected"))
        gives = scene.seeder(**known)
    else:
        gives = scene.seeder(**known)
        lab.wait_until("both are connected", 30, lambda: gives.child.last("peer_connected"))
        declines = scene.leecher(Ours, name="declines", pex=False, **known)
        lab.wait_until("we are connected", 30, lambda: declines.child.last("peer_connected"))
        time.sleep(3)
        if declines.found(gives.task.endpoint):
            raise Failure(f"--no-pex, and yet it was told of the seeder\n{declines.tail()}")
        declines.end()
        takes = scene.leecher(Ours, pex=True, **known)
    scene.finish(gives, between, takes)
    if takes.found(gives.task.endpoint) != {"pex"}:
        raise Failure(f"the seeder was found by {takes.found(gives.task.endpoint)}")
