"""One image's scores and those of many, held against naive oracles, on drawn masks and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from naive_masks import blob, naive_hd95, naive_iou

from benchmarks.measure.image_scores import score_image, summarize, summarize_difference


def test_scores_are_those_of_the_oracles(rng: np.random.Generator) -> None:
    """IoU, Dice, HD95 and lesion-area error of 25 pairs of blobs."""
    for _ in range(25):
        a, b = blob(rng), blob(rng)
        row, iou = score_image(a, b), naive_iou(a, b)
        assert row["lesion_iou"] == pytest.approx(iou, abs=1e-12)
        assert row["dice"] == pytest.approx(2 * iou / (1 + iou), abs=1e-12)
        assert row["hd95_px"] == pytest.approx(naive_hd95(a, b), abs=1e-4)
        assert row["lesion_area_error"] == pytest.approx(abs(a.sum() / b.sum() - 1))
        assert sum(row[name] for name in ("tp", "fp", "fn", "tn")) == a.size


@pytest.mark.parametrize("found", [True, False])
def test_what_is_not_defined_is_none(found: bool) -> None:
    """Without a true lesion there is no Dice, no area error and no distance, only whether it was a false alarm."""
    mask, none = np.zeros((8, 8), np.bool_), np.zeros((8, 8), np.bool_)
    mask[2:4, 2:4] = found
    row = score_image(mask, none)
    assert (row["dice"], row["hd95_px"], row["lesion_area_error"]) == (None, None, None)
    assert row["lesion_iou"] == (0.0 if found else None)
    assert row["alarm"] is found


def test_a_missed_lesion_scores_zero_and_has_no_distance() -> None:
    """Dice 0, area error 1, no border to measure from, and no false alarm."""
    truth = np.zeros((8, 8), np.bool_)
    truth[3, 3:6] = True
    row = score_image(np.zeros_like(truth), truth)
    assert (row["lesion_iou"], row["dice"], row["lesion_area_error"], row["hd95_px"], row["alarm"]) == (
        0,
        0,
        1,
        None,
        None,
    )


def test_pooled_scores_are_over_all_pixels(rng: np.random.Generator) -> None:
    """IoU and BinaryIoU of all images laid side by side are the pooled ones; Dice is the mean of the images'."""
    pairs = [(blob(rng), blob(rng)) for _ in range(7)]
    rows = [score_image(a, b) for a, b in pairs]
    one, two = (np.concatenate(masks, axis=1) for masks in zip(*pairs, strict=True))
    iou, background = naive_iou(one, two), naive_iou(~one, ~two)
    assert summarize(rows, "lesion_iou")["value"] == pytest.approx(iou, abs=1e-6)
    assert summarize(rows, "mean_iou")["value"] == pytest.approx((iou + background) / 2, abs=1e-6)
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
    assert summarize(rows[1:2], "lesion_iou")["value"] is None


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
    assert summarize_difference(good, good, "lesion_iou") == {"value": 0.0, "interval": [0.0, 0.0], "n": 30}
