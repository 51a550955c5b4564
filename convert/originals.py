"""The original model's answers on the images to check on: written by the child process, read by the parent.

One file per image, one image at a time: a thousand images need no more memory than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ModelError, UsageError
from edge_runtime.images import read_image
from edge_runtime.preprocess import to_tensor

from .loaded import Call, Loaded

FOLDER = "originals"


def write_originals(work: Path, loaded: Loaded, call: Call, facts: dict[str, Any], images: Sequence[str]) -> None:
    """Write `call`'s float32 output (1, h, w, K) for each image, preprocessed as on the device; runs in the child."""
    import tensorflow as tf

    *depth, height, width, channels = loaded.shape
    if depth and images:
        raise UsageError("--check", "this model takes volumes, which image files are not", "leave it out")
    colour = "grey" if channels == 1 else "rgb"
    traced = tf.function(call)  # eagerly, each layer would be dispatched for each image
    (work / FOLDER).mkdir()
    for i, path in enumerate(images):
        tensor = to_tensor(read_image(path), height, width, colour, facts["scale"], facts["offset"], loaded.dtype)
        np.save(place(work, i), np.asarray(traced(tf.constant(tensor)), np.float32), allow_pickle=False)


def read_original(work: Path, index: int) -> npt.NDArray[np.float32]:
    """Return the original model's output (1, h, w, K) for one image.

    Raises:
        ModelError: the child left none.
    """
    try:
        output: npt.NDArray[np.float32] = np.load(place(work, index), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelError("the original model", f"its answer for image {index} is missing ({error})") from error
    return output


def place(work: Path, index: int) -> Path:
    """Return the file of one image's answer."""
    return work / FOLDER / f"{index:06d}.npy"
