"""What a run remembers: one line for each finished image, and a lock so that two runs never share a folder."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import OutputError
from .files import ROOM, write_slowly

Row = dict[str, str]
JOURNAL, LOCK = "journal.jsonl", ".lock"


@dataclass(frozen=True)
class Done:
    """One journal line: the finished image's row, what it was made from, and its outputs' sizes."""

    key: str
    row: Row
    outputs: Mapping[str, int]
    state: str = ""  # of the input file, where a service goes by it: see `inbox`


def outputs_stand(out: Path, outputs: Mapping[str, int]) -> bool:
    """Tell whether all of an image's outputs are there in their size."""
    try:
        return all((out / name).stat().st_size == size for name, size in outputs.items())
    except OSError:
        return False


def read_journal(path: Path) -> dict[str, Done]:
    """Return {file: Done} of what an earlier run has made; a last line that was cut off by a crash is not counted."""
    return {done.row["file"]: done for done in scan_journal(path) if done.row.get("status") == "ok"}


def scan_journal(path: Path) -> Iterator[Done]:
    """Yield the lines of a journal, the later ones of a file too; none where there is no journal."""
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from filter(None, map(from_line, lines))
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), "choose another folder with -o") from None


def write_journal(path: Path, earlier: Iterable[Done]) -> None:
    """Write the journal anew, one line for each image."""
    with write_slowly(path) as file:
        for done in earlier:
            file.write(to_line(done).encode())


def append_journal(journal: BinaryIO, done: Done) -> None:
    """Add a finished image to the journal, an unbuffered file, so that it outlives this process.

    Raises: OutputError.
    """
    line = to_line(done).encode()
    try:
        written = journal.write(line)
    except OSError as error:
        raise OutputError(journal.name, error.strerror or str(error), ROOM) from error
    if written != len(line):
        raise OutputError(journal.name, "the disk is full", ROOM)


def from_line(line: str) -> Done | None:
    """Return what a journal line says, None where it is cut off or not this program's."""
    try:
        done = Done(**json.loads(line))
        texts = (done.key, done.state, done.row["file"], *done.row, *done.row.values(), *done.outputs)
        sizes = done.outputs.values()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    whole = all(isinstance(text, str) for text in texts) and all(isinstance(size, int) for size in sizes)
    return done if whole else None


def to_line(done: Done) -> str:
    """Return a journal line; ASCII, so that file names that are not UTF-8 come back as they were."""
    state = {"state": done.state} if done.state else {}
    return json.dumps({"key": done.key, "row": done.row, "outputs": dict(done.outputs), **state}) + "\n"


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold OUT for this process. Raises: OutputError if another run has it."""
    try:
        file = (out / LOCK).open("ab+", buffering=0)
    except OSError as error:
        raise OutputError(str(out), error.strerror or str(error), "choose another folder with -o") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            why = f"another run (process {file.read().decode('ascii', 'replace') or 'unknown'}) is writing there"
            raise OutputError(str(out), why, "wait for it or choose another -o") from None
        except OSError:
            pass  # a file system without locks
        try:
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        except OSError as error:
            raise OutputError(str(out), error.strerror or str(error), ROOM) from None
        try:
            yield  # the empty-handed file stays: removing it would let a third run lock one that has no name
        finally:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)  # a process forked meanwhile holds the file open a moment longer
