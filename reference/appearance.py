"""Whether found lesions lie where, and look as, their class does: medians by class, found against true, and in words.

The paper's section III.C says of what its nets drew that it agrees with what is known of each class. Here each such
sentence is a comparison of medians with a 95 % interval by patient, made of the true masks and of the found ones; what
is said follows from the figures by rules, and a sentence that does not hold is said not to hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .intervals import SEED, bound, describe_median, median_draws, tidy
from .metrics import Mask
from .shape import Grey, Shape, find_axis, find_head, measure_shape

MEASURES = {
    "x": "centroid from the left, of the head's width",
    "y": "centroid from the top, of the head's height",
    "spread": "centroid from the middle of its class's true ones, of the head's box",
    "edge": "nearest pixel from the head's outline, of the head's size",
    "midline": "centroid from the axis of symmetry, of the head's size (axial and coronal slices that are symmetric)",
    "area": "area, of the head's",
    "roundness": "roundness, 4πA/P² of the largest component",
    "solidity": "solidity, the largest component's share of its convex hull",
    "contrast": "brightness above the surroundings', in the head's deviations",
}


@dataclass(frozen=True)
class Pair:
    """One slice's lesion as it is and as it was found; None where none was, or the slice has no head."""

    name: str
    patient: str
    kind: str
    truth: Shape | None
    found: Shape | None


@dataclass(frozen=True)
class Claim:
    """`kind` has more (or less) of a measure than `other`, as section III.C and the field's reviews have it."""

    text: str
    kind: str
    measure: str
    more: bool
    other: str


CLAIMS = (
    Claim("meningiomas are rounder than gliomas", "meningioma", "roundness", True, "glioma"),
    Claim("gliomas' outlines are more ragged than meningiomas'", "glioma", "solidity", False, "meningioma"),
    Claim("meningiomas lie nearer to the head's outline than gliomas", "meningioma", "edge", False, "glioma"),
    Claim("meningiomas are brighter against their surroundings than gliomas", "meningioma", "contrast", True, "glioma"),
    Claim("pituitary tumours lie deeper than meningiomas", "pituitary", "edge", True, "meningioma"),
    Claim("pituitary tumours lie nearer to the midline than gliomas", "pituitary", "midline", False, "glioma"),
    Claim("pituitary tumours lie in one place, gliomas spread", "pituitary", "spread", False, "glioma"),
    Claim("pituitary tumours are smaller than gliomas", "pituitary", "area", False, "glioma"),
)


def pair_shapes(name: str, patient: str, kind: str, image: Grey, truth: Mask, found: Mask) -> Pair:
    """Return the shapes of a slice's true and found lesion."""
    head = find_head(image)
    if head is None:
        return Pair(name, patient, kind, None, None)
    axis = find_axis(image, head, truth)
    return Pair(name, patient, kind, *(measure_shape(mask, image, head, axis) for mask in (truth, found)))


def compare_classes(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return {classes: {class: {slices, patients, true, found, error, several}}, claims} of slices with a lesion.

    true and found: {measure: {value, interval, n}}, the medians; error: the median distance of the found centroid from
    the true one, of the head's box; several: shares of lesions in more than one component.
    """
    pairs = [pair for pair in pairs if pair.truth is not None]
    middles = find_middles(pairs)
    classes = {}
    for kind in sorted(middles):
        its = [pair for pair in pairs if pair.kind == kind]
        patients = [pair.patient for pair in its]
        both = [measure_error(pair) for pair in its]
        classes[kind] = {
            "slices": len(its),
            "patients": len(set(patients)),
            "true": {name: describe_median(read(its, "truth", name, middles), patients) for name in MEASURES},
            "found": {name: describe_median(read(its, "found", name, middles), patients) for name in MEASURES},
            "error": describe_median(both, patients),
            "several": {side: count_several(its, side) for side in ("truth", "found")},
        }
    claims = [check_claim(claim, pairs, middles) for claim in CLAIMS if {claim.kind, claim.other} <= set(middles)]
    return {"classes": classes, "claims": claims}


def count_several(pairs: Sequence[Pair], side: str) -> float | None:
    """Return the share of true or found lesions in more than one component, None of none."""
    counts = [shape.components > 1 for shape in (getattr(pair, side) for pair in pairs) if shape is not None]
    return tidy(sum(counts) / len(counts)) if counts else None


def find_middles(pairs: Sequence[Pair]) -> dict[str, tuple[float, float]]:
    """Return {class: median centroid of its true lesions}."""
    places: dict[str, list[tuple[float, float]]] = {}
    for pair in pairs:
        if pair.truth is not None:
            places.setdefault(pair.kind, []).append((pair.truth.x, pair.truth.y))
    return {kind: tuple(np.median(its, axis=0).tolist()) for kind, its in places.items()}


def read(pairs: Sequence[Pair], side: str, measure: str, middles: dict[str, tuple[float, float]]) -> list[float | None]:
    """Return a measure of each pair's true or found lesion ("truth", "found"), None where there is none."""
    shapes: list[Shape | None] = [getattr(pair, side) for pair in pairs]
    if measure == "spread":
        ends = [middles[pair.kind] for pair in pairs]
        pairs_of = zip(shapes, ends, strict=True)
        return [None if s is None else float(np.hypot(s.x - x, s.y - y)) for s, (x, y) in pairs_of]
    return [None if shape is None else getattr(shape, measure) for shape in shapes]


def measure_error(pair: Pair) -> float | None:
    """Return how far the found centroid lies from the true one, in the head's box; None where nothing was found."""
    if pair.truth is None or pair.found is None:
        return None
    return float(np.hypot(pair.truth.x - pair.found.x, pair.truth.y - pair.found.y))


def check_claim(claim: Claim, pairs: Sequence[Pair], middles: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Return {claim, measure, true, found}, the last two {medians, difference, interval, verdict}.

    "holds" or "the reverse holds" where the whole interval of the medians' difference lies on that side of 0, else
    "not shown"; the two classes' patients are drawn independently.
    """
    checked: dict[str, Any] = {"claim": claim.text, "measure": claim.measure}
    for side, key in (("truth", "true"), ("found", "found")):
        medians, drawn = [], []
        for number, kind in enumerate((claim.kind, claim.other)):
            its = [pair for pair in pairs if pair.kind == kind]
            values = read(its, side, claim.measure, middles)
            there = [(v, pair.patient) for v, pair in zip(values, its, strict=True) if v is not None]
            if len({patient for _, patient in there}) < 2:
                break
            numbers = np.array([value for value, _ in there])
            medians.append(float(np.median(numbers)))
            drawn.append(median_draws(numbers, [patient for _, patient in there], SEED + number))
        if len(medians) < 2:
            checked[key] = {"medians": None, "difference": None, "interval": None, "verdict": "too few"}
            continue
        interval = bound(drawn[0] - drawn[1])
        assert interval is not None
        low, high = interval if claim.more else (-interval[1], -interval[0])
        verdict = "holds" if low > 0 else "the reverse holds" if high < 0 else "not shown"
        checked[key] = {
            "medians": [tidy(value) for value in medians],
            "difference": tidy(medians[0] - medians[1]),
            "interval": interval,
            "verdict": verdict,
        }
    return checked


def say_claim(checked: dict[str, Any]) -> str:
    """Return a checked claim as a sentence."""
    parts = []
    for key, name in (("true", "truth"), ("found", "found")):
        its = checked[key]
        if its["medians"] is None:
            parts.append(f"{name}: too few patients")
            continue
        one, other = its["medians"]
        low, high = its["interval"]
        parts.append(f"{name} {one:.3g} against {other:.3g}, difference {low:+.3f} to {high:+.3f}: {its['verdict']}")
    return f"{checked['claim'].capitalize()} ({checked['measure']}): " + "; ".join(parts) + "."


def say_agreement(claims: Sequence[dict[str, Any]]) -> str:
    """Return in one sentence how often the found lesions say the same as the true ones."""
    same = [its for its in claims if its["true"]["verdict"] == its["found"]["verdict"]]
    text = f"The found lesions say the same as the true ones in {len(same)} of {len(claims)} comparisons."
    apart = [its for its in claims if its["true"]["verdict"] != its["found"]["verdict"]]
    for its in apart:
        text += (
            f" That {its['claim']}: {its['true']['verdict']} for the truth, {its['found']['verdict']} for the found."
        )
    return text
