"""How are files written whole or not at all, hashed, and locked by one process at a time?"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge_runtime.errors import OutputError

TEMPORARY = ".tmp-edge-seg-"  # begins the name of a file that is being written
MAKE_ROOM = "make room or choose another folder with -o"


def write_file(path: Path, data: bytes, sync: bool = True, sync_name: bool = False, fix: str = MAKE_ROOM) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename; makes its folder.

    sync: False for what a power cut may take, and what is written so often that it would wear out a card. sync_name:
    also the folder's list of names, so that a power cut leaves the new file and not the old one.
    Raises: OutputError if that fails; nothing is left behind then.
    """
    with open_atomic(path, sync, fix) as file:
        file.write(data)
    if sync_name:
        sync_folder(path.parent, fix)


@contextmanager
def open_atomic(path: Path, sync: bool = True, fix: str = MAKE_ROOM) -> Iterator[BinaryIO]:
    """Yield a file to write to that gets its name at the end, when it is whole, or never; makes its folder.

    Raises: OutputError if that fails; nothing is left behind then.
    """
    temporary = name_temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), fix) from error


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write the files whole or not at all: all temporary files first, then the renames.

    Unlike write_file one by one: a disk that fills up during the second must not leave the first behind.
    Raises: OutputError if that fails; nothing is left behind then.
    """
    temporaries = {path: name_temporary(path) for path in files}
    try:
        for path, data in files.items():
            with temporaries[path].open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except OSError as error:
        raise OutputError(str(list(files)[-1]), f"it cannot be written ({error.strerror})") from error
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def name_temporary(path: Path) -> Path:
    """Return a new name beside a file, short and unrelated to its own: a 255-byte name leaves no room for a suffix."""
    return path.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"


def sync_folder(folder: Path, fix: str = MAKE_ROOM) -> None:
    """Write a folder's list of names to the disk. Raises: OutputError."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error), fix) from None


@contextmanager
def hold_lock(path: Path, why: str = "", fix: str = MAKE_ROOM) -> Iterator[None]:
    """Hold a lock file for this process; if another one holds it, wait, or raise an error with `why` if that is given.

    Raises: OutputError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), fix) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if why else 0))
        except BlockingIOError:
            raise OutputError(str(path.parent), why, "wait for it to end") from None
        try:
            yield
        finally:
            fcntl.flock(
                handle, fcntl.LOCK_UN
            )  # closing is not enough: a process forked meanwhile has the file open too
    finally:
        os.close(handle)


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits. Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' relative names and digests, sorted."""
    if path.is_file():
        return hash_file(path)
    lines = [f"{file.relative_to(path).as_posix()}\0{hash_file(file)}\n" for file in path.rglob("*") if file.is_file()]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
