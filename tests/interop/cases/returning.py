"""Clients that die in the middle of a transfer and come back, where they were or elsewhere. A tracker
tells of them; nobody waits for it to be asked again."""

import time

import lab
import tracker
from cases import Way, start
from clients.ours import Ours
from room import Content

SIZE, PIECE = 8 << 20, 64 << 10
UPLINK = 1 << 20
BEGUN = 1 << 20


class Scene:
    """A slow seeder, and a leecher that has some of the content."""

    def __init__(self, room, client, way):
        heard = tracker.Tracker()
        self.content = Content(room, SIZE, PIECE, trackers=[tracker.udp(heard, room.host(250))])
        giver, taker = (client, Ours) if way is Way.TO_US else (Ours, client)
        seed = {"seeds": True, "trackers": True, "up": UPLINK, "address": room.host(1)}
        self.gives = start(room, giver, "seeder", self.content, **seed).wait_ready()
        lab.wait_until("the tracker knows it", 30, lambda: heard.events_of(room.host(1)))
        fetch = {"folder": room.folder_of("away"), "trackers": True, "address": room.host(2)}
        self.takes = start(room, taker, "leecher", self.content, **fetch)
        lab.wait_until("something has arrived", 40, lambda: self.takes.has() >= BEGUN)

    def finish(self):
        self.takes.wait_complete(60)
        self.content.compare(self.takes.task.folder)


def seeder_dies(room, client, way):
    scene = Scene(room, client, way)
    scene.gives.kill()
    time.sleep(1)
    scene.gives.start()
    scene.finish()


def leecher_dies(room, client, way):
    scene = Scene(room, client, way)
    scene.takes.kill()
    time.sleep(1)
    scene.takes.start()
    scene.finish()


def seeder_moves(room, client, way):
    scene = Scene(room, client, way)
    scene.gives.kill()
    scene.gives.task.address = room.host(3)
    scene.gives.start()
    scene.finish()
