"""What is a child process asked to write for a series, and what does it answer? Lines of JSON on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_runtime.hospital.headers.header import Vector, freeze
from edge_runtime.hospital.pixels.slice_source import Turn


@dataclass(frozen=True)
class OutputSlice:
    """One slice that was segmented, with its mask in OUT and its place in the patient."""

    path: str
    entry: int | None
    frame: int
    axis: int
    turn: Turn
    mask: str  # relative to OUT
    position: Vector | None
    orientation: Vector | None
    spacing: Vector | None
    joined: bool  # next to the slice before, and not beyond a gap


@dataclass(frozen=True)
class SeriesRequest:
    """One series, what is to be written of it, and what it says of the model."""

    out: str
    alias: str
    form: str
    kinds: tuple[str, ...]  # of "seg", "sc", "nifti"
    links: bool
    labels: tuple[str, ...]  # of the lesions, in the order of a mask's values
    colours: tuple[Vector, ...]
    model: tuple[str, str]  # id and version
    identity: str  # what the mask depends on beside the source: the contract's digest and the threshold
    version: str  # of this program
    slices: tuple[OutputSlice, ...]
    gapped: bool


@dataclass(frozen=True)
class SeriesAnswer:
    """What was measured and written."""

    lesion_slices: int = 0
    objects: int = 0
    largest_mm: float | None = None
    files: tuple[str, ...] = ()  # relative to OUT
    errors: tuple[tuple[str, str], ...] = ()  # (kind of output, why it could not be written)
    links: tuple[tuple[str, str, str, str, str], ...] = ()  # path, Patient ID, UIDs of study, series and object


@dataclass
class Notes:
    """What is collected for an answer."""

    files: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)


def to_request(fields: Mapping[str, Any]) -> SeriesRequest:
    """Return the request of `asdict`'s fields that went through JSON."""
    slices = tuple(OutputSlice(**freeze(item)) for item in fields["slices"])
    colours = tuple(tuple(colour) for colour in fields["colours"])
    return SeriesRequest(**{**freeze(fields), "slices": slices, "colours": colours})


def to_answer(fields: Mapping[str, Any]) -> SeriesAnswer:
    """Return the answer of `to_fields` that went through JSON."""
    pairs = {name: tuple(tuple(item) for item in fields[name]) for name in ("errors", "links")}
    return SeriesAnswer(**{**freeze(fields), **pairs})


def to_fields(message: SeriesRequest | SeriesAnswer) -> dict[str, Any]:
    """Return a message for JSON."""
    return asdict(message)
