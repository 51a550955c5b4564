"""Which images of a watched folder are written completely, and not done yet?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.folder.inputs import Input, walk

BATCH = 1000  # images of one scan: a folder may be full when the service starts


@dataclass
class Inbox:
    """The files of a folder and what is known of them.

    `done` holds the files that are done, with the state they had then; a file that changes is a new one.
    """

    folder: Path
    out: Path
    recursive: bool
    settle_s: float  # a file that has not changed for so long is complete
    done: dict[str, str]

    def __post_init__(self) -> None:
        self.changing: dict[str, tuple[str, float]] = {}  # file: state, since when

    def scan(self, now: float) -> Iterator[tuple[Input, str]]:
        """Yield images that are complete and not done, in name order, each with its state; drop those that are gone.

        now: a monotonic clock, in seconds: the files' own times may come from another machine.
        Raises: EdgeSegError if the folder cannot be listed.
        """
        present: set[str] = set()
        ready: list[tuple[Input, str]] = []
        for path, file in walk(self.folder, self.recursive, self.out):
            present.add(file)
            state = read_state(path)
            if state is None or self.done.get(file) == state:
                self.changing.pop(file, None)
            elif self.changing.get(file, ("", 0.0))[0] != state:
                self.changing[file] = state, now
            elif now - self.changing[file][1] >= self.settle_s and len(ready) < BATCH:
                ready.append((Input(path, file), state))
        for known in (self.done, self.changing):
            for file in [file for file in known if file not in present]:
                del known[file]
        yield from ready

    def mark_done(self, file: str, state: str) -> None:
        """Record that a file is done."""
        self.done[file] = state
        self.changing.pop(file, None)

    def find_same_mask(self, file: str) -> str | None:
        """Return the file, done already, whose mask this one's would overwrite: of a.jpg and a.jpg.png."""
        other = file.removesuffix(".png") if file.endswith(".png") else f"{file}.png"
        return other if other in self.done else None


def read_state(path: Path) -> str | None:
    """Return a text that changes when a file is written to or replaced; None of one that is empty, or gone."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for every file of every scan
    except OSError:
        return None
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}" if found.st_size else None
