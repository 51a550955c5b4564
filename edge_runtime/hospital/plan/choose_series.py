"""Which of the series that were found does a run take?"""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.contract.fields import Contract
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.hospital.find_series import Listing
from edge_runtime.hospital.series.verdict import Judged

ALL = "all"
NEVER = ("not-image", "unreadable")  # verdicts that no choice overrides


def check_one_sequence(contract: Contract) -> None:
    """Refuse a model of several sequences: a series is one. Raises: ModelError."""
    channels = contract.input.channels or ()
    if len(channels) > 1:
        why = f"it takes {len(channels)} sequences at a time ({', '.join(channels)}), a series is one"
        raise ModelError(f"model {contract.model.id}", why, "choose a model of one sequence")


def choose_series(listing: Listing, asked: Sequence[str]) -> list[Judged]:
    """Return the series that the model was made for, or that may be so; those asked for by number, or all.

    Raises: UsageError for what is no number of a series, and for one that holds no image.
    """
    if not asked:
        return [item for item in listing.series if item.verdict.verdict != "no"]
    if ALL in asked:
        return [item for item in listing.series if item.verdict.reason not in NEVER]
    by_number = {str(item.number): item for item in listing.series}
    for name in asked:
        if name not in by_number:
            why = f"there are {len(by_number)} series" if by_number else "there is no series"
            raise UsageError(f"--series {name}", why, "give a number of edge-seg --list, or all")
        if by_number[name].verdict.reason in NEVER:
            raise UsageError(f"--series {name}", by_number[name].verdict.why, "choose another one")
    wanted = {str(int(name)) for name in asked}
    return [item for item in listing.series if str(item.number) in wanted]
