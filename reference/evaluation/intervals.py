"""How sure are the scores? Bootstrap 95 % intervals by patient: slices of one patient are alike, and drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evidence.bootstrap import Values, Weights, resample, round_interval

from .slice_scores import COLUMNS, COUNTED, SliceRow, Table, pool, to_table

SEED = 20251121


def sum_by_patient(rows: Sequence[SliceRow]) -> Table:
    """Return (patients in the order of their names, COLUMNS) sums."""
    _, index = np.unique([row.patient for row in rows], return_inverse=True)
    sums = np.zeros((int(index.max(initial=-1)) + 1, len(COLUMNS)))
    np.add.at(sums, index, to_table(rows))
    return sums


def summarize(rows: Sequence[SliceRow]) -> dict[str, Any]:
    """Return {score: {value, interval, n}} with the numbers of slices and patients.

    false_alarms are of the slices without a lesion, all else of those with one; what has no slices is left out.
    """
    found: dict[str, Any] = {"slices": len(rows), "patients": len({row.patient for row in rows})}
    for group in split_by_lesion(rows):
        found.update(summarize_pooled(group))
    return found


def split_by_lesion(rows: Sequence[SliceRow]) -> tuple[list[SliceRow], list[SliceRow]]:
    """Return the slices with a lesion and those without."""
    return [row for row in rows if row.dice is not None], [row for row in rows if row.dice is None]


def summarize_pooled(rows: Sequence[SliceRow]) -> dict[str, Any]:
    """Return {score: {value, interval, n}} over slices with and without a lesion alike."""
    sums = sum_by_patient(rows)
    drawn = resample(len(sums), lambda weights: pool(weights @ sums), seed=SEED) if rows else {}
    found = {}
    for name, value in pool(sums.sum(axis=0)).items():
        counted = COUNTED.get(name)
        n = int(sums[:, COLUMNS.index(counted)].sum()) if counted else len(rows)
        # Without any lesion IoU would be that of false alarms with nothing.
        if np.isfinite(value) and (counted or sums[:, COLUMNS.index("real")].any()):
            found[name] = {"value": tidy(value), "interval": bound(drawn[name]) if len(sums) > 1 else None, "n": n}
    return found


def compare(rows: Sequence[SliceRow], others: Sequence[SliceRow]) -> dict[str, Any]:
    """Return {score: {value, interval}} of `others` less `rows`, the same slices scored twice and drawn together."""
    found: dict[str, Any] = {}
    for ours, theirs in zip(split_by_lesion(rows), split_by_lesion(others), strict=True):
        if ours:
            found.update(compare_pooled(ours, theirs))
    return found


def compare_pooled(rows: Sequence[SliceRow], others: Sequence[SliceRow]) -> dict[str, Any]:
    """Return {score: {value, interval}} of slices that all have a lesion, or that all have none."""
    one, two = sum_by_patient(rows), sum_by_patient(others)
    values = subtract(one.sum(axis=0), two.sum(axis=0))
    drawn = resample(len(one), lambda weights: subtract(weights @ one, weights @ two), seed=SEED)
    names = ["false_alarms"] if rows[0].dice is None else list(values)
    defined = [name for name in names if np.isfinite(values[name])]
    return {name: {"value": tidy(values[name]), "interval": bound(drawn[name])} for name in defined}


def subtract(one: Table, two: Table) -> dict[str, Values]:
    """Return {score: values (...)} of the second sums less those of the first."""
    before, after = pool(one), pool(two)
    return {name: after[name] - before[name] for name in before}


def median_draws(values: Values, patients: Sequence[str], seed: int = SEED) -> Values:
    """Return the (lower) median of `values` (slices,) in each draw of their patients, (draws,).

    A draw takes all slices of a patient as often as the patient is drawn.
    """
    order = np.argsort(values, kind="stable")
    names, index = np.unique(patients, return_inverse=True)

    def take_medians(drawn: Weights) -> dict[str, Values]:
        weights = drawn[:, index[order]]  # (draws, slices), slices by value
        reached = np.cumsum(weights, axis=1) >= weights.sum(axis=1, keepdims=True) / 2
        return {"median": values[order][reached.argmax(axis=1)]}

    return resample(len(names), take_medians, seed=seed)["median"]


def describe_median(values: Sequence[float | None], patients: Sequence[str]) -> dict[str, Any]:
    """Return {value, interval, n} of the median of what is defined."""
    there = [(value, patient) for value, patient in zip(values, patients, strict=True) if value is not None]
    if not there:
        return {"value": None, "interval": None, "n": 0}
    numbers = np.array([value for value, _ in there])
    several = len({patient for _, patient in there}) > 1
    interval = bound(median_draws(numbers, [patient for _, patient in there])) if several else None
    return {"value": tidy(np.median(numbers)), "interval": interval, "n": len(there)}


def bound(drawn: Values) -> list[float] | None:
    """Return the interval [low, high] of drawn estimates; None if none is defined."""
    interval = round_interval(drawn)
    return interval if np.isfinite(interval).all() else None


def tidy(value: Any) -> float:
    """Return a figure with six digits after the point: more would be noise in the record."""
    return round(float(value), 6)
