"""Do found lesions lie where lesions of their class lie, and look alike? Medians by class, found against true.

The paper's section III.C states that its nets' masks agree with what is known of each class. Here each such statement
is a comparison of medians with a 95 % interval by patient, for the true masks and for the found ones. Its verdict
follows from the figures by rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evidence.scores import Mask
from reference.data.lesion_shape import Grey, Shape, find_axis, find_head, measure_shape

from .intervals import SEED, bound, describe_median, median_draws, tidy

SIDES = (("truth", "true"), ("found", "found"))  # of a pair, and the key in the facts
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
class ShapePair:
    """The shapes of one slice's true and found lesion; None for a lesion not found, or a slice without a head."""

    name: str
    patient: str
    kind: str
    truth: Shape | None
    found: Shape | None


@dataclass(frozen=True)
class Claim:
    """`kind` has more (or less) of a measure than `other`, by section III.C and by reviews of the field."""

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


def pair_shapes(name: str, patient: str, kind: str, image: Grey, truth: Mask, found: Mask) -> ShapePair:
    """Return the shapes of a slice's true and found lesion."""
    head = find_head(image)
    if head is None:
        return ShapePair(name, patient, kind, None, None)
    axis = find_axis(image, head, truth)
    return ShapePair(name, patient, kind, *(measure_shape(mask, image, head, axis) for mask in (truth, found)))


def compare_classes(pairs: Sequence[ShapePair]) -> dict[str, Any]:
    """Return {classes: {class: {slices, patients, true, found, error, several}}, claims} of slices with a lesion.

    true and found: {measure: {value, interval, n}}, the medians; error: the median distance of the found centroid from
    the true one, of the head's box; several: shares of lesions in more than one component.
    """
    pairs = [pair for pair in pairs if pair.truth is not None]
    centroids = find_median_centroids(pairs)
    classes = {}
    for kind in sorted(centroids):
        group = [pair for pair in pairs if pair.kind == kind]
        patients = [pair.patient for pair in group]
        classes[kind] = {
            "slices": len(group),
            "patients": len(set(patients)),
            **{
                key: {name: describe_median(get_values(group, side, name, centroids), patients) for name in MEASURES}
                for side, key in SIDES
            },
            "error": describe_median([measure_error(pair) for pair in group], patients),
            "several": {side: count_several(group, side) for side in ("truth", "found")},
        }
    claims = [check_claim(claim, pairs, centroids) for claim in CLAIMS if {claim.kind, claim.other} <= set(centroids)]
    return {"classes": classes, "claims": claims}


def count_several(pairs: Sequence[ShapePair], side: str) -> float | None:
    """Return the share of true or found lesions in more than one component, None of none."""
    counts = [shape.components > 1 for shape in (getattr(pair, side) for pair in pairs) if shape is not None]
    return tidy(sum(counts) / len(counts)) if counts else None


def find_median_centroids(pairs: Sequence[ShapePair]) -> dict[str, tuple[float, float]]:
    """Return {class: median centroid of the true lesions}."""
    positions: dict[str, list[tuple[float, float]]] = {}
    for pair in pairs:
        if pair.truth is not None:
            positions.setdefault(pair.kind, []).append((pair.truth.x, pair.truth.y))
    return {kind: tuple(np.median(points, axis=0).tolist()) for kind, points in positions.items()}


def get_values(
    pairs: Sequence[ShapePair], side: str, measure: str, centroids: dict[str, tuple[float, float]]
) -> list[float | None]:
    """Return a measure of each pair's true or found lesion ("truth", "found"), None where there is none."""
    shapes: list[Shape | None] = [getattr(pair, side) for pair in pairs]
    if measure == "spread":
        middles = [centroids[pair.kind] for pair in pairs]
        both = zip(shapes, middles, strict=True)
        return [None if s is None else float(np.hypot(s.x - x, s.y - y)) for s, (x, y) in both]
    return [None if shape is None else getattr(shape, measure) for shape in shapes]


def measure_error(pair: ShapePair) -> float | None:
    """Return how far the found centroid lies from the true one, in the head's box; None if no lesion was found."""
    if pair.truth is None or pair.found is None:
        return None
    return float(np.hypot(pair.truth.x - pair.found.x, pair.truth.y - pair.found.y))


def check_claim(claim: Claim, pairs: Sequence[ShapePair], centroids: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Return {claim, measure, true, found}, the last two {medians, difference, interval, verdict}.

    "holds" or "the reverse holds" where the whole interval of the medians' difference lies on that side of 0, else
    "not shown"; the two classes' patients are drawn independently.
    """
    checked: dict[str, Any] = {"claim": claim.text, "measure": claim.measure}
    for side, key in SIDES:
        medians, drawn = [], []
        for number, kind in enumerate((claim.kind, claim.other)):
            group = [pair for pair in pairs if pair.kind == kind]
            values = get_values(group, side, claim.measure, centroids)
            defined = [(v, pair.patient) for v, pair in zip(values, group, strict=True) if v is not None]
            if len({patient for _, patient in defined}) < 2:
                break
            numbers = np.array([value for value, _ in defined])
            medians.append(float(np.median(numbers)))
            drawn.append(median_draws(numbers, [patient for _, patient in defined], SEED + number))
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


def format_claim(checked: dict[str, Any]) -> str:
    """Return a checked claim as a sentence."""
    parts = []
    for name, key in SIDES:
        side = checked[key]
        if side["medians"] is None:
            parts.append(f"{name}: too few patients")
            continue
        one, other = side["medians"]
        low, high = side["interval"]
        parts.append(f"{name} {one:.3g} against {other:.3g}, difference {low:+.3f} to {high:+.3f}: {side['verdict']}")
    return f"{checked['claim'].capitalize()} ({checked['measure']}): " + "; ".join(parts) + "."


def format_agreement(claims: Sequence[dict[str, Any]]) -> str:
    """Return how often found and true lesions have the same verdict, and where they differ, as sentences."""
    differing = [claim for claim in claims if claim["true"]["verdict"] != claim["found"]["verdict"]]
    agreeing = len(claims) - len(differing)
    text = f"The found lesions say the same as the true ones in {agreeing} of {len(claims)} comparisons."
    for claim in differing:
        true, found = claim["true"]["verdict"], claim["found"]["verdict"]
        text += f" That {claim['claim']}: {true} for the truth, {found} for the found."
    return text
