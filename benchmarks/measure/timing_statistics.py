"""Which statistics describe a subject's timing samples? Percentiles, spread, intervals, verdicts; all seeds are fixed.

Samples of one round are close in time and share its disturbances, so whole rounds are resampled, never single samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from evidence.bootstrap import DRAWS, draw_indices, round_interval

# Two processes with the same file can differ permanently by as much, by the addresses of their memory.
MARGIN = 0.02
# "No difference" needs an interval within this distance from 1.
EQUIVALENCE_MARGIN = 0.10
WINDOW = 5  # runs whose medians are compared at the end of a warm-up
STABLE_CHANGE = 0.03  # medians of two windows that differ by less are equal


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile: the smallest value that `share` per cent of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share / 100 * len(values)) - 1)]


def spread(values: Sequence[float]) -> float:
    """Return the median absolute deviation as a share of the median."""
    middle = median(values)
    return median(abs(value - middle) for value in values) / middle if middle else 0.0


def summarize_latency(samples: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return a result's `latency` for (round, ms) samples."""
    times = [ms for _, ms in samples]
    shares = {f"p{share}_ms": percentile(times, share) for share in (50, 90, 95, 99)}
    return {
        "samples": [[number, ms] for number, ms in samples],
        "n": len(times),
        "mean_ms": round(fmean(times), 4),
        **shares,
        "least_ms": min(times),
        "most_ms": max(times),
        "interval_p50": find_median_interval(list(group_by_round(samples).values())),
        "spread": round(spread(times), 5),
        "per_second": round(1000 / fmean(times), 4),
    }


def group_by_round(samples: Sequence[tuple[int, float]]) -> dict[int, list[float]]:
    """Return {round: milliseconds}."""
    rounds: dict[int, list[float]] = {}
    for number, ms in samples:
        rounds.setdefault(number, []).append(ms)
    return rounds


def resample_rounds(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (draws, rounds x samples): whole rounds of a table (rounds, samples), resampled."""
    drawn = draw_indices(len(table), min(DRAWS, max(200, 4_000_000 // table.size)))
    return table[drawn].reshape(len(drawn), -1)


def find_median_interval(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Return the 95 % interval of the median, by resampling whole rounds."""
    length = min(map(len, rounds))
    table = np.array([list(times)[:length] for times in rounds])  # (rounds, samples)
    return round_interval(np.median(resample_rounds(table), axis=1))


def compare_rounds(subject: Sequence[tuple[int, float]], baseline: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return ratio_p50, interval and verdict of a subject against a baseline, paired round by round.

    A round's ratio is that of the two medians; the total ratio is the median of those, robust to disturbed rounds.
    """
    ours, theirs = group_by_round(subject), group_by_round(baseline)
    logs = np.array([math.log(median(ours[i]) / median(theirs[i])) for i in sorted(ours.keys() & theirs.keys())])
    ratio = math.exp(float(np.median(logs)))
    interval = round_interval(np.exp(np.median(logs[draw_indices(len(logs))], axis=1)))
    return {"ratio_p50": round(ratio, 6), "interval": interval, "verdict": classify_ratio(*interval)}


def classify_ratio(low: float, high: float) -> str:
    """Return the verdict; "slower" and "faster" need a whole interval beyond MARGIN."""
    if low > 1 + MARGIN:
        return "slower"
    if high < 1 / (1 + MARGIN):
        return "faster"
    return "no difference" if low > 1 / (1 + EQUIVALENCE_MARGIN) and high < 1 + EQUIVALENCE_MARGIN else "inconclusive"


def is_stable(times: Sequence[float]) -> bool:
    """Return whether a warm-up is over: the last two windows' medians differ by STABLE_CHANGE or twice the spread."""
    if len(times) < 2 * WINDOW:
        return False
    before, last = times[-2 * WINDOW : -WINDOW], times[-WINDOW:]
    noise = max(STABLE_CHANGE, 2 * spread(before), 2 * spread(last))
    return abs(median(last) / median(before) - 1) <= noise


def fit_slope(x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    """Return the Theil-Sen slope, the median slope of all pairs of points, with its 95 % interval.

    Unlike least squares it is robust to one step, such as a buffer allocated at first use.
    """
    points = np.array([x, y], float)  # (2, points)
    drawn = draw_indices(points.shape[1], 200)
    slopes = np.array([find_median_slope(points[:, np.sort(index)]) for index in drawn])
    return {"slope": find_median_slope(points), "interval": round_interval(slopes)}


def find_median_slope(points: npt.NDArray[np.float64]) -> float:
    """Return the median slope between the points (2, n) of different x."""
    before, after = np.triu_indices(points.shape[1], 1)
    run, rise = points[:, after] - points[:, before]
    return float(np.median(rise[run > 0] / run[run > 0])) if (run > 0).any() else 0.0
