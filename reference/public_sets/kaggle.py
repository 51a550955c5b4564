"""Reads two sets of Kaggle: pairs of image and mask, and images in four class folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator

import numpy as np

from edge_runtime.errors import ImageError
from edge_runtime.images.formats import SUFFIXES
from edge_runtime.images.read import decode_image
from edge_runtime.inference.preprocess import to_grey

from .download import Member, Problem, SetSource
from .layouts import Scan, find_gaps, find_numbered, make_empty_error, number_key, read_grey_image

CLASSES = {"glioma": "glioma", "meningioma": "meningioma", "pituitary": "pituitary", "notumor": "none"}


def read_segmentation(source: SetSource, labels: dict[str, tuple[str, str]] | None = None) -> Iterator[Scan | Problem]:
    """Yield the slices of images/1.png … and masks/1.png …; class and patient from `labels` by number, if given.

    Raises: UsageError if the source holds none.
    """
    images, masks = (
        find_named([member for member in source.members if member.folder == folder]) for folder in ("images", "masks")
    )
    if not images or not masks:
        raise make_empty_error("kaggle-segmentation", "images/1.png … with masks/1.png …", source)
    every = [file for files in (*images.values(), *masks.values()) for file in files]
    yield from find_gaps(find_numbered(every, {"png"}), "images/{}.png")
    for stem in sorted(images.keys() | masks.keys(), key=number_key):
        if stem not in images or stem not in masks:
            name = (images.get(stem) or masks[stem])[0].name
            yield Problem(name, "it has no mask" if stem in images else "a mask without its image")
            continue
        if labels is not None and stem not in labels:
            yield Problem(images[stem][0].name, "the labels have no row for it")
            continue
        kind, patient = labels[stem] if labels else ("tumour", None)
        try:
            yield read_pair(source, stem, images[stem], masks[stem], kind, patient)
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


def read_pair(
    source: SetSource, name: str, images: list[Member], masks: list[Member], kind: str, patient: str | None
) -> Scan:
    """Return one slice from an image file and a mask file. Raises: ImageError."""
    for files in (images, masks):
        if len(files) > 1:
            raise ImageError(files[0].name, f"{files[1].name} has the same name")
    image = read_grey_image(source, images[0])
    mask = decode_image(source.read(masks[0]), masks[0].name)
    maximum = 1 if mask.max() == 1 else np.iinfo(mask.dtype).max  # some copies of the set have masks of 0 and 1
    inside = to_grey(mask.astype(np.float32)) >= maximum / 2
    if inside.shape != image.shape:
        raise ImageError(masks[0].name, f"it is {inside.shape}, its image {image.shape}")
    return Scan(name, images[0].name, image, inside, kind, patient)


# ---------------------------------------------------------------- Kaggle, four class folders


def read_classes(source: SetSource) -> Iterator[Scan | Problem]:
    """Yield the images of the folders glioma, meningioma, notumor and pituitary, at any depth.

    Those of notumor have an empty mask, the others none: the set has no outlines.
    Raises: UsageError if the source holds none.
    """
    files = [
        (member, CLASSES[member.folder.lower()])
        for member in source.members
        if member.folder.lower() in CLASSES and f".{member.base.rpartition('.')[2].lower()}" in SUFFIXES
    ]
    if not files:
        raise make_empty_error("kaggle-classes", f"images in folders {', '.join(CLASSES)}", source)
    kinds = {kind for _, kind in files}
    yield from (Problem(f"{folder}/", "the class folder is missing or empty") for folder in find_missing_classes(kinds))
    names: set[str] = set()
    for member, kind in files:
        try:
            image = read_grey_image(source, member)
        except ImageError as error:
            yield Problem(member.name, error.why)
            continue
        mask = np.zeros(image.shape, np.bool_) if kind == "none" else None
        yield Scan(make_id(member.name, names), member.name, image, mask, kind, None)


def find_missing_classes(kinds: Collection[str]) -> list[str]:
    """Return the class folders without an image."""
    return [folder for folder, kind in CLASSES.items() if kind not in kinds]


def make_id(file: str, used: set[str]) -> str:
    """Return an unused id that is a valid file name: Training/glioma/Tr-gl_1.jpg → Training-glioma-Tr-gl_1."""
    plain = re.sub(r"[^\w.-]", "_", file.rpartition(".")[0].replace("/", "-"))[-100:].lstrip(".-")
    name, count = plain, 1
    while name.casefold() in used:
        count += 1
        name = f"{plain}-{count}"
    used.add(name.casefold())
    return name
