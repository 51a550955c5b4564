"""HD95 against an oracle of plain loops, and by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from naive_masks import blob, naive_border, naive_hd95

from evidence.hausdorff import find_border, measure_hd95


def test_distances_are_those_of_the_oracle(rng: np.random.Generator) -> None:
    """HD95 of 25 pairs of blobs, and of 20 of ragged spots: the distances of all pairs of border pixels."""
    for _ in range(25):
        a, b = blob(rng), blob(rng)
        assert measure_hd95(a, b) == pytest.approx(naive_hd95(a, b), abs=1e-4)
    for _ in range(20):
        a, b = (cv2.GaussianBlur(rng.random((24, 30)), (0, 0), 2) > 0.52 for _ in range(2))
        a[3, 4] = b[20, 7] = True
        assert measure_hd95(a, b) == pytest.approx(naive_hd95(a, b), abs=1e-5)


def test_borders_are_those_of_the_oracle(rng: np.random.Generator) -> None:
    """Beyond the image's edge is outside."""
    for mask in [blob(rng) for _ in range(10)] + [np.ones((5, 7), np.bool_), np.zeros((4, 4), np.bool_)]:
        assert sorted(zip(*map(list, np.nonzero(find_border(mask))), strict=True)) == sorted(naive_border(mask))


def test_shifted_squares_are_as_far_apart_as_the_shift() -> None:
    """A square 4 pixels to the right: by hand."""
    a, b = np.zeros((30, 30), np.bool_), np.zeros((30, 30), np.bool_)
    a[10:20, 5:15] = b[10:20, 9:19] = True
    assert measure_hd95(a, b) == pytest.approx(4.0)
    assert measure_hd95(a, a) == 0.0
