"""Files written whole or not at all, and what a file in the making is called."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import OutputError

TEMPORARY = ".tmp-edge-seg-"  # begins the name of a file that is being written
ROOM = "make room or choose another folder with -o"


def write_file(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename; makes its folder.

    sync: False for what a power cut may take, and what is written so often that it would wear out a card.
    Raises: OutputError if that fails; nothing is left behind then.
    """
    with write_slowly(path, sync) as file:
        file.write(data)


@contextmanager
def write_slowly(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write to that takes its name at the end, whole, or never; makes its folder.

    Raises: OutputError if that fails; nothing is left behind then.
    """
    # Short and unrelated to the name: a 255-byte name leaves no room for a suffix.
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
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
        raise OutputError(str(path), error.strerror or str(error), ROOM) from error
