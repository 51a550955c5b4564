"""How is a command of a slot run? In a clean environment, with a time limit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from edge_runtime.errors import InstallError
from edge_runtime.system.process import describe_status, end_with_parent, find_last_line

KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "XDG_CACHE_HOME", "QEMU_CPU")  # the last: of an emulated board


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
            preexec_fn=end_with_parent(),  # without its installer it must not go on writing into the slot
        )
    except subprocess.TimeoutExpired:
        raise InstallError(what, f"it did not end within {seconds:g} s") from None
    except OSError as error:
        raise InstallError(what, f"it cannot be started ({error.strerror})") from None
    if done.returncode:
        line = find_last_line(done.stderr) or find_last_line(done.stdout) or "it wrote nothing"
        raise InstallError(what, f"{line} ({describe_status(done.returncode)})")
    return done.stdout
