"""How does the parent have all files of folders and zips read, and go on when one of them kills the reader?"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError

from .child import LineChild
from .header import Header, to_header

ANSWER_S = 30.0  # for one header, a zip's list of entries or one digest; a header's own limit is 10 s
CHILD_BYTES = 1_000_000_000  # of memory
RESULTS_MARK = "journal.jsonl"  # a folder that holds it holds the results of a run
EXTRAS = {"pydicom": ("DICOM", "dicom"), "nibabel": ("NIfTI", "nifti")}


@dataclass(frozen=True)
class Found:
    """One object and where it lies."""

    header: Header
    path: Path
    entry: int | None = None  # offset in a zip


@dataclass
class Scan:
    """What all inputs hold."""

    found: list[Found] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # of files: other, unreadable, encrypted, nested
    named: Counter[str] = field(default_factory=Counter)  # by series: files that a DICOMDIR names and are not there
    absent: int = 0  # files that a DICOMDIR names and are not there
    unnamed: int = 0  # objects beside a DICOMDIR that does not name them


class HeaderReader(LineChild):
    """A child process that reads headers; a new one takes the place of one that dies."""

    def __init__(self, key: bytes | None = None) -> None:
        """key: of the digests that stand for identifiers; None: a random one."""
        greeting = {"key": key.hex() if key else secrets.token_hex(32), "memory": CHILD_BYTES}
        self.digests: dict[tuple[Path, int | None], str] = {}
        super().__init__("edge_runtime.hospital.headers.child_main", greeting, ANSWER_S)

    def ask(self, path: Path, **more: Any) -> Iterator[dict[str, Any]]:
        """Yield the answers on a file; the last is {"unreadable"} where it kills the child."""
        return self.ask_lines({"path": str(path), **more})

    def hash_pixels(self, found: Found) -> str:
        """Return the digest of an object's pixels; "" where they cannot be read."""
        key = found.path, found.entry
        if key not in self.digests:
            answers = list(self.ask(found.path, hash=True, entry=found.entry))
            self.digests[key] = str(answers[0].get("pixels", "")) if answers else ""
        return self.digests[key]


def scan(inputs: Sequence[Path], recursive: bool, reader: HeaderReader) -> Scan:
    """Read the headers of files, folders and zips, found by content; a folder with a DICOMDIR is read to its depth.

    Symbolic links to folders are not followed, hidden names and folders with a run's results are left out.
    Raises: EdgeSegError, which names an input by its number: a path may name a person.
    """
    result = Scan()
    for number, given in enumerate(inputs, start=1):
        directory = Directory()
        for path, name in list_files(given, number, recursive):
            read_file(path, name, number, reader, result, directory)
        directory.compare(result)
    return result


def list_files(given: Path, number: int, recursive: bool) -> Iterator[tuple[Path, str]]:
    """Yield the files of an input and their names in it, in file name order. Raises: EdgeSegError."""
    if not os.path.lexists(given):
        raise EdgeSegError(f"input {number}", "no such file or folder", "check the path")
    if not os.path.isdir(given):  # noqa: PTH112 - unlike Path's, it never raises
        yield given, given.name
        return

    def report(error: OSError) -> None:
        if error.filename == str(given):
            raise EdgeSegError(f"input {number}", error.strerror or "it cannot be listed", "check its permissions")

    for top, folders, files in os.walk(given, onerror=report):
        deeper = recursive or any(name.upper() == "DICOMDIR" for name in files)
        recursive = deeper
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if deeper else []
        folders[:] = [name for name in folders if not os.path.isfile(Path(top, name, RESULTS_MARK))]  # noqa: PTH113
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(top) / name
            yield path, path.relative_to(given).as_posix()


def read_file(path: Path, name: str, number: int, reader: HeaderReader, result: Scan, directory: Directory) -> None:
    """Add what a file or a zip holds to the result. Raises: EdgeSegError where a package is missing."""
    for answer in reader.ask(path):
        if missing := answer.get("missing"):
            kind, extra = EXTRAS.get(str(missing).split(".")[0], ("DICOM", "dicom"))
            why = f"it holds {kind} files, and {missing} is not installed"
            raise EdgeSegError(f"input {number}", why, f"pip install '.[{extra}]'")
        inner = str(answer.get("file", name))
        if "header" in answer:
            header = to_header(answer["header"])
            result.found.append(Found(header, path, answer.get("entry")))
            directory.present.append((to_key(inner), header.form))
        elif "directory" in answer:
            folder = inner.rpartition("/")[0]
            directory.named += [(series, to_key(f"{folder}/{file}")) for series, file in answer["directory"]]
        else:
            kind = next((kind for kind in ("unreadable", "encrypted", "nested") if kind in answer), "other")
            result.counts[kind] += 1
            directory.present.append((to_key(inner), kind))


@dataclass
class Directory:
    """What an input's DICOMDIR names, to be compared with what is there: it is a hint, never more."""

    named: list[tuple[str, str]] = field(default_factory=list)  # (digest of the series, file)
    present: list[tuple[str, str]] = field(default_factory=list)  # (file, what it is)

    def compare(self, result: Scan) -> None:
        """Count what is named and not there, and what is there and not named."""
        if not self.named:
            return
        there, named = {file for file, _ in self.present}, {file for _, file in self.named}
        for series, file in self.named:
            if file not in there:
                result.absent += 1
                result.named[series] += 1
        kinds = ("classic", "multi-frame")
        result.unnamed += sum(kind in kinds and file not in named for file, kind in self.present)


def to_key(name: str) -> str:
    """Return a file's name as discs compare it: upper case, without the version `;1`."""
    return name.strip("/").upper().partition(";")[0]
