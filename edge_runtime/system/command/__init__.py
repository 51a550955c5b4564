"""What do the command lines share: a parser with one-line errors, argument types, and where errors are caught?"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from edge_runtime.errors import EdgeSegError, UsageError, printable
from edge_runtime.system.quiet import hold_stderr
from edge_runtime.system.terminal import is_logged, print_error

EXIT_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit status 2."""
        self.exit(UsageError.exit_code, f"{self.prog}: error: {printable(message)}; see {self.prog} --help\n")


def run_command_line(program: str, run: Callable[[], int], interrupted: str) -> int:
    """Return the exit status of `run`; an error that a user can act on is one line on stderr.

    What libraries write to stderr is held back, and shown with the traceback of a bug, or with --log-level debug.
    interrupted: the message after Ctrl-C or SIGTERM, which a service manager sends.
    """
    signal.signal(signal.SIGTERM, interrupt)  # a service's stop is as orderly as Ctrl-C
    try:
        if is_logged("debug"):
            return run()
        with hold_stderr():
            return run()
    except EdgeSegError as error:
        if is_logged("debug"):
            traceback.print_exc()
        print_error(program, error)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{program}: interrupted; {interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED


def interrupt(*_: Any) -> NoReturn:
    """Treat a signal as Ctrl-C: clean up, then leave."""
    raise KeyboardInterrupt


def to_path(text: str) -> Path:
    """Return a path; an empty one, an unset variable in a script, would mean the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def to_positive(text: str) -> int:
    """Return a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def to_count(text: str) -> int:
    """Return a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def to_number(text: str) -> float:
    """Return a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def to_share(text: str, maximum: float = 1.0) -> float:
    """Return a number from 0 to `maximum`."""
    value = float(text)
    if not 0 <= value <= maximum:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {maximum:g}")
    return value
