"""Where are the temporary files of one conversion, and what happens when their disk is full?"""

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
FREE_BYTES = 1 << 20  # with less, a child that failed is taken to have failed because the disk was full


@contextmanager
def open_work_folder() -> Iterator[Path]:
    """Yield an empty temporary folder, which is removed afterwards.

    Raises:
        OutputError: its disk filled up.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        fix = "make room, or set TMPDIR to a folder on a larger disk"
        raise OutputError(tempfile.gettempdir(), "its disk is full", fix) from error


def check_free(folder: Path) -> None:
    """Raise OSError where the disk of a folder is full."""
    if shutil.disk_usage(folder).free < FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
