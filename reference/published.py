"""The three published data sets, each read in its own layout, slice by slice, with what is damaged or missing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ImageError, UsageError
from edge_runtime.images import SUFFIXES, decode_image
from edge_runtime.preprocess import to_grey

from .matfile import read_mat
from .source import Member, Problem, Source

PUBLISHED = 3064  # slices of Figshare 1512427, and of the PNGs made of it
CLASSES = {"glioma": "glioma", "meningioma": "meningioma", "pituitary": "pituitary", "notumor": "none"}
NUMBERED = re.compile(r"0*([1-9][0-9]{0,4})\.(\w+)$")
ARCHIVE = re.compile(r"[^/]*_([0-9]{1,5})-([0-9]{1,5})\.zip/")  # brainTumorDataPublic_767-1532.zip


@dataclass(frozen=True)
class Scan:
    """One slice as published."""

    name: str  # its id in the data folder
    place: str  # its file in the source
    image: npt.NDArray[np.uint8]  # (H, W)
    mask: npt.NDArray[np.bool_] | None  # (H, W); None: the set has no mask for it, though it has a tumour
    kind: str
    patient: str | None  # None: the set does not say


def to_eight_bits(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return (H, W) uint8: 8-bit pixels as they are, colour as luma; any other from its least to its greatest value.

    Raises: ValueError if all pixels have one value.
    """
    grey = to_grey(image.astype(np.float32)) if image.ndim == 3 else image.astype(np.float64)
    least, most = float(grey.min()), float(grey.max())
    if least == most:
        raise ValueError("every pixel has the same value")
    levels = grey if image.dtype == np.uint8 else (grey - least) * (255 / (most - least))
    return np.rint(levels).astype(np.uint8)


def read_picture(source: Source, member: Member) -> npt.NDArray[np.uint8]:
    """Return an image file of the source, (H, W) uint8. Raises: ImageError."""
    try:
        return to_eight_bits(decode_image(source.read(member), member.name))
    except ValueError as error:
        raise ImageError(member.name, str(error)) from None


# ---------------------------------------------------------------- figshare


def read_figshare(source: Source) -> Iterator[Scan | Problem]:
    """Yield the slices of 1.mat … 3064.mat, and of Figshare's zips of them, in the order of their numbers.

    Raises: UsageError if there is none.
    """
    places = find_numbered(source.members, {"mat"})
    if not places:
        raise nothing("figshare", "1.mat, 2.mat … in folders or zips", source)
    yield from find_gaps(places, "{}.mat")
    for number, members in sorted(places.items()):
        try:
            data = read_once(source, members)
            image, mask, kind, patient = read_mat(data, members[0].name)
            yield Scan(str(number), members[0].name, to_eight_bits(image), mask, kind, patient)
        except ImageError as error:
            yield Problem(members[0].name, error.why)
        except ValueError as error:
            yield Problem(members[0].name, str(error))


def find_numbered(members: Collection[Member], suffixes: Collection[str]) -> dict[int, list[Member]]:
    """Return {number: the files NUMBER.SUFFIX}, most often one; a set that is there zipped and unpacked has two."""
    places = defaultdict(list)
    for member in members:
        found = NUMBERED.fullmatch(member.base)
        if found and found[2].lower() in suffixes:
            places[int(found[1])].append(member)
    return dict(places)


def read_once(source: Source, members: list[Member]) -> bytes:
    """Return the bytes of files that are to be one and the same. Raises: ImageError."""
    first, *others = (source.read(member) for member in members)
    if any(other != first for other in others):
        raise ImageError(members[0].name, f"{members[1].name} has the same number and is another file")
    return first


def find_gaps(places: dict[int, list[Member]], name: str) -> list[Problem]:
    """Return the numbers left out up to the greatest, a range of them as one problem.

    What a zip of Figshare's holds of the range in its name is what was put into it: a zip is whole, or damaged.
    """
    there = set(places)
    zips: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, members in places.items():
        for found in filter(None, (ARCHIVE.search(member.name) for member in members)):
            zips[int(found[1]), int(found[2])].append(number)
    for (first, last), inside in zips.items():
        there.update(range(first, min(inside)), range(max(inside), last + 1))
    lowest = min(zips, default=(1, 0))[0]
    lacking = [number for number in range(min(lowest, *places), max(places)) if number not in there]
    return [
        Problem(name.format(first) + (f" to {name.format(last)}" if last > first else ""), "missing", last - first + 1)
        for first, last in to_ranges(lacking)
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


def nothing(name: str, what: str, source: Source) -> UsageError:
    """Return the error for a source that holds nothing of a set."""
    why = "; ".join(f"{problem.file}: {problem.why}" for problem in source.problems[:3])
    return UsageError(name, f"the source holds no {what}" + (f" ({why})" if why else ""), "see docs/data.md")


# ---------------------------------------------------------------- Kaggle, images and masks


def read_segmentation(source: Source, labels: dict[str, tuple[str, str]] | None = None) -> Iterator[Scan | Problem]:
    """Yield the slices of images/1.png … and masks/1.png …; class and patient from `labels` by number, if given.

    Raises: UsageError if there is none.
    """
    images, masks = (
        find_named([member for member in source.members if member.folder == folder]) for folder in ("images", "masks")
    )
    if not images or not masks:
        raise nothing("kaggle-segmentation", "images/1.png … with masks/1.png …", source)
    every = [file for files in (*images.values(), *masks.values()) for file in files]
    yield from find_gaps(find_numbered(every, {"png"}), "images/{}.png")
    for stem in sorted(images.keys() | masks.keys(), key=by_number):
        if stem not in images or stem not in masks:
            there = (images.get(stem) or masks[stem])[0].name
            yield Problem(there, "it has no mask" if stem in images else "a mask without its image")
            continue
        if labels is not None and stem not in labels:
            yield Problem(images[stem][0].name, "the labels have no row for it")
            continue
        kind, patient = labels[stem] if labels else ("tumour", None)
        try:
            yield pair_pictures(source, stem, images[stem], masks[stem], kind, patient)
        except ImageError as error:
            yield Problem(error.what, error.why)


def find_named(members: Collection[Member]) -> dict[str, list[Member]]:
    """Return {name without suffix: the image files of that name}, numbers without leading zeros."""
    files = defaultdict(list)
    for member in members:
        stem, _, suffix = member.base.rpartition(".")
        if f".{suffix.lower()}" in SUFFIXES:
            files[stem.lstrip("0") if stem.isdecimal() and stem.lstrip("0") else stem].append(member)
    return dict(files)


def by_number(name: str) -> tuple[int, int | str, str]:
    """Return a key that sorts numbers as numbers, and before names."""
    return (0, int(name), name) if name.isascii() and name.isdecimal() else (1, name, name)


def pair_pictures(
    source: Source, name: str, images: list[Member], masks: list[Member], kind: str, patient: str | None
) -> Scan:
    """Return one slice of an image and a mask file. Raises: ImageError."""
    for files in (images, masks):
        if len(files) > 1:
            raise ImageError(files[0].name, f"{files[1].name} has the same name")
    image = read_picture(source, images[0])
    mask = decode_image(source.read(masks[0]), masks[0].name)
    most = 1 if mask.max() == 1 else np.iinfo(mask.dtype).max  # masks of 0 and 1 are about, too
    inside = to_grey(mask.astype(np.float32)) >= most / 2
    if inside.shape != image.shape:
        raise ImageError(masks[0].name, f"it is {inside.shape}, its image {image.shape}")
    return Scan(name, images[0].name, image, inside, kind, patient)


# ---------------------------------------------------------------- Kaggle, four class folders


def read_classes(source: Source) -> Iterator[Scan | Problem]:
    """Yield the images of the folders glioma, meningioma, notumor and pituitary, in Training/ and Testing/ or not.

    Those of notumor have an empty mask, the others none: the set has no outlines. Raises: UsageError if none is there.
    """
    files = [
        (member, CLASSES[member.folder.lower()])
        for member in source.members
        if member.folder.lower() in CLASSES and f".{member.base.rpartition('.')[2].lower()}" in SUFFIXES
    ]
    if not files:
        raise nothing("kaggle-classes", f"images in folders {', '.join(CLASSES)}", source)
    there = {kind for _, kind in files}
    yield from (Problem(f"{folder}/", "the class folder is missing or empty") for folder in missing(there))
    names: set[str] = set()
    for member, kind in files:
        try:
            image = read_picture(source, member)
        except ImageError as error:
            yield Problem(member.name, error.why)
            continue
        mask = np.zeros(image.shape, np.bool_) if kind == "none" else None
        yield Scan(name_image(member.name, names), member.name, image, mask, kind, None)


def missing(kinds: Collection[str]) -> list[str]:
    """Return the class folders of which there is no image."""
    return [folder for folder, kind in CLASSES.items() if kind not in kinds]


def name_image(place: str, taken: set[str]) -> str:
    """Return an id that is a file name and not yet taken: Training/glioma/Tr-gl_1.jpg → Training-glioma-Tr-gl_1."""
    plain = re.sub(r"[^\w.-]", "_", place.rpartition(".")[0].replace("/", "-"))[-100:].lstrip(".-")
    name, count = plain, 1
    while name.casefold() in taken:
        count += 1
        name = f"{plain}-{count}"
    taken.add(name.casefold())
    return name


READERS: dict[str, Callable[[Source], Iterator[Scan | Problem]]] = {
    "figshare": read_figshare,
    "kaggle-segmentation": read_segmentation,
    "kaggle-classes": read_classes,
}
