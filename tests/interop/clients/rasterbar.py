"""libtorrent, in a process of its own (see peer_libtorrent.py)."""

import dataclasses
import json
import os
import sys

import lab
from clients import Client

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "peer_libtorrent.py")


class Libtorrent(Client):
    title = "libtorrent"
    takes_peers = True
    super_seeds = True

    def launch(self):
        task = {f.name: getattr(self.task, f.name) for f in dataclasses.fields(self.task)}
        del task["room"]
        command = [sys.executable, SCRIPT, json.dumps(task)]
        return lab.Child(command, self.task.name, self.task.room.folder)

    def ready(self):
        status = self.child.last("status")
        return status and (status["seeding"] or not self.task.seeds)

    def complete(self):
        return (self.child.last("status") or {}).get("seeding")

    def says(self):
        return self.child.last("status")

    def uploaded(self):
        return (self.child.last("status") or {}).get("uploaded", 0)

    def has(self):
        return (self.child.last("status") or {}).get("done", 0)
