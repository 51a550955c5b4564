"""Numbers from raw samples: percentiles, spread, intervals, verdicts. Pure; every draw is seeded.

Samples of one round were taken next to each other in time, so rounds are what is drawn again, never single samples:
a busy minute slows a whole round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt

SEED = 20250607
DRAWS = 2000
COVERED = (2.5, 97.5)
# Two processes with one and the same file differ by up to this much for good, by where their memory happens to lie.
MARGIN = 0.02
# An interval that reaches further from 1 than this cannot rule out a difference that matters.
WIDE = 0.10
WINDOW = 5  # runs whose medians are compared to tell that a warm-up has settled
SETTLED = 0.03  # medians of two windows that differ by less are taken as equal


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile: the smallest value that `share` per cent of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share / 100 * len(values)) - 1)]


def spread(values: Sequence[float]) -> float:
    """Return the median absolute deviation as a share of the median."""
    middle = median(values)
    return median(abs(value - middle) for value in values) / middle if middle else 0.0


def describe(samples: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return a result's `latency` from (round, ms) samples."""
    times = [ms for _, ms in samples]
    shares = {f"p{share}_ms": percentile(times, share) for share in (50, 90, 95, 99)}
    return {
        "samples": [[number, ms] for number, ms in samples],
        "n": len(times),
        "mean_ms": round(fmean(times), 4),
        **shares,
        "least_ms": min(times),
        "most_ms": max(times),
        "interval_p50": interval_of_median(list(by_round(samples).values())),
        "spread": round(spread(times), 5),
        "per_second": round(1000 / fmean(times), 4),
    }


def by_round(samples: Sequence[tuple[int, float]]) -> dict[int, list[float]]:
    """Return {round: milliseconds}."""
    rounds: dict[int, list[float]] = {}
    for number, ms in samples:
        rounds.setdefault(number, []).append(ms)
    return rounds


def draw_again(count: int, draws: int = DRAWS, seed: int = SEED) -> npt.NDArray[np.int64]:
    """Return (draws, count) indices: `count` drawn from as many, with putting back."""
    return np.random.default_rng(seed).integers(0, count, (draws, count))


def bound(estimates: npt.NDArray[Any]) -> list[float]:
    """Return the interval [low, high] that covers 95 % of bootstrap estimates."""
    low, high = np.percentile(estimates, COVERED)
    return [round(float(low), 6), round(float(high), 6)]


def interval_of_median(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Return the 95 % interval of the median, whole rounds drawn again."""
    least = min(map(len, rounds))
    table = np.array([list(times)[:least] for times in rounds])  # (rounds, samples)
    drawn = draw_again(len(table), min(DRAWS, max(200, 4_000_000 // table.size)))
    return bound(np.median(table[drawn].reshape(len(drawn), -1), axis=1))


def compare_rounds(subject: Sequence[tuple[int, float]], baseline: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return ratio_p50, interval and verdict of a subject against a baseline, paired round by round.

    A round's ratio is that of the two medians; the ratio of all is the median of those, in which rounds that a
    disturbance hit do not count.
    """
    ours, theirs = by_round(subject), by_round(baseline)
    logs = np.array([math.log(median(ours[i]) / median(theirs[i])) for i in sorted(ours.keys() & theirs.keys())])
    ratio = math.exp(float(np.median(logs)))
    interval = bound(np.exp(np.median(logs[draw_again(len(logs))], axis=1)))
    return {"ratio_p50": round(ratio, 6), "interval": interval, "verdict": judge_ratio(*interval)}


def judge_ratio(low: float, high: float) -> str:
    """Return the verdict: a difference is told only where the whole interval lies beyond the MARGIN, on one side."""
    if low > 1 + MARGIN:
        return "slower"
    if high < 1 / (1 + MARGIN):
        return "faster"
    return "no difference" if low > 1 / (1 + WIDE) and high < 1 + WIDE else "inconclusive"


def is_settled(times: Sequence[float]) -> bool:
    """Tell whether a warm-up is over: the last two windows' medians differ by no more than twice the spread in them."""
    if len(times) < 2 * WINDOW:
        return False
    before, last = times[-2 * WINDOW : -WINDOW], times[-WINDOW:]
    noise = max(SETTLED, 2 * spread(before), 2 * spread(last))
    return abs(median(last) / median(before) - 1) <= noise


def fit_slope(x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    """Return slope and 95 % interval of a straight line, Theil and Sen's: the median slope of all pairs of points.

    One step, as when a buffer is made at first use, moves it little; least squares would call it growth.
    """
    points = np.array([x, y], float)  # (2, points)
    drawn = draw_again(points.shape[1], 200)
    slopes = np.array([median_slope(points[:, np.sort(index)]) for index in drawn])
    return {"slope": median_slope(points), "interval": bound(slopes)}


def median_slope(points: npt.NDArray[np.float64]) -> float:
    """Return the median slope between the points (2, n) of different x."""
    before, after = np.triu_indices(points.shape[1], 1)
    run, rise = points[:, after] - points[:, before]
    return float(np.median(rise[run > 0] / run[run > 0])) if (run > 0).any() else 0.0
