"""The temporary folder of one conversion: gone afterwards, and one line when its disk is full."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import OutputError

FULL = (errno.ENOSPC, errno.EDQUOT)
FREE_BYTES = 1 << 20  # less is as good as nothing: a child that failed with so little left failed for that


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty temporary folder.

    Raises:
        OutputError: its disk filled up.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise full_disk() from error


def check_free(folder: Path) -> None:
    """Raise OSError where the disk of a folder is full."""
    if shutil.disk_usage(folder).free < FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_disk() -> OutputError:
    """Return the error for a temporary folder without room."""
    return OutputError(
        tempfile.gettempdir(), "its disk is full", "make room, or set TMPDIR to a folder on a larger disk"
    )
