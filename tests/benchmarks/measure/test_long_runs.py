"""Long runs with a simulated clock and memory: what throttles, what leaks, what does neither."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from benchmarks.measure.long_runs import analyze_growth, run_soak, run_sustained

MB = 1 << 20


class Device:
    """A device whose inference takes so many ms, longer the longer it has worked."""

    def __init__(self, slower_per_minute: float) -> None:
        self.now, self.slower = 0.0, slower_per_minute

    def run(self, n: int) -> list[float]:
        times = []
        for _ in range(n):
            times.append(100.0 * (1 + self.slower * self.now / 60))
            self.now += times[-1] / 1000
        return times


def work(slower: float, minutes: float = 3) -> dict[str, object]:
    device = Device(slower)
    heat = count(40)
    return run_sustained(
        device.run, minutes, lambda: {"temperature_c": next(heat) / 2, "mhz": 1800.0}, lambda: device.now
    )


def test_a_device_that_throttles_differs() -> None:
    """Minutes have their own percentiles, temperature and frequency; 10 % a minute differs from the first minute."""
    found = work(0.1)
    minutes = found["minutes"]
    assert isinstance(minutes, list)
    assert [row["minute"] for row in minutes] == [0, 1, 2]
    assert minutes[0]["n"] > minutes[2]["n"] > 300
    assert minutes[0]["p50_ms"] < minutes[0]["p90_ms"] <= minutes[0]["p99_ms"] < minutes[2]["p50_ms"]
    assert minutes[2]["temperature_c"] > minutes[0]["temperature_c"] and minutes[1]["mhz"] == 1800.0
    assert found["ratio_last_to_first"] == pytest.approx(1.25 / 1.05, abs=0.02)
    assert found["differs"] is True


def test_a_device_that_keeps_its_speed_does_not_differ() -> None:
    """A ratio of 1 is no difference."""
    found = work(0.0)
    assert (found["ratio_last_to_first"], found["differs"]) == (1.0, False)


def test_sensors_that_are_not_there_are_null() -> None:
    """No temperature and no frequency, no number."""
    device = Device(0.0)
    found = run_sustained(device.run, 1, lambda: {"temperature_c": None, "mhz": None}, lambda: device.now)
    assert (found["minutes"][0]["temperature_c"], found["minutes"][0]["mhz"]) == (None, None)


def watch_memory(leak_per_run: float, runs: int = 2000, noise: float = 20_000, seed: int = 5) -> dict[str, object]:
    """A soak on a process that makes 3 MB of buffers in its first runs and then leaks."""
    rng, done = np.random.default_rng(seed), [0]

    def run(n: int) -> list[float]:
        done[0] += n
        return [1.0] * n

    def read() -> int:
        warm = 3 * MB * min(1.0, done[0] / 20)
        return int(150 * MB + warm + leak_per_run * done[0] + abs(rng.normal(0, noise))) // 4096 * 4096

    return run_soak(run, read, runs)


def test_a_leak_of_a_megabyte_in_a_hundred_runs_is_found() -> None:
    """Its slope is found within a tenth, and the interval includes it."""
    found = watch_memory(MB / 100)
    assert found["verdict"] == "grows"
    assert found["slope_bytes_per_run"] == pytest.approx(MB / 100, rel=0.1)
    low, high = found["interval"]  # type: ignore[misc]
    assert 0 < low <= MB / 100 * 1.05 and high >= MB / 100 * 0.95


@pytest.mark.parametrize("seed", range(8))
def test_a_process_that_keeps_its_memory_is_flat(seed: int) -> None:
    """Buffers of the first runs and an allocator's noise are no leak."""
    assert watch_memory(0.0, seed=seed)["verdict"] == "flat"


def test_one_step_in_the_middle_is_no_leak() -> None:
    """A buffer that is made once, late, is no growth."""
    points = [[run, 100 * MB + (8 * MB if run >= 1000 else 0)] for run in range(0, 2000, 10)]
    assert analyze_growth(points)["verdict"] == "flat"


def test_a_short_soak_finds_the_leak_too() -> None:
    """300 runs are 3 MB."""
    assert watch_memory(MB / 100, runs=300)["verdict"] == "grows"


def test_a_soak_counts_its_runs_exactly() -> None:
    """Readings from 0 to the number of runs, though it is no multiple of the step."""
    points = watch_memory(0.0, runs=1234)["rss_bytes"]
    assert isinstance(points, list)
    assert (points[0][0], points[-1][0]) == (0, 1234)
