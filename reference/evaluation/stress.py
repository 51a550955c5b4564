"""Does a net use shortcuts? Scores it on slices that are mirrored, rescaled, in another contrast, or without lesion.

A net that recognises the source of a tumour slice finds fewer tumours in the contrast of tumour-free slices, has more
false alarms on tumour-free slices in the contrast of tumour slices, or still marks a slice whose lesion was covered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from edge_runtime.images.read import read_image
from evidence.scores import Mask
from reference.data.altered_slices import SliceChange, cover_lesion, match_contrast, mirror, zoom
from reference.data.folders import Slice
from reference.data.lesion_shape import to_grey8

from .intervals import compare, summarize
from .predict import Predictor, Probability, flip_average, read_truth
from .slice_scores import Scores, SliceRow, score_slice

SEED = 20251121
OWN, OTHER = "contrast of its own source", "contrast of the other source"
CHANGES: Mapping[str, SliceChange] = {
    "mirrored": mirror,
    "rescaled by 0.75": lambda image, truth, other: zoom(image, truth, 0.75),
    "rescaled by 1.25": lambda image, truth, other: zoom(image, truth, 1.25),
    OWN: match_contrast,
    OTHER: match_contrast,
}


def check_changes(
    predict: Predictor, slices: Sequence[Slice], threshold: float, progress: Callable[[int], None] = lambda done: None
) -> list[dict[str, Any]]:
    """Return, for each change, {change, left_out, before, after, difference} on the slices that allow it.

    `before` scores the same slices unchanged. A source's contrast is that of a slice of another patient, drawn with a
    fixed seed. The slice's own source shows the effect of matching alone; the other source is left out where all slices
    are of one source.
    """
    partners = draw_partners(slices)
    before = {name: Scores() for name in CHANGES}
    after = {name: Scores() for name in CHANGES}
    for done, item in enumerate(slices, 1):
        image = to_grey8(read_image(item.image))
        truth = read_truth(item, image)
        others = {name: to_grey8(read_image(partner.image)) for name, partner in partners[item].items()}
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
    """Return for each slice one of the same source and one of the other, of other patients, drawn with a fixed seed."""
    rng = np.random.default_rng(SEED)
    partners: dict[Slice, dict[str, Slice]] = {}
    for item in slices:
        rank = rng.permutation(len(slices))
        candidates = [slices[k] for k in rank if slices[k].patient != item.patient]
        own = next((partner for partner in candidates if (partner.mask is None) == (item.mask is None)), None)
        other = next((partner for partner in candidates if (partner.mask is None) != (item.mask is None)), None)
        partners[item] = {name: partner for name, partner in ((OWN, own), (OTHER, other)) if partner is not None}
    return partners


def check_covered(
    predict: Predictor, slices: Sequence[Slice], threshold: float, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Return how many slices are marked before and after their lesion was covered by the mirrored other half.

    {slices, patients, left_out} and, each {value, interval, n}, shares of slices with any pixel found: `marked`
    before and after, `at_the_place` that was covered after, `beyond` it before and after, and `newly_beyond`, of the
    slices that were not marked there before.
    """
    keys = ("marked_before", "marked_after", "at_the_place", "beyond_before", "beyond_after")
    marks: dict[str, list[SliceRow]] = {key: [] for key in (*keys, "newly_beyond")}
    for done, item in enumerate(slices, 1):
        image = to_grey8(read_image(item.image))
        covered = cover_lesion(image, read_truth(item, image))
        if covered is not None:
            before, after = (to_mask(predict(pixels), threshold) for pixels in (image, covered[0]))
            region = covered[1]
            for key, mask in zip(keys, (before, after, after & region, before & ~region, after & ~region), strict=True):
                # With an empty truth every found pixel is a false alarm.
                marks[key].append(score_slice(mask, np.zeros_like(mask), item.kind, item.patient))
            if not marks["beyond_before"][-1].found:
                marks["newly_beyond"].append(marks["beyond_after"][-1])
        progress(done)
    rows = marks["marked_after"]
    counts = {"slices": len(rows), "patients": len({row.patient for row in rows}), "left_out": len(slices) - len(rows)}
    return {**counts, **{key: summarize(marked).get("false_alarms") for key, marked in marks.items()}}


def check_flip(
    predict: Predictor, slices: Sequence[Slice], threshold: float, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Return {scores, difference, time_ratio}: gain and cost of averaging with the mirror image.

    time_ratio: the median over slices of the averaged prediction's time divided by the plain one's, timed in turn.
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
            scores.add(to_mask(found, threshold), truth, item.kind, item.patient)
        progress(done)
    difference = compare(plain.rows, averaged.rows)
    return {"scores": summarize(averaged.rows), "difference": difference, "time_ratio": round(median(ratios), 3)}


def to_mask(probability: Probability, threshold: float) -> Mask:
    """Return the mask at a threshold."""
    return np.asarray(probability >= np.float32(threshold))
