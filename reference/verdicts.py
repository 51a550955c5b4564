"""Holds a table against the goals and the paper's figures: met, or missed by how much, or open and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .paper import TABLE
from .recipe import ATTENTIONS

LEAST_MEAN_IOU = 0.8455  # of AG, the paper's best
MOST_LOST = 0.0004  # of mean IoU, by DRQ, on any variant
LEAST_SAVED = 0.75  # of the float32 file's bytes

Facts = dict[str, Any]


def judge_goals(table: Mapping[str, Any]) -> list[Facts]:
    """Return each goal with its value and verdict, in the order of the goals."""
    goals = []
    for name in ATTENTIONS:
        variant = table["variants"][name]
        rows = variant.get("rows")
        lost = rows["keras-fp32"]["binary_io_u"] - rows["litert-drq"]["binary_io_u"] if rows else None
        goal = f"DRQ costs less than {MOST_LOST} mean IoU"
        goals.append(judge(goal, name, lost, MOST_LOST, lost is not None and lost < MOST_LOST, variant))
    for name in ATTENTIONS:
        variant = table["variants"][name]
        rows = variant.get("rows")
        saved = 1 - rows["litert-drq"]["bytes"] / rows["litert-fp32"]["bytes"] if rows else None
        goal = f"DRQ is {LEAST_SAVED:.0%} smaller"
        goals.append(judge(goal, name, saved, LEAST_SAVED, saved is not None and saved >= LEAST_SAVED, variant))
    variant = table["variants"]["ag"]
    rows = variant.get("rows")
    score = rows["keras-fp32"]["binary_io_u"] if rows else None
    goal = f"AG reaches the paper's {LEAST_MEAN_IOU} mean IoU"
    return [*goals, judge(goal, "ag", score, LEAST_MEAN_IOU, score is not None and score >= LEAST_MEAN_IOU, variant)]


def judge(goal: str, name: str, value: float | None, limit: float, met: bool, variant: Mapping[str, Any]) -> Facts:
    """Return one goal's verdict for one variant."""
    verdict = "open" if value is None else "met" if met else "missed"
    missed_by = abs(value - limit) if value is not None and not met else None
    facts = {"goal": goal, "variant": name, "value": value, "limit": limit, "verdict": verdict, "missed_by": missed_by}
    return facts | ({"why": variant.get("why", "")} if value is None else {})


def read_paper(name: str, engine: str) -> Facts | None:
    """Return the paper's figures for a row; it has one FP32 row, whose runtime it does not name."""
    if engine == "litert-fp32":
        return None
    row = TABLE[name, engine.rsplit("-", 1)[1]]
    return {"mean_iou": row.mean_iou, "megabytes": row.megabytes, "seconds": row.seconds}


def find_uneven(table: Mapping[str, Any]) -> str:
    """Return what keeps the variants from being compared with each other, or nothing."""
    epochs = {name: facts["epochs"] for name, facts in table["variants"].items() if "rows" in facts}
    if len(set(epochs.values())) < 2:
        return ""
    said = ", ".join(f"{name} {count}" for name, count in epochs.items())
    return f"The variants have not trained equally long ({said} epochs): do not compare their scores with each other."
