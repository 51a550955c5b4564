"""How are child processes started, limited and ended, and how is the failure of one described?

Each starts with -P: the working directory may hold any file, a json.py too, and is not searched for modules.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

PACKAGES = str(Path(__file__).resolve().parents[2])  # the folder that this package lies in
PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_S = 0.1
KEPT_BYTES = 16 << 20  # the temporary arrays of an image of 512 x 512 take 1 MB each, the largest 4 MB
GRACE_S = 10.0  # for a command to clean up after SIGTERM
LINE_CHARS = 300  # of a last line: libraries print long ones


def module_command(module: str, *arguments: object, python: str = "") -> list[str]:
    """Return the command that runs a module with this Python or another.

    Raises: OSError where this Python cannot start another.
    """
    if not python and (not sys.executable or getattr(sys, "frozen", False)):
        raise FileNotFoundError("this Python cannot start another")
    return [python or sys.executable, "-P", "-m", module, *map(str, arguments)]


def package_environment() -> dict[str, str]:
    """Return an environment in which a child finds this package, and nothing besides what it would find anyway."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([PACKAGES, *filter(None, [os.environ.get("PYTHONPATH")])])}


def inherited_environment() -> dict[str, str]:
    """Return an environment in which a child finds all modules that this process finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks of up to 16 MB for the next image, instead of giving them back to the system.

    An image of 512 x 512 takes 24 page faults then, not 1000: a quarter of the processor time besides inference.
    Source: mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
    """
    import ctypes

    with suppress(AttributeError, OSError):  # another C library
        for option in (-1, -3):
            ctypes.CDLL(None).mallopt(option, KEPT_BYTES)


def run_module(
    module: str, *arguments: object, python: str = "", environment: Mapping[str, str] | None = None, show: bool = False
) -> tuple[int, str]:
    """Run `python -m module arguments...`; return its exit status and the last line that it wrote to stderr.

    It is ended with this process, however that ends. environment: by default `inherited_environment`. show: its stderr
    goes to the terminal instead, and the line is empty.
    Raises: KeyboardInterrupt if it was interrupted.
    """
    import tempfile

    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            module_command(module, *arguments, python=python),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if show else messages,
            env=dict(environment) if environment is not None else inherited_environment(),
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the whole group
            preexec_fn=end_with_parent(signal.SIGTERM),
        )
        try:
            status = process.wait()
        except BaseException:
            stop_group(process)
            raise
        if status in (130, -signal.SIGINT):
            raise KeyboardInterrupt
        messages.seek(0)
        return status, find_last_line(messages.read().decode("utf-8", "replace"))


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """Return what a child runs before its program, so that the kernel ends it when its parent dies; Linux alone."""
    import ctypes

    library, parent = ctypes.CDLL(None), os.getpid()  # loaded before the fork: nothing may be loaded after it
    return lambda: request_signal(library, parent, number)


def end_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies, or end it if that has died already; Linux alone."""
    import ctypes

    request_signal(ctypes.CDLL(None), parent, signal.SIGKILL)


def request_signal(library: Any, parent: int, number: signal.Signals) -> None:
    """Request a signal at the parent's death. library: the C library."""
    if sys.platform == "linux":
        library.prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # the parent ended before the request
            os._exit(1)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process now, and close its pipes."""
    with suppress(OSError):
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, which may have children of its own, and end it and them after GRACE_S."""
    process.terminate()
    try:
        process.wait(GRACE_S)
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and what it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_within_limits(process: subprocess.Popen[bytes], seconds: float, memory_bytes: int) -> str:
    """Wait for a process; return "" or the limit that it exceeded."""
    end = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > end:
            return f"it took longer than {seconds:.0f} s"
        if read_rss(process.pid) > memory_bytes:
            return f"it needed more than {memory_bytes / 2**30:.1f} GiB of memory"
        time.sleep(POLL_S)
    return ""


def read_rss(pid: int) -> int:
    """Return a process's resident memory in bytes; 0 where that is not known."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def find_last_line(text: str) -> str:
    """Return a text's last line that is not blank, shortened; "" where there is none."""
    lines = text.strip().splitlines()
    return lines[-1].strip()[:LINE_CHARS] if lines else ""


def describe_status(status: int) -> str:
    """Return an exit status in words: "exit status 3", "SIGKILL"."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
