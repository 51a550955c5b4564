"""Does the speed hold over minutes of work, and the memory over thousands of images?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks.machine.state import State, read_state
from benchmarks.result.lookup import Result
from benchmarks.subjects.candidates import Notify

from .plan import RunPlan, RunState
from .rounds import RunningCandidate
from .timing_statistics import find_median_slope, fit_slope, percentile

MAX_CHANGE = 0.10  # between the first and the last minute; above it, reports use the sustained figure
BATCH_S = 1.0  # of work between two readings of the clock
SOAK_POINTS = 200  # readings of memory over a soak
SETTLING_SHARE = 0.2  # of a soak, at its start, when buffers may still be allocated for the first time
MIN_GROWTH_BYTES = 1 << 20  # over a soak; an allocator may keep less for a while

Run = Callable[[int], list[float]]  # n to n milliseconds


def measure_long_runs(plan: RunPlan, state: RunState, notify: Notify) -> Result:
    """Return a result's `sustained` and `soak`, each null unless the plan has it."""
    found: Result = {"sustained": None, "soak": None}
    main = state.main
    if plan.sustain_minutes:
        notify(f"sustained for {plan.sustain_minutes:g} minutes")
        found["sustained"] = {"subject": main.candidate.key} | run_sustained(
            lambda n: run_times(main, n), plan.sustain_minutes, read_state, progress=state.show
        )
    if plan.soak_runs:
        notify(f"soak test of {plan.soak_runs} runs")
        found["soak"] = {"subject": main.candidate.key} | run_soak(
            lambda n: run_times(main, n), lambda: main.child.request("memory")["rss"] or 0, plan.soak_runs, state.show
        )
    return found


def run_times(running: RunningCandidate, n: int) -> list[float]:
    """Return the milliseconds of n runs of a subject without a pause."""
    times: list[float] = running.child.request("run", n=n, warm_caches=False)["ms"]
    return times


def run_sustained(
    run: Run,
    minutes: float,
    read: Callable[[], State],
    clock: Callable[[], float] = time.monotonic,
    minute_s: float = 60.0,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run without a pause for some minutes; return a result's `sustained` without its subject."""
    began, batch = clock(), 1
    times_by_minute: dict[int, list[float]] = {}
    states: dict[int, list[State]] = {}
    while (spent := clock() - began) < minutes * minute_s:
        number = int(spent // minute_s)
        times = run(batch)
        times_by_minute.setdefault(number, []).extend(times)
        states.setdefault(number, []).append(read())
        batch = max(1, round(1000 * BATCH_S / max(median(times), 1e-3)))
        progress(f"sustained: minute {number + 1} of {minutes:g}, p50 {median(times):.1f} ms")
    rows = [summarize_minute(number, times, states[number]) for number, times in times_by_minute.items()]
    ratio = rows[-1]["p50_ms"] / rows[0]["p50_ms"]
    return {"minutes": rows, "ratio_last_to_first": round(ratio, 5), "differs": abs(ratio - 1) > MAX_CHANGE}


def summarize_minute(number: int, times: Sequence[float], states: Sequence[State]) -> dict[str, Any]:
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


def run_soak(
    run: Run, read_rss: Callable[[], int], runs: int, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Run many times and read the memory at intervals; return a result's `soak` without its subject."""
    step = max(1, runs // SOAK_POINTS)
    points = [[0, read_rss()]]
    while points[-1][0] < runs:
        count = min(step, runs - points[-1][0])
        run(count)
        points.append([points[-1][0] + count, read_rss()])
        progress(f"soak: {points[-1][0]} of {runs} runs, {points[-1][1] / 1e6:.0f} MB")
    return {"runs": runs, "rss_bytes": points, **analyze_growth(points)}


def analyze_growth(points: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return slope, interval and verdict of [run, bytes] points.

    Memory grows if the slope is significantly above 0, positive in both halves, and adds up to MIN_GROWTH_BYTES. A
    single step is a buffer allocated at first use, not a leak.
    """
    settled = points[int(SETTLING_SHARE * len(points)) :] if len(points) > 10 else points
    x, y = [point[0] for point in settled], [point[1] for point in settled]
    fitted = fit_slope(x, y)
    half = len(x) // 2
    halves = (np.array([x[part], y[part]], float) for part in (slice(0, half + 1), slice(half, None)))
    steady = all(find_median_slope(points) > 0 for points in halves)
    growth = fitted["slope"] * (x[-1] - x[0])
    grows = fitted["interval"][0] > 0 and steady and growth >= MIN_GROWTH_BYTES
    slope = round(fitted["slope"], 3)
    return {"slope_bytes_per_run": slope, "interval": fitted["interval"], "verdict": "grows" if grows else "flat"}
