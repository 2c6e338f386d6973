"""This project's command."""

import os

import lab
from clients import Client


class Ours(Client):
    title = "us"
    takes_peers = True

    def launch(self):
        task = self.task
        if task.seeds:
            command = ["seed", task.source, "--data", task.folder]
            command += ["--super-seed"] if task.super_seeds else []
        else:
            command = ["download", task.source, "-o", task.folder]
            command += ["--seed"] if task.stays else []
        for peer in task.peers:
            command += ["--peer", peer]
        if task.contacts is None:
            command.append("--no-dht")
        for contact in task.contacts or ():
            command += ["--bootstrap", contact]
        for name, wanted in (("lsd", task.lsd), ("pex", task.pex), ("trackers", task.trackers)):
            command += [] if wanted else [f"--no-{name}"]
        for name, limit in (("download", task.down), ("upload", task.up)):
            command += [f"--{name}-limit", str(limit)] if limit else []
        command += ["--encryption", task.encryption] if task.encryption else []
        command += ["--lab", "--json", "--state-dir", task.state, "--listen", task.endpoint]
        return lab.Child([os.environ["TRACKERLESS_BINARY"], *command], task.name, task.room.folder)

    def ready(self):
        # What is seeded is served once it is verified.
        return self.child.last("verified" if self.task.seeds else "listening")

    def complete(self):
        return self.child.last("complete") and (self.task.stays or self._ended_well())

    def _ended_well(self):
        return not self.child.running() and self.child.end() == 0

    def tail(self):
        self.child.log.flush()
        with open(self.child.log.name, errors="replace") as log:
            lines = [line for line in log if '"event":"progress"' not in line]
        return f"--- the last lines of {self.task.name}\n" + "".join(lines[-15:])

    def says(self):
        return self.child.last("progress")

    def uploaded(self):
        """From the rates it tells every second; a seeder tells no total."""
        told = [e for e in list(self.child.events) if e.get("event") == "progress"]
        pairs = zip(told, told[1:])
        return int(sum((after["time"] - at["time"]) * after["up_rate"] for at, after in pairs))

    def has(self):
        return (self.child.last("progress") or {}).get("done", 0)

    def met(self):
        """Whether connections were encrypted, in the order in which they were made."""
        events = [e for e in list(self.child.events) if e.get("event") == "peer_connected"]
        return [e["encrypted"] for e in events]

    def closed(self):
        """Why connections ended."""
        events = [e for e in list(self.child.events) if e.get("event") == "peer_closed"]
        return [e["reason"] for e in events]

    def found(self, endpoint=None):
        """Where it learnt of the peers from, or of one of them."""
        events = [e for e in list(self.child.events) if e.get("event") == "peer_found"]
        return {e["source"] for e in events if endpoint in (None, e["address"])}
