"""A session without a model file: a fake engine, and a contract that fits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract.fields import (
    ClassSpec,
    Contract,
    InputSpec,
    Label,
    ModelFacts,
    OutputSpec,
    SourceModel,
    Threshold,
)
from edge_runtime.inference.session import Session

Array = npt.NDArray[Any]
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))


class FakeEngine:
    """An Engine whose output is a function of its input tensor."""

    name, version, threads = "fake", "1", 1
    input_dtype = output_dtype = "float32"

    def __init__(
        self, answer: Callable[[Array], Array], size: int, labels: int, classes: tuple[float, ...] = ()
    ) -> None:
        self.answer, self.seen, self.classes = answer, 0, classes
        self.input_shape = (1, size, size, 1)
        self.output_shape = (1, size, size, labels)
        self.class_shape = (1, len(classes)) if classes else None

    def infer(self, tensor: Array) -> npt.NDArray[np.float32]:
        self.seen += 1
        return np.asarray(self.answer(tensor), np.float32)

    def infer_both(self, tensor: Array) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        return self.infer(tensor), np.array([self.classes], np.float32)


def echo(tensor: Array) -> Array:
    """The lesion's probability is the pixel's brightness."""
    return tensor


def make_contract(
    size: int = 32,
    labels: int = 1,
    colour: str = "grey",
    activation: str = "",
    depth: int | None = None,
    classes: ClassSpec | None = None,
) -> Contract:
    activation = activation or ("sigmoid" if labels == 1 else "softmax")
    names = ("background", "edema", "core", "cyst")[:labels] if activation == "softmax" else ("whole", "core")[:labels]
    sides = (1, size, size) if depth is None else (1, depth, size, size)
    return Contract(
        model=ModelFacts("fake", "1"),
        input=InputSpec((*sides, 3 if colour == "rgb" else 1), "float32", colour, "stretch-area", 1 / 255, 0.0),
        output=OutputSpec(
            (*sides, labels),
            "float32",
            activation,
            tuple(
                Label("lesion" if labels == 1 else name, COLOURS[k if labels > 1 else 1])
                for k, name in enumerate(names)
            ),
        ),
        threshold=Threshold(0.5, "a test"),
        recipe="fp32",
        calibration=None,
        source=SourceModel("0" * 64, {"keras": "3"}),
        quality=None,
        intended_use="Tests only.",
        allowed=(),
        classes=classes,
    )


def make_session(
    answer: Callable[[Array], Array] = echo, size: int = 32, labels: int = 1, threshold: float | None = None
) -> Session:
    return Session(make_contract(size, labels), FakeEngine(answer, size, labels), threshold)
