"""Whether a run can be believed: what the machine did meanwhile, how steady the times were, whether all fits together.

"invalid": the figures are not those of this machine at its normal speed. "inconclusive": they are, but too unsteady to
decide by. Either way they are written down, with the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

State = Mapping[str, Any]
Result = Mapping[str, Any]

# Time that the host gives to other guests stretches single runs by whole scheduling slices of some milliseconds.
STEAL_PERCENT = 2.0
# A tenth of the processors in use by others means that some runs had to share theirs.
OTHERS_PERCENT = 10.0
# 1 MiB: the run's own pages were on their way, not just a page that nobody needs.
SWAPPED_PAGES = 256
# Half of all times further than this from the median: percentiles move as much from one run to the next.
SPREAD = 0.10
# End to end: what no stage accounts for. More means that a stage is missing.
UNTOLD = 0.05
# Pixels that may change between two float32 runtimes of one model: sums in another order, at the threshold.
FLOAT_CHANGED = 0.001


def judge_run(result: Result, sources: Mapping[str, str]) -> dict[str, Any]:
    """Return a result's `validity`; sources: the SHA-256 of the trained model that each subject comes from."""
    invalid = judge_machine(result["machine"]) + judge_outputs(result)
    doubts = judge_quiet(result["machine"]) + judge_times(result) + judge_kinship(result, sources)
    status = "invalid" if invalid else "inconclusive" if doubts else "valid"
    return {"status": status, "reasons": invalid + doubts}


def judge_machine(machine: Mapping[str, Any]) -> list[str]:
    """Return what slowed the machine itself down."""
    during, reasons = machine["during"], []
    stolen = mean([state.get("steal_percent") for state in during])
    if stolen > STEAL_PERCENT:
        reasons.append(
            f"the host took {stolen:.1f} % of the processor time for others (steal above {STEAL_PERCENT:g} %)"
        )
    causes = sorted({cause for state in [*during, machine["after"]] for cause in state.get("throttled_by") or ()})
    if causes:
        reasons.append(f"the processor was slowed down: {', '.join(causes)}")
    swapped = sum(state.get("swapped_pages") or 0 for state in during)
    if swapped > SWAPPED_PAGES:
        reasons.append(f"{swapped} pages were swapped: the machine has not enough memory for this")
    governors = {state.get("governor") for state in (machine["before"], *during, machine["after"])}
    if len(governors) > 1:
        reasons.append(f"the frequency governor changed: {', '.join(sorted(map(str, governors)))}")
    return reasons


def judge_quiet(machine: Mapping[str, Any]) -> list[str]:
    """Return which other work was on the machine."""
    reasons = []
    before = machine["before"].get("busy_percent") or 0
    if before > OTHERS_PERCENT:
        reasons.append(f"{before:.0f} % of the processors were busy before the run began")
    others = mean([state.get("others_percent") for state in machine["during"]])
    if others > OTHERS_PERCENT:
        reasons.append(f"other programs took {others:.0f} % of the processors{name_others(machine['during'])}")
    return reasons


def name_others(during: Sequence[State]) -> str:
    """Return which program was the busiest other one most often, where that is known."""
    names = [state["busiest_other"] for state in during if state.get("busiest_other")]
    return f", most of all {max(set(names), key=names.count)}" if names else ""


def judge_outputs(result: Result) -> list[str]:
    """Return which of the subjects and baselines gave no result for some image."""
    return [
        f"{key}: {entry['why']}"
        for key, entry in (result["accuracy"] or {}).items()
        if entry.get("failed") and result["subjects"][key]["role"] != "peer"
    ]


def judge_times(result: Result) -> list[str]:
    """Return whose times were unsteady, and whether the stages' sum misses the wall time."""
    reasons = []
    for key, subject in result["subjects"].items():
        if subject["status"] != "ok" or subject["role"] == "peer":
            continue
        if subject["latency"]["spread"] > SPREAD:
            reasons.append(f"{key}: times spread by {subject['latency']['spread']:.0%} of their median")
        if not subject["warm_up"]["stable"]:
            reasons.append(f"{key}: times had not settled after {subject['warm_up']['runs']} runs of warm-up")
    whole = result["end_to_end"]
    if whole and abs(whole["other_ms"]) > UNTOLD * whole["wall_ms"]:
        share = whole["other_ms"] / whole["wall_ms"]
        reasons.append(f"the stages account for all but {share:.0%} of the time end to end")
    return reasons


def judge_kinship(result: Result, sources: Mapping[str, str]) -> list[str]:
    """Return which pairs do not compare one and the same trained model, by what they say and by what they do."""
    reasons = []
    for pair in result["pairs"]:
        one, other = sources[pair["subject"]], sources[pair["baseline"]]
        if one != other:
            reasons.append(f"{pair['subject']} and its baseline {pair['baseline']} come from different trained models")
    for key, entry in (result["accuracy"] or {}).items():
        subject = result["subjects"][key]
        changed = entry["changed_pixels"] or 0
        if subject["role"] == "baseline" and subject["recipe"] == "fp32" and changed > FLOAT_CHANGED:
            reasons.append(f"{key} changes {changed:.2%} of the pixels of the other FP32 baseline: not the same model")
    return sorted(set(reasons))


def mean(values: Sequence[float | None]) -> float:
    """Return the mean of the values that are known; 0 where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
