"""Which images of a watched folder are written completely, and not done yet?"""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import EdgeSegError
from edge_runtime.folder.inputs import Input, list_folder

BATCH = 1000  # images of one scan: a folder may be full when the service starts


class Seen:
    """The files that are done, each in the state that it had then; eight bytes of memory a file.

    Those that are gone are kept too: a network folder may look empty for a while, and its files are then no new ones.
    """

    def __init__(self, files: Iterable[tuple[str, str]] = ()) -> None:
        """files: names and states."""
        self.digests = array("Q", sorted({to_digest(file, state) for file, state in files}))

    def add(self, file: str, state: str) -> None:
        """Record that a file is done."""
        if not self.holds(file, state):
            insort(self.digests, to_digest(file, state))

    def holds(self, file: str, state: str) -> bool:
        """Tell whether a file was done in this state."""
        digest = to_digest(file, state)
        position = bisect_left(self.digests, digest)
        return position < len(self.digests) and self.digests[position] == digest


@dataclass(frozen=True)
class Look:
    """What one look at the folder has found."""

    ready: tuple[tuple[Input, str], ...] = ()  # complete and not done, in name order, each with its state
    ignored: int = 0  # files without an image's suffix
    results: tuple[Path, ...] = ()  # folders that hold the results of a run
    unreadable: tuple[EdgeSegError, ...] = ()  # an error for each folder that cannot be listed


class Inbox:
    """The files of a folder and what is known of them."""

    def __init__(self, folder: Path, out: Path, recursive: bool, settle_s: float) -> None:
        """settle_s: a file that has not changed for so many seconds is complete."""
        self.folder, self.out, self.recursive, self.settle_s = folder, out, recursive, settle_s
        self.seen = Seen()
        self.changing: dict[str, tuple[str, float]] = {}  # files that are not done: their state, and since when

    def scan(self, now: float) -> Look:
        """Look at the folder; a file that changes, or comes again in another state, is a new one.

        now: a monotonic clock, in seconds: the files' own times may come from another machine.
        Raises: EdgeSegError if the folder cannot be listed.
        """
        content = list_folder(self.folder, self.recursive, self.out)
        ready: list[tuple[Input, str]] = []
        before, self.changing = self.changing, {}
        for path, file in content.images:
            state = read_state(path)
            if state is None or self.seen.holds(file, state):
                continue
            last, since = before.get(file, ("", now))
            self.changing[file] = state, since if last == state else now
            if last == state and now - since >= self.settle_s and len(ready) < BATCH:
                ready.append((Input(path, file), state))
        return Look(tuple(ready), len(content.others), content.results, content.unreadable)

    def mark_done(self, file: str, state: str) -> None:
        """Record that a file is done."""
        self.seen.add(file, state)
        self.changing.pop(file, None)


def read_state(path: Path) -> str | None:
    """Return a text that changes when a file is written to or replaced; None of one that is empty, or gone."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for every file of every scan
    except OSError:
        return None
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}" if found.st_size else None


def to_digest(file: str, state: str) -> int:
    """Return 64 bits of a hash: of ten million files, two share them once in 400,000 services."""
    text = f"{file}\0{state}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
