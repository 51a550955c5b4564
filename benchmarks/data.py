"""The images that a run is measured on, and their masks: all of them read once before anything is measured."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import Contract
from edge_runtime.errors import EdgeSegError, ImageError, UsageError
from edge_runtime.images import decode_image, read_bytes, read_image
from edge_runtime.inputs import find_inputs
from edge_runtime.preprocess import Image, Tensor, to_grey, to_tensor

TIMED = 16  # images that inference is timed on, in turn: more than the caches hold, and little memory

Mask = npt.NDArray[np.bool_]  # (H, W)


@dataclass(frozen=True)
class Data:
    """Image files in name order, a mask for each or none at all, each image's SHA-256, and how many have which size."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...] | None
    digests: tuple[str, ...]
    sizes: dict[str, int]

    def describe(self) -> dict[str, Any]:
        """Return a result's `data`."""
        lines = [f"{path.name}\0{digest}\n" for path, digest in zip(self.images, self.digests, strict=True)]
        for path in self.masks or ():
            lines.append(f"mask {path.name}\0{hash_bytes(path.read_bytes())}\n")
        masks = None if self.masks is None else len(self.masks)
        return {
            "images": len(self.images),
            "masks": masks,
            "sha256": hash_bytes("".join(lines).encode()),
            "sizes": self.sizes,
        }


def read_data(images: Path, masks: Path | None) -> Data:
    """Find the images of a folder and the masks of the same names, and read the images.

    Raises: EdgeSegError if there is none; ImageError for one that cannot be read or has no mask.
    """
    if not images.is_dir():
        raise UsageError(f"--images {images}", "no such folder", "give a folder of images")
    paths = tuple(item.path for item in find_inputs([images], False, images / "no-output"))
    pairs = None if masks is None else tuple(find_mask(path, masks) for path in paths)
    digests, sizes = [], Counter[str]()
    for path in paths:
        data = read_bytes(path, str(path))
        digests.append(hash_bytes(data))
        sizes["x".join(map(str, decode_image(data, str(path)).shape[:2]))] += 1
    return Data(paths, pairs, tuple(digests), dict(sizes))


def check_masks(data: Data, labels: int) -> None:
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
    """Return where a mask has lesion, of any label, (H, W) bool at the image's own size.

    A mask holds 0 and white (brighter than half counts), or the label values 0 to labels - 1.
    Raises: ImageError if its size is not the image's, or it holds anything else, which would pass as "no lesion".
    """
    mask = read_image(path)
    if mask.shape[:2] != image.shape[:2]:
        found = "x".join(map(str, mask.shape[:2]))
        raise ImageError(str(path), f"it has {found} pixels, its image {'x'.join(map(str, image.shape[:2]))}")
    grey, most = to_grey(mask.astype(np.float32)), float(mask.max())
    if most < labels:
        return np.asarray(grey > 0)
    if most < np.iinfo(mask.dtype).max / 2:
        raise ImageError(
            str(path), f"its highest value is {most:.0f}, neither a label nor white", "write masks as 0/255"
        )
    return np.asarray(grey >= np.iinfo(mask.dtype).max / 2)


def write_tensors(images: Sequence[Path], contract: Contract, out: Path) -> Path:
    """Write the images as a model of this contract eats them, (N, 1, H, W, C), to an .npy file."""
    np.save(out, np.stack([prepare(read_image(path), contract) for path in images]))
    return out


def prepare(image: Image, contract: Contract) -> Tensor:
    """Return an image as the contract's model eats it, (1, H, W, C)."""
    eats = contract.input
    return to_tensor(image, eats.shape[1], eats.shape[2], eats.colour, eats.scale, eats.offset, eats.dtype)


def choose_timed(data: Data) -> list[Path]:
    """Return TIMED images spread evenly over the folder, all of them where there are fewer."""
    step = max(1, len(data.images) // TIMED)
    return list(data.images[::step][:TIMED])


def check_calibration(folder: Path, data: Data) -> list[Path]:
    """Return the images of a calibration folder. Raises: UsageError if one of them is a test image."""
    if not folder.is_dir():
        raise UsageError(f"--calibrate {folder}", "no such folder", "give a folder of images")
    paths = [item.path for item in find_inputs([folder], False, folder / "no-output")]
    shared = [path.name for path in paths if hash_bytes(read_bytes(path, str(path))) in data.digests]
    if shared:
        why = f"{len(shared)} of its images are test images ({shared[0]})"
        raise UsageError(f"--calibrate {folder}", why, "calibrate on others, or the accuracy is not to be believed")
    return paths


def hash_bytes(data: bytes) -> str:
    """Return a SHA-256."""
    return hashlib.sha256(data).hexdigest()


def check_folder(out: Path, force: bool) -> None:
    """Refuse a folder that holds something. Raises: EdgeSegError."""
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise EdgeSegError(str(out), error.strerror or str(error), "choose another with -o") from None
    if taken and (not force or not out.is_dir()):
        raise EdgeSegError(str(out), "it exists already", "choose another with -o, or --force to write there")
