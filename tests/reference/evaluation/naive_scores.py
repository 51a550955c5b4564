"""Scores of written masks by plain loops over pixels: shares no line with the project. python naive_scores.py FOUND
TRUTH LABELS prints them as JSON.

FOUND and TRUTH are folders of masks of the same names, LABELS is id,class,patient. Slow on purpose.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np  # for the draws alone: the same generator gives the same patients

SEED, DRAWS = 20251121, 2000
Pixels = list[list[bool]]


def read_mask(path: Path) -> Pixels:
    return [[value > 127 for value in row] for row in cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).tolist()]


def count(found: Pixels, truth: Pixels) -> tuple[int, int, int, int]:
    tp = fp = fn = tn = 0
    for ours, theirs in zip(found, truth, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            if one and other:
                tp += 1
            elif one:
                fp += 1
            elif other:
                fn += 1
            else:
                tn += 1
    return tp, fp, fn, tn


def list_border(mask: Pixels) -> list[tuple[int, int]]:
    border = []
    for y, row in enumerate(mask):
        for x, inside in enumerate(row):
            around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            if inside and not all(0 <= v < len(mask) and 0 <= u < len(row) and mask[v][u] for v, u in around):
                border.append((y, x))
    return border


def take_percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    index = share / 100 * (len(ordered) - 1)
    low = math.floor(index)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (index - low) * (ordered[high] - ordered[low])


def take_hd95(found: Pixels, truth: Pixels) -> float | None:
    one, other = list_border(found), list_border(truth)
    if not one or not other:
        return None
    there = [min(math.dist(a, b) for b in other) for a in one]
    back = [min(math.dist(a, b) for b in one) for a in other]
    return max(take_percentile(there, 95), take_percentile(back, 95))


def divide(a: float, b: float) -> float | None:
    return a / b if b else None


def pool(rows: list[dict]) -> dict[str, float | None]:
    tp, fp, fn, tn = (sum(row["counts"][k] for row in rows) for k in range(4))
    tumour, background = divide(tp, tp + fp + fn), divide(tn, tn + fp + fn)
    distances = [row["hd95"] for row in rows if row["hd95"] is not None]
    dice = [2 * h / (2 * h + f + m) for h, f, m, _ in (row["counts"] for row in rows)]
    return {
        "mean_iou": None if tumour is None or background is None else (tumour + background) / 2,
        "lesion_iou": tumour,
        "dice": divide(sum(dice), len(dice)),
        "hd95_px": divide(sum(distances), len(distances)),
        "overlooked": divide(sum(row["counts"][0] == 0 for row in rows), len(rows)),
    }


def alarm(rows: list[dict]) -> dict[str, float | None]:
    return {"false_alarms": divide(sum(row["counts"][1] > 0 for row in rows), len(rows))}


def add_intervals(rows: list[dict], measure) -> dict[str, dict]:
    patients = sorted({row["patient"] for row in rows})
    drawn = np.random.default_rng(SEED).integers(0, len(patients), (DRAWS, len(patients))).tolist()
    of = {patient: [row for row in rows if row["patient"] == patient] for patient in patients}
    again: dict[str, list[float]] = {}
    for draw in drawn:
        for name, value in measure([row for k in draw for row in of[patients[k]]]).items():
            if value is not None:
                again.setdefault(name, []).append(value)
    return {
        name: {"value": value, "interval": [take_percentile(again[name], 2.5), take_percentile(again[name], 97.5)]}
        for name, value in measure(rows).items()
        if value is not None
    }


def score(found: Path, truth: Path, labels: Path) -> dict[str, dict]:
    with labels.open() as file:
        known = {row["id"]: row for row in csv.DictReader(file)}
    rows = []
    for path in sorted(truth.iterdir()):
        one, other = read_mask(found / path.name), read_mask(path)
        counts, row = count(one, other), known[path.stem]
        kept = {"counts": counts, "hd95": take_hd95(one, other), "patient": row["patient"], "kind": row["class"]}
        rows.append(kept)
    lesions = [row for row in rows if row["counts"][0] + row["counts"][2]]
    free = [row for row in rows if not row["counts"][0] + row["counts"][2]]
    scores = {**add_intervals(lesions, pool), **(add_intervals(free, alarm) if free else {})}
    for kind in sorted({row["kind"] for row in lesions}):
        scores[kind] = pool([row for row in lesions if row["kind"] == kind])
    return scores


if __name__ == "__main__":
    print(json.dumps(score(*map(Path, sys.argv[1:4])), indent=1))
