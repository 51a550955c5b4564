"""Bootstrap 95 % intervals by patient: whole patients are drawn again, since slices of one patient are alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .metrics import COLUMNS, COUNTED, Row, pool, to_table

SEED, DRAWS, COVERED = 20251121, 2000, (2.5, 97.5)

Values = npt.NDArray[np.float64]


def draw_patients(count: int, draws: int = DRAWS, seed: int = SEED) -> Values:
    """Return (draws, count): how often each of `count` patients is drawn when as many are, with putting back."""
    drawn = np.random.default_rng(seed).integers(0, count, (draws, count))
    weights = np.zeros((draws, count))
    np.add.at(weights, (np.arange(draws)[:, None], drawn), 1)
    return weights


def sum_by_patient(rows: Sequence[Row]) -> Values:
    """Return (patients in the order of their names, COLUMNS) sums."""
    _, place = np.unique([row.patient for row in rows], return_inverse=True)
    sums = np.zeros((int(place.max(initial=-1)) + 1, len(COLUMNS)))
    np.add.at(sums, place, to_table(rows))
    return sums


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """Return {score: {value, interval, n}} with the numbers of slices and patients.

    false_alarms are of the slices without a lesion, all else of those with one; what has no slices is left out.
    """
    found: dict[str, Any] = {"slices": len(rows), "patients": len({row.patient for row in rows})}
    for its in split_by_lesion(rows):
        found.update(summarize_pooled(its))
    return found


def split_by_lesion(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the slices with a lesion and those without."""
    return [row for row in rows if row.dice is not None], [row for row in rows if row.dice is None]


def summarize_pooled(rows: Sequence[Row]) -> dict[str, Any]:
    """Return {score: {value, interval, n}} over slices with and without a lesion alike."""
    sums = sum_by_patient(rows)
    drawn = pool(draw_patients(len(sums)) @ sums) if rows else {}
    found = {}
    for name, value in pool(sums.sum(axis=0)).items():
        counted = COUNTED.get(name)
        n = int(sums[:, COLUMNS.index(counted)].sum()) if counted else len(rows)
        # Without any lesion IoU would be that of false alarms with nothing.
        if np.isfinite(value) and (counted or sums[:, COLUMNS.index("real")].any()):
            found[name] = {"value": tidy(value), "interval": bound(drawn[name]) if len(sums) > 1 else None, "n": n}
    return found


def compare(rows: Sequence[Row], others: Sequence[Row]) -> dict[str, Any]:
    """Return {score: {value, interval}} of `others` less `rows`, the same slices scored twice and drawn together."""
    found: dict[str, Any] = {}
    for ours, theirs in zip(split_by_lesion(rows), split_by_lesion(others), strict=True):
        if not ours:
            continue
        one, two = sum_by_patient(ours), sum_by_patient(theirs)
        weights = draw_patients(len(one))
        first, second = pool(one.sum(axis=0)), pool(two.sum(axis=0))
        before, after = pool(weights @ one), pool(weights @ two)
        for name in ["false_alarms"] if ours[0].dice is None else first:
            if np.isfinite(second[name] - first[name]):
                interval = bound(after[name] - before[name])
                found[name] = {"value": tidy(second[name] - first[name]), "interval": interval}
    return found


def median_draws(values: Values, patients: Sequence[str], seed: int = SEED) -> Values:
    """Return the (lower) median of `values` (slices,) in each draw of their patients, (DRAWS,).

    A draw takes all slices of a patient as often as the patient is drawn.
    """
    order = np.argsort(values, kind="stable")
    names, place = np.unique(patients, return_inverse=True)
    weights = draw_patients(len(names), seed=seed)[:, place[order]]  # (draws, slices), slices by value
    reached = np.cumsum(weights, axis=1) >= weights.sum(axis=1, keepdims=True) / 2
    return np.asarray(values[order][reached.argmax(axis=1)])


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
    """Return the interval [low, high] of drawn estimates, of those that are defined; None if none is."""
    there = drawn[np.isfinite(drawn)]
    return [tidy(value) for value in np.percentile(there, COVERED)] if len(there) else None


def tidy(value: Any) -> float:
    """Return a figure with six digits after the point: more would be noise in the record."""
    return round(float(value), 6)
