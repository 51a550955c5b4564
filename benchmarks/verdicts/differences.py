"""By how much do figures differ, and how certain is that? Times between runs and within one, and scores.

Between runs, whole rounds are resampled, because samples of one round are not independent; the intervals are Welch's,
with Student's t for the number of rounds. Within a run rounds are paired. Scores are paired by image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure.image_scores import summarize_difference
from benchmarks.measure.timing_statistics import classify_ratio, group_by_round, resample_rounds
from benchmarks.result.lookup import Result, find
from benchmarks.result.specification import COMPARED_SCORES
from benchmarks.result.wording import Formatter, format_mb, format_ms, format_score

Values = npt.NDArray[np.float64]

MIN_ROUNDS = 3  # fewer do not show how much rounds differ
MIN_IMAGES = 10
COVERED = 0.95
TOLERANCE = 1e-9  # of scores: smaller differences are rounding
SCORE_EQUIVALENCE_MARGIN = 0.02  # "no difference" needs an interval within it


def nearest_rank(share: float) -> Callable[[Values], Values]:
    """Return a function that takes a percentile of each row by the nearest-rank rule."""
    return lambda table: np.sort(table, axis=1)[:, max(0, math.ceil(share * table.shape[1]) - 1)]


TIMES: dict[str, Callable[[Values], Values]] = {
    "p50": nearest_rank(0.50),
    "p90": nearest_rank(0.90),
    "p95": nearest_rank(0.95),
    "p99": nearest_rank(0.99),
    "mean": lambda table: np.asarray(table.mean(axis=1)),
}


@dataclass(frozen=True)
class Change:
    """A ratio of times or sizes, or a difference of scores, with its interval and verdict."""

    value: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Estimate:
    """The logarithm of a figure, and its variance between runs of as many rounds with its degrees of freedom."""

    value: float
    variance: float
    degrees: int


def choose_formatter(figure: str) -> Formatter:
    """Return the format of a figure: a score, MB or milliseconds."""
    if figure in COMPARED_SCORES:
        return format_score
    return format_mb if figure in ("size", "memory") else format_ms


def read_rounds(result: Result, key: str) -> Values:
    """Return a subject's milliseconds (rounds, samples), every round cut to the shortest one's length."""
    rounds = list(group_by_round(find(result, f"subjects.{key}.latency.samples") or []).values())
    length = min(map(len, rounds), default=0)
    return np.array([times[:length] for times in rounds], float).reshape(len(rounds), length)


def estimate_figure(table: Values, figure: str) -> Estimate:
    """Return a figure of one run, its variance estimated by resampling whole rounds."""
    rounds, statistic = len(table), TIMES[figure]
    value = math.log(float(statistic(table.reshape(1, -1))[0]))
    if rounds < 2:
        return Estimate(value, math.inf, 0)
    logs = np.log(statistic(resample_rounds(table)))
    # Resampling R rounds underestimates the variance by the factor (R - 1) / R.
    return Estimate(value, float(logs.var()) * rounds / (rounds - 1), rounds - 1)


def to_interval(one: Estimate) -> tuple[float, float] | None:
    """Return the 95 % interval of a run's figure; None for fewer than MIN_ROUNDS rounds."""
    if one.degrees < MIN_ROUNDS - 1:
        return None
    half_width = compute_t_quantile(one.degrees) * math.sqrt(one.variance)
    return math.exp(one.value - half_width), math.exp(one.value + half_width)


def compare_estimates(one: Estimate, other: Estimate) -> Change:
    """Return the ratio of the second run's figure to the first's; degrees of freedom by Welch and Satterthwaite."""
    if min(one.degrees, other.degrees) < MIN_ROUNDS - 1:
        return to_change(other.value - one.value, None)
    variance = one.variance + other.variance
    parts = one.variance**2 / one.degrees + other.variance**2 / other.degrees
    return to_change(
        other.value - one.value, compute_t_quantile(variance**2 / parts if parts else 1e6) * math.sqrt(variance)
    )


def compare_paired_rounds(result: Result, subject: str, baseline: str, figure: str) -> Change:
    """Return the ratio of a subject's figure to a baseline's in the same run: the geometric mean over rounds."""
    ours, theirs = (
        group_by_round(find(result, f"subjects.{key}.latency.samples") or []) for key in (subject, baseline)
    )
    rounds = sorted(ours.keys() & theirs.keys())
    if not rounds:
        return to_change(0.0, None)
    figures = [[float(TIMES[figure](np.array([times[k]]))[0]) for times in (ours, theirs)] for k in rounds]
    logs = np.array([math.log(one / other) for one, other in figures])
    if len(logs) < MIN_ROUNDS:
        return to_change(float(logs.mean()), None)
    return to_change(
        float(logs.mean()), compute_t_quantile(len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    )


def to_change(log: float, half_width: float | None) -> Change:
    """Return a ratio from its logarithm and that one's half interval; without an interval it is inconclusive."""
    if half_width is None:
        return Change(math.exp(log), None, None, "inconclusive")
    low, high = math.exp(log - half_width), math.exp(log + half_width)
    return Change(math.exp(log), low, high, classify_ratio(low, high))


def compute_t_quantile(degrees: float) -> float:
    """Return the two-sided 95 % quantile of Student's t. Source: Abramowitz and Stegun 26.7.5."""
    z, v = NormalDist().inv_cdf((1 + COVERED) / 2), max(degrees, 2.0)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v ** (k + 1) for k, term in enumerate(terms))


def subtract_scores(one: dict[str, Any], other: dict[str, Any], figure: str) -> Change | None:
    """Return a score of the second `accuracy` entry less that of the first, paired by image; None if unknown."""
    tables = [{row["file"]: row for row in entry.get("per_image") or []} for entry in (one, other)]
    if one.get("against") != other.get("against") or tables[0].keys() != tables[1].keys() or not tables[0]:
        return None
    files = sorted(tables[0])
    try:
        found = summarize_difference([tables[1][file] for file in files], [tables[0][file] for file in files], figure)
    except KeyError:
        return None  # an image without a result has no scores
    value, (low, high) = found["value"], found["interval"]
    if value is None:
        return None
    known = low is not None and high is not None and found["n"] >= MIN_IMAGES
    return Change(value, low, high, classify_difference(low, high) if known else "inconclusive")


def classify_difference(low: float, high: float) -> str:
    """Return the verdict on an interval of a difference of scores."""
    if high < -TOLERANCE or low > TOLERANCE:
        return "worse" if high < 0 else "better"
    return "no difference" if low > -SCORE_EQUIVALENCE_MARGIN and high < SCORE_EQUIVALENCE_MARGIN else "inconclusive"
