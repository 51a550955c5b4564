"""Compares a table with the goals and the paper's figures: met, missed by how much, or open and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reference.paper import TABLE
from reference.recipe import ATTENTIONS

MIN_MEAN_IOU = 0.8455  # AG's, the paper's best
MAX_DROP = 0.0004  # in mean IoU by DRQ, for every variant
MIN_SAVING = 0.75  # of the float32 file's bytes

Facts = dict[str, Any]


def judge_goals(table: Mapping[str, Any]) -> list[Facts]:
    """Return each goal with its value and verdict, in the order of the goals."""
    goals = []
    for name in ATTENTIONS:
        variant = table["variants"][name]
        rows = variant.get("rows")
        drop = rows["keras-fp32"]["mean_iou"] - rows["litert-drq"]["mean_iou"] if rows else None
        goal = f"DRQ costs less than {MAX_DROP} mean IoU"
        goals.append(judge_goal(goal, name, drop, MAX_DROP, drop is not None and drop < MAX_DROP, variant))
    for name in ATTENTIONS:
        variant = table["variants"][name]
        rows = variant.get("rows")
        saving = 1 - rows["litert-drq"]["bytes"] / rows["litert-fp32"]["bytes"] if rows else None
        goal = f"DRQ is {MIN_SAVING:.0%} smaller"
        goals.append(judge_goal(goal, name, saving, MIN_SAVING, saving is not None and saving >= MIN_SAVING, variant))
    variant = table["variants"]["ag"]
    rows = variant.get("rows")
    score = rows["keras-fp32"]["mean_iou"] if rows else None
    goal = f"AG reaches the paper's {MIN_MEAN_IOU} mean IoU"
    return [*goals, judge_goal(goal, "ag", score, MIN_MEAN_IOU, score is not None and score >= MIN_MEAN_IOU, variant)]


def judge_goal(goal: str, name: str, value: float | None, limit: float, met: bool, variant: Mapping[str, Any]) -> Facts:
    """Return one goal's verdict for one variant."""
    verdict = "open" if value is None else "met" if met else "missed"
    missed_by = abs(value - limit) if value is not None and not met else None
    facts = {"goal": goal, "variant": name, "value": value, "limit": limit, "verdict": verdict, "missed_by": missed_by}
    return facts | ({"why": variant.get("why", "")} if value is None else {})


def read_paper(name: str, engine: str) -> Facts | None:
    """Return the paper's figures for a row. The paper has one FP32 row, of an unnamed runtime."""
    if engine == "litert-fp32":
        return None
    row = TABLE[name, engine.rsplit("-", 1)[1]]
    return {"mean_iou": row.mean_iou, "megabytes": row.megabytes, "seconds": row.seconds}


def find_uneven(table: Mapping[str, Any]) -> str:
    """Return why the variants are not comparable, "" if they are."""
    epochs = {name: facts["epochs"] for name, facts in table["variants"].items() if "rows" in facts}
    if len(set(epochs.values())) < 2:
        return ""
    counts = ", ".join(f"{name} {count}" for name, count in epochs.items())
    return f"The variants have not trained equally long ({counts} epochs): do not compare their scores with each other."
