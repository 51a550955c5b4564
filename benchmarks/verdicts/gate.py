"""Which limits of --gate does a comparison exceed, and which can it not decide?"""

from __future__ import annotations

import math

from benchmarks.result.format_1 import METRICS
from benchmarks.result.specification import COMPARED_SCORES
from edge_runtime.errors import EdgeSegError, UsageError, near_miss

from .compare import GATES, Comparison, ComparisonRow, to_letter
from .comparison_table import format_verdict


def parse_gates(limits: str) -> dict[str, float]:
    """Return each gate's limit: a share for times and size, a difference for scores.

    Raises: UsageError for an unknown gate or an impossible limit.
    """
    gates = {}
    for part in filter(None, (part.strip() for part in limits.split(","))):
        name, equals, limit = (piece.strip() for piece in part.partition("="))
        name = METRICS.get(name, name)
        if name not in GATES:
            raise UsageError(
                f"--gate {part}", f"{name!r} is no gate", near_miss(name, GATES) or f"gates are {', '.join(GATES)}"
            )
        if name in gates:
            raise UsageError(f"--gate {limits}", f"{name} stands twice", "give each gate once")
        percent = limit.endswith("%")
        if percent == (name in COMPARED_SCORES):
            kind = "an absolute drop, as lesion_iou=0.001" if name in COMPARED_SCORES else "per cent, as p90=5%"
            raise UsageError(f"--gate {part}", f"the limit of {name} is {kind}", "write it so")
        try:
            value = float(limit.removesuffix("%")) / (100 if percent else 1)
        except ValueError:
            value = math.nan
        if not equals or not 0 <= value < math.inf:
            raise UsageError(
                f"--gate {part}", f"{limit!r} is no limit", "give a number of 0 or more, as p90=5% or lesion_iou=0.001"
            )
        gates[name] = value
    if not gates:
        raise UsageError("--gate", "no gate is given", "write p90=5%,lesion_iou=0.001")
    return gates


def list_failed(comparison: Comparison, limits: str) -> list[str]:
    """Return the gates that failed, one line each; empty if none did.

    A gate fails if the model itself is significantly worse (the interval excludes no change, and a time lies outside
    timing_statistics.MARGIN) and worse by more than the limit. An undecided gate does not fail: see `list_undecided`.

    Raises: UsageError for impossible limits; EdgeSegError for a gate on figures that cannot be compared.
    """
    return [line for row, name, limit in match_gates(comparison, limits) for line in check_gate(row, name, limit)]


def match_gates(comparison: Comparison, limits: str) -> list[tuple[ComparisonRow, str, float]]:
    """Return the rows that each gate applies to. Raises: EdgeSegError if a gate applies to none."""
    found = []
    for name, limit in parse_gates(limits).items():
        rows = [row for row in comparison.rows if row.is_subject and row.figure == name and any(row.changes)]
        if not rows:
            why = comparison.not_compared.get(name) or "it was not measured in all of the results"
            raise EdgeSegError(f"--gate {name}", why, "measure both alike or leave the gate out")
        found += [(row, name, limit) for row in rows]
    return found


def check_gate(row: ComparisonRow, name: str, limit: float) -> list[str]:
    """Return a line for each result in which a row is worse by more than its limit."""
    failed = []
    for number, change in enumerate(row.changes):
        if change is None:
            continue
        worse = change.verdict == "worse" if name in COMPARED_SCORES else change.verdict in ("slower", "larger")
        amount = -change.value if name in COMPARED_SCORES else change.value - 1
        if worse and amount > limit:
            allowed = f"{limit:g} is allowed" if name in COMPARED_SCORES else f"{100 * limit:g} % is allowed"
            verdict = format_verdict(name, change, limit)
            failed.append(f"{name} of {row.subject}, {to_letter(number)} against A: {verdict}; {allowed}")
    return failed


def list_undecided(comparison: Comparison, limits: str) -> list[str]:
    """Return the gates that could not be decided, one line each: few rounds, much spread, an inconclusive run."""
    return [
        f"{name} of {row.subject}, {to_letter(number)} against A: {format_verdict(name, change)}"
        for row, name, _ in match_gates(comparison, limits)
        for number, change in enumerate(row.changes)
        if change and change.verdict == "inconclusive"
    ]
