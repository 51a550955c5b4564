"""What is kept of one file of a series: numbers, known words and digests; no name, date, identifier or free text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """One slice: where it lies in the patient (mm, DICOM's LPS axes) and how it was acquired; None where not said."""

    position: Vector | None = None  # (x, y, z) of the first pixel's centre
    orientation: Vector | None = None  # direction of a row, then of a column: six cosines
    spacing: Vector | None = None  # mm from row to row, then from column to column
    thickness: float | None = None
    echo_ms: float | None = None
    temporal: int | None = None  # TemporalPosition
    b_value: float | None = None
    kind: str = ""  # digest of ImageType or FrameType, to tell frames apart
    marks: tuple[str, ...] = ()  # of `words.MARKS`, that the image type says


@dataclass(frozen=True)
class Timing:
    """What tells a sequence by numbers; times in ms, None where not said."""

    repetition: float | None = None
    echo: float | None = None
    inversion: float | None = None
    flip: float | None = None  # degrees
    scanning: tuple[str, ...] = ()  # of SE, IR, GR, EP, RM


@dataclass(frozen=True)
class Header:
    """One object of a series: a classic image, a multi-frame image, a NIfTI file or what is no image."""

    form: str  # "classic", "multi-frame", "nifti", "other"
    study: str = ""  # digests, as are the next three
    series: str = ""
    reference_frame: str = ""
    instance: str = ""
    modality: str = ""  # of `words.MODALITIES`, else "other"
    rows: int = 0
    columns: int = 0
    marks: tuple[str, ...] = ()  # of `words.MARKS`
    words: tuple[str, ...] = ()  # of `words.WORDS`, found in descriptions
    timing: Timing = field(default_factory=Timing)
    agent: bool = False  # ContrastBolusAgent names one
    number: int | None = None  # InstanceNumber
    acquisition: int | None = None  # AcquisitionNumber
    seconds: float | None = None  # time of acquisition, on any clock that a study shares
    package: str = ""  # that its transfer syntax needs and that is not here; "?" where none reads it
    damaged: bool = False  # cut short, or a value that is needed is missing
    frames: tuple[Frame, ...] = ()


class Digests:
    """Names for identifiers that can be compared, and that nobody can look up."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def __call__(self, text: str) -> str:
        """Return an identifier's digest; "" for none."""
        return blake2b(text.encode("utf-8", "replace"), digest_size=12, key=self.key).hexdigest() if text else ""


def to_line(header: Header) -> str:
    """Return a header as one line of JSON."""
    return json.dumps(asdict(header))


def to_header(fields: Mapping[str, Any]) -> Header:
    """Return the header of `to_line`'s fields."""
    frames = tuple(Frame(**freeze(frame)) for frame in fields["frames"])
    rest = freeze({name: value for name, value in fields.items() if name not in ("frames", "timing")})
    return Header(**rest, frames=frames, timing=Timing(**freeze(fields["timing"])))


def freeze(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with tuples for JSON's lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
