"""What the readers of the published sets share: a slice, numbered files and their gaps, and 8-bit pixels."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ImageError, UsageError
from edge_runtime.images.read import decode_image
from edge_runtime.inference.preprocess import to_grey

from .download import Member, Problem, SetSource

PUBLISHED_SLICES = 3064  # of Figshare 1512427, and of the PNGs made of it
NUMBERED = re.compile(r"0*([1-9][0-9]{0,4})\.(\w+)$")
ARCHIVE = re.compile(r"[^/]*_([0-9]{1,5})-([0-9]{1,5})\.zip/")  # brainTumorDataPublic_767-1532.zip


@dataclass(frozen=True)
class Scan:
    """One slice as published."""

    name: str  # its id in the data folder
    file: str  # its name in the source
    image: npt.NDArray[np.uint8]  # (H, W)
    mask: npt.NDArray[np.bool_] | None  # (H, W); None: it has a tumour, but the set has no mask for it
    kind: str
    patient: str | None  # None: not in the set


def to_eight_bits(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return (H, W) uint8: 8-bit pixels as they are, colour as luma, others scaled from minimum to maximum.

    Raises: ValueError if all pixels have one value.
    """
    grey = to_grey(image.astype(np.float32)) if image.ndim == 3 else image.astype(np.float64)
    minimum, maximum = float(grey.min()), float(grey.max())
    if minimum == maximum:
        raise ValueError("every pixel has the same value")
    levels = grey if image.dtype == np.uint8 else (grey - minimum) * (255 / (maximum - minimum))
    return np.rint(levels).astype(np.uint8)


def read_grey_image(source: SetSource, member: Member) -> npt.NDArray[np.uint8]:
    """Return an image file of the source, (H, W) uint8. Raises: ImageError."""
    try:
        return to_eight_bits(decode_image(source.read(member), member.name))
    except ValueError as error:
        raise ImageError(member.name, str(error)) from None


def find_numbered(members: Collection[Member], suffixes: Collection[str]) -> dict[int, list[Member]]:
    """Return {number: the files NUMBER.SUFFIX}: usually one, two if a set is there both zipped and unpacked."""
    members_by_number = defaultdict(list)
    for member in members:
        match = NUMBERED.fullmatch(member.base)
        if match and match[2].lower() in suffixes:
            members_by_number[int(match[1])].append(member)
    return dict(members_by_number)


def read_same(source: SetSource, members: list[Member]) -> bytes:
    """Return the bytes of files that must be identical. Raises: ImageError."""
    first, *others = (source.read(member) for member in members)
    if any(other != first for other in others):
        raise ImageError(members[0].name, f"{members[1].name} has the same number and is another file")
    return first


def find_gaps(members_by_number: dict[int, list[Member]], name: str) -> list[Problem]:
    """Return the missing numbers up to the greatest, each range as one problem.

    A Figshare zip has a range in its name. It is whole or damaged, so numbers that it lacks at either end of its range
    are not missing.
    """
    known = set(members_by_number)
    zips: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, members in members_by_number.items():
        for match in filter(None, (ARCHIVE.search(member.name) for member in members)):
            zips[int(match[1]), int(match[2])].append(number)
    for (first, last), inside in zips.items():
        known.update(range(first, min(inside)), range(max(inside), last + 1))
    lowest = min(zips, default=(1, 0))[0]
    numbers = range(min(lowest, *members_by_number), max(members_by_number))
    missing = [number for number in numbers if number not in known]
    return [
        Problem(name.format(first) + (f" to {name.format(last)}" if last > first else ""), "missing", last - first + 1)
        for first, last in to_ranges(missing)
    ]


def to_ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Return sorted numbers as ranges, both ends included."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ranges


def make_empty_error(name: str, what: str, source: SetSource) -> UsageError:
    """Return the error for a source that holds no file of a set."""
    why = "; ".join(f"{problem.file}: {problem.why}" for problem in source.problems[:3])
    return UsageError(name, f"the source holds no {what}" + (f" ({why})" if why else ""), "see docs/data.md")


def number_key(name: str) -> tuple[int, int | str, str]:
    """Return a key that sorts numbers as numbers, and before names."""
    return (0, int(name), name) if name.isascii() and name.isdecimal() else (1, name, name)
