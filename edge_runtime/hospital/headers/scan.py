"""How does the parent have all files of folders and zips read, and go on when one of them kills the reader?"""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError
from edge_runtime.system.process import module_command, package_environment

from .header import Header, to_header

ANSWER_S = 30.0  # for one header, a zip's list of entries or one digest; a header's own limit is 10 s
CHILD_BYTES = 1_000_000_000  # of memory
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


class ChildDied(Exception):
    """The child process has ended, or was ended since it did not answer."""


class HeaderReader:
    """A child process that reads headers; a new one takes the place of one that dies."""

    def __init__(self) -> None:
        self.key = secrets.token_hex(32)
        self.digests: dict[tuple[Path, int | None], str] = {}
        self.start()

    def start(self) -> None:
        """Start the process."""
        pipe, environment = subprocess.PIPE, package_environment()
        environment["OPENBLAS_NUM_THREADS"] = "1"  # each thread's memory counts against the limit
        try:
            command = module_command("edge_runtime.hospital.headers.child_main")
            self.process = subprocess.Popen(
                command, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0
            )
        except OSError as error:
            raise EdgeSegError("a process for the headers", error.strerror or str(error), "free some memory") from None
        self.lines, self.rest = iter(()), b""
        self.send({"key": self.key, "memory": CHILD_BYTES})

    def send(self, message: dict[str, Any]) -> None:
        """Write one line; that the child is dead is found when its answer is read."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            data = json.dumps(message).encode() + b"\n"  # ASCII: any file name survives
            while data:
                data = data[self.process.stdin.write(data) or 0 :]

    def ask(self, path: Path, **more: Any) -> Iterator[dict[str, Any]]:
        """Yield the answers on a file; the last is {"unreadable"} where it kills the child."""
        self.send({"path": str(path), **more})
        try:
            while not (answer := self.read_answer()).get("done"):
                yield answer
        except ChildDied:
            self.close()
            self.start()
            yield {"unreadable": True}

    def read_answer(self) -> dict[str, Any]:
        """Return the next line of the child. Raises: ChildDied."""
        end = time.monotonic() + ANSWER_S
        parts = [self.rest]
        assert self.process.stdout is not None
        while b"\n" not in parts[-1]:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not data:
                raise ChildDied
            parts.append(data)
        line, self.rest = b"".join(parts).split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def hash_pixels(self, found: Found) -> str:
        """Return the digest of an object's pixels; "" where they cannot be read."""
        key = found.path, found.entry
        if key not in self.digests:
            answers = list(self.ask(found.path, hash=True, entry=found.entry))
            self.digests[key] = str(answers[0].get("pixels", "")) if answers else ""
        return self.digests[key]


def scan(inputs: Sequence[Path], recursive: bool, reader: HeaderReader) -> Scan:
    """Read the headers of files, folders and zips, found by content; a folder with a DICOMDIR is read to its depth.

    Symbolic links to folders are not followed, hidden names are left out, as in a run.
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
