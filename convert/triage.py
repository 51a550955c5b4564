"""Where the device is to doubt an image or a mask: limits that need no data, and ranges measured on images.

What the features and flags mean stands in edge_runtime/triage.py; what a user says wins over what is measured, and that
over the defaults:

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

from edge_runtime.contract import TRIAGE_FIELDS, TRIAGE_RANGES, Triage, near_miss
from edge_runtime.errors import ContractError, EdgeSegError, ImageError
from edge_runtime.images import read_image
from edge_runtime.inputs import find_inputs
from edge_runtime.triage import find_features

# A mask over half the image, sixteen lesions or a peak within 0.05 of the threshold are worth a look in any organ.
DEFAULTS = Triage(count=0, blank=0.01, saturated=0.25, largest=0.5, fragments=16, margin=0.05, ranges={})
FEWEST = 20  # images that say what is usual
CUT = 0.5  # per cent at each end that does not count: in each collection a few images are not what they should be
WIDER, LEAST = 0.1, 0.02  # a range reaches beyond what was seen by so much of its span, at least by so much
SIDES, ASPECTS = 4.0, 1.5  # a size is far from the training's from these factors on
LARGER, MORE = 1.5, 2  # than the largest lesion, and than the most parts, of all masks
KEYS = ("images", "masks", *TRIAGE_FIELDS)


def check_triage(path: Path, said: Any) -> None:
    """Refuse a `triage` that is neither false nor a table of known fields. Raises: ContractError."""
    if said is False:
        return
    if not isinstance(said, dict):
        raise ContractError(str(path), "contract field 'triage' is neither a table nor false")
    for key in said:
        if key not in KEYS:
            hint = near_miss(key, KEYS) or f"the fields here are {', '.join(KEYS)}"
            raise ContractError(str(path), f"unknown contract field 'triage.{key}'", hint)
    for key in ("images", "masks"):
        if not isinstance(said.get(key, ""), str):
            raise ContractError(str(path), f"contract field 'triage.{key}' is not the path of a folder")
    if "masks" in said and "images" not in said:
        raise ContractError(str(path), "contract field 'triage.masks' stands without 'triage.images'")


def choose_triage(said: Mapping[str, Any] | bool | None, path: str, images: Sequence[Path]) -> Triage | None:
    """Return the triage to stamp: what the TOML file at `path` said, what is measured on images, the defaults.

    images: those of --calibrate and --check, measured where the file names no others.
    Raises: ContractError if a value is wrong or a folder cannot be read.
    """
    if said is False:
        return None
    told = dict(said) if isinstance(said, Mapping) else {}
    home = Path(path).parent
    folder, masks = told.pop("images", None), told.pop("masks", None)
    try:
        found = measure_triage(list_images(home / folder) if folder else images, home / masks if masks else None)
        ranges = told.pop("ranges", {})
        if not isinstance(ranges, dict):
            raise ContractError("contract", "contract field 'triage.ranges' is not a table")
        spans = {name: tuple(span) if isinstance(span, list) else span for name, span in ranges.items()}
        return replace(found, **told, ranges={**found.ranges, **spans})
    except EdgeSegError as error:
        where = error.why if isinstance(error, ContractError) else f"triage.images: {error.what}: {error.why}"
        raise ContractError(path or "triage", where, error.fix) from error


def list_images(folder: Path) -> list[Path]:
    """Return a folder's images."""
    return [item.path for item in find_inputs([folder], False, folder / "no output here")]


def measure_triage(images: Sequence[Path], masks: Path | None = None) -> Triage:
    """Return the defaults, and of FEWEST readable images or more, what is measured on them."""
    features = list(read_features(images))
    count = len(features)
    if count < FEWEST:
        return DEFAULTS
    seen = {name: np.array([one[name] for one in features]) for name in features[0]}
    spans = {name: find_span(seen[name], count) for name in TRIAGE_RANGES if name not in ("side", "aspect")}
    spans["side"] = float(seen["side"].min() / SIDES), float(seen["side"].max() * SIDES)
    spans["aspect"] = 1.0, float(seen["aspect"].max() * ASPECTS)
    lesions = measure_masks(images, masks) if masks else {}
    return Triage(
        count=count,
        blank=shorten(min(DEFAULTS.blank, seen["contrast"].min() / 2)),
        saturated=shorten(min(1.0, max(DEFAULTS.saturated, find_span(seen["white"], count)[1]))),
        largest=lesions.get("largest", DEFAULTS.largest),
        fragments=int(lesions.get("fragments", DEFAULTS.fragments)),
        margin=DEFAULTS.margin,
        ranges={name: (shorten(low), shorten(high)) for name, (low, high) in spans.items()},
    )


def read_features(images: Iterable[Path]) -> Iterable[Mapping[str, float]]:
    """Yield the features of each image that can be read: what cannot says nothing of the others."""
    for path in images:
        try:
            yield find_features(read_image(path))
        except ImageError:
            continue


def find_span(values: Any, count: int) -> tuple[float, float]:
    """Return a feature's range: the middle 99 %, a tenth of it wider at each end, and more for few images."""
    low, high = np.percentile(values, [CUT, 100 - CUT])
    more = max(LEAST, (WIDER + 2 / count) * (high - low))
    return float(low - more), float(high + more)


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
    largest = min(1.0, LARGER * max(shares)) or DEFAULTS.largest
    return {"largest": shorten(largest), "fragments": float(max(4, MORE * max(parts)))}


def shorten(value: float) -> float:
    """Return a number of four digits, as people write them."""
    return float(f"{value:.4g}")
