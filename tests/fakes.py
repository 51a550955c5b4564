"""A session without a model file: what stands in for an engine, and a contract that fits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import Contract, InputSpec, Label, ModelFacts, OutputSpec, Source, Threshold
from edge_runtime.session import Session

Array = npt.NDArray[Any]
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))


class FakeEngine:
    """An Engine whose output is a function of its input tensor."""

    name, version, threads = "fake", "1", 1
    input_dtype = output_dtype = "float32"

    def __init__(self, answer: Callable[[Array], Array], size: int, labels: int) -> None:
        self.answer, self.seen = answer, 0
        self.input_shape = (1, size, size, 1)
        self.output_shape = (1, size, size, labels)

    def infer(self, tensor: Array) -> npt.NDArray[np.float32]:
        self.seen += 1
        return np.asarray(self.answer(tensor), np.float32)


def echo(tensor: Array) -> Array:
    """The lesion's probability is the pixel's brightness."""
    return tensor


def make_contract(size: int = 32, labels: int = 1, colour: str = "grey") -> Contract:
    names = ("lesion",) if labels == 1 else ("background", "edema", "core", "cyst")[:labels]
    activation = "sigmoid" if labels == 1 else "softmax"
    return Contract(
        model=ModelFacts("fake", "1"),
        input=InputSpec((1, size, size, 3 if colour == "rgb" else 1), "float32", colour, "stretch-area", 1 / 255, 0.0),
        output=OutputSpec(
            (1, size, size, labels),
            "float32",
            activation,
            tuple(Label(name, COLOURS[k if labels > 1 else 1]) for k, name in enumerate(names)),
        ),
        threshold=Threshold(0.5, "a test"),
        recipe="fp32",
        calibration=None,
        source=Source("0" * 64, {"keras": "3"}),
        quality=None,
        intended_use="Tests only.",
        allowed=(),
    )


def make_session(
    answer: Callable[[Array], Array] = echo, size: int = 32, labels: int = 1, threshold: float | None = None
) -> Session:
    return Session(make_contract(size, labels), FakeEngine(answer, size, labels), threshold)
