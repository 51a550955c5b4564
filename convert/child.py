"""One conversion in a process of its own, with a time and a memory limit, its noise kept from the user.

A process because models are loaded there, because TensorFlow's converter leaks some 20 MB a call, and because whoever
calls `convert_model` may not want TensorFlow in it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from edge_runtime import errors
from edge_runtime.errors import EdgeSegError, ModelError

from .scratch import check_free

TIME_LIMIT_S = 1800.0
MEMORY_LIMIT_BYTES = min(12 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4)
POLL_S = 0.1


def run_worker(work: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Run convert.worker on a request in `work`; return its result, or raise the error it met.

    Raises:
        EdgeSegError: whatever the worker refused; ModelError if it crashed or hit a limit.
    """
    (work / "request.json").write_text(json.dumps({**request, "parent": os.getpid()}))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    command = [sys.executable, "-P", "-m", "convert.worker", str(work)]
    with (work / "noise.txt").open("wb") as noise:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=noise,
            stderr=noise,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the whole group
        )
        try:
            over = wait_within_limits(child)
        finally:
            end_group(child)
    result = None if over else read_result(work)
    if result is not None:
        if "error" in result:
            raise read_error(result["error"])
        return result
    check_free(work)
    lines = (work / "noise.txt").read_text(errors="replace").strip().splitlines()
    ended = over or (f"it ended with signal {-child.returncode}" if (child.returncode or 0) < 0 else "")
    raise ModelError(request["model"], f"the converter failed ({ended or (lines[-1][:300] if lines else 'no word')})")


def read_result(work: Path) -> dict[str, Any] | None:
    """Return what the child wrote down; None where it did not come to that."""
    try:
        result: dict[str, Any] = json.loads((work / "result.json").read_text())
    except (OSError, ValueError):
        return None
    return result


def wait_within_limits(child: subprocess.Popen[bytes]) -> str:
    """Wait for the child; return "" or the limit it went over."""
    end = time.monotonic() + TIME_LIMIT_S
    while child.poll() is None:
        if time.monotonic() > end:
            return f"it took longer than {TIME_LIMIT_S:.0f} s"
        if read_rss(child.pid) > MEMORY_LIMIT_BYTES:
            return f"it needed more than {MEMORY_LIMIT_BYTES / 2**30:.1f} GiB of memory"
        time.sleep(POLL_S)
    return ""


def read_rss(pid: int) -> int:
    """Return a process's resident memory in bytes; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def read_error(error: dict[str, str]) -> EdgeSegError:
    """Return the error that the worker wrote down."""
    kind = getattr(errors, error["kind"], ModelError)
    raised: EdgeSegError = kind(error["what"], error["why"], error["fix"])
    return raised
