"""How are errors, output and progress printed on a terminal?"""

from __future__ import annotations

import os
import sys
import time

from edge_runtime.errors import OutputError, printable, printable_lines

LOG_LEVELS = ("error", "info", "debug")  # from least to most
_level = "info"


def set_log_level(level: str) -> None:
    """Set what this process prints to stderr: one of LOG_LEVELS."""
    global _level
    _level = level


def is_logged(level: str) -> bool:
    """Tell whether messages of a level are printed."""
    return LOG_LEVELS.index(level) <= LOG_LEVELS.index(_level)


class StatusLine:
    """Prints a line for each step that begins, and on a terminal one line of progress that is rewritten."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.shown = is_logged("info") and sys.stderr is not None and sys.stderr.isatty()

    def print_line(self, text: str) -> None:
        """Print which step begins."""
        self.clear()
        print_message(self.program, text)

    def show(self, text: str) -> None:
        """Rewrite the line of progress."""
        if self.shown:
            print(f"\r\x1b[K{printable(text)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def print_error(program: str, error: object) -> None:
    """Print an error, one line whatever the names in it hold."""
    if sys.stderr is not None:  # print would write to stdout
        print(f"{program}: error: {printable(str(error))}", file=sys.stderr)


def print_message(program: str, text: str) -> None:
    """Print what a command tells beside its output, one line whatever the names in it hold."""
    if sys.stderr is not None and is_logged("info"):
        print(f"{program}: {printable(text)}", file=sys.stderr, flush=True)


def print_output(text: str, end: str = "\n") -> None:
    """Print lines to stdout now, while a failure can still be reported; a pipe that its reader has closed is not one.

    Whatever names the text holds, a terminal gets no control characters but those that end and indent lines.
    Raises: OutputError.
    """
    text = printable_lines(text)
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UnicodeEncodeError:  # a terminal that cannot show every name
        print(text.encode("ascii", "replace").decode(), end=end, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would fail again at exit
        raise OutputError("standard output", error.strerror or str(error), "make room there") from None


class ProgressBar(StatusLine):
    """A line of progress that is rewritten at most ten times a second."""

    def __init__(self, program: str, total: int, quiet: bool) -> None:
        super().__init__(program)
        self.total, self.shown = total, self.shown and not quiet
        self.started = self.last = time.monotonic()

    def update(self, done: int) -> None:
        """Show how many inputs are done and how long the rest will take."""
        now = time.monotonic()
        if not self.shown or (now - self.last < 0.1 and done < self.total):
            return
        self.last = now
        left = (now - self.started) / done * (self.total - done)
        filled = 30 * done // self.total
        self.show(f"{'█' * filled}{'░' * (30 - filled)} {done}/{self.total}  {left:.0f} s left")
