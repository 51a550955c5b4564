"""On which images does a conversion lose most? Drawn as pictures: truth, Keras and result side by side."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from convert.search.candidate import Candidate
from convert.verify.compare_on_images import ImageSetCheck, ReferenceImages, open_session
from edge_runtime.errors import OutputError
from edge_runtime.images.arrays import Image, Labels
from edge_runtime.images.overlay import Colour, Picture, draw_overlay, to_picture
from edge_runtime.images.write import encode_png

MAX_SIDE = 1024  # pixels of one panel; of larger images every n-th pixel is shown
GAP = 8  # white pixels between panels
PICTURE_NAME = re.compile(r"\d\d-.*\.png")


def draw_worst_images(
    reference: ReferenceImages | None, check: ImageSetCheck | None, candidate: Candidate
) -> dict[str, bytes]:
    """Return {file name: PNG} of the images with the largest loss: truth (if there are masks), Keras, result."""
    if reference is None or check is None:
        return {}
    model = reference.work / "worst.tflite"
    model.write_bytes(candidate.flatbuffer)
    session, pictures = open_session(model, candidate.contract), {}
    labels = candidate.contract.output.labels
    colours = [label.colour for label in (labels if len(labels) == 1 else labels[1:])]
    for rank, index in enumerate(check.worst, 1):
        image, truth, keras = reference.read(index)
        result = reference.segment(session, image, "", {})
        masks = ([truth] if reference.found.masks else []) + [keras, np.zeros_like(keras) if result is None else result]
        pictures[name_picture(rank, check.rows[index].file)] = encode_png(join_panels(image, masks, colours))
    return pictures


def name_picture(rank: int, file: str) -> str:
    """Return the picture's file name, '03-NAME.png': sorted by rank, safe and short enough for any file system."""
    stem = re.sub(r"[^\w.-]", "_", Path(file).stem)[:60]
    return f"{rank:02d}-{stem}.png"


def join_panels(image: Image, masks: Sequence[Labels], colours: Sequence[Colour]) -> Picture:
    """Return overlays of the same image side by side, (H, about n W, 3), at most MAX_SIDE per panel."""
    step = -(-max(image.shape[:2]) // MAX_SIDE)
    picture = to_picture(image)[::step, ::step]
    gap = np.full((picture.shape[0], GAP, 3), 255, np.uint8)
    panels: list[Picture] = []
    for labels in masks:
        panels += [draw_overlay(picture, labels[::step, ::step], colours), gap]
    return np.concatenate(panels[:-1], axis=1)


def check_folder(folder: Path, force: bool) -> None:
    """Check, before any work, that a folder of pictures does not exist, or may be replaced.

    Raises:
        OutputError: it exists and `force` is not given, it is a file, or it holds other files than pictures.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not force:
        raise OutputError(str(folder), "it exists already", "say --force to overwrite it")
    if folder.is_symlink() or not folder.is_dir():
        raise OutputError(str(folder), "it is not a folder", "move it away")
    for path in folder.iterdir():
        if not PICTURE_NAME.fullmatch(path.name):
            raise OutputError(str(path), "it is none of the pictures that --force replaces", "move it away")


@contextmanager
def replace_folder(folder: Path, pictures: Mapping[str, bytes]) -> Iterator[None]:
    """Replace a folder of pictures (none: remove it); if the code inside fails, everything is as it was before.

    Raises:
        OutputError: the pictures cannot be written; nothing is left behind then.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".worst-") as beside:
            old, new = Path(beside) / "old", Path(beside) / "new"
            write_pictures(new, pictures)
            if folder.exists():
                folder.rename(old)
            try:
                if pictures:
                    new.rename(folder)
                yield
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                if old.exists():
                    old.rename(folder)
                raise
    except OSError as error:
        raise OutputError(str(folder), f"it cannot be written ({error.strerror})", "make room") from error


def write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Write the pictures into a new folder."""
    folder.mkdir(mode=0o777)
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
