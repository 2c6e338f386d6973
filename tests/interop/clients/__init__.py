"""The clients of the matrix. Each takes a `Task`: one torrent, seeded or fetched at one address,
and others found only by the ways that the task names."""

import dataclasses
import os
import signal

import lab
from lab import PORT, Failure


@dataclasses.dataclass
class Task:
    """What one client does. `source` is the path of a torrent file or, to fetch, a magnet link;
    `folder` holds the content or takes it."""

    room: object
    name: str
    address: str
    source: str
    folder: str
    seeds: bool = False
    port: int = PORT
    contacts: list = None  # of the DHT; None: it takes no part in it
    lsd: bool = False
    pex: bool = False
    trackers: bool = False
    peers: list = ()  # known beforehand
    down: int = 0  # bytes a second at most; 0: no limit
    up: int = 0
    super_seeds: bool = False
    utp: bool = False  # where it matters: by itself it reaches nobody who has none
    # Of our command a mode; of others "rc4" or "plaintext" (only after the handshake of encryption,
    # and then in that way) or "never". What each does by itself if it is left out.
    encryption: str = ""
    stays: bool = False  # once it has everything it goes on seeding

    @property
    def endpoint(self):
        return lab.endpoint(self.address, self.port)

    @property
    def state(self):
        """A folder for what the client keeps of itself; a client that returns finds it again."""
        path = os.path.join(self.room.folder, f"state-{self.name}")
        os.makedirs(path, exist_ok=True)
        return path


class Client:
    """One running client. Subclasses start it in `launch` and say how it does."""

    title = ""
    # It can be told of a peer when it starts.
    takes_peers = False
    # It can seed each piece once, to whoever gives it on (BEP 16).
    super_seeds = False
    # A download gives files without content too, and their folders.
    makes_empty_files = True
    # It closes connections where neither side wants anything, before it exchanges peers.
    drops_idle_peers = False

    def __init__(self, task):
        self.task, self.child = task, None
        self.start()

    def start(self):
        self.child = self.launch()

    def alive(self):
        """Raises Failure if it ended and was not to."""
        if not self.child.running():
            raise Failure(f"{self.task.name} ended by itself\n{self.tail()}")

    def wait_ready(self, seconds=30):
        """Until it serves what it seeds, or has begun to fetch."""

        def ready():
            self.alive()
            return self.ready()

        lab.wait_until(f"{self.task.name} is ready", seconds, ready)
        return self

    def wait_complete(self, seconds):
        """Until everything it fetches is there; the content is for the caller to compare."""

        def complete():
            if self.complete():
                return True
            self.alive()
            return False

        try:
            lab.wait_until(f"{self.task.name} has everything", seconds, complete)
        except Failure as failure:
            raise Failure(f"{failure}; it says: {self.says()}\n{self.tail()}") from None
        return self

    def kill(self):
        """As a power cut would: nobody is told, nothing is saved."""
        self.child.end(signal.SIGKILL)

    def end(self):
        self.child.end()

    def tail(self):
        return f"--- the last lines of {self.task.name}\n{self.child.tail()}"

    def launch(self):
        raise NotImplementedError

    def ready(self):
        raise NotImplementedError

    def complete(self):
        raise NotImplementedError

    def says(self):
        """Its own figures, for the reason of a failure."""
        raise NotImplementedError

    def uploaded(self):
        """Bytes of content it gave away."""
        raise NotImplementedError

    def has(self):
        """Bytes of content it has."""
        raise NotImplementedError
