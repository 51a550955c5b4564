"""Percentiles, intervals and verdicts on samples drawn with a seed: what is equal, slower, stable, leaking."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.measure.timing_statistics import (
    classify_ratio,
    compare_rounds,
    find_median_interval,
    fit_slope,
    group_by_round,
    is_stable,
    percentile,
    spread,
    summarize_latency,
)

Samples = list[tuple[int, float]]


def draw_pair(seed: int, factor: float, noise: float = 0.05, bursts: float = 0.1) -> tuple[Samples, Samples]:
    """Two subjects on a busy machine: a level that wanders, bursts that hit whole rounds, a tail to the right, and 1 %
    that a process differs by for good."""
    rng = np.random.default_rng(seed)
    level = 20 * np.exp(np.cumsum(rng.normal(0, 0.03, 30)))

    def draw(scale: float) -> Samples:
        burst = 1 + rng.exponential(0.5, 30) * (rng.random(30) < bursts)
        tails = np.exp(np.abs(rng.normal(0, noise, (30, 2))))
        return [(n, float(scale * level[n] * burst[n] * tail)) for n in range(30) for tail in tails[n]]

    return draw(factor * float(np.exp(rng.normal(0, 0.01)))), draw(1.0)


def count_verdicts(factor: float) -> Counter[str]:
    return Counter(compare_rounds(*draw_pair(seed, factor))["verdict"] for seed in range(100))


def test_equal_subjects_are_no_difference() -> None:
    """Identical files: "no difference" in at least 95 of 100 trials."""
    assert count_verdicts(1.0)["no difference"] >= 95


def test_a_slow_down_of_a_tenth_is_found() -> None:
    """A planted 10 % slow-down is "slower" in at least 95 of 100 trials, and a speed-up "faster"."""
    assert count_verdicts(1.10)["slower"] >= 95
    assert count_verdicts(1 / 1.15)["faster"] >= 95


def test_too_much_noise_is_inconclusive_never_equal() -> None:
    """Where the interval is wide, nothing is decided: no verdict of "no difference" on noise."""
    verdicts = Counter(compare_rounds(*draw_pair(seed, 1.0, 0.4, 0.5))["verdict"] for seed in range(40))
    assert verdicts["no difference"] <= 4 and verdicts["inconclusive"] >= 30


def test_pairing_takes_out_what_hits_both() -> None:
    """A machine that becomes three times slower halfway leaves the ratio as it is."""
    ours, theirs = draw_pair(3, 1.5, noise=0.01, bursts=0)
    slowed = [[(n, ms * (3 if n >= 15 else 1)) for n, ms in samples] for samples in (ours, theirs)]
    assert compare_rounds(*slowed) == compare_rounds(ours, theirs)


def test_rounds_that_only_one_has_do_not_count() -> None:
    """Pairs are made of rounds that both took part in."""
    assert compare_rounds([(0, 1.0), (1, 2.0), (2, 900.0)], [(0, 1.0), (1, 2.0)])["ratio_p50"] == 1.0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.021, 1.5, "slower"),
        (1.019, 1.05, "no difference"),
        (0.5, 0.979, "faster"),
        (0.95, 1.05, "no difference"),
        (0.95, 1.101, "inconclusive"),
        (0.90, 1.01, "inconclusive"),
    ],
)
def test_verdicts_follow_the_interval(low: float, high: float, verdict: str) -> None:
    """A difference needs a whole interval beyond 2 %; a wide one decides nothing."""
    assert classify_ratio(low, high) == verdict


@pytest.mark.parametrize("n", [1, 2, 3, 10, 99, 100, 101])
@pytest.mark.parametrize("share", [50, 90, 95, 99])
def test_percentiles_are_by_nearest_rank(n: int, share: int, rng: np.random.Generator) -> None:
    """The oracle: the smallest value that at least `share` per cent of all do not exceed."""
    values = rng.normal(size=n).tolist()
    covering = [v for v in values if sum(w <= v for w in values) * 100 >= share * n]
    assert percentile(values, share) == min(covering)


def test_p99_of_few_samples_is_the_largest() -> None:
    """Of fewer than 100 samples."""
    assert percentile(list(range(60)), 99) == 59


def test_a_latency_holds_its_samples_and_statistics() -> None:
    """Each figure against its definition on a handful of samples."""
    found = summarize_latency([(0, 10.0), (0, 12.0), (1, 11.0), (1, 30.0)])
    assert found["samples"] == [[0, 10.0], [0, 12.0], [1, 11.0], [1, 30.0]]
    assert (found["n"], found["mean_ms"], found["p50_ms"], found["p90_ms"]) == (4, 15.75, 11.0, 30.0)
    assert (found["least_ms"], found["most_ms"]) == (10.0, 30.0)
    assert found["per_second"] == pytest.approx(1000 / 15.75, abs=1e-4)
    assert found["spread"] == pytest.approx(1.0 / 11.5, abs=1e-4)
    assert found["interval_p50"][0] <= 11.5 <= found["interval_p50"][1]


def test_the_median_s_interval_covers_it() -> None:
    """In 95 % of trials, give or take chance: 200 trials of exponential noise in independent rounds."""
    rng, covered = np.random.default_rng(11), 0
    for _ in range(200):
        rounds = rng.exponential(1.0, (30, 3))
        low, high = find_median_interval(rounds.tolist())
        covered += low <= np.log(2) <= high
    assert covered >= 182


def test_spread_ignores_a_few_outliers() -> None:
    """The median absolute deviation over the median."""
    assert spread([10, 10, 10, 11, 9, 500]) == pytest.approx(0.05)


def test_a_warm_up_is_stable_when_its_windows_agree() -> None:
    """A falling series is not stable, a level one is, too few runs never are."""
    assert not is_stable([10.0] * 9)
    assert is_stable([50.0, 30.0, *[10.0, 10.1, 9.9, 10.0, 10.1] * 2])
    assert not is_stable([100.0 * 0.9**n for n in range(10)])


def test_rounds_keep_their_samples_apart() -> None:
    """Samples by round, in order."""
    assert group_by_round([(0, 1.0), (1, 2.0), (0, 3.0)]) == {0: [1.0, 3.0], 1: [2.0]}


def test_a_slope_s_interval_holds_the_slope(rng: np.random.Generator) -> None:
    """A planted slope of 5 in noise is found; its interval excludes 0."""
    x = np.arange(100.0)
    found = fit_slope(x.tolist(), (5 * x + rng.normal(0, 40, 100)).tolist())
    assert found["slope"] == pytest.approx(5, abs=0.5)
    assert 0 < found["interval"][0] < 5 < found["interval"][1]
