"""What short runs do not show: speed after minutes of work, and memory after thousands of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from .samples import fit_slope, median_slope, percentile
from .state import State

DIFFERS = 0.10  # above which the sustained figure, not the short run's, is the one to quote
TURN_S = 1.0  # of work between two looks at the clock
SOAK_POINTS = 200  # readings of memory over a soak
SETTLING = 0.2  # the share of a soak in which buffers may still be made for the first time
LEAST_GROWTH_BYTES = 1 << 20  # over a soak: less is what an allocator keeps now and returns later

Run = Callable[[int], list[float]]  # n to n milliseconds


def sustain(
    run: Run,
    minutes: float,
    read: Callable[[], State],
    clock: Callable[[], float] = time.monotonic,
    minute_s: float = 60.0,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run without a pause for some minutes; return a result's `sustained` but for its subject."""
    began, turn = clock(), 1
    taken: dict[int, list[float]] = {}
    states: dict[int, list[State]] = {}
    while (spent := clock() - began) < minutes * minute_s:
        number = int(spent // minute_s)
        times = run(turn)
        taken.setdefault(number, []).extend(times)
        states.setdefault(number, []).append(read())
        turn = max(1, round(1000 * TURN_S / max(median(times), 1e-3)))
        progress(f"sustained: minute {number + 1} of {minutes:g}, p50 {median(times):.1f} ms")
    rows = [to_minute(number, times, states[number]) for number, times in taken.items()]
    ratio = rows[-1]["p50_ms"] / rows[0]["p50_ms"]
    return {"minutes": rows, "ratio_last_to_first": round(ratio, 5), "differs": abs(ratio - 1) > DIFFERS}


def to_minute(number: int, times: Sequence[float], states: Sequence[State]) -> dict[str, Any]:
    """Return one minute: percentiles, the highest temperature, the mean frequency."""
    hottest = [state["temperature_c"] for state in states if state.get("temperature_c") is not None]
    mhz = [state["mhz"] for state in states if state.get("mhz") is not None]
    return {
        "minute": number,
        "n": len(times),
        **{f"p{share}_ms": percentile(times, share) for share in (50, 90, 99)},
        "temperature_c": max(hottest, default=None),
        "mhz": round(fmean(mhz), 1) if mhz else None,
    }


def soak(
    run: Run, read_rss: Callable[[], int], runs: int, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Run many times and read the memory now and then; return a result's `soak` but for its subject."""
    step = max(1, runs // SOAK_POINTS)
    points = [[0, read_rss()]]
    while points[-1][0] < runs:
        share = min(step, runs - points[-1][0])
        run(share)
        points.append([points[-1][0] + share, read_rss()])
        progress(f"soak: {points[-1][0]} of {runs} runs, {points[-1][1] / 1e6:.0f} MB")
    return {"runs": runs, "rss_bytes": points, **judge_soak(points)}


def judge_soak(points: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return slope, interval and verdict of [run, bytes] points. It grows where the slope is above 0 beyond doubt, in
    both halves, and adds up: one step is a buffer made at first use, not a leak."""
    settled = points[int(SETTLING * len(points)) :] if len(points) > 10 else points
    x, y = [point[0] for point in settled], [point[1] for point in settled]
    fitted = fit_slope(x, y)
    half = len(x) // 2
    halves = (np.array([x[part], y[part]], float) for part in (slice(0, half + 1), slice(half, None)))
    lasting = all(median_slope(points) > 0 for points in halves)
    growth = fitted["slope"] * (x[-1] - x[0])
    grows = fitted["interval"][0] > 0 and lasting and growth >= LEAST_GROWTH_BYTES
    slope = round(fitted["slope"], 3)
    return {"slope_bytes_per_run": slope, "interval": fitted["interval"], "verdict": "grows" if grows else "flat"}
