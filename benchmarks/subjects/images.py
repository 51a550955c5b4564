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

# A pixel is between black and white from an eighth of the range to seven eighths. In a mask that was saved as JPEG,
# blurred or enlarged, such pixels are the lesion's border: 2 % of the picture at twice the size, and 13 % in the worst
# case tried, 64 pixels a side enlarged from 8. In MR slices they are 45 %, and 21 % at least in 140 with a lesion.
# Fewer than 64 such pixels are not judged.
MAX_BETWEEN_SHARE, MIN_BETWEEN_PIXELS = 0.15, 64
MOST_LABELS = 64  # of any model, while its own number is not known

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
    try:
        found = find_inputs([images], False, images / "no-output").inputs
    except EdgeSegError as error:
        raise EdgeSegError(f"--images {images}", error.why, name_folder_below(images)) from None
    check_names(found)
    paths = tuple(item.path for item in found)
    pairs = None if masks is None else find_masks(paths, masks)
    digests, sizes = [], Counter[str]()
    for path in paths:
        data = read_bytes(path, str(path))
        digests.append(hash_data(data))
        sizes["x".join(map(str, decode_image(data, str(path)).shape[:2]))] += 1
    return ImageSet(paths, pairs, tuple(digests), dict(sizes))


def name_folder_below(folder: Path) -> str:
    """Return what to do about a folder without images: to give a folder in it, if it has some."""
    below = sorted(path.name for path in folder.iterdir() if path.is_dir())
    named = "images" if "images" in below else below[0] if below else ""
    return f"give the folder that holds the images, such as {folder / named}" if named else "give a folder of images"


def check_masks(data: ImageSet, labels: int | None = None) -> None:
    """Read all masks; labels: of the model, if it is known yet.

    Raises: UsageError naming the folder if pictures are in it instead of masks; ImageError for a mask that `read_mask`
    refuses.
    """
    pictures: list[tuple[Path, float]] = []
    for image, mask in zip(data.images, data.masks or (), strict=data.masks is not None):
        share = measure_between(read_image(mask))
        if share:
            pictures.append((mask, share))
        else:
            read_mask(mask, read_image(image), labels)
    if pictures:
        mask, share = pictures[0]
        which = "all" if len(pictures) == len(data.images) else f"{len(pictures)} of {len(data.images)}"
        why = f"{which} of its files are grey pictures, no masks ({mask.name}: {share:.0%} is neither black nor white)"
        raise UsageError(f"--masks {mask.parent}", why, "give the folder of masks, which are black with white lesions")


def find_masks(images: Sequence[Path], masks: Path) -> tuple[Path, ...]:
    """Return the masks of the images' names. Raises: ImageError naming the folder, or the first image without one."""
    found = tuple(masks / image.with_suffix(".png").name for image in images)
    lacking = [image for image, mask in zip(images, found, strict=True) if not mask.is_file()]
    if len(lacking) == len(images) > 1:
        why = f"it has no mask of any of the {len(images)} images (the first would be {found[0].name})"
        raise ImageError(f"--masks {masks}", why, "give the folder of masks, .png files of the images' names")
    if lacking:
        more = f", nor have {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise ImageError(str(lacking[0]), f"it has no mask{more}", f"add {masks / lacking[0].with_suffix('.png').name}")
    return found


def measure_between(mask: Image) -> float:
    """Return the share of pixels between black and white if it is that of a picture; 0 if it may be a mask."""
    grey, white = to_grey(mask.astype(np.float32)), np.iinfo(mask.dtype).max
    between = np.count_nonzero((grey > white / 8) & (grey < white * 7 / 8))
    share = between / grey.size
    return share if between > MIN_BETWEEN_PIXELS and share > MAX_BETWEEN_SHARE else 0.0


def read_mask(path: Path, image: Image, labels: int | None = 2) -> Mask:
    """Return the lesion's pixels of any label, (H, W) bool at the image's own size.

    A mask holds 0 and white (above half of the range), or the label values 0 to labels - 1.
    Raises: ImageError if it has another size than the image or other values, which would count as "no lesion".
    """
    mask = read_image(path)
    if mask.shape[:2] != image.shape[:2]:
        found = "x".join(map(str, mask.shape[:2]))
        raise ImageError(str(path), f"it has {found} pixels, its image {'x'.join(map(str, image.shape[:2]))}")
    grey, half = to_grey(mask.astype(np.float32)), np.iinfo(mask.dtype).max / 2
    highest = float(grey.max())  # of the grey, too: a red mask would have no pixel above half
    if highest < (labels or MOST_LABELS):
        return np.asarray(grey > 0)
    if highest < half:
        why = f"its highest value is {highest:.0f}, neither a label nor white"
        raise ImageError(str(path), why, "write masks as 0/255")
    if share := measure_between(mask):
        why = f"{share:.0%} of its pixels are neither black nor white: a grey picture"
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
