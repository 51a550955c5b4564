"""Which images and masks is a run measured on? All are read once before anything is measured."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract.fields import Contract
from edge_runtime.errors import EdgeSegError, ImageError, UsageError
from edge_runtime.folder.inputs import check_names, find_inputs
from edge_runtime.images.arrays import Image
from edge_runtime.images.read import decode_image, read_bytes, read_image
from edge_runtime.inference.preprocess import to_grey, to_model_input

MAX_TIMED = 16  # images that inference is timed on, in turn: more than the caches hold

Mask = npt.NDArray[np.bool_]  # (H, W)


@dataclass(frozen=True)
class ImageSet:
    """Image files by name, their masks if given, each image's SHA-256, and the number of images of each size."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...] | None
    digests: tuple[str, ...]
    sizes: dict[str, int]

    def describe(self) -> dict[str, Any]:
        """Return a result's `data`."""
        lines = [f"{path.name}\0{digest}\n" for path, digest in zip(self.images, self.digests, strict=True)]
        for path in self.masks or ():
            lines.append(f"mask {path.name}\0{hash_data(path.read_bytes())}\n")
        masks = None if self.masks is None else len(self.masks)
        return {
            "images": len(self.images),
            "masks": masks,
            "sha256": hash_data("".join(lines).encode()),
            "sizes": self.sizes,
        }


def read_image_set(images: Path, masks: Path | None) -> ImageSet:
    """Find the images of a folder and the masks of the same names, and read the images.

    Raises: EdgeSegError if there is no image; ImageError for one that cannot be read or has no mask.
    """
    if not images.is_dir():
        raise UsageError(f"--images {images}", "no such folder", "give a folder of images")
    found = find_inputs([images], False, images / "no-output").inputs
    check_names(found)
    paths = tuple(item.path for item in found)
    pairs = None if masks is None else tuple(find_mask(path, masks) for path in paths)
    digests, sizes = [], Counter[str]()
    for path in paths:
        data = read_bytes(path, str(path))
        digests.append(hash_data(data))
        sizes["x".join(map(str, decode_image(data, str(path)).shape[:2]))] += 1
    return ImageSet(paths, pairs, tuple(digests), dict(sizes))


def check_masks(data: ImageSet, labels: int) -> None:
    """Read all masks. Raises: ImageError for one that `read_mask` refuses."""
    for image, mask in zip(data.images, data.masks or (), strict=data.masks is not None):
        read_mask(mask, read_image(image), labels)


def find_mask(image: Path, masks: Path) -> Path:
    """Return the mask of an image's name. Raises: ImageError."""
    mask = masks / image.with_suffix(".png").name
    if not mask.is_file():
        raise ImageError(str(image), "it has no mask", f"add {mask}")
    return mask


def read_mask(path: Path, image: Image, labels: int = 2) -> Mask:
    """Return the lesion's pixels of any label, (H, W) bool at the image's own size.

    A mask holds 0 and white (above half of the range), or the label values 0 to labels - 1.
    Raises: ImageError if it has another size than the image or other values, which would count as "no lesion".
    """
    mask = read_image(path)
    if mask.shape[:2] != image.shape[:2]:
        found = "x".join(map(str, mask.shape[:2]))
        raise ImageError(str(path), f"it has {found} pixels, its image {'x'.join(map(str, image.shape[:2]))}")
    grey, highest, half = to_grey(mask.astype(np.float32)), float(mask.max()), np.iinfo(mask.dtype).max / 2
    if highest < labels:
        return np.asarray(grey > 0)
    if highest < half:
        why = f"its highest value is {highest:.0f}, neither a label nor white"
        raise ImageError(str(path), why, "write masks as 0/255")
    return np.asarray(grey >= half)


def write_tensors(images: Sequence[Path], contract: Contract, out: Path) -> Path:
    """Write the images as input tensors of a contract's model, (N, 1, H, W, C), to an .npy file."""
    np.save(out, np.stack([to_model_input(read_image(path), contract.input) for path in images]))
    return out


def choose_timed(data: ImageSet) -> list[Path]:
    """Return at most MAX_TIMED images, evenly over the folder."""
    step = max(1, len(data.images) // MAX_TIMED)
    return list(data.images[::step][:MAX_TIMED])


def check_calibration(folder: Path, data: ImageSet) -> list[Path]:
    """Return the images of a calibration folder. Raises: UsageError if one of them is a test image."""
    if not folder.is_dir():
        raise UsageError(f"--calibrate {folder}", "no such folder", "give a folder of images")
    paths = [item.path for item in find_inputs([folder], False, folder / "no-output").inputs]
    shared = [path.name for path in paths if hash_data(read_bytes(path, str(path))) in data.digests]
    if shared:
        why = f"{len(shared)} of its images are test images ({shared[0]})"
        raise UsageError(f"--calibrate {folder}", why, "calibrate on other images, or the accuracy is overestimated")
    return paths


def hash_data(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def check_output_folder(out: Path, force: bool) -> None:
    """Refuse an output folder that is not empty, unless `force`. Raises: EdgeSegError."""
    try:
        exists = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise EdgeSegError(str(out), error.strerror or str(error), "choose another with -o") from None
    if exists and (not force or not out.is_dir()):
        raise EdgeSegError(str(out), "it exists already", "choose another with -o, or --force to write there")
