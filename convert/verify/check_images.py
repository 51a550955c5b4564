"""Which images is a conversion checked on, with which true masks, and which images cannot be used?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract.fields import Label
from edge_runtime.errors import EdgeSegError, ImageError, UsageError
from edge_runtime.folder.inputs import Input, check_names, find_inputs
from edge_runtime.images.arrays import Image, Labels
from edge_runtime.images.read import read_image
from edge_runtime.inference.preprocess import to_grey


@dataclass(frozen=True)
class CheckImage:
    """One image to check on, its name in the report, and the file of its true mask (None: none was given)."""

    image: Path
    file: str
    mask: Path | None


@dataclass(frozen=True)
class LeftOutImage:
    """An image that cannot be used, and why not."""

    file: str
    why: str


@dataclass(frozen=True)
class CheckImages:
    """The images to check on, and those left out."""

    images: tuple[CheckImage, ...]
    left_out: tuple[LeftOutImage, ...]
    masks: bool  # there are true masks

    def format_summary(self) -> str:
        """Return how many images there are, and the first that was left out."""
        text = f"{len(self.images)} images to check on" + (" with masks" if self.masks else ", without masks")
        if not self.left_out:
            return text
        first = self.left_out[0]
        return f"{text}; {len(self.left_out)} left out, the first is {first.file}: {first.why}"


def find_check_images(images: Path, masks: Path | None, out: Path) -> CheckImages:
    """List the images of a folder (or one file) with their masks; each file is read, unusable images are left out.

    Raises:
        UsageError: no such folder, no image in it, it is `out`, or no image is usable; the first reason is given.
    """
    if masks is not None:
        check_masks(images, masks)
    try:
        found = find_inputs([images], False, out).inputs
        check_names(found)
    except EdgeSegError as error:
        inner = images / "images"
        fix = f"--check {inner} --masks {images / 'masks'}" if is_folder(inner) else error.fix.split(", or add")[0]
        raise UsageError(f"--check {images}", error.why, fix) from None
    read = [read_check_image(item, masks) for item in found]
    usable = tuple(item for item in read if isinstance(item, CheckImage))
    left_out = tuple(item for item in read if isinstance(item, LeftOutImage))
    if not usable:
        why = f"none of its {len(left_out)} images can be used; {left_out[0].file}: {left_out[0].why}"
        raise UsageError(f"--check {images}", why)
    return CheckImages(usable, left_out, masks is not None)


def check_masks(images: Path, masks: Path) -> None:
    """Raise UsageError if the folder of masks does not exist, or is that of the images."""
    if not is_folder(masks):
        raise UsageError(f"--masks {masks}", "no such folder", "give the folder that holds NAME.png for each image")
    if masks.resolve() == images.resolve():
        raise UsageError(f"--masks {masks}", "it is the folder of the images", "put the masks into another folder")


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder that can be accessed."""
    return os.path.isdir(path)  # noqa: PTH112 - unlike Path's, it never raises


def read_check_image(item: Input, masks: Path | None) -> CheckImage | LeftOutImage:
    """Return an image to check on, or why it is none: unreadable, without a mask, or with one of another size."""
    try:
        image = read_image(item.path)
        mask = None if masks is None else find_mask(item, masks)
        if mask is not None:
            check_size(read_image(mask), image, mask)
    except ImageError as error:
        own = error.what == str(item.path)
        return LeftOutImage(item.file, error.why if own else f"mask {Path(error.what).name}: {error.why}")
    return CheckImage(item.path, item.file, mask)


def find_mask(item: Input, masks: Path) -> Path:
    """Return the mask of an image: STEM.png, or NAME.png, or a file of the same name.

    Raises:
        ImageError: there is none.
    """
    for name in (f"{item.path.stem}.png", f"{item.path.name}.png", item.path.name):
        if os.path.isfile(masks / name):  # noqa: PTH113 - see is_folder
            return masks / name
    raise ImageError(str(item.path), f"it has no mask {item.path.stem}.png")


def check_size(mask: Image, image: Image, path: Path) -> None:
    """Raise ImageError for a mask whose size is not its image's."""
    if mask.shape[:2] != image.shape[:2]:
        sizes = [f"{side[1]} x {side[0]}" for side in (mask.shape, image.shape)]
        raise ImageError(str(path), f"it has {sizes[0]} pixels, its image {sizes[1]}")


def read_truth(path: Path, labels: Sequence[Label]) -> Labels:
    """Return a mask file as label values (H, W) uint8: 0 background, 1…K-1 the contract's labels.

    Two labels (or one lesion): in a mask of two values, {0, 1} or {0, 255}, everything above 0 is lesion; in one with
    values in between, as resizing makes them, everything from half of white on, as in training. More labels: the values
    are the labels.

    Raises:
        UsageError: its values are no such labels.
    """
    mask = read_image(path)
    values = [int(value) for value in np.unique(mask)]
    if len(labels) <= 2:
        white = np.iinfo(mask.dtype).max
        if len(values) > 2 and values[-1] < white / 2:
            raise wrong_values(path, values, "0 and 255: this model has one lesion label")
        limit = 1 if len(values) <= 2 else white / 2
        return (to_grey(mask.astype(np.float32)) >= limit).astype(np.uint8)
    if mask.ndim == 3 and (mask != mask[:, :, :1]).any():
        raise UsageError(str(path), "the mask is coloured", f"save label values 0...{len(labels) - 1} as 8-bit grey")
    if values[-1] >= len(labels):
        names = ", ".join(f"{k} {label.name}" for k, label in enumerate(labels))
        raise wrong_values(path, values, f"this model's labels: {names}")
    return (mask if mask.ndim == 2 else mask[:, :, 0]).astype(np.uint8)


def wrong_values(path: Path, values: Sequence[int], wanted: str) -> UsageError:
    """Return the error for a mask whose values are no labels of the model."""
    shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
    return UsageError(str(path), f"the mask's values are {shown}, not {wanted}", "give masks made for this model")
