"""Can a result be written where it is wanted? Asked before minutes or hours of measuring, and again by the writing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import EdgeSegError, OutputError
from edge_runtime.system.files import MAKE_ROOM, name_temporary

ANOTHER = "choose another with -o"
# Ten pictures of 0.6 MB in each of three files, and the rows of 10,000 images for ten subjects at 250 bytes.
ROOM_BYTES = 64 << 20


def check_output_folder(out: Path, names: Sequence[str], force: bool) -> None:
    """Check that files can be written into a folder, which is new or empty unless `force`. Leaves it as it was.

    Raises: EdgeSegError if it is not empty; OutputError if it cannot be made or written to, or the disk is full.
    """
    try:
        exists = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise EdgeSegError(str(out), error.strerror or str(error), ANOTHER) from None
    if exists and (not force or not out.is_dir()):
        raise EdgeSegError(str(out), "it exists already", f"{ANOTHER}, or --force to write there")
    for name in names:
        if (out / name).is_dir():
            raise EdgeSegError(str(out / name), "it is a folder, and a file of this name is to be written", ANOTHER)
    try_to_write(out)


def check_output_file(path: Path, force: bool) -> None:
    """Check that a file can be written; one that exists needs `force`. Raises: EdgeSegError, OutputError."""
    if path.exists() and (not force or path.is_dir()):
        raise EdgeSegError(str(path), "it exists already", f"{ANOTHER}, or --force to overwrite it")
    try_to_write(path.parent)


def try_to_write(folder: Path) -> None:
    """Write a file into a folder, with the folders above it, and remove all of them again. Raises: OutputError."""
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    probe = name_temporary(folder / "probe")
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"0" * 4096)
            free = shutil.disk_usage(folder).free
        finally:
            probe.unlink(missing_ok=True)
            for place in made:
                if place.is_dir():
                    place.rmdir()
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error), MAKE_ROOM) from None
    if free < ROOM_BYTES:
        why = f"{free >> 20} MB are free on its disk, and a report may need {ROOM_BYTES >> 20} MB"
        raise OutputError(str(folder), why, MAKE_ROOM)
