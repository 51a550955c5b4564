"""Keras against .tflite on drawn images: how far the probabilities moved, and whether any is no number."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.engines import Engine
from edge_runtime.errors import ModelError

Array = npt.NDArray[np.float32]
SEED = 20250607


@dataclass(frozen=True)
class Checks:
    """What a comparison on drawn images found; a difference is NaN where either side is."""

    images: int
    finite: bool  # every output of the .tflite is a finite number
    probability: bool  # every output lies in [0, 1]
    largest_difference: float
    mean_difference: float
    changed_pixels: float  # share of pixels whose label changed
    class_difference: float | None = None  # largest, of the classes' probabilities; None where there are none


def draw_images(height: int, width: int, channels: int, depth: int | None = None) -> list[npt.NDArray[np.uint8]]:
    """Return six drawn images, (height, width) or (height, width, 3): black, white, noise, and blobs on noise.

    With a depth, six volumes (depth, height, width) or (depth, height, width, 3): an image that grows and fades.
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


@contextmanager
def muffled() -> Iterator[None]:
    """Send what native code writes to standard error nowhere: words there are for the user."""
    try:
        keep = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(keep, 2)
        os.close(keep)
        os.close(nowhere)


def open_engine(model: Path, threads: int = 2) -> Engine:
    """Return a file loaded on the device's own LiteRT engine: what is compared is what will run.

    Without its cache of packed weights: the files here are candidates, gone when one of them is chosen.

    Raises:
        ModelError: LiteRT refuses the file.
    """
    from edge_runtime.engines.litert import load_plain

    with muffled():
        return load_plain(model, threads)


def run_model(engine: Engine, tensor: npt.NDArray[Any]) -> Array:
    """Return the engine's output (1, h, w, K) for one input (1, H, W, C)."""
    with muffled():
        return engine.infer(tensor)


def compare_outputs(expected: Sequence[Array], found: Sequence[Array], threshold: float) -> Checks:
    """Return how far the `found` outputs (1, h, w, K) are from the `expected` ones, in Keras' order of images."""
    a, b = np.concatenate(list(expected)), np.concatenate(list(found))
    if a.shape != b.shape:
        raise ModelError("the converted model", f"its output has shape {b.shape[1:]}, Keras' {a.shape[1:]}")
    difference = np.abs(a.astype(np.float64) - b)
    one, other = (labels(a, threshold), labels(b, threshold))
    return Checks(
        images=len(a),
        finite=bool(np.isfinite(b).all()),
        probability=bool(((b >= -1e-6) & (b <= 1 + 1e-6)).all()),
        largest_difference=float(difference.max()),  # NaN wins, as it should
        mean_difference=float(difference.mean()),
        changed_pixels=float((one != other).mean()),
    )


def compare_classes(checks: Checks, engine: Engine, inputs: Sequence[Any], work: Path) -> Checks:
    """Return the checks with how far the classes (1, N) are from Keras', which `checks.npz` in `work` has."""
    with np.load(work / "checks.npz", allow_pickle=False) as arrays:
        expected = [arrays[f"classes{i}"] for i in range(len(inputs)) if f"classes{i}" in arrays.files]
    if not expected:
        return checks
    with muffled():
        found = np.concatenate([engine.infer_both(tensor)[1] for tensor in inputs])
    finite = checks.finite and bool(np.isfinite(found).all())
    return replace(checks, finite=finite, class_difference=float(np.abs(np.concatenate(expected) - found).max()))


def labels(output: Array, threshold: float) -> npt.NDArray[Any]:
    """Return (N, h, w) labels: above the threshold, or the likeliest class."""
    return output.argmax(axis=-1) if output.shape[-1] > 1 else output[..., 0] > threshold


def time_models(
    models: dict[str, Engine], tensor: npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]], rounds: int = 7
) -> dict[str, list[float]]:
    """Return milliseconds per inference of each engine, taken in turns: a busy machine hits all alike.

    tensor: the input of all of them, or of each by its name.
    """
    samples: dict[str, list[float]] = {name: [] for name in models}
    given = {name: tensor[name] if isinstance(tensor, Mapping) else tensor for name in models}
    for name, engine in models.items():
        run_model(engine, given[name])
    for _ in range(rounds):
        for name, engine in models.items():
            start = time.perf_counter()
            run_model(engine, given[name])
            samples[name].append(round((time.perf_counter() - start) * 1e3, 3))
    return samples


def pack(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """Return arrays as an .npz in memory."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
