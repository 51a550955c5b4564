"""What parent and child of a conversion exchange, with defaults for what a test does not ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from convert.source.process import ConversionRequest, SourceFacts

FACTS = SourceFacts(
    name="net",
    kind="keras",
    input_shape=(1, 8, 8, 1),
    input_dtype="float32",
    output_shape=(1, 8, 8, 1),
    activation="sigmoid",
    classes=None,
    scale=1 / 255,
    offset=0.0,
    intensity="bit-depth",
    scale_from="assumed",
    scale_why="",
    scale_conflict="",
    weights=0,
    kernels=0,
    layers=(),
    notes=(),
    versions={"keras": "3"},
)


def make_facts(**facts: Any) -> SourceFacts:
    return replace(FACTS, **facts)


def make_request(path: Path, **options: Any) -> ConversionRequest:
    names = ("input_size", "activation", "scale", "offset", "intensity", "mask", "classes")
    fixed = {"model": str(path), "trust": "", "scale_from": "", "labelled": False, "images": (), "trial": False}
    return ConversionRequest(**{**fixed, **dict.fromkeys(names), **options})
