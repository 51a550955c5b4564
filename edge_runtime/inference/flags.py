"""Which inputs are not like the images that the model was made for, and which results are implausible?

Features of a copy of at most SIDE x SIDE pixels, with white as 1, are compared with the contract's `triage`:

    side        square root of height x width, in pixels
    aspect      longer side / shorter side
    mean        of all pixels
    contrast    their standard deviation
    border      mean of the frame that is a sixteenth of the shorter side wide, as a share of the brightest pixel: near
                0 around a head, near 1 on paper
    dark        share of pixels below a tenth of the brightest
    edges       mean step between neighbours / (contrast + 0.001): high in text and noise, whatever the contrast
    symmetry    correlation of the image, shrunk to 16 x 16, with its own mirror image, left for right: -1 to 1
    colour      mean distance of the highest from the lowest channel: 0 for grey

Flags of an input:

    blank       contrast below the contract's `blank`; no other flag of an input is raised then
    inverted    border, dark, edges, symmetry or colour out of its range, but all of them in range for the negative
    foreign     the same, the negative out of range too: a photograph, a page of text, a screenshot
    intensity   mean or contrast out of its range, where none of the above is raised
    saturated   a greater share of pixels above 0.98 than `saturated`
    size        side or aspect out of its range

Flags of a result:

    empty       no lesion pixel; `border`: a lesion touches the image's border. These two need no limit, and are raised
                by any contract; all others only by one that has a `triage`
    large       a greater share of the image than `largest`
    fragments   more parts than `fragments`
    margin      the highest probability is nearer to the threshold than `margin`: a small change of it would change
                whether there is a lesion. Where the largest class decides: half a lesion's lead over the background is
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.contract.fields import Contract, FlagLimits
from edge_runtime.images.arrays import Image, full_scale

from .postprocess import Measurements
from .preprocess import LUMA

SIDE, THUMB = 128, 16
DARK, WHITE = 0.1, 0.98
CONTENT_FEATURES = ("border", "dark", "edges", "symmetry", "colour")
INVERTED_FEATURES = ("border", "dark")  # those of them that differ in the negative
Features = Mapping[str, float]


def raise_flags(image: Image, found: Measurements, contract: Contract, threshold: float) -> tuple[str, ...]:
    """Return the flags of an image and of the mask found in it."""
    limits = contract.triage
    if limits is None:
        return found.flags
    return (*flag_input(find_features(image), limits), *found.flags, *flag_result(found, limits, threshold))


def find_features(image: Image) -> dict[str, float]:
    """Return the features above of (H, W) or (H, W, 3) uint8 or uint16, and some more.

    `white` is the share of pixels above 0.98, `border_turned` and `dark_turned` are the negative's.
    """
    height, width = image.shape[:2]
    small = shrink(image) * np.float32(1 / full_scale(image))  # (h, w) or (h, w, 3), at most 128 x 128
    grey, colour = (small, 0.0) if small.ndim == 2 else split_colour(small)
    rim = max(1, min(grey.shape) // 16)
    inside = grey[rim:-rim, rim:-rim]
    contrast, frame = float(grey.std()), float((grey.sum() - inside.sum()) / (grey.size - inside.size))
    top, bottom = max(float(grey.max()), 1e-6), min(float(grey.min()), 1 - 1e-6)
    steps = (np.abs(np.diff(grey, axis=axis)).sum() / max(1, grey.size) for axis in (0, 1))
    thumb = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    thumb = thumb - thumb.mean()
    return {
        "side": float(height * width) ** 0.5,
        "aspect": max(height, width) / min(height, width),
        "mean": float(grey.mean()),
        "contrast": contrast,
        "border": frame / top,
        "dark": float((grey < DARK * top).mean()),
        "edges": float(sum(steps) / 2 / (contrast + 0.001)),
        "symmetry": float((thumb * thumb[:, ::-1]).sum() / ((thumb * thumb).sum() + 1e-9)),
        "colour": colour,
        "white": float((grey > WHITE).mean()),
        "border_turned": (1 - frame) / (1 - bottom),
        "dark_turned": float((1 - grey < DARK * (1 - bottom)).mean()),
    }


def shrink(image: Image) -> npt.NDArray[np.float32]:
    """Return area means of an image, at most SIDE x SIDE; first by a whole factor, which is several times faster."""
    height, width = image.shape[:2]
    rows, columns = max(1, height // SIDE), max(1, width // SIDE)
    whole = np.ascontiguousarray(image[: height // rows * rows, : width // columns * columns])
    for size in ((width // columns, height // rows), (min(width, SIDE), min(height, SIDE))):  # (width, height) for cv2
        whole = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    return np.asarray(whole, np.float32)


def split_colour(small: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    """Return the luma (h, w) and the mean distance of the highest from the lowest channel of (h, w, 3)."""
    red, green, blue = cv2.split(small)  # NumPy takes four times as long along a last axis of three
    spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    return np.asarray(cv2.transform(small, np.array([LUMA], np.float32))), float(spread.mean())


def flag_input(features: Features, limits: FlagLimits) -> list[str]:
    """Return an input's flags."""
    if features["contrast"] < limits.blank:
        return ["blank"]
    flags = []
    if not lie_within(features, limits, CONTENT_FEATURES):
        inverted = bool(set(INVERTED_FEATURES) & set(limits.ranges)) and lie_within(
            invert(features), limits, CONTENT_FEATURES
        )
        flags.append("inverted" if inverted else "foreign")
    elif not lie_within(features, limits, ("mean", "contrast")):
        flags.append("intensity")
    if features["white"] > limits.saturated:
        flags.append("saturated")
    if not lie_within(features, limits, ("side", "aspect")):
        flags.append("size")
    return flags


def invert(features: Features) -> dict[str, float]:
    """Return the features of the negative."""
    return {**features, **{name: features[f"{name}_turned"] for name in INVERTED_FEATURES}}


def lie_within(features: Features, limits: FlagLimits, names: Collection[str]) -> bool:
    """Tell whether each of these features lies in its range, where one is known."""
    known = {name: limits.ranges[name] for name in names if name in limits.ranges}
    return all(low <= features[name] <= high for name, (low, high) in known.items())


def flag_result(found: Measurements, limits: FlagLimits, threshold: float) -> list[str]:
    """Return a result's flags, besides those that are raised by any contract."""
    distance = found.max_probability - threshold
    if found.lead is not None:
        distance = (found.lead.label - found.lead.background) / 2  # of two classes, p - 0.5
    raised = {
        "large": found.lesion_fraction > limits.largest,
        "fragments": found.components > limits.fragments,
        "margin": abs(distance) < limits.margin,
    }
    return [name for name, met in raised.items() if met]
