"""What one cell of the matrix runs in: a folder, and a network of its own with its addresses."""

import ctypes
import os
import subprocess

import lab
from lab import Failure

CLONE_NEWNET = 0x40000000
# Transmission takes part over IPv6 only where it has a global address; this range is for
# documentation, and no network but loopback is there anyway.
PREFIX6 = "2001:db8"
V1 = lab.lt.create_torrent.v1_only


class Room:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def isolate(self):
        """Moves this process into a network namespace of its own, which ends with it."""
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise Failure(f"no network of its own: {os.strerror(ctypes.get_errno())}")
        for command in (
            "link set lo up multicast on",
            "addr add 10.77.0.1/16 dev lo",  # the whole /16 answers
            "route add 224.0.0.0/4 dev lo",
            "-6 route add default dev lo",
            # Where there is no other interface multicast reaches nobody without it.
            "-6 route add local ff00::/8 dev lo table local",
        ):
            ip(command)
        lab.only_loopback()

    def host(self, n):
        return f"10.77.0.{n}"

    def host6(self, n):
        """An IPv6 address; of this family each one must be given to the interface. Each host is in
        a network of its own: of one network a DHT takes only a few."""
        address = f"{PREFIX6}:77:{n:x}::1"
        ip(f"-6 addr replace {address}/128 dev lo nodad")
        return address

    def neighbour6(self, n):
        """An IPv6 address in one network with the others. Whoever sends from no address of its
        own sends from the one that was made last."""
        address = f"{PREFIX6}:6771::{n:x}"
        ip(f"-6 addr replace {address}/64 dev lo nodad")
        return address

    def hosts(self, v6):
        """The addresses of one family, as a function of a number."""
        return self.host6 if v6 else self.host

    def partner(self, address):
        """The IPv4 address of the host that has this IPv6 one."""
        return self.host(int(address.split(":")[3], 16))

    def folder_of(self, name):
        path = os.path.join(self.folder, name)
        os.makedirs(path, exist_ok=True)
        return path


def ip(arguments):
    done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"ip {arguments}: {done.stderr.strip()}")


class Content:
    """Files of random bytes in the folder `home` of a room, and their torrent. `size` is that of a
    file, or a tree of names and sizes."""

    def __init__(self, room, size, piece_length=64 << 10, trackers=(), flags=V1):
        self.room, self.size, self.piece_length = room, size, piece_length
        self.home, self.name = room.folder_of("home"), "content.bin"
        self.sha256 = {}  # of each path
        if isinstance(size, dict):
            self.name = "content"
            for name, length in size.items():
                self._write(os.path.join(self.name, name), length)
        else:
            self._write(self.name, size)
        path = os.path.join(self.home, self.name)
        data, magnet = lab.make_torrent(path, piece_length, trackers, flags)
        self.magnet, self.info_hash = magnet, magnet.rsplit(":", 1)[1]
        self.torrent = os.path.join(room.folder, "content.torrent")
        with open(self.torrent, "wb") as file:
            file.write(data)
        for name, length in lab.pad_files(data):
            # Clients that know nothing of BEP 47 have them as files of zeros.
            path = os.path.join(self.home, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.truncate(length)

    def _write(self, name, length):
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.sha256[name] = lab.write_random(path, length, os.urandom(8))

    def with_trackers(self, name, urls):
        """The path of another torrent file, with these trackers."""
        path = os.path.join(self.room.folder, name)
        with open(self.torrent, "rb") as file, open(path, "wb") as out:
            out.write(lab.with_trackers(file.read(), urls))
        return path

    def begin(self, folder, length):
        """Puts a file of full size into `folder` of which only the beginning is right."""
        with open(os.path.join(self.home, self.name), "rb") as file:
            data = file.read(length)
        with open(os.path.join(folder, self.name), "wb") as file:
            file.write(data)
            file.truncate(self.size)

    def compare(self, folder, empty=True):
        """Until the files in `folder` are the same: what a client has verified may not be written.
        With `empty` those without content must be there too."""

        def differing():
            for name, wanted in self.sha256.items():
                path = os.path.join(folder, name)
                if wanted == lab.SHA256_OF_NOTHING and not empty and not os.path.exists(path):
                    continue
                if not os.path.isfile(path) or lab.sha256(path) != wanted:
                    return name
            return None

        try:
            lab.wait_until("what arrived is what was sent", 5, lambda: differing() is None)
        except Failure as failure:
            raise Failure(f"{failure}: {differing()}") from None
