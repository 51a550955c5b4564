"""How are the messages kept back that native libraries write to standard output and error by file descriptor?"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from edge_runtime.errors import EdgeSegError


@contextmanager
def silence_stderr() -> Iterator[None]:
    """Discard what native code writes to standard error, which is for messages to the user."""
    try:
        saved = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)


def open_missing_streams() -> None:
    """Open what the caller closed of stdin, stdout and stderr, so that no output file gets one of their descriptors."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free


@contextmanager
def hold_stderr() -> Iterator[None]:
    """Keep back what C libraries write to stderr, and print it only together with the traceback of a bug.

    LiteRT logs its delegate, libpng and libtiff log damaged images, and none of them has a switch for it. Python's own
    messages are written to a copy of file descriptor 2.
    """
    atexit.register(drop_stderr)
    stream = sys.stderr
    try:
        shared = stream.fileno() == 2
    except (AttributeError, OSError, ValueError):  # no stderr, or one that is no file
        yield
        return
    terminal = os.dup(2)
    with open_memory_file() as held, os.fdopen(os.dup(2), "w", 1, stream.encoding, stream.errors) as copy:
        os.dup2(held.fileno(), 2)
        faulthandler.enable(copy)  # where a library crashes the process, its own messages are lost with `held`
        sys.stderr = copy if shared else stream
        try:
            yield
        except (EdgeSegError, KeyboardInterrupt):
            raise
        except BaseException:
            held.seek(0)
            copy.buffer.write(held.read())
            raise
        finally:
            faulthandler.disable()
            sys.stderr = stream
            os.dup2(terminal, 2)
            os.close(terminal)


def drop_stderr() -> None:
    """Discard what is still written to stderr at exit: LiteRT's destructors log there."""
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def open_memory_file() -> IO[bytes]:
    """Return a file without a name, in memory where that is possible: a device's disk may be read-only."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


@contextmanager
def redirect_stdout() -> Iterator[None]:
    """Send what C libraries print to stdout, which is for data, to stderr: LiteRT logs missing OpenCL there."""
    try:
        stdout = os.dup(1)
    except OSError:  # there is none
        yield
        return
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        with suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        import ctypes  # 3 ms, which a run without a GPU need not spend

        ctypes.CDLL(None).fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)


STDERR_LOCK = threading.Lock()  # one thread at a time may redirect file descriptor 2, which all threads share


@contextmanager
def drop_jpeg_warnings() -> Iterator[None]:
    """Discard libjpeg's warning about a probe's added bytes, which it would print for every valid JPEG.

    It has no switch for it. What other threads write to file descriptor 2 meanwhile is passed on.
    """
    if sys.__stderr__ is None or not hasattr(os, "memfd_create"):  # descriptor 2 may be any file then
        yield
        return
    with STDERR_LOCK, os.fdopen(os.memfd_create("stderr"), "w+b") as held, os.fdopen(os.dup(2), "wb", 0) as stderr:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr.fileno(), 2)
            held.seek(0)
            stderr.writelines(line for line in held if b"extraneous bytes before marker" not in line)
