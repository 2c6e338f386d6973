"""A DHT of a cell's own: nodes of ours, of libtorrent's and, over IPv4, of the mainline crate's."""

import os

import lab
from clients.mainline import Mainline
from lab import Failure

OURS, LIBTORRENT, MAINLINE = range(31, 39), range(41, 45), range(51, 53)


class Dht:
    def __init__(self, room, v6):
        self.host = room.host6 if v6 else room.host
        first = [lab.endpoint(self.host(n)) for n in (OURS[0], OURS[1], LIBTORRENT[0])]
        for n in OURS:
            endpoint = lab.endpoint(self.host(n))
            command = [os.environ["TRACKERLESS_BINARY"], "dht", "run", "--lab", "--json"]
            command += ["--state-dir", room.folder_of(f"state-{n}"), "--listen", endpoint]
            for contact in first:
                command += ["--bootstrap", contact] if contact != endpoint else []
            lab.Child(command, f"node-{n}", room.folder)
        # One that nobody holds on to ends at once.
        self.sessions = [
            lab.session(self.host(n), [one for one in first if one != lab.endpoint(self.host(n))])
            for n in LIBTORRENT
        ]
        mainline = [] if v6 else MAINLINE
        for n in mainline:
            Mainline(room, f"mainline-{n}", self.host(n), first)
        # As many as that: some clients take part only once they know nine.
        self.contacts = [lab.endpoint(self.host(n)) for n in (*OURS, *LIBTORRENT, *mainline)]
        try:
            lab.wait_until("every libtorrent node knows five others", 30, self._stands)
        except Failure as failure:
            raise Failure(f"{failure}; they know {self._known()}") from None

    def wait_findable(self, magnet, address):
        """Until a node that has nothing to do with it finds the seeder at `address`."""
        lookups = lab.Dht(self.sessions)

        def found():
            return address in {host for host, _ in lookups.peers_of(self.sessions[-1], magnet)}

        lab.wait_until("the seeder is found by a lookup of another node", 140, found)

    def _stands(self):
        for child in lab.CHILDREN:
            if not child.running():
                raise Failure(f"{child.name} ended by itself:\n{child.tail()}")
        return min(self._known()) >= 5

    def _known(self):
        return [session.status().dht_nodes for session in self.sessions]
