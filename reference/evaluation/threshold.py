"""Chooses the threshold on patients that are not scored: the highest mean Dice within a limit of false alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge_runtime.errors import UsageError
from reference.data.folders import Slice

from .predict import Predictor, add_scores, predict_slices
from .slice_scores import Scores

GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))


def choose_threshold(
    predict: Predictor,
    slices: Sequence[Slice],
    max_alarms: float,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Return {threshold, rule, slices, patients, table} from slices with and without a tumour.

    table: [{threshold, dice, lesion_iou, false_alarms}] over GRID. If no threshold keeps false alarms within
    `max_alarms`, the one with the fewest is chosen, and `rule` says so. Equal Dice: the higher threshold.
    Raises: UsageError if there is no slice with a lesion.
    """
    scores = {threshold: Scores() for threshold in GRID}
    for item, _, truth, probability in predict_slices(predict, slices, progress):
        add_scores(scores, item, truth, probability)
    names = ("dice", "lesion_iou", "false_alarms")
    table = [{"threshold": t, **{name: scores_at.summary()[name] for name in names}} for t, scores_at in scores.items()]
    if np.isnan(table[0]["dice"]):
        raise UsageError("--calibrate", "none of its patients has a lesion here", "name patients with masks")
    # Without tumour-free slices false alarms are NaN, and every threshold is allowed.
    allowed = [row for row in table if not row["false_alarms"] > max_alarms]
    rule = f"the highest mean Dice with false alarms on at most {max_alarms:.0%} of the tumour-free slices"
    if not allowed:
        minimum = min(row["false_alarms"] for row in table)
        allowed = [row for row in table if row["false_alarms"] == minimum]
        rule += f", which none reached: {minimum:.1%} is the fewest"
    best = max(allowed, key=lambda row: (row["dice"], row["threshold"]))
    patients = len({item.patient for item in slices})
    return {"threshold": best["threshold"], "rule": rule, "slices": len(slices), "patients": patients, "table": table}
