"""Nodes of the `mainline` crate: DHT only, IPv4 only."""

import os
import subprocess

import lab
from lab import Failure


class Mainline:
    title = "mainline"

    def __init__(self, room, name, address, contacts):
        self.endpoint = lab.endpoint(address, lab.PORT)
        command = [os.environ["MAINLINE_NODE"], self.endpoint, *contacts]
        self.child = lab.Child(command, name, room.folder, stdin=subprocess.PIPE)
        lab.wait_until(f"{name} listens", 10, lambda: "listening" in self.child.lines)

    def ask(self, line, seconds=30):
        """One line to it, and the next line from it."""
        heard = len(self.child.lines)
        self.child.process.stdin.write(f"{line}\n".encode())
        self.child.process.stdin.flush()
        lab.wait_until(f"mainline answers {line}", seconds, lambda: len(self.child.lines) > heard)
        answer = self.child.lines[heard].split()
        if answer[0] == "failed":
            raise Failure(f"mainline: {line}: {' '.join(answer[1:])}")
        return answer[2:]
