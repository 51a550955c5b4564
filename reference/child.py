"""Runs a command of the kit as a user would, in a child process that ends when this one does."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

LIBRARY = ctypes.CDLL(None)  # the C library
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)


def die_together() -> None:
    """Have the kernel end this child when its parent is killed: two would train into one folder after a restart."""
    if sys.platform == "linux":
        LIBRARY.prctl(DEATH_SIGNAL, signal.SIGTERM)


def run_module(module: str, *arguments: object, heard: bool = False) -> tuple[int, str]:
    """Run `python -m module arguments...`; return its exit status and the last line that it said.

    heard: let what it says on stderr through instead; the line is then empty.
    """
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if heard else subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        preexec_fn=die_together,
    )
    if done.returncode in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    said = [] if heard else done.stderr.decode("utf-8", "replace").strip().splitlines()
    return done.returncode, said[-1] if said else ""
