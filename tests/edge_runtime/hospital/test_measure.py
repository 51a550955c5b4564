"""Volumes, objects and diameters against what is counted by hand or by a naive search."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.hospital.outputs.objects import ObjectCounter, measure_diameter
from edge_runtime.hospital.results.volume import find_extents, measure_ml

Mask = npt.NDArray[Any]


def test_extents_are_half_the_way_to_each_neighbour() -> None:
    """Even, uneven, with a gap that counts 1.5 steps at most, one slice, none; by hand."""
    assert find_extents([0, 4, 8], 4) == [4, 4, 4]
    assert find_extents([0, 4, 9], 4) == [4, 4.5, 4.5]
    assert find_extents([-8, -4, 8, 12], 4) == [4, 5, 5, 4]
    assert find_extents([3], 5) == [5]
    assert find_extents([3], None) == [] == find_extents([], 4)
    assert measure_ml([100, 200, 0], [4, 4.5, 4.5]) == pytest.approx(1.3)


def count_naively(volume: Mask) -> int:
    """Flood fill over all 26 neighbours."""
    left = {tuple(map(int, place)) for place in np.argwhere(volume)}
    found = 0
    while left:
        found, waiting = found + 1, [left.pop()]
        while waiting:
            z, y, x = waiting.pop()
            for a, b, c in product((-1, 0, 1), repeat=3):
                if (near := (z + a, y + b, x + c)) in left:
                    left.remove(near)
                    waiting.append(near)
    return found


@pytest.mark.parametrize("share", [0.02, 0.06, 0.12, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_objects_are_those_of_a_flood_fill(share: float, seed: int) -> None:
    """In random volumes of few to many voxels."""
    volume = np.random.default_rng(seed).random((6, 12, 15)) < share
    counter = ObjectCounter()
    for mask in volume:
        counter.add(mask)
    assert counter.count == count_naively(volume)


def test_a_gap_joins_nothing() -> None:
    """Two slices of one square: one object, or two where slices are missing between them."""
    mask = np.zeros((6, 6), np.uint8)
    mask[2:4, 2:4] = 1
    counters = [ObjectCounter(), ObjectCounter()]
    for counter, joined in zip(counters, (True, False), strict=True):
        counter.add(mask)
        counter.add(mask, joined)
    assert [counter.count for counter in counters] == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_the_diameter_is_the_greatest_of_all_pairs(seed: int) -> None:
    """Of one object; rows and columns have sides of their own."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((30, 40), np.uint8)
    for _ in range(4):
        top, left = rng.integers(5, 20, 2)
        mask[top : top + 9, left : left + rng.integers(2, 15)] = 1
    mask[0, 39] = 1  # another object
    big = mask.copy()
    big[0, 39] = 0
    parts = ObjectCounter()
    parts.add(big)
    if parts.count > 1:
        pytest.skip("drawn apart")
    points = np.argwhere(big) * (0.5, 2.0)
    expected = max(np.hypot(*(a - b)) for a in points for b in points)
    assert measure_diameter(mask, (0.5, 2.0)) == pytest.approx(expected)
    assert measure_diameter(np.zeros((3, 3)), (1, 1)) == 0
