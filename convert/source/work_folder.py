"""Where are the temporary files of one conversion, and what happens when their disk is full, or it was killed?"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import OutputError

FULL = (errno.ENOSPC, errno.EDQUOT)
FREE_BYTES = 1 << 20  # with less, a child that failed is taken to have failed because the disk was full
PREFIX = "edge-convert-"
# Reads until the conversion has ended, however that happens, and removes its folder. Several times: a child of the
# conversion may write one more file before it ends too.
REMOVER = """
import os, shutil, sys, time
sys.stdin.buffer.read()
for _ in range(20):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    if not os.path.lexists(sys.argv[1]):
        break
    time.sleep(0.2)
"""


@contextmanager
def open_work_folder() -> Iterator[Path]:
    """Yield an empty temporary folder, which is removed afterwards, also if this process is killed.

    Raises:
        OutputError: its disk filled up.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=PREFIX)
        with remove_if_killed(folder.name), folder:
            yield Path(folder.name)
    except OSError as error:
        if error.errno not in FULL:
            raise
        fix = "make room, or set TMPDIR to a folder on a larger disk"
        raise OutputError(tempfile.gettempdir(), "its disk is full", fix) from error


@contextmanager
def remove_if_killed(folder: str) -> Iterator[None]:
    """Have a process of its own remove the folder once this one has ended without doing so."""
    command = [sys.executable, "-I", "-S", "-c", REMOVER, folder]
    nowhere = subprocess.DEVNULL
    remover = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, cwd="/", start_new_session=True
    )
    try:
        yield
    finally:
        remover.kill()
        remover.wait()
        assert remover.stdin is not None
        remover.stdin.close()


def check_free(folder: Path) -> None:
    """Raise OSError where the disk of a folder is full."""
    if shutil.disk_usage(folder).free < FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
