"""Is a run valid? Checks the machine's state, the stability of the times, and the consistency of the parts.

"invalid": the figures are not those of this machine at its normal speed. "inconclusive": they are, but too unsteady for
a decision. Both are written with their reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

State = Mapping[str, Any]
Result = Mapping[str, Any]

# Time that the host gives to other guests delays single runs by whole scheduling slices of some milliseconds.
MAX_STEAL_PERCENT = 2.0
# With a tenth of the processors in use by other programs, some runs shared a processor.
MAX_OTHERS_PERCENT = 10.0
# 1 MiB: more than an unused page; pages of the run itself were swapped.
MAX_SWAPPED_PAGES = 256
# Median absolute deviation by median. Percentiles of two runs differ by as much.
MAX_SPREAD = 0.10
# Share of the end-to-end time outside all stages. More means that a stage is missing.
MAX_UNACCOUNTED = 0.05
# Share of pixels that differ between two float32 runtimes of one model: rounding at the threshold.
MAX_FLOAT_CHANGED = 0.001


def assess_run(result: Result, sources: Mapping[str, str]) -> dict[str, Any]:
    """Return a result's `validity`; sources: the SHA-256 of each subject's trained model."""
    invalid = find_slowdowns(result["machine"]) + find_failures(result)
    doubts = find_other_load(result["machine"]) + find_unsteady_times(result) + find_unrelated_pairs(result, sources)
    status = "invalid" if invalid else "inconclusive" if doubts else "valid"
    return {"status": status, "reasons": invalid + doubts}


def find_slowdowns(machine: Mapping[str, Any]) -> list[str]:
    """Return the reasons why the machine was slower than normal."""
    during, reasons = machine["during"], []
    stolen = mean([state.get("steal_percent") for state in during])
    if stolen > MAX_STEAL_PERCENT:
        reasons.append(
            f"the host took {stolen:.1f} % of the processor time for others (steal above {MAX_STEAL_PERCENT:g} %)"
        )
    causes = sorted({cause for state in [*during, machine["after"]] for cause in state.get("throttled_by") or ()})
    if causes:
        reasons.append(f"the processor was slowed down: {', '.join(causes)}")
    swapped = sum(state.get("swapped_pages") or 0 for state in during)
    if swapped > MAX_SWAPPED_PAGES:
        reasons.append(f"{swapped} pages were swapped: the machine has not enough memory for this")
    governors = {state.get("governor") for state in (machine["before"], *during, machine["after"])}
    if len(governors) > 1:
        reasons.append(f"the frequency governor changed: {', '.join(sorted(map(str, governors)))}")
    return reasons


def find_other_load(machine: Mapping[str, Any]) -> list[str]:
    """Return the reasons that are other programs' work."""
    reasons = []
    before = machine["before"].get("busy_percent") or 0
    if before > MAX_OTHERS_PERCENT:
        reasons.append(f"{before:.0f} % of the processors were busy before the run began")
    others = mean([state.get("others_percent") for state in machine["during"]])
    if others > MAX_OTHERS_PERCENT:
        reasons.append(f"other programs took {others:.0f} % of the processors{name_busiest(machine['during'])}")
    return reasons


def name_busiest(during: Sequence[State]) -> str:
    """Return the other program that was most often the busiest, as part of a sentence; "" where it is unknown."""
    names = [state["busiest_other"] for state in during if state.get("busiest_other")]
    return f", most of all {max(set(names), key=names.count)}" if names else ""


def find_failures(result: Result) -> list[str]:
    """Return the subjects and baselines without a result for some image."""
    return [
        f"{key}: {entry['why']}"
        for key, entry in (result["accuracy"] or {}).items()
        if entry.get("failed") and result["subjects"][key]["role"] != "peer"
    ]


def find_unsteady_times(result: Result) -> list[str]:
    """Return the subjects with unsteady times, and whether the stages' sum differs from the wall time."""
    reasons = []
    for key, subject in result["subjects"].items():
        if subject["status"] != "ok" or subject["role"] == "peer":
            continue
        if subject["latency"]["spread"] > MAX_SPREAD:
            reasons.append(f"{key}: times spread by {subject['latency']['spread']:.0%} of their median")
        if not subject["warm_up"]["stable"]:
            reasons.append(f"{key}: times had not settled after {subject['warm_up']['runs']} runs of warm-up")
    whole = result["end_to_end"]
    if whole and abs(whole["other_ms"]) > MAX_UNACCOUNTED * whole["wall_ms"]:
        share = whole["other_ms"] / whole["wall_ms"]
        reasons.append(f"the stages account for all but {share:.0%} of the time end to end")
    return reasons


def find_unrelated_pairs(result: Result, sources: Mapping[str, str]) -> list[str]:
    """Return the pairs that are not of the same trained model, by their contracts and by their masks."""
    reasons = []
    for pair in result["pairs"]:
        one, other = sources[pair["subject"]], sources[pair["baseline"]]
        if one != other:
            reasons.append(f"{pair['subject']} and its baseline {pair['baseline']} come from different trained models")
    for key, entry in (result["accuracy"] or {}).items():
        subject = result["subjects"][key]
        changed = entry["changed_pixels"] or 0
        if subject["role"] == "baseline" and subject["recipe"] == "fp32" and changed > MAX_FLOAT_CHANGED:
            reasons.append(f"{key} changes {changed:.2%} of the pixels of the other FP32 baseline: not the same model")
    return sorted(set(reasons))


def mean(values: Sequence[float | None]) -> float:
    """Return the mean of the known values; 0 where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
