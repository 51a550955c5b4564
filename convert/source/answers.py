"""What are the Keras model's outputs on drawn images and on the images to check on?

Written by the child process, read by the parent. Each image to check on has a file of its own, so that a thousand
images need no more memory than one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract.fields import InputSpec, Intensity
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.images.read import read_image
from edge_runtime.inference.preprocess import to_model_input

from .loaded_model import Call, LoadedModel
from .process import SourceFacts

DRAWN_FILE = "checks.npz"
FOLDER = "outputs"  # of the images to check on
MAX_TRIED = 48  # images that each of TRIALS is tried on
SEED = 20250607


@dataclass(frozen=True)
class Trial:
    """A usual scaling of the input: pixel * scale + offset."""

    name: str
    folder: str
    scale: float
    offset: float
    intensity: str = "bit-depth"


TRIALS = (
    Trial("0…1", "trial-1", 1 / 255, 0.0),
    Trial("−1…1", "trial-2", 2 / 255, -1.0),
    Trial("0…255", "trial-3", 1.0, 0.0),
    Trial("each image's least to greatest value as 0…1", "trial-4", 1 / 255, 0.0, "slice-min-max"),
    Trial("each image's z-scores", "trial-5", 1.0, 0.0, "z-score"),
)


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
    spec = facts.input
    arrays: dict[str, Any] = {}
    for i, image in enumerate(draw_images(height, width, channels, *depth)):
        tensor = to_model_input(image, spec)
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


def write_image_outputs(work: Path, call: Call, facts: SourceFacts, images: Sequence[str]) -> None:
    """Write the mask output (1, h, w, K) float32 of `call` for each image, preprocessed as on the device."""
    if len(facts.input_shape) == 5 and images:
        raise UsageError("--check", "this model takes volumes, which image files are not", "leave it out")
    write_outputs(work / FOLDER, call, facts.input, dict(enumerate(images)))


def write_trial_outputs(work: Path, call: Call, facts: SourceFacts, images: Sequence[str]) -> None:
    """Write the mask output of `call` for some of the images in each of TRIALS' scalings of the input."""
    chosen = {index: images[index] for index in choose_tried(len(images))}
    for trial in TRIALS:
        intensity = Intensity(images=trial.intensity)
        spec = replace(facts.input, scale=trial.scale, offset=trial.offset, intensity=intensity)
        write_outputs(work / trial.folder, call, spec, chosen)


def write_outputs(folder: Path, call: Call, spec: InputSpec, images: Mapping[int, str]) -> None:
    """Write the mask output of `call` for images {number: path}."""
    import tensorflow as tf

    traced = tf.function(call)  # eagerly, each layer would be dispatched for each image
    folder.mkdir()
    for index, path in images.items():
        tensor = tf.constant(to_model_input(read_image(path), spec))
        np.save(name_output(folder, index), np.asarray(traced(tensor), np.float32), allow_pickle=False)


def choose_tried(count: int) -> list[int]:
    """Return the numbers of the images that the scalings of the input are tried on, spread over all of them."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, MAX_TRIED))})


def read_image_output(work: Path, index: int, folder: str = FOLDER) -> npt.NDArray[np.float32]:
    """Return the model's mask output (1, h, w, K) for one image. Raises: ModelError if there is none.

    folder: that of a Trial, for the output in its scaling of the input.
    """
    try:
        output: npt.NDArray[np.float32] = np.load(name_output(work / folder, index), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelError("the original model", f"its output for image {index} is missing ({error})") from error
    return output


def name_output(folder: Path, index: int) -> Path:
    """Return the file of one image's output."""
    return folder / f"{index:06d}.npy"
