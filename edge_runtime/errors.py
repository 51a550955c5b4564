"""Which errors may a user see? Each is one line, `WHAT: WHY; WHAT TO DO`, with its exit code.

They are raised anywhere and caught once, where each command line begins. Any other exception is a bug and shows its
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

KEPT = "\n\t\u00a0\u2007\u2009\u202f"  # of what is not printable: ends of lines, tabs, spaces of other widths


def near_miss(name: str, known: Collection[str]) -> str:
    """Return "did you mean 'X'?" for the known name closest to `name`; "" where none is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""


class EdgeSegError(Exception):
    """A failure that a user can act on: `what` failed, `why`, and a `fix` to try; one line in all."""

    exit_code = 1

    def __init__(self, what: str, why: str, fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        text = f"{what}: {why}" + (f"; {fix}" if fix else "")
        super().__init__(" ".join(text.split()))  # file names and library messages may hold newlines


class UsageError(EdgeSegError):
    """The command line is not valid."""

    exit_code = 2


class ImageError(EdgeSegError):
    """One image could not be read, segmented or written; the others are not affected."""


class ContractError(EdgeSegError):
    """The model's contract is missing, malformed or does not fit its model."""


class ModelError(EdgeSegError):
    """The model file cannot be loaded or does not behave as a segmentation model."""


class EngineError(EdgeSegError):
    """An inference engine is not installed, not usable here, or failed."""


class OutputError(EdgeSegError):
    """Results cannot be written to the given path."""


class AuditError(EdgeSegError):
    """A converted file was refused by the audit; no file is left behind."""

    exit_code = 4


class UnsafeModelError(EdgeSegError):
    """The model file could run code when it is loaded; none of it was executed."""

    exit_code = 5


class PolicyError(EdgeSegError):
    """A converted file lost more accuracy than it was allowed to; no file is left behind."""

    exit_code = 6


class KitError(EdgeSegError):
    """A deployment kit is refused; nothing of it was run, nothing of it is left behind."""

    exit_code = 8


class InstallError(EdgeSegError):
    """A kit did not pass its tests on this device, which keeps the kit it had."""

    exit_code = 9


class AuditLogError(EdgeSegError):
    """A device's audit log is not the one that was written."""

    exit_code = 10


def printable(text: str) -> str:
    """Return text without control characters, which a terminal would interpret, and names that are not UTF-8."""
    return "".join(char if char.isprintable() else "�" for char in text)


def printable_lines(text: str) -> str:
    """Return a text or a page without control characters; ends of lines, tabs and hard spaces stay."""
    return "".join(char if char.isprintable() or char in KEPT else "�" for char in text)
