"""From which limits on does the device flag an image or a mask? Fixed defaults, and ranges measured on images.

inference/flags.py defines the features and flags. The user's values have precedence over measured ones, and these over
the defaults:

[triage]                            # in the contract's TOML file; `triage = false` stamps none
images = "training/images"          # a folder to measure, from the TOML file's own; default: --calibrate and --check
masks = "training/masks"            # the true masks, NAME.png: how large and how many lesions are
blank = 0.01                        # and so saturated, largest, fragments, margin, count
ranges = {border = [0.0, 0.3]}      # and so the other features
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.contract.fields import FLAG_FEATURES, FLAG_LIMIT_FIELDS, FlagLimits
from edge_runtime.errors import ContractError, EdgeSegError, ImageError, near_miss
from edge_runtime.folder.inputs import find_inputs
from edge_runtime.images.read import read_image
from edge_runtime.inference.flags import find_features

# A mask over half the image, sixteen lesions or a peak within 0.05 of the threshold are unusual in any organ.
DEFAULTS = FlagLimits(count=0, blank=0.01, saturated=0.25, largest=0.5, fragments=16, margin=0.05, ranges={})
MIN_IMAGES = 20  # to measure ranges
CUT_PERCENT = 0.5  # at each end, that is not counted: in each collection a few images are not what they should be
MARGIN, MIN_MARGIN = 0.1, 0.02  # by which a range is wider than measured: a share of its span, at least the second
SIDE_FACTOR, ASPECT_FACTOR = 4.0, 1.5  # between the measured sizes and those that are flagged
AREA_FACTOR, COUNT_FACTOR = 1.5, 2  # between the largest area and count of lesions in masks and those that are flagged
KEYS = ("images", "masks", *FLAG_LIMIT_FIELDS)


def check_flag_limits(path: Path, given: Any) -> None:
    """Raise ContractError for a `triage` that is neither false nor a table of known fields."""
    if given is False:
        return
    if not isinstance(given, dict):
        raise ContractError(str(path), "contract field 'triage' is neither a table nor false")
    for key in given:
        if key not in KEYS:
            hint = near_miss(key, KEYS) or f"the fields here are {', '.join(KEYS)}"
            raise ContractError(str(path), f"unknown contract field 'triage.{key}'", hint)
    for key in ("images", "masks"):
        if not isinstance(given.get(key, ""), str):
            raise ContractError(str(path), f"contract field 'triage.{key}' is not the path of a folder")
    if "masks" in given and "images" not in given:
        raise ContractError(str(path), "contract field 'triage.masks' stands without 'triage.images'")


def choose_flag_limits(given: Mapping[str, Any] | bool | None, path: str, images: Sequence[Path]) -> FlagLimits | None:
    """Return the limits to stamp: those of the TOML file at `path`, those measured on images, the defaults.

    images: those of --calibrate and --check, measured where the file names no others.
    Raises: ContractError if a value is wrong or a folder cannot be read.
    """
    if given is False:
        return None
    limits = dict(given) if isinstance(given, Mapping) else {}
    folder = Path(path).parent
    images_folder, masks = limits.pop("images", None), limits.pop("masks", None)
    try:
        measured = list_images(folder / images_folder) if images_folder else images
        found = measure_flag_limits(measured, folder / masks if masks else None)
        ranges = limits.pop("ranges", {})
        if not isinstance(ranges, dict):
            raise ContractError("contract", "contract field 'triage.ranges' is not a table")
        spans = {name: tuple(span) if isinstance(span, list) else span for name, span in ranges.items()}
        return replace(found, **limits, ranges={**found.ranges, **spans})
    except EdgeSegError as error:
        where = error.why if isinstance(error, ContractError) else f"triage.images: {error.what}: {error.why}"
        raise ContractError(path or "triage", where, error.fix) from error


def list_images(folder: Path) -> list[Path]:
    """Return a folder's images."""
    return [item.path for item in find_inputs([folder], False, folder / "no output here").inputs]


def measure_flag_limits(images: Sequence[Path], masks: Path | None = None) -> FlagLimits:
    """Return the limits measured on readable images; the defaults where these are fewer than MIN_IMAGES."""
    features = list(read_features(images))
    count = len(features)
    if count < MIN_IMAGES:
        return DEFAULTS
    values = {name: np.array([one[name] for one in features]) for name in features[0]}
    spans = {name: find_span(values[name], count) for name in FLAG_FEATURES if name not in ("side", "aspect")}
    spans["side"] = float(values["side"].min() / SIDE_FACTOR), float(values["side"].max() * SIDE_FACTOR)
    spans["aspect"] = 1.0, float(values["aspect"].max() * ASPECT_FACTOR)
    lesions = measure_masks(images, masks) if masks else {}
    return FlagLimits(
        count=count,
        blank=round_4_digits(min(DEFAULTS.blank, values["contrast"].min() / 2)),
        saturated=round_4_digits(min(1.0, max(DEFAULTS.saturated, find_span(values["white"], count)[1]))),
        largest=lesions.get("largest", DEFAULTS.largest),
        fragments=int(lesions.get("fragments", DEFAULTS.fragments)),
        margin=DEFAULTS.margin,
        ranges={name: (round_4_digits(low), round_4_digits(high)) for name, (low, high) in spans.items()},
    )


def read_features(images: Iterable[Path]) -> Iterable[Mapping[str, float]]:
    """Yield the features of each image that can be read."""
    for path in images:
        try:
            yield find_features(read_image(path))
        except ImageError:
            continue


def find_span(values: Any, count: int) -> tuple[float, float]:
    """Return a feature's range: the middle 99 %, a tenth of it wider at each end, and more for few images."""
    low, high = np.percentile(values, [CUT_PERCENT, 100 - CUT_PERCENT])
    margin = max(MIN_MARGIN, (MARGIN + 2 / count) * (high - low))
    return float(low - margin), float(high + margin)


def measure_masks(images: Sequence[Path], masks: Path) -> dict[str, float]:
    """Return the limits `largest` and `fragments` from the true masks of these images."""
    shares, parts = [0.0], [1]
    for path in images:
        mask = masks / f"{path.stem}.png"
        if mask.is_file():
            lesion = (read_image(mask) > 0).astype(np.uint8)
            lesion = lesion if lesion.ndim == 2 else lesion.max(axis=2)
            shares.append(float(lesion.mean()))
            parts.append(int(cv2.connectedComponents(lesion, connectivity=8)[0]) - 1)
    largest = min(1.0, AREA_FACTOR * max(shares)) or DEFAULTS.largest
    return {"largest": round_4_digits(largest), "fragments": float(max(4, COUNT_FACTOR * max(parts)))}


def round_4_digits(value: float) -> float:
    """Return a number of four digits, as people write them."""
    return float(f"{value:.4g}")
