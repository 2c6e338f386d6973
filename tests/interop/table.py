"""Runs the cells of a matrix side by side, each in a process of its own with a hard limit of time,
and prints what they came to."""

import dataclasses
import json
import os
import shutil
import signal
import sys
import time
import traceback

import lab
from lab import Failure
from room import Room

KEEP = 1 << 20  # files of a failed cell that are longer are content, and not kept


@dataclasses.dataclass
class Cell:
    """`run(room)` raises Failure, or returns what is worth telling. Without it `reason` says what
    the client cannot do."""

    row: str
    column: str
    run: object = None
    reason: str = ""
    limit: int = 60  # seconds
    result: dict = None
    folder: str = ""

    @property
    def name(self):
        return f"{self.row}, {self.column}"

    @property
    def mark(self):
        if self.run is None:
            return "n/a"
        if self.result is None:
            return ""
        return f"ok {self.result['seconds']:.0f} s" if self.result["ok"] else "FAILED"


def execute(cells, folder, at_once):
    """Runs all cells, the longest first."""
    waiting = [cell for cell in cells if cell.run]
    waiting.sort(key=lambda cell: cell.limit)
    running = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            cell = waiting.pop()
            cell.folder = os.path.join(folder, _file_name(cell.name))
            running[_fork(cell)] = (cell, time.monotonic())
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            cell, began = running.pop(pid)
            _finish(cell, pid, time.monotonic() - began)
            continue
        for pid, (cell, began) in list(running.items()):
            if time.monotonic() - began > cell.limit:
                end_group(pid)
                os.waitpid(pid, 0)
                del running[pid]
                _finish(cell, pid, cell.limit)
        time.sleep(0.05)


def _fork(cell):
    sys.stdout.flush()
    pid = os.fork()
    if pid != 0:
        return pid
    # Its children are of its group, and end with it.
    os.setpgid(0, 0)
    room = Room(cell.folder)
    log = os.open(os.path.join(cell.folder, "cell.log"), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    result = {"ok": False, "text": "ended without a result"}
    try:
        room.isolate()
        result = {"ok": True, "text": cell.run(room) or ""}
    except Failure as failure:
        result["text"] = str(failure)
    except BaseException:
        result["text"] = traceback.format_exc()
    finally:
        with open(os.path.join(cell.folder, "result.json"), "w") as file:
            json.dump(result, file)
        lab.end_children()
        lab.leave(False)


def end_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _finish(cell, pid, seconds):
    end_group(pid)
    try:
        with open(os.path.join(cell.folder, "result.json")) as file:
            cell.result = json.load(file)
    except (OSError, ValueError):
        cell.result = {"ok": False, "text": f"not done within {cell.limit} s"}
    cell.result["seconds"] = seconds
    if cell.result["ok"]:
        shutil.rmtree(cell.folder, ignore_errors=True)
    else:
        _drop_content(cell.folder)
    lab.say(f"{cell.name}: {cell.mark}{_short(cell.result['text'])}")


def _short(text):
    return f": {text.splitlines()[0]}" if text else ""


def _drop_content(folder):
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)
            if os.path.getsize(path) > KEEP and not name.endswith(".log"):
                os.remove(path)


def _file_name(text):
    text = text.replace("→", "to").replace("←", "from")
    return "".join(c if c.isalnum() else "-" for c in text)


def report(rows, columns, cells):
    """Prints the matrix, the reasons, and returns whether every cell is filled and right."""
    found = {(cell.row, cell.column): cell for cell in cells}
    marks = {key: cell.mark for key, cell in found.items()}
    width = max(len(row) for row in rows)
    widths = [
        max(len(column), *(len(marks.get((row, column), "")) for row in rows)) for column in columns
    ]
    print()
    print("  ".join([" " * width] + [c.ljust(w) for c, w in zip(columns, widths)]).rstrip())
    for row in rows:
        line = [marks.get((row, c), "").ljust(w) for c, w in zip(columns, widths)]
        print("  ".join([row.ljust(width)] + line).rstrip())
    print()
    for reason in sorted({f"{c.column.split(' ')[0]}: {c.reason}" for c in cells if not c.run}):
        print(f"n/a: {reason}")
    bad = [key for key in ((r, c) for r in rows for c in columns) if not _good(found.get(key))]
    for row, column in bad:
        cell = found.get((row, column))
        if cell is None:
            print(f"\n{row}, {column}: EMPTY")
        else:
            print(f"\n{cell.name}: FAILED: {cell.result['text']}\nlogs: {cell.folder}")
    right = sum(1 for cell in cells if cell.run and _good(cell))
    print(f"\n{right} of {len([c for c in cells if c.run])} cells are right, {len(bad)} are not")
    return not bad


def _good(cell):
    if cell is None:
        return False
    return bool(cell.reason) if cell.run is None else bool(cell.result and cell.result["ok"])
