"""Files that are written whole or not at all, and survive the power going out."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_runtime.errors import OutputError

ROOM = "make room, or check who owns the folder"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary one beside it, fsync, rename, fsync. Raises: OutputError."""
    temporary = path.parent / f".new-{secrets.token_hex(6)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), ROOM) from None


def write_json(path: Path, fields: Any) -> None:
    """Write JSON for people and programs. Raises: OutputError."""
    write_whole(path, (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Make a folder's list of names last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def hold(path: Path, why: str = "") -> Iterator[None]:
    """Hold a lock file for this process; if another holds it, wait, or where there is a `why` raise it.

    Raises: OutputError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), ROOM) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if why else 0))
        except BlockingIOError:
            raise OutputError(str(path.parent), why, "wait for it to end") from None
        yield
    finally:
        os.close(handle)


def tell_time() -> str:
    """Return the time now, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
