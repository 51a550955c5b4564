"""Which images has a run finished, and how is a folder kept from being used by two runs at a time?"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_runtime.contract.fields import ModelFacts
from edge_runtime.errors import OutputError
from edge_runtime.system.files import MAKE_ROOM, open_atomic, open_own, read_kind, require_kind

ResultRow = dict[str, str]  # column: cell
JOURNAL, LOCK, SALT = "journal.jsonl", ".lock", ".salt"
MODEL = "model"  # the entry of a journal's row that results.csv does not have
LOW_PIXELS, HIGH_PIXELS = "low_pixels", "high_pixels"  # the same: a slice's lesion with the threshold's margin
# What a run and a service write in OUT.
OWN_FILES = (LOCK, JOURNAL, "results.csv", "run.json", "health.json", "index.html", "series.csv", "links.csv", SALT)
OWN_FOLDERS = ("masks", "probability", "overlays", "gallery", "dicom", "nifti")


@dataclass(frozen=True)
class JournalEntry:
    """One journal line: what a finished image was made from, its row, and its outputs' sizes."""

    key: str
    row: ResultRow
    outputs: Mapping[str, int]
    state: str = ""  # of the input file, where a service compares it: see `inbox`

    @property
    def model(self) -> str:
        """The model that segmented it, as `name_model` names it; "" in journals of versions that did not record it."""
        return self.row.get(MODEL, "")

    @property
    def source(self) -> str:
        """The input's name in the watched folder, which the row has too unless that was another file's."""
        return self.state.partition(" ")[2] or self.row["file"]


@dataclass(frozen=True)
class Outcome:
    """A finished image; `fresh` if it was processed now, not kept from an earlier run."""

    entry: JournalEntry
    fresh: bool


def name_model(model: ModelFacts) -> str:
    """Return a model's name in a journal."""
    return f"{model.id} {model.version} ({model.sha256[:12]})"


def outputs_exist(out: Path, outputs: Mapping[str, int]) -> bool:
    """Tell whether all of an image's outputs exist in their size."""
    try:
        return all((out / name).stat().st_size == size for name, size in outputs.items())
    except OSError:
        return False


def read_journal(path: Path) -> dict[str, JournalEntry]:
    """Return {file: entry} of what an earlier run has segmented; a last line that a crash cut off is left out."""
    return {entry.row["file"]: entry for entry in scan_journal(path) if entry.row.get("status") == "ok"}


def scan_journal(path: Path) -> Iterator[JournalEntry]:
    """Yield the entries of a journal, also later ones of the same file; none where there is no journal."""
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from filter(None, map(from_line, lines))
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), "choose another folder with -o") from None


def write_journal(path: Path, entries: Iterable[JournalEntry]) -> None:
    """Write the journal anew, one line for each image."""
    with open_atomic(path) as file:
        for entry in entries:
            file.write(to_line(entry).encode())


def append_journal(journal: BinaryIO, entry: JournalEntry) -> None:
    """Add a finished image to the journal, an unbuffered file, so that it outlives this process.

    Raises: OutputError.
    """
    line = to_line(entry).encode()
    try:
        written = journal.write(line)
    except OSError as error:
        raise OutputError(journal.name, error.strerror or str(error), MAKE_ROOM) from error
    if written != len(line):
        raise OutputError(journal.name, "the disk is full", MAKE_ROOM)


def from_line(line: str) -> JournalEntry | None:
    """Return a journal line's entry, None where it is cut off or not this program's."""
    try:
        entry = JournalEntry(**json.loads(line))
        texts = (entry.key, entry.state, entry.row["file"], *entry.row, *entry.row.values(), *entry.outputs)
        sizes = entry.outputs.values()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    whole = all(isinstance(text, str) for text in texts) and all(isinstance(size, int) for size in sizes)
    return entry if whole else None


def to_line(entry: JournalEntry) -> str:
    """Return a journal line; ASCII, so that file names that are not UTF-8 come back as they were."""
    state = {"state": entry.state} if entry.state else {}
    return json.dumps({"key": entry.key, "row": entry.row, "outputs": dict(entry.outputs), **state}) + "\n"


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Lock OUT for this process.

    Raises: OutputError if another run has locked it, or a link, pipe or device has a name that a run uses there.
    """
    try:
        for names, kind in ((OWN_FILES, stat.S_IFREG), (OWN_FOLDERS, stat.S_IFDIR)):
            for name in names:
                require_kind(out / name, read_kind(out / name), kind)
        file = os.fdopen(open_own(out / LOCK, os.O_RDWR | os.O_APPEND, shared=True), "ab+", buffering=0)
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
            if os.fstat(file.fileno()).st_nlink == 1:  # else it is another file too, which is not to be changed
                file.truncate(0)
                file.write(str(os.getpid()).encode())
        except OSError as error:
            raise OutputError(str(out), error.strerror or str(error), MAKE_ROOM) from None
        try:
            yield  # the file stays: were it removed, a third run could lock a new one of its name beside a second run
        finally:
            with suppress(OSError):
                fcntl.flock(
                    file, fcntl.LOCK_UN
                )  # closing is not enough: a process forked meanwhile has the file open too
