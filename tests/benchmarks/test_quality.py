"""Scores held against naive oracles that share no code with them, on drawn masks and at the edges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.quality import (
    find_border,
    measure_hd95,
    score_image,
    summarize,
    summarize_difference,
)

Mask = npt.NDArray[np.bool_]


def blob(rng: np.random.Generator, height: int = 40, width: int = 52) -> Mask:
    """An ellipse somewhere, now and then cut by the image's edge."""
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(0, height), rng.uniform(0, width)
    return ((y - cy) / rng.uniform(3, 12)) ** 2 + ((x - cx) / rng.uniform(3, 12)) ** 2 < 1


def naive_iou(a: Mask, b: Mask) -> float:
    """Pixel by pixel, with sets."""
    one = {(y, x) for y, x in zip(*np.nonzero(a), strict=True)}
    two = {(y, x) for y, x in zip(*np.nonzero(b), strict=True)}
    return len(one & two) / len(one | two)


def naive_border(mask: Mask) -> list[tuple[int, int]]:
    """Pixels of the mask with one of four neighbours outside it or the image."""
    height, width = mask.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if mask[y, x]
        and any(
            not (0 <= y + dy < height and 0 <= x + dx < width and mask[y + dy, x + dx])
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
    ]


def naive_hd95(a: Mask, b: Mask) -> float:
    """All distances between all border pixels."""
    one, two = naive_border(a), naive_border(b)

    def directed(these: list[tuple[int, int]], those: list[tuple[int, int]]) -> float:
        apart = sorted(min(math.dist(p, q) for q in those) for p in these)
        place = 0.95 * (len(apart) - 1)
        low = math.floor(place)
        high = min(low + 1, len(apart) - 1)
        return apart[low] + (apart[high] - apart[low]) * (place - low)

    return max(directed(one, two), directed(two, one))


def test_scores_are_those_of_the_oracles(rng: np.random.Generator) -> None:
    """IoU, Dice, HD95 and lesion-area error of 25 pairs of blobs."""
    for _ in range(25):
        a, b = blob(rng), blob(rng)
        row, iou = score_image(a, b), naive_iou(a, b)
        assert row["iou"] == pytest.approx(iou, abs=1e-12)
        assert row["dice"] == pytest.approx(2 * iou / (1 + iou), abs=1e-12)
        assert row["hd95_px"] == pytest.approx(naive_hd95(a, b), abs=1e-4)
        assert row["lesion_area_error"] == pytest.approx(abs(a.sum() / b.sum() - 1))
        assert sum(row[name] for name in ("hit", "false", "missed", "rest")) == a.size


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


@pytest.mark.parametrize("found", [True, False])
def test_what_is_not_defined_is_none(found: bool) -> None:
    """Without a true lesion there is no Dice, no area error and no distance, only whether it was a false alarm."""
    mask, none = np.zeros((8, 8), np.bool_), np.zeros((8, 8), np.bool_)
    mask[2:4, 2:4] = found
    row = score_image(mask, none)
    assert (row["dice"], row["hd95_px"], row["lesion_area_error"]) == (None, None, None)
    assert row["iou"] == (0.0 if found else None)
    assert row["alarm"] is found


def test_a_missed_lesion_scores_zero_and_has_no_distance() -> None:
    """Dice 0, area error 1, no border to measure from, and no false alarm."""
    truth = np.zeros((8, 8), np.bool_)
    truth[3, 3:6] = True
    row = score_image(np.zeros_like(truth), truth)
    assert (row["iou"], row["dice"], row["lesion_area_error"], row["hd95_px"], row["alarm"]) == (0, 0, 1, None, None)


def test_pooled_scores_are_over_all_pixels(rng: np.random.Generator) -> None:
    """IoU and BinaryIoU of all images laid side by side are the pooled ones; Dice is the mean of the images'."""
    pairs = [(blob(rng), blob(rng)) for _ in range(7)]
    rows = [score_image(a, b) for a, b in pairs]
    one, two = (np.concatenate(masks, axis=1) for masks in zip(*pairs, strict=True))
    iou, background = naive_iou(one, two), naive_iou(~one, ~two)
    assert summarize(rows, "iou")["value"] == pytest.approx(iou, abs=1e-6)
    assert summarize(rows, "binary_iou")["value"] == pytest.approx((iou + background) / 2, abs=1e-6)
    assert summarize(rows, "dice")["value"] == pytest.approx(np.mean([row["dice"] for row in rows]), abs=1e-6)


def test_an_interval_is_what_drawing_images_again_gives(rng: np.random.Generator) -> None:
    """An oracle with its own generator and a plain loop lands within a hundredth; the seed makes it repeatable."""
    cores = [blob(rng) for _ in range(40)]
    rows = [score_image(blob(rng) | core, core) for core in cores]
    found = summarize(rows, "dice")
    dice = np.array([row["dice"] for row in rows])
    own = np.random.default_rng(99)
    low, high = np.percentile([own.choice(dice, 40).mean() for _ in range(4000)], [2.5, 97.5])
    assert found["interval"] == pytest.approx([low, high], abs=0.01)
    assert found["interval"][0] < found["value"] < found["interval"][1]
    assert summarize(rows, "dice") == found


def test_images_without_a_value_do_not_count(rng: np.random.Generator) -> None:
    """n says how many images a mean stands on; of none of them it is null."""
    none, mask = np.zeros((40, 52), np.bool_), blob(rng)
    rows = [score_image(found, truth) for found, truth in [(blob(rng), none), (none, none), (mask, mask)]]
    assert (summarize(rows, "dice")["value"], summarize(rows, "dice")["n"]) == (1.0, 1)
    assert (summarize(rows, "false_alarms")["value"], summarize(rows, "false_alarms")["n"]) == (0.5, 2)
    nothing = summarize(rows[1:2], "dice")
    assert nothing == {"value": None, "interval": [None, None], "n": 0}
    assert summarize(rows[1:2], "iou")["value"] is None


def test_a_difference_pairs_the_images(rng: np.random.Generator) -> None:
    """Two models that differ by one pixel everywhere differ beyond doubt, however different the images are."""
    truths = [blob(rng) for _ in range(30)]
    good = [score_image(truth, truth) for truth in truths]
    worse = []
    for truth in truths:
        mask = truth.copy()
        mask[tuple(np.argwhere(truth)[0])] = False
        worse.append(score_image(mask, truth))
    difference = summarize_difference(worse, good, "dice")
    assert difference["interval"][1] < 0 and difference["value"] < 0
    assert summarize_difference(good, good, "iou") == {"value": 0.0, "interval": [0.0, 0.0], "n": 30}
