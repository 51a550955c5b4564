"""How is a stamped model loaded, and an image or a volume segmented with it?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract.fields import Contract
from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import ContractError, ImageError, UsageError
from edge_runtime.images.arrays import Image, Labels
from edge_runtime.inference.engines.registry import Engine, load_engine
from edge_runtime.models import DEFAULT

from .engine_verdict import load_best, read_verdict
from .postprocess import Lead, Probability, find_lead, to_class, to_labels, to_probability
from .preprocess import Tensor, to_model_input

STAGES = ("preprocess_ms", "infer_ms", "postprocess_ms")


@dataclass(frozen=True)
class Result:
    """One image's segmentation, at the image's own size; a volume's has the depth in front."""

    mask: npt.NDArray[np.bool_]  # (H, W): lesion of any label
    probability: Probability  # (H, W) float32 in [0, 1]: of any lesion
    labels: Labels  # (H, W) uint8: 0 background, from 1 on the contract's lesions
    engine: str
    timings: Mapping[str, float]  # preprocess_ms, infer_ms, postprocess_ms
    class_name: str | None = None  # of the whole image, where the model has such an output
    class_probability: float | None = None
    lead: Lead | None = None  # of a softmax: what decides whether the mask is empty


class Session:
    """A model loaded on one engine. Not for several threads at once: load one for each."""

    def __init__(self, contract: Contract, engine: Engine, threshold: float | None = None) -> None:
        self.contract, self.engine = contract, engine
        self.threshold = contract.threshold.value if threshold is None else threshold

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        engine: str = "auto",
        threads: int | None = None,
        threshold: float | None = None,
    ) -> Session:
        """Load a stamped .tflite file, the embedded default without `path`, on an engine.

        engine: "auto" is the one measured to be the best here (`edge-seg --retune`), else the first one installed.
        threads: of the engine, default all cores that this process may use. threshold: instead of the contract's.
        Raises: ModelError, ContractError, EngineError; UsageError for a threshold that cannot apply.
        """
        path = DEFAULT if path is None else Path(path)
        contract = read_contract(path, verify=True)
        if threshold is not None:
            check_threshold(threshold, contract)
        kept = read_verdict(contract.model.sha256) if engine == "auto" else None
        if kept is None:
            return cls(contract, load_checked(path, contract, engine, threads), threshold)
        found = load_best(kept, lambda name, _: load_checked(path, contract, name, threads))
        return cls(contract, found[0], threshold)

    def segment(self, image: Image) -> Result:
        """Segment an image, (H, W) grey or (H, W, 3) RGB, or a volume of these, (D, H, W) or (D, H, W, 3).

        uint8 or uint16. Whether it is a volume, and of how many slices, is in the contract.
        Raises: ImageError if it is no such array; ModelError if the model's output is not a probability everywhere;
        EngineError if inference fails.
        """
        contract, depth = self.contract, self.contract.input.depth
        if depth is None:
            check_image(image)
        else:
            check_volume(image, depth)
        started = time.perf_counter()
        tensor = self.preprocess(image)
        prepared = time.perf_counter()
        classes = contract.classes
        mask, kinds = self.engine.infer_both(tensor) if classes else (self.engine.infer(tensor), None)
        inferred = time.perf_counter()
        sides = image.shape[:2] if depth is None else image.shape[1:3]
        probability = to_probability(mask, *sides)
        labels, lesion = to_labels(probability, self.threshold, contract.output.activation)
        lead = find_lead(probability) if contract.output.activation == "softmax" else None
        name, sure = to_class(kinds, classes.labels) if classes and kinds is not None else (None, None)
        done = time.perf_counter()
        spent = (prepared - started, inferred - prepared, done - inferred)
        timings = {stage: 1000 * seconds for stage, seconds in zip(STAGES, spent, strict=True)}
        return Result(labels > 0, lesion, labels, self.engine.name, timings, name, sure, lead)

    def preprocess(self, image: Image) -> Tensor:
        """Return the input tensor, as the contract defines it."""
        return to_model_input(image, self.contract.input)


def check_volume(volume: Image, depth: int) -> None:
    """Refuse an array that is no volume of so many slices."""
    shaped = volume.ndim == 3 or (volume.ndim == 4 and volume.shape[3] == 3)
    if not shaped or volume.size == 0 or volume.dtype not in (np.uint8, np.uint16):
        found = f"{volume.dtype} of shape {volume.shape}"
        raise ImageError("volume", found, f"this model takes ({depth}, H, W), or ({depth}, H, W, 3), uint8 or uint16")
    if volume.shape[0] != depth:
        why = f"it has {volume.shape[0]} slices, this model takes {depth}"
        raise ImageError("volume", why, "take as many in their order, or pad it with slices of zeros")


def check_image(image: Image) -> None:
    """Refuse an array that `read_image` would not return: its values would be read on a wrong scale."""
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not shaped or image.size == 0 or image.dtype not in (np.uint8, np.uint16):
        found = f"{image.dtype} of shape {image.shape}"
        raise ImageError("image", found, "give (H, W) or (H, W, 3) RGB, uint8 or uint16")


def check_threshold(threshold: float, contract: Contract) -> None:
    """Refuse a threshold outside (0, 1), or for a softmax, whose labels are the most probable ones."""
    if not 0 < threshold < 1:
        raise UsageError(f"threshold {threshold}", "it is not between 0 and 1", "give one such as 0.5")
    if contract.output.activation == "softmax":
        raise UsageError(f"threshold {threshold}", "this model's labels are the most probable ones", "leave it out")


def load_checked(path: Path, contract: Contract, name: str, threads: int | None) -> Engine:
    """Load a model on an engine, and check it against its contract."""
    engine = load_engine(name, path, threads)
    check_shapes(path, contract, engine)
    return engine


def check_shapes(path: Path, contract: Contract, engine: Engine) -> None:
    """Refuse a contract whose shapes or types are not those of the graph it is stamped on."""
    pairs: list[tuple[str, Any, Any]] = [
        ("input shape", contract.input.shape, engine.input_shape),
        ("input dtype", contract.input.dtype, engine.input_dtype),
        ("output shape", contract.output.shape, engine.output_shape),
        ("output dtype", contract.output.dtype, engine.output_dtype),
        ("classes' shape", contract.classes and contract.classes.shape, engine.class_shape),
    ]
    for what, promised, found in pairs:
        if promised != found:
            why = f"its contract promises {what} {promised}, the graph has {found}"
            raise ContractError(str(path), why, "convert the model again")
