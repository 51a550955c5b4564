"""Pictures of the images where a conversion did worst: truth, Keras and result side by side."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge_runtime.errors import OutputError
from edge_runtime.images import encode_png
from edge_runtime.overlay import Colour, Picture, draw_overlay, to_picture
from edge_runtime.postprocess import Labels
from edge_runtime.preprocess import Image

from .candidate import Candidate
from .check import Check, Evidence, open_session

MAX_SIDE = 1024  # pixels of one panel; larger images are thinned out
GAP = 8  # white pixels between panels
OURS = re.compile(r"\d\d-.*\.png")


def draw_worst(evidence: Evidence, check: Check, candidate: Candidate) -> dict[str, bytes]:
    """Return {file name: PNG} of the worst images, the worst first: truth (if there are masks), Keras, result."""
    model = evidence.work / "worst.tflite"
    model.write_bytes(candidate.flatbuffer)
    session, pictures = open_session(model, candidate.contract), {}
    labels = candidate.contract.output.labels
    colours = [label.colour for label in (labels if len(labels) == 1 else labels[1:])]
    for rank, place in enumerate(check.worst, 1):
        image, truth, keras = evidence.read(place)
        answer = evidence.segment(session, image, "", {})
        views = ([truth] if evidence.found.masks else []) + [keras, np.zeros_like(keras) if answer is None else answer]
        pictures[name_picture(rank, check.rows[place].file)] = encode_png(lay_out(image, views, colours))
    return pictures


def name_picture(rank: int, file: str) -> str:
    """Return the picture's file name, '03-NAME.png': sorted by rank, and within what file systems take."""
    stem = re.sub(r"[^\w.-]", "_", Path(file).stem)[:60]
    return f"{rank:02d}-{stem}.png"


def lay_out(image: Image, views: Sequence[Labels], colours: Sequence[Colour]) -> Picture:
    """Return overlays of the same image side by side, (H, about n W, 3), thinned to at most MAX_SIDE per panel."""
    step = -(-max(image.shape[:2]) // MAX_SIDE)
    picture = to_picture(image)[::step, ::step]
    gap = np.full((picture.shape[0], GAP, 3), 255, np.uint8)
    panels: list[Picture] = []
    for labels in views:
        panels += [draw_overlay(picture, labels[::step, ::step], colours), gap]
    return np.concatenate(panels[:-1], axis=1)


def check_folder(folder: Path, force: bool) -> None:
    """Refuse, before any work, a folder of pictures that exists already, or holds what is not ours.

    Raises:
        OutputError: it is there and `force` is not said, it is a file, or it holds other things.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not force:
        raise OutputError(str(folder), "it exists already", "say --force to overwrite it")
    if folder.is_symlink() or not folder.is_dir():
        raise OutputError(str(folder), "it is not a folder", "move it away")
    for path in folder.iterdir():
        if not OURS.fullmatch(path.name):
            raise OutputError(str(path), "it is none of the pictures that --force replaces", "move it away")


@contextmanager
def replaced(folder: Path, pictures: Mapping[str, bytes]) -> Iterator[None]:
    """Put a folder of pictures in place (none: no folder); if what follows fails, everything is as it was before.

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
