"""Scores against an oracle of plain loops, and intervals that say what they should."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from evidence.bootstrap import draw_weights
from evidence.scores import count_confusion, count_pixels, find_drops, find_intervals, find_mean_iou, find_scores

Pair = tuple[Any, Any]  # true and answered labels (H, W)


def draw_pairs(rng: np.random.Generator, count: int, labels: int, flips: float = 0.2) -> list[Pair]:
    """Truths with few lesion pixels, some with none, and answers with a share of their pixels drawn anew."""
    pairs = []
    for i in range(count):
        shape = (int(rng.integers(4, 9)), int(rng.integers(4, 9)))
        truth = rng.integers(0, labels, shape) * (rng.random(shape) < 0.4) * (i % 4 != 3)
        answer = np.where(rng.random(shape) < flips, rng.integers(0, labels, shape), truth)
        pairs.append((truth.astype(np.uint8), answer.astype(np.uint8)))
    return pairs


def to_counts(pairs: Sequence[Pair], labels: int) -> Any:
    return np.stack([count_pixels(truth, answer, labels) for truth, answer in pairs])


def score_by_hand(pairs: Sequence[Pair], names: Sequence[str]) -> dict[str, float]:
    """All scores, one pixel at a time."""
    shared, real, found = ([0] * len(names) for _ in range(3))
    dice: list[float] = []
    errors: list[float] = []
    alarms: list[float] = []
    for truth, answer in pairs:
        own = [[0, 0, 0] for _ in names]
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                t, a = int(truth[y, x]), int(answer[y, x])
                own[t][1] += 1
                own[a][2] += 1
                own[t][0] += t == a
        for k, (s, r, f) in enumerate(own):
            shared[k], real[k], found[k] = shared[k] + s, real[k] + r, found[k] + f
        there = [2 * s / (r + f) for s, r, f in own[1:] if r]
        lesion, answered = sum(r for _, r, _ in own[1:]), sum(f for _, _, f in own[1:])
        if there:
            dice.append(sum(there) / len(there))
            errors.append(abs(answered - lesion) / lesion)
        else:
            alarms.append(float(answered > 0))
    iou = [s / (r + f - s) if r else math.nan for s, r, f in zip(shared, real, found, strict=True)]
    known = [value for value, r in zip(iou, real, strict=True) if r]
    named = {f"iou_{name}": value for name, value in zip(names, iou, strict=True)}
    lists = {"dice": dice, "area_error": errors, "false_alarms": alarms}
    means = {name: sum(values) / len(values) if values else math.nan for name, values in lists.items()}
    return {"mean_iou": sum(known) / len(known) if len(known) > 1 else math.nan, **named, **means}


@pytest.mark.parametrize("names", [("background", "lesion"), ("background", "edema", "core", "cyst")])
def test_scores_agree_with_plain_loops(rng: np.random.Generator, names: Sequence[str]) -> None:
    """Every score equals the oracle's to 1e-6, on random masks of odd sizes, for two labels and for four."""
    for _ in range(5):
        pairs = draw_pairs(rng, 12, len(names))
        found = find_scores(to_counts(pairs, len(names)), names)
        expected = score_by_hand(pairs, names)
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_two_labels_are_keras_binary_iou(rng: np.random.Generator) -> None:
    """With two labels, mean IoU is Keras' own BinaryIoU over all images."""
    import keras

    pairs = draw_pairs(rng, 9, 2)
    metric = keras.metrics.BinaryIoU(target_class_ids=[0, 1])
    for truth, answer in pairs:
        metric.update_state(truth.astype(np.float32), answer.astype(np.float32))
    found = find_scores(to_counts(pairs, 2), ("background", "lesion"))["mean_iou"]
    assert found == pytest.approx(float(metric.result()), abs=1e-6)


def test_a_label_that_never_occurs_has_no_score(rng: np.random.Generator) -> None:
    """A label without true pixels is NaN and left out of the mean; with the background alone there is no mean."""
    pairs = [(truth % 2, answer) for truth, answer in draw_pairs(rng, 8, 3)]
    found = find_scores(to_counts(pairs, 3), ("background", "a", "b"))
    assert math.isnan(found["iou_b"][0])
    assert found["mean_iou"] == pytest.approx((found["iou_background"] + found["iou_a"]) / 2)
    empty = [(np.zeros_like(truth), answer % 2) for truth, answer in pairs]
    found = find_scores(to_counts(empty, 2), ("background", "lesion"))
    assert math.isnan(found["mean_iou"][0])
    assert math.isnan(found["dice"][0])
    assert found["false_alarms"][0] == np.mean([answer.any() for _, answer in empty])


def test_no_answer_is_no_score(rng: np.random.Generator) -> None:
    """One image without an answer makes every pooled score, its drop and its interval NaN: nothing is laundered."""
    pairs = draw_pairs(rng, 12, 2)
    good = to_counts(pairs, 2)
    bad = good.copy()
    bad[0] = count_pixels(pairs[0][0], None, 2)
    names = ("background", "lesion")
    found, drops, intervals = find_scores(bad, names), find_drops(good, bad, names), find_intervals(good, bad, names)
    for name in ("mean_iou", "iou_lesion", "dice", "area_error"):
        assert math.isnan(found[name][0]), name
        assert math.isnan(drops[name][0]), name
        assert math.isnan(intervals[name][0]), name


def test_weights_are_repetitions(rng: np.random.Generator) -> None:
    """A resample's scores are those of its images, each as often as it was drawn."""
    pairs, names = draw_pairs(rng, 12, 2), ("background", "lesion")
    weights = next(draw_weights(len(pairs)))[:5]
    found = find_scores(to_counts(pairs, 2), names, weights)
    for row, draws in enumerate(weights):
        repeated = [pair for pair, times in zip(pairs, draws, strict=True) for _ in range(int(times))]
        for name, value in score_by_hand(repeated, names).items():
            assert found[name][row] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_drops_are_positive_where_it_got_worse(rng: np.random.Generator) -> None:
    """Scores fall and errors rise when answers get worse: both are positive drops, with intervals above 0."""
    truths = [truth for truth, _ in draw_pairs(rng, 60, 2)]
    keras = to_counts([(truth, truth) for truth in truths], 2)
    worse = to_counts([(truth, truth | (rng.random(truth.shape) < 0.1)) for truth in truths], 2)
    names = ("background", "lesion")
    drops, intervals = find_drops(keras, worse, names), find_intervals(keras, worse, names)
    for name, drop in drops.items():
        assert drop[0] > 0, name
        assert 0 < intervals[name][0] <= drop[0] <= intervals[name][1], name


def test_intervals_are_repeatable_and_nothing_is_nothing(rng: np.random.Generator) -> None:
    """The same counts give the same interval; a model against itself gives exactly 0 to 0."""
    keras, other = to_counts(draw_pairs(rng, 20, 2), 2), to_counts(draw_pairs(rng, 20, 2), 2)
    names = ("background", "lesion")
    assert find_intervals(keras, other, names) == find_intervals(keras, other, names)
    assert find_intervals(keras, keras, names)["mean_iou"] == (0.0, 0.0)


def test_intervals_are_those_of_a_loop_over_draws(rng: np.random.Generator) -> None:
    """Each of 2000 draws scored pixel by pixel, both models on the same images; percentiles of what is defined."""
    truths = [truth for truth, _ in draw_pairs(rng, 6, 2)]
    sides = [[(truth, truth | (rng.random(truth.shape) < share)) for truth in truths] for share in (0.1, 0.3)]
    names = ("background", "lesion")
    found = find_intervals(to_counts(sides[0], 2), to_counts(sides[1], 2), names)
    drops: dict[str, list[float]] = {name: [] for name in found}
    for draw in np.random.default_rng(20250607).integers(0, 6, (2000, 6)).tolist():
        before, after = (score_by_hand([side[index] for index in draw], names) for side in sides)
        for name in drops:
            drops[name].append((before[name] - after[name]) * (-1 if name in ("area_error", "false_alarms") else 1))
    for name, values in drops.items():
        defined = [value for value in values if not math.isnan(value)]
        known = len(defined) >= 0.95 * len(values)
        expected = np.percentile(defined, (2.5, 97.5)) if known else (math.nan, math.nan)
        assert found[name] == pytest.approx(tuple(expected), abs=1e-9, nan_ok=True), name
    assert math.isnan(found["false_alarms"][0]) and not math.isnan(found["mean_iou"][0])


def test_a_masks_pixels_are_counted_against_the_truth(rng: np.random.Generator) -> None:
    """The four counts are those of sets of pixels; a score without a lesion to take it from is None."""
    for share in (0.0, 0.1, 0.5, 1.0):
        for other in (0.0, 0.3, 1.0):
            found, truth = rng.random((9, 7)) < share, rng.random((9, 7)) < other
            a, b = (set(zip(*map(list, np.nonzero(mask)), strict=True)) for mask in (found, truth))
            pixels = count_confusion(found, truth)
            expected = (len(a & b), len(a - b), len(b - a), 63 - len(a | b))
            assert (pixels.tp, pixels.fp, pixels.fn, pixels.tn) == expected
            assert (pixels.found, pixels.real) == (len(a), len(b))
            assert pixels.iou == (len(a & b) / len(a | b) if a | b else None)
            assert pixels.dice == (2 * len(a & b) / (len(a) + len(b)) if b else None)
            assert pixels.area_error == (abs(len(a) - len(b)) / len(b) if b else None)
            background = (63 - len(a | b)) / (63 - len(a & b)) if len(a & b) < 63 else math.nan
            lesion = math.nan if pixels.iou is None else pixels.iou
            mean = float(find_mean_iou(pixels.tp, pixels.fp, pixels.fn, pixels.tn))
            assert mean == pytest.approx((lesion + background) / 2, nan_ok=True)


def test_an_interval_holds_the_true_drop_about_as_often_as_it_says(rng: np.random.Generator) -> None:
    """Of many small samples of one population, the 95 % interval of most holds the population's drop."""
    names, population = ("background", "lesion"), 400
    truths = [truth for truth, _ in draw_pairs(rng, population, 2)]
    flips = rng.uniform(0, 0.3, population)
    keras, worse = (
        to_counts(
            [(t, np.where(rng.random(t.shape) < f * extra, 1 - t, t)) for t, f in zip(truths, flips, strict=True)], 2
        )
        for extra in (1.0, 1.3)
    )
    true = find_drops(keras, worse, names)["mean_iou"][0]
    held = 0
    for _ in range(60):
        places = rng.integers(0, population, 40)
        low, high = find_intervals(keras[places], worse[places], names)["mean_iou"]
        held += low <= true <= high
    assert 50 <= held <= 60
