"""Draws, weights and intervals against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evidence import bootstrap
from evidence.bootstrap import draw_blocks, draw_indices, draw_weights, find_interval, resample, round_interval


def naive_percentile(values: list[float], share: float) -> float:
    """The percentile between the two nearest ranks."""
    ordered = sorted(values)
    rank = share / 100 * (len(ordered) - 1)
    low = math.floor(rank)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (rank - low)


@pytest.mark.parametrize("count", [1, 2, 7, 36, 160, 2**20 + 1])
def test_blocks_are_one_stream(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their size, blocks are the draws of one call, and none is larger than memory is meant to hold."""
    draws = 200 if count < 1000 else 3
    whole = np.random.default_rng(bootstrap.SEED).integers(0, count, (draws, count))
    for block in (1, 5 * count, 2**30):
        monkeypatch.setattr(bootstrap, "BLOCK", block)
        blocks = list(draw_blocks(count, draws))
        assert np.array_equal(np.concatenate(blocks), whole) and np.array_equal(draw_indices(count, draws), whole)
        assert all(part.size <= max(block, count) for part in blocks)


def test_ten_thousand_groups_take_little_memory() -> None:
    """A block of their weights is a few MB, where all draws would be 160."""
    assert next(draw_weights(10_000)).nbytes <= 8 * bootstrap.BLOCK


def test_weights_count_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight is how often an index is drawn; a row's weights add up to the number of groups."""
    monkeypatch.setattr(bootstrap, "BLOCK", 50)
    drawn = np.random.default_rng(11).integers(0, 9, (40, 9)).tolist()
    weights = np.concatenate(list(draw_weights(9, 40, seed=11)))
    assert weights.tolist() == [[row.count(index) for index in range(9)] for row in drawn]


def test_resampling_is_a_loop_over_draws(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of drawn values and ratios of drawn sums, one draw at a time."""
    monkeypatch.setattr(bootstrap, "BLOCK", 500)
    one, two = rng.random(13), rng.random(13)
    found = resample(13, lambda weights: {"mean": weights @ one / 13, "ratio": weights @ one / (weights @ two)}, seed=5)
    for k, row in enumerate(np.random.default_rng(5).integers(0, 13, (2000, 13)).tolist()):
        sums = [sum(values[index] for index in row) for values in (one, two)]
        assert found["mean"][k] == pytest.approx(sums[0] / 13)
        assert found["ratio"][k] == pytest.approx(sums[0] / sums[1])


def test_intervals_are_percentiles_of_what_is_defined(rng: np.random.Generator) -> None:
    """NaN and infinity are left out; where too many are, or all, there is no interval."""
    values = rng.normal(size=200)
    values[:10] = math.nan
    values[10] = math.inf
    defined = values[11:].tolist()
    expected = (naive_percentile(defined, 2.5), naive_percentile(defined, 97.5))
    assert find_interval(values) == pytest.approx(expected)
    assert find_interval(values, max_undefined=0.06) == pytest.approx(expected)
    assert round_interval(values) == [round(bound, 6) for bound in expected]
    for nothing in (find_interval(values, max_undefined=0.05), find_interval(np.full(9, math.nan))):
        assert math.isnan(nothing[0]) and math.isnan(nothing[1])
