"""Where are the temporary files of one conversion, and what happens when their disk is full, or it was killed?"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_runtime.errors import OutputError

FULL = (errno.ENOSPC, errno.EDQUOT)
FREE_BYTES = 1 << 20  # with less, a child that failed is taken to have failed because the disk was full
PREFIX = "edge-convert-held-"  # not those of a version that held nothing
SETTLE_S = 1.0  # between making a folder and holding it there is less


@contextmanager
def open_work_folder() -> Iterator[Path]:
    """Yield an empty temporary folder, which is removed afterwards; first remove what killed conversions left.

    Raises:
        OutputError: its disk filled up.
    """
    try:
        remove_abandoned(Path(tempfile.gettempdir()))
        with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, hold_folder(Path(folder)):
            yield Path(folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        fix = "make room, or set TMPDIR to a folder on a larger disk"
        raise OutputError(tempfile.gettempdir(), "its disk is full", fix) from error


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Lock the folder itself, which the kernel undoes however this process ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove_abandoned(place: Path) -> None:
    """Remove this user's work folders that no conversion holds any more."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or is_held(folder):
                continue
            time.sleep(max(0.0, min(SETTLE_S, found.st_mtime + SETTLE_S - time.time())))
            if not is_held(folder):  # nor was it being made just now
                shutil.rmtree(folder, ignore_errors=True)


def is_held(folder: Path) -> bool:
    """Return whether a living conversion holds the folder. Raises: OSError if it cannot be read."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def check_free(folder: Path) -> None:
    """Raise OSError where the disk of a folder is full."""
    if shutil.disk_usage(folder).free < FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
