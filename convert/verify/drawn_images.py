"""How far are a file's outputs on drawn images from Keras', and are all of them finite?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.flatbuffer.run import Array
from edge_runtime.errors import ModelError
from edge_runtime.inference.engines.registry import Engine
from edge_runtime.system.quiet import silence_stderr


@dataclass(frozen=True)
class DrawnImageCheck:
    """The result of a comparison on drawn images; a difference is NaN where either output is."""

    images: int
    finite: bool  # every output of the .tflite is a finite number
    probability: bool  # every output lies in [0, 1]
    largest_difference: float
    mean_difference: float
    changed_pixels: float  # share of pixels whose label changed
    class_difference: float | None = None  # largest, of the classes' probabilities; None where there are none


def compare_outputs(expected: Sequence[Array], found: Sequence[Array], threshold: float) -> DrawnImageCheck:
    """Return how far the `found` outputs (1, h, w, K) are from the `expected` ones, in Keras' order of images."""
    a, b = np.concatenate(list(expected)), np.concatenate(list(found))
    if a.shape != b.shape:
        raise ModelError("the converted model", f"its output has shape {b.shape[1:]}, Keras' {a.shape[1:]}")
    difference = np.abs(a.astype(np.float64) - b)
    one, other = (to_label_values(a, threshold), to_label_values(b, threshold))
    return DrawnImageCheck(
        images=len(a),
        finite=bool(np.isfinite(b).all()),
        probability=bool(((b >= -1e-6) & (b <= 1 + 1e-6)).all()),
        largest_difference=float(difference.max()),  # NaN if one is NaN
        mean_difference=float(difference.mean()),
        changed_pixels=float((one != other).mean()),
    )


def compare_classes(
    check: DrawnImageCheck, engine: Engine, inputs: Sequence[Any], expected: Sequence[Array]
) -> DrawnImageCheck:
    """Return the check with the difference of the classes (1, N) from Keras'; unchanged where there are none."""
    if not expected:
        return check
    with silence_stderr():
        found = np.concatenate([engine.infer_both(tensor)[1] for tensor in inputs])
    finite = check.finite and bool(np.isfinite(found).all())
    return replace(check, finite=finite, class_difference=float(np.abs(np.concatenate(expected) - found).max()))


def to_label_values(output: Array, threshold: float) -> npt.NDArray[Any]:
    """Return (N, h, w) labels: above the threshold, or the most probable class."""
    return output.argmax(axis=-1) if output.shape[-1] > 1 else output[..., 0] > threshold
