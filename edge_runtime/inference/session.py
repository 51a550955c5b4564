"""How is a stamped model loaded, and an image or a volume segmented with it?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edge_runtime.contract.fields import Contract
from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import ContractError, UsageError
from edge_runtime.images.arrays import Image
from edge_runtime.inference.engines.registry import Engine, load_engine
from edge_runtime.models import DEFAULT

from .engine_verdict import load_best, read_verdict
from .given_image import take_image
from .postprocess import find_lead, to_class, to_labels, to_probability
from .preprocess import Tensor, to_model_input
from .result import Result as Result

STAGES = ("preprocess_ms", "infer_ms", "postprocess_ms")


class Session:
    """A model loaded on one engine. Not for several threads at once: load one for each."""

    def __init__(self, contract: Contract, engine: Engine, threshold: float | None = None) -> None:
        self.contract, self.engine = contract, engine
        self.threshold = contract.threshold.value if threshold is None else threshold

    def __repr__(self) -> str:
        """Say which model, what it takes, its engine, and the threshold where one decides."""
        facts, spec = self.contract.model, self.contract.input
        size = " × ".join(map(str, (*filter(None, (spec.depth,)), *spec.size)))
        softmax = self.contract.output.activation == "softmax"
        decides = "the most probable label" if softmax else f"threshold {self.threshold:g}"
        threads = f"{self.engine.threads} thread" + "s" * (self.engine.threads != 1)
        model = f"{facts.id} {facts.version}, {spec.colour} {size}"
        return f"<Session {model}, {decides}, {self.engine.name} with {threads}>"

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

    def segment(self, image: Image | str | Path) -> Result:
        """Segment an image: its file, or an array (H, W) grey or (H, W, 3) RGB, uint8 or uint16.

        A model of volumes takes an array of slices, (D, H, W) or (D, H, W, 3); whether it does, and how many, is in the
        contract.
        Raises: ImageError if the file cannot be read or the array is no image, with what would make one of it;
        ModelError if the model's output is not a probability everywhere; EngineError if inference fails.
        """
        contract, depth = self.contract, self.contract.input.depth
        image = take_image(image, depth)
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
        return Result(labels > 0, lesion, labels, self.engine.name, timings, name, sure, lead, contract.output.lesions)

    def preprocess(self, image: Image) -> Tensor:
        """Return the input tensor, as the contract defines it."""
        return to_model_input(image, self.contract.input)


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
