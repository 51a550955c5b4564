"""Runs what a slot holds: a clean environment, a time limit, and the last line of what it said."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from edge_runtime.errors import InstallError

KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "XDG_CACHE_HOME", "QEMU_CPU")  # the last: of an emulated board
LIBRARY = ctypes.CDLL(None)  # the C library
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)


def die_together() -> None:
    """Have the kernel end this child when the installer is killed: nobody may go on writing into its slot."""
    LIBRARY.prctl(DEATH_SIGNAL, signal.SIGKILL)


def run_command(what: str, command: Sequence[object], seconds: float, extra: Mapping[str, str] | None = None) -> str:
    """Return what a command printed. Raises: InstallError if it fails, is missing or takes too long."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | dict(extra or {})
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env={"PATH": os.defpath, **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            preexec_fn=die_together,
        )
    except subprocess.TimeoutExpired:
        raise InstallError(what, f"it did not end within {seconds:g} s") from None
    except OSError as error:
        raise InstallError(what, f"it cannot be started ({error.strerror})") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()]
        end = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
        raise InstallError(what, f"{lines[-1][:300] if lines else 'it said nothing'} ({end})")
    return done.stdout
