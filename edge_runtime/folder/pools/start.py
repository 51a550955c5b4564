"""How is a child process of a run started, before anything is known of the run?

Its imports take longer than all that the parent does before it has a task for it. So a run starts it first of all, and
this module imports little.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from edge_runtime.errors import EdgeSegError
from edge_runtime.system.process import end_process, module_command, package_environment


@contextmanager
def start_early(wanted: bool) -> Iterator[subprocess.Popen[bytes] | None]:
    """Yield a process from `start_process`, None where none is wanted; it is ended at the end."""
    if not wanted:
        yield None
        return
    process = start_process()
    try:
        yield process
    finally:
        end_process(process)


def start_process() -> subprocess.Popen[bytes]:
    """Return a process that imports its libraries, then waits for its session's options; it inherits stderr.

    Raises: EdgeSegError.
    """
    # OpenBLAS's threads, of which nothing here has use, take 40 ms of processor time to start, and memory.
    pipe, environment = subprocess.PIPE, {"OPENBLAS_NUM_THREADS": "1", **package_environment()}
    try:
        command = module_command("edge_runtime.folder.pools.child_main", os.getpid())
        process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, bufsize=0)
    except OSError as error:
        raise EdgeSegError("a process for the images", error.strerror or str(error), "try --no-isolation") from None
    if hasattr(fcntl, "F_SETPIPE_SZ") and process.stdin is not None:
        with suppress(OSError):  # for all pending images, however long their names
            fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, 1 << 20)
    return process
