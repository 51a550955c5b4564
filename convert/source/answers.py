"""What are the Keras model's outputs on drawn images and on the images to check on?

Written by the child process, read by the parent. Each image to check on has a file of its own, so that a thousand
images need no more memory than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ModelError, UsageError
from edge_runtime.images.read import read_image
from edge_runtime.inference.preprocess import to_tensor, to_volume

from .loaded_model import Call, LoadedModel
from .process import SourceFacts

DRAWN_FILE = "checks.npz"
FOLDER = "outputs"  # of the images to check on
SEED = 20250607


def draw_images(height: int, width: int, channels: int, depth: int | None = None) -> list[npt.NDArray[np.uint8]]:
    """Return six drawn images, (height, width) or (height, width, 3): black, white, noise, and blobs on noise.

    With a depth, six volumes (depth, height, width) or (depth, height, width, 3): an image whose brightness rises and
    falls over the slices.
    """
    if depth is not None:
        fade = [np.sin(np.pi * (i + 1) / (depth + 1)) for i in range(depth)]
        flat = draw_images(height, width, channels)
        return [np.stack([np.rint(image * share).astype(np.uint8) for share in fade]) for image in flat]
    rng = np.random.default_rng(SEED)
    shape = (height, width, 3) if channels == 3 else (height, width)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    images = [np.zeros(shape), np.full(shape, 255.0), rng.uniform(0, 255, shape)]
    for _ in range(3):
        picture = 40 + 60 * np.exp(-((y - 0.5) ** 2 + (x - 0.5) ** 2) / 0.08)
        for _ in range(4):
            cy, cx = rng.uniform(0.2, 0.8, 2)
            radius = rng.uniform(0.02, 0.15)
            picture = picture + rng.uniform(20, 120) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / radius**2)
        picture = picture[..., None].repeat(3, axis=2) if channels == 3 else picture
        images.append(picture + rng.normal(0, 8, shape))
    return [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in images]


def write_drawn_outputs(work: Path, loaded: LoadedModel, call: Call, facts: SourceFacts) -> None:
    """Write drawn inputs and the model's outputs for them: the mask and, where there are some, the classes."""
    import tensorflow as tf

    *depth, height, width, channels = loaded.shape
    colour = "grey" if channels == 1 else "rgb"
    prepare = to_volume if depth else to_tensor
    arrays: dict[str, Any] = {}
    for i, image in enumerate(draw_images(height, width, channels, *depth)):
        tensor = prepare(image, height, width, colour, facts.scale, facts.offset, loaded.dtype)
        outputs = call(tf.constant(tensor))
        mask, *classes = outputs if isinstance(outputs, tuple) else (outputs,)
        arrays[f"input{i}"] = tensor
        arrays[f"output{i}"] = np.asarray(mask, np.float32)
        arrays |= {f"classes{i}": np.asarray(one, np.float32) for one in classes}
    np.savez(work / DRAWN_FILE, **arrays)


@dataclass(frozen=True)
class DrawnOutputs:
    """Drawn inputs (1, H, W, C), and the model's masks (1, h, w, K) and classes (1, N) for them, if it has classes."""

    inputs: list[npt.NDArray[Any]]
    masks: list[npt.NDArray[np.float32]]
    classes: list[npt.NDArray[np.float32]]


def read_drawn_outputs(work: Path) -> DrawnOutputs:
    """Return what `write_drawn_outputs` wrote."""
    with np.load(work / DRAWN_FILE, allow_pickle=False) as arrays:
        kinds = ("input", "output", "classes")
        counts = (sum(name.startswith(kind) for name in arrays.files) for kind in kinds)
        return DrawnOutputs(
            *([arrays[f"{kind}{i}"] for i in range(count)] for kind, count in zip(kinds, counts, strict=True))
        )


def write_image_outputs(work: Path, loaded: LoadedModel, call: Call, facts: SourceFacts, images: Sequence[str]) -> None:
    """Write the mask output (1, h, w, K) float32 of `call` for each image, preprocessed as on the device."""
    import tensorflow as tf

    *depth, height, width, channels = loaded.shape
    if depth and images:
        raise UsageError("--check", "this model takes volumes, which image files are not", "leave it out")
    colour = "grey" if channels == 1 else "rgb"
    traced = tf.function(call)  # eagerly, each layer would be dispatched for each image
    (work / FOLDER).mkdir()
    for i, path in enumerate(images):
        tensor = to_tensor(read_image(path), height, width, colour, facts.scale, facts.offset, loaded.dtype)
        np.save(find_output(work, i), np.asarray(traced(tf.constant(tensor)), np.float32), allow_pickle=False)


def read_image_output(work: Path, index: int) -> npt.NDArray[np.float32]:
    """Return the model's mask output (1, h, w, K) for one image. Raises: ModelError if there is none."""
    try:
        output: npt.NDArray[np.float32] = np.load(find_output(work, index), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelError("the original model", f"its output for image {index} is missing ({error})") from error
    return output


def find_output(work: Path, index: int) -> Path:
    """Return the file of one image's output."""
    return work / FOLDER / f"{index:06d}.npy"
