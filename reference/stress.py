"""Slices changed so that a shortcut would show: mirrored, rescaled, in the other source's contrast, without the lesion.

A net that knows a tumour by its hospital finds fewer tumours in the contrast of the tumour-free slices, marks
tumour-free slices in the contrast of the tumours', or draws something where a tumour patient's lesion was taken away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.images import read_image
from edge_runtime.preprocess import resize_area

from .data import Slice
from .evaluate import Predictor, Probability, flip_average, read_truth
from .intervals import compare, summarize
from .metrics import Mask, Row, Scores, score_slice
from .shape import Grey, find_axis, find_head, reflect, to_grey8

SEED = 20251121
MARGIN = 0.04  # of the head's size: how far around a lesion the other half is laid over it
Change = Callable[[Grey, Mask, Grey | None], "tuple[Grey, Mask] | None"]


def mirror(image: Grey, truth: Mask, other: Grey | None) -> tuple[Grey, Mask]:
    """Return image and mask with left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(truth[:, ::-1])


def zoom(image: Grey, truth: Mask, factor: float) -> tuple[Grey, Mask] | None:
    """Return image and mask enlarged by `factor` about the centre of a frame that stays as it is.

    Below 1 air surrounds the smaller head. Above 1 the rim is cut off; None if more than a tenth of the lesion was.
    """
    height, width = image.shape
    sides = max(1, round(height * factor)), max(1, round(width * factor))
    pixels = fit(np.rint(resize_area(image.astype(np.float32), *sides)), height, width).astype(np.uint8)
    lesion = fit(resize_area(truth.astype(np.float32), *sides) >= 0.5, height, width)
    kept = np.count_nonzero(lesion) / factor**2
    return None if kept < 0.9 * np.count_nonzero(truth) else (pixels, lesion)


def fit(values: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Return (h, w) values cut or filled up with 0 to (height, width), the centre kept."""
    for axis, side in ((0, height), (1, width)):
        over = values.shape[axis] - side
        if over > 0:
            values = np.take(values, range(over // 2, over // 2 + side), axis)
        elif over < 0:
            before = -over // 2
            values = np.pad(values, [(before, -over - before) if k == axis else (0, 0) for k in (0, 1)])
    return values


def match_contrast(image: Grey, truth: Mask, other: Grey | None) -> tuple[Grey, Mask] | None:
    """Return the image with its head's brightnesses spread like those of the other image's head; None without a head.

    Air is left alone: how much of it a frame holds would otherwise move every grey value.
    Source: Gonzalez and Woods, Digital Image Processing, 3.3 (histogram matching).
    """
    ours, theirs = find_head(image), None if other is None else find_head(other)
    if ours is None or theirs is None or other is None:
        return None
    counts = np.bincount(image[ours.mask], minlength=256) / np.count_nonzero(ours.mask)
    goal = np.bincount(other[theirs.mask], minlength=256) / np.count_nonzero(theirs.mask)
    # A grey value goes where its middle rank lies in the other image.
    levels = np.interp(np.cumsum(counts) - counts / 2, np.cumsum(goal) - goal / 2, np.arange(256))
    matched = image.copy()
    matched[ours.mask] = np.rint(levels).astype(np.uint8)[image[ours.mask]]
    return matched, truth


OWN, OTHER = "contrast of its own source", "contrast of the other source"
CHANGES: Mapping[str, Change] = {
    "mirrored": mirror,
    "rescaled by 0.75": lambda image, truth, other: zoom(image, truth, 0.75),
    "rescaled by 1.25": lambda image, truth, other: zoom(image, truth, 1.25),
    OWN: match_contrast,
    OTHER: match_contrast,
}


def cover_lesion(image: Grey, lesion: Mask) -> tuple[Grey, Mask] | None:
    """Return the image with the lesion's place taken from the mirrored other half, and that place (H, W).

    The edge is blended. None where that cannot be done: no symmetric head (sagittal or tilted slices), or a lesion
    that comes nearer to the axis than the margin, so that its mirror image would show it again.
    """
    head = find_head(image)
    if head is None or not lesion.any():
        return None
    axis = find_axis(image, head, lesion)
    if axis is None:
        return None
    twice, margin = round(2 * axis), max(2, round(MARGIN * head.size))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    place = cv2.dilate(lesion.astype(np.uint8), disc) > 0
    if (place & reflect(place, twice)).any():
        return None
    share = cv2.GaussianBlur(place.astype(np.float32), (0, 0), margin / 3)
    share[lesion] = 1
    covered = image * (1 - share) + reflect(image, twice) * share
    return np.rint(covered).astype(np.uint8), place


def check_changes(
    predict: Predictor, slices: Sequence[Slice], threshold: float, progress: Callable[[int], None] = lambda done: None
) -> list[dict[str, Any]]:
    """Return, for each change, {change, left_out, before, after, difference} on the slices that allow it.

    `before` scores the same slices unchanged. A source's contrast is that of one of its slices, of another patient,
    drawn with a fixed seed. That of its own source tells what matching does by itself; that of the other one is left
    out where all slices are of one source.
    """
    partners = draw_partners(slices)
    before = {name: Scores() for name in CHANGES}
    after = {name: Scores() for name in CHANGES}
    for done, item in enumerate(slices, 1):
        image = to_grey8(read_image(item.image))
        truth = read_truth(item, image)
        others = {name: to_grey8(read_image(its.image)) for name, its in partners[item].items()}
        plain = predict(image) >= np.float32(threshold)
        for name, change in CHANGES.items():
            changed = change(image, truth, others.get(name))
            if changed is not None:
                found = predict(changed[0]) >= np.float32(threshold)
                before[name].add(plain, truth, item.kind, item.patient)
                after[name].add(found, changed[1], item.kind, item.patient)
        progress(done)
    return [
        {
            "change": name,
            "left_out": len(slices) - len(after[name].rows),
            "before": summarize(before[name].rows),
            "after": summarize(after[name].rows),
            "difference": compare(before[name].rows, after[name].rows),
        }
        for name in CHANGES
        if after[name].rows
    ]


def draw_partners(slices: Sequence[Slice]) -> dict[Slice, dict[str, Slice]]:
    """Return for each slice one of its own source and one of the other, of other patients, drawn with a fixed seed."""
    rng = np.random.default_rng(SEED)
    partners: dict[Slice, dict[str, Slice]] = {}
    for item in slices:
        rank = rng.permutation(len(slices))
        strangers = [slices[k] for k in rank if slices[k].patient != item.patient]
        own = next((its for its in strangers if (its.mask is None) == (item.mask is None)), None)
        other = next((its for its in strangers if (its.mask is None) != (item.mask is None)), None)
        partners[item] = {name: its for name, its in ((OWN, own), (OTHER, other)) if its is not None}
    return partners


def check_covered(
    predict: Predictor, slices: Sequence[Slice], threshold: float, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Return what is found in tumour patients' slices whose lesion was covered by the mirrored other half.

    {slices, patients, left_out} and, each {value, interval, n}, shares of slices with any pixel found: `marked`
    before and after, `at_the_place` that was covered after, `beyond` it before and after, and `newly_beyond`, of the
    slices that were not marked there before.
    """
    keys = ("marked_before", "marked_after", "at_the_place", "beyond_before", "beyond_after")
    marks: dict[str, list[Row]] = {key: [] for key in (*keys, "newly_beyond")}
    for done, item in enumerate(slices, 1):
        image = to_grey8(read_image(item.image))
        covered = cover_lesion(image, read_truth(item, image))
        if covered is not None:
            before, after = (keep(predict(pixels), threshold) for pixels in (image, covered[0]))
            place = covered[1]
            for key, mask in zip(keys, (before, after, after & place, before & ~place, after & ~place), strict=True):
                # Against an empty truth every found pixel is a false alarm.
                marks[key].append(score_slice(mask, np.zeros_like(mask), item.kind, item.patient))
            if not marks["beyond_before"][-1].false:
                marks["newly_beyond"].append(marks["beyond_after"][-1])
        progress(done)
    rows = marks["marked_after"]
    counts = {"slices": len(rows), "patients": len({row.patient for row in rows}), "left_out": len(slices) - len(rows)}
    return {**counts, **{key: summarize(its).get("false_alarms") for key, its in marks.items()}}


def check_flip(
    predict: Predictor, slices: Sequence[Slice], threshold: float, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Return {scores, difference, time_ratio}: what averaging with the mirror image gains, and how long it takes.

    time_ratio: the median over slices of the averaged prediction's time by the plain one's, taken next to each other.
    """
    twice = flip_average(predict)
    plain, averaged, ratios = Scores(distances=True), Scores(distances=True), []
    for done, item in enumerate(slices, 1):
        image = read_image(item.image)
        truth = read_truth(item, image)
        started = time.perf_counter()
        one = predict(image)
        between = time.perf_counter()
        two = twice(image)
        ratios.append((time.perf_counter() - between) / (between - started))
        for scores, found in ((plain, one), (averaged, two)):
            scores.add(keep(found, threshold), truth, item.kind, item.patient)
        progress(done)
    difference = compare(plain.rows, averaged.rows)
    return {"scores": summarize(averaged.rows), "difference": difference, "time_ratio": round(median(ratios), 3)}


def keep(probability: Probability, threshold: float) -> Mask:
    """Return the mask at a threshold."""
    return np.asarray(probability >= np.float32(threshold))
