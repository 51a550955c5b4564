"""How are files read and written on a device? Regular ones of a limited size alone; whole, to survive a power cut.

Whatever lies under a name that an installer reads may have been put there by somebody else: a pipe would make it wait,
a device or a very large file would fill the memory, a link would lead it elsewhere.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from edge_runtime.errors import OutputError, printable
from edge_runtime.system.files import write_file

MAKE_ROOM = "make room, or check who owns the folder"
RUN_AS_ROOT = "check who owns it, or run the command with sudo"
OWN_FOLDER = "move it away, or choose another --root"
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}


def open_regular(path: Path, follow: bool = True) -> io.BufferedReader:
    """Open a regular file to read, without waiting; not `follow`: not if the name itself is a symbolic link.

    Raises: OSError; "it is a pipe" and the like are its `strerror`.
    """
    check_regular(path, path.stat(follow_symlinks=follow))  # opening a device can have an effect
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        check_regular(path, os.fstat(file.fileno()))  # it may have been replaced since
    except OSError:
        file.close()
        raise
    return file


def check_regular(path: Path, facts: os.stat_result) -> None:
    """Require a regular file. Raises: OSError."""
    if not stat.S_ISREG(facts.st_mode):
        kind = KINDS.get(stat.S_IFMT(facts.st_mode), "no file")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


def read_regular(path: Path, most: int, follow: bool = True) -> bytes:
    """Return the bytes of a regular file, of `most` at most. Raises: OSError, as open_regular."""
    with open_regular(path, follow) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(most + 1) if size <= most else b""  # a sparse file takes no disk and much memory
    if max(size, len(data)) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return data


def read_json(path: Path, most: int, follow: bool = True) -> Any:
    """Return the JSON value in a regular file of at most `most` bytes. Raises: OSError; ValueError for other text."""
    return parse_json(read_regular(path, most, follow))


def parse_json(text: bytes) -> Any:
    """Return the value of a JSON text, without NaN and infinities. Raises: ValueError."""
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def refuse_constant(name: str) -> NoReturn:
    """Refuse what Python reads as JSON and nothing else does. Raises: ValueError."""
    raise ValueError(f"{name} is no JSON")


def require_own_folder(path: Path) -> None:
    """Require a name to be free, or a folder and no link to one: what is in it may be removed. Raises: OutputError."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), RUN_AS_ROOT) from None
    if not stat.S_ISDIR(mode):
        raise OutputError(str(path), f"it is {KINDS.get(stat.S_IFMT(mode), 'a file')}, not a folder", OWN_FOLDER)


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none where there is no folder. Raises: OutputError."""
    require_own_folder(folder)
    try:
        return sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error), RUN_AS_ROOT) from None


def write_durably(path: Path, data: bytes) -> None:
    """Write a file, and its folder's list of names, to the disk. Raises: OutputError."""
    write_file(path, data, sync_name=True, fix=MAKE_ROOM)


def write_json(path: Path, fields: Any) -> None:
    """Write indented JSON with sorted keys. Raises: OutputError."""
    write_durably(path, (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode())


def to_line(text: object) -> str:
    """Return a value as one line without control characters, whoever wrote it."""
    return printable(" ".join(str(text).split()))


def format_now() -> str:
    """Return the time now, UTC, to the second: 2026-01-31T12:00:00+00:00."""
    return datetime.now(UTC).isoformat(timespec="seconds")
