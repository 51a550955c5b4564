"""How much figures differ, with intervals: times between runs and within one, scores on the same images.

Between runs, whole rounds are drawn again (samples of one round are no independent witnesses), and what few rounds
leave uncertain is added as Student's t asks, after Welch. Within a run rounds are paired. Scores are paired by image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from .numbers import Result, find
from .quality import summarize_difference
from .samples import DRAWS, SEED, by_round, draw_again, judge_ratio

Values = npt.NDArray[np.float64]

LEAST_ROUNDS = 3  # of fewer, how much rounds differ is unknown
LEAST_IMAGES = 10
COVERED = 0.95
SLIGHT = 1e-9  # scores that differ by less are equal: their sums were rounded
WIDE_SCORE = 0.02  # an interval about zero that reaches further cannot rule out a difference that matters


def nearest_rank(share: float) -> Callable[[Values], Values]:
    """Return what takes a percentile of each row, by the nearest-rank rule."""
    return lambda table: np.sort(table, axis=1)[:, max(0, math.ceil(share * table.shape[1]) - 1)]


TIMES: dict[str, Callable[[Values], Values]] = {
    "p50": nearest_rank(0.50),
    "p90": nearest_rank(0.90),
    "p95": nearest_rank(0.95),
    "p99": nearest_rank(0.99),
    "mean": lambda table: np.asarray(table.mean(axis=1)),
}
SCORES = ("iou", "binary_iou", "dice")


@dataclass(frozen=True)
class Change:
    """How one figure stands to another: a ratio of times or sizes, a difference of scores; its interval; a verdict."""

    value: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Estimate:
    """The logarithm of a figure, its variance between runs of as many rounds, and the degrees of freedom of that."""

    value: float
    variance: float
    freedom: int


def to_table(result: Result, key: str) -> Values:
    """Return a subject's milliseconds as (rounds, samples), every round cut to the shortest."""
    rounds = list(by_round(find(result, f"subjects.{key}.latency.samples") or []).values())
    least = min(map(len, rounds), default=0)
    return np.array([times[:least] for times in rounds], float).reshape(len(rounds), least)


def estimate(table: Values, figure: str) -> Estimate:
    """Return a figure of one run with what rounds, drawn again whole, say of its variance."""
    rounds, statistic = len(table), TIMES[figure]
    value = math.log(float(statistic(table.reshape(1, -1))[0]))
    if rounds < 2:
        return Estimate(value, math.inf, 0)
    drawn = draw_again(rounds, min(DRAWS, max(200, 4_000_000 // table.size)), SEED)
    logs = np.log(statistic(table[drawn].reshape(len(drawn), -1)))
    # Drawing R rounds from R shows (R - 1) / R of the variance.
    return Estimate(value, float(logs.var()) * rounds / (rounds - 1), rounds - 1)


def bound_estimate(one: Estimate) -> tuple[float, float] | None:
    """Return the 95 % interval of a run's figure; None where too few rounds tell it."""
    if one.freedom < LEAST_ROUNDS - 1:
        return None
    reach = quantile_of_t(one.freedom) * math.sqrt(one.variance)
    return math.exp(one.value - reach), math.exp(one.value + reach)


def compare_estimates(one: Estimate, other: Estimate) -> Change:
    """Return the ratio of the other run's figure to the one's; degrees of freedom after Welch and Satterthwaite."""
    if min(one.freedom, other.freedom) < LEAST_ROUNDS - 1:
        return to_change(other.value - one.value, None)
    variance = one.variance + other.variance
    parts = one.variance**2 / one.freedom + other.variance**2 / other.freedom
    return to_change(
        other.value - one.value, quantile_of_t(variance**2 / parts if parts else 1e6) * math.sqrt(variance)
    )


def pair_rounds(result: Result, subject: str, baseline: str, figure: str) -> Change:
    """Return the ratio of a subject's figure to a baseline's of the same run: the mean of the rounds' logarithms."""
    ours, theirs = (by_round(find(result, f"subjects.{key}.latency.samples") or []) for key in (subject, baseline))
    rounds = sorted(ours.keys() & theirs.keys())
    if not rounds:
        return to_change(0.0, None)
    figures = [[float(TIMES[figure](np.array([times[k]]))[0]) for times in (ours, theirs)] for k in rounds]
    logs = np.array([math.log(one / other) for one, other in figures])
    if len(logs) < LEAST_ROUNDS:
        return to_change(float(logs.mean()), None)
    return to_change(float(logs.mean()), quantile_of_t(len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs)))


def to_change(log: float, reach: float | None) -> Change:
    """Return a ratio from its logarithm and the half width of that one's interval; without one it settles nothing."""
    if reach is None:
        return Change(math.exp(log), None, None, "inconclusive")
    low, high = math.exp(log - reach), math.exp(log + reach)
    return Change(math.exp(log), low, high, judge_ratio(low, high))


def quantile_of_t(freedom: float) -> float:
    """Return what Student's t exceeds on either side in 5 % of cases. Source: Abramowitz and Stegun 26.7.5."""
    z, v = NormalDist().inv_cdf((1 + COVERED) / 2), max(freedom, 2.0)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v ** (k + 1) for k, term in enumerate(terms))


def subtract_scores(one: dict[str, Any], other: dict[str, Any], figure: str) -> Change | None:
    """Return how much the other entry of `accuracy` scores above the one on the same images; None if unknown."""
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
    known = low is not None and high is not None and found["n"] >= LEAST_IMAGES
    return Change(value, low, high, judge_scores(low, high) if known else "inconclusive")


def judge_scores(low: float, high: float) -> str:
    """Return the verdict on an interval of a difference of scores."""
    if high < -SLIGHT or low > SLIGHT:
        return "worse" if high < 0 else "better"
    return "no difference" if low > -WIDE_SCORE and high < WIDE_SCORE else "inconclusive"
