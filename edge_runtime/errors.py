"""The tree of errors a user may see: one line, `WHAT: WHY; WHAT TO DO`, and the exit code that goes with it.

Raised anywhere, caught once, at the edge of each command line. Anything else that escapes is a bug and shows
its traceback.
"""

from __future__ import annotations


class EdgeSegError(Exception):
    """A failure that its reader can act on: `what` failed, `why`, and what `fix` to try; one line in all."""

    exit_code = 1

    def __init__(self, what: str, why: str, fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        text = f"{what}: {why}" + (f"; {fix}" if fix else "")
        super().__init__(" ".join(text.split()))  # file names and library messages may hold newlines


class UsageError(EdgeSegError):
    """The command line asks for something that cannot be meant."""

    exit_code = 2


class ImageError(EdgeSegError):
    """One image could not be read, segmented or written; the others are not concerned."""


class ContractError(EdgeSegError):
    """The model's contract is missing, malformed or does not fit its model."""


class ModelError(EdgeSegError):
    """The model file cannot be loaded or does not behave as a segmentation model."""


class EngineError(EdgeSegError):
    """An inference engine is not installed, not usable here, or failed."""


class OutputError(EdgeSegError):
    """Results cannot be written where they were asked for."""


class AuditError(EdgeSegError):
    """A converted file was refused by the audit; no file is left behind."""

    exit_code = 4


class UnsafeModelError(EdgeSegError):
    """The model could run code of its own when loaded; nothing of it was executed."""

    exit_code = 5


class PolicyError(EdgeSegError):
    """A converted file lost more accuracy than it was allowed to; no file is left behind."""

    exit_code = 6


class KitError(EdgeSegError):
    """A deployment kit is refused; nothing of it was run, nothing of it is left behind."""

    exit_code = 8


class InstallError(EdgeSegError):
    """A kit did not get through its tests on this device, which goes on with what it had."""

    exit_code = 9


class AuditLogError(EdgeSegError):
    """A device's audit log is not the one that was written."""

    exit_code = 10
