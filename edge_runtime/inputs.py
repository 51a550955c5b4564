"""What a folder run is asked to segment: files and folders to a list of inputs with their names in the output."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import EdgeSegError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Input:
    """One image file, its name in results.csv, and what its outputs are called."""

    path: Path
    file: str  # relative to the folder that was given, with / between parts
    name: str  # of masks and overlays: `file`, with .png appended unless it ends so


def find_inputs(given: Sequence[Path], recursive: bool, out: Path) -> list[Input]:
    """List the images of files and folders, folders in file name order, leaving out what lies in `out`.

    A file that is named is taken whatever its suffix; in a folder, those with an image's suffix. Of several inputs, a
    folder's name goes before its files'.
    Raises: EdgeSegError if an input does not exist or lies in `out`, there is no image at all, or two would share
    their outputs.
    """
    inputs = []
    for place in given:
        if os.path.isdir(place):  # noqa: PTH112 - unlike Path's, it never raises
            prefix = f"{Path(os.path.realpath(place)).name}/" if len(given) > 1 else ""
            inputs += [name_input(path, prefix + relative) for path, relative in walk(place, recursive, out)]
        elif os.path.lexists(place):
            inputs.append(name_input(place, place.name))
        else:
            raise EdgeSegError(str(place), "no such file or folder", "check the path")
    if not inputs:
        where = ", ".join(str(place) for place in given)
        hint = "" if recursive else ", or add --recursive for the folders in it"
        raise EdgeSegError(where, "no images in it", f"{', '.join(SUFFIXES)} are read{hint}")
    check_names(inputs)
    check_places(inputs, out)
    return inputs


def walk(folder: Path, recursive: bool, out: Path) -> Iterator[tuple[Path, str]]:
    """Yield a folder's image files and their relative names, sorted; symbolic links to folders are not followed.

    What begins with a dot is hidden and left out.
    """
    avoided = os.path.realpath(out)
    for top, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and os.path.realpath(Path(top) / name) != avoided
        )
        for name in sorted(files):
            path = Path(top) / name
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path, path.relative_to(folder).as_posix()


def refuse(error: OSError) -> None:
    """Stop on a folder that cannot be listed: its images would be missing from the results without a word."""
    raise EdgeSegError(str(error.filename), error.strerror or str(error), "check its permissions")


def name_input(path: Path, file: str) -> Input:
    """Return an input with its outputs' name."""
    return Input(path, file, file if path.suffix == ".png" else f"{file}.png")


def check_names(inputs: Sequence[Input]) -> None:
    """Refuse two inputs whose outputs would be one file, or a file and a folder of one name."""
    first: dict[str, Input] = {}
    for item in inputs:
        other = first.setdefault(item.name, item)
        if other is not item:
            why = f"its mask would be that of {other.path}"
            raise EdgeSegError(str(item.path), why, "run them one by one, each with its own -o")
    for item in inputs:
        for parent in PurePosixPath(item.name).parents:
            if str(parent) in first:
                why = f"its mask would lie in a folder named as the mask of {first[str(parent)].path}"
                raise EdgeSegError(str(item.path), why, "run them one by one, each with its own -o")


def check_places(inputs: Sequence[Input], out: Path) -> None:
    """Refuse inputs that lie in `out`: a run could overwrite them, and the next would take its masks for images."""
    avoided = os.path.realpath(out) + os.sep
    for item in inputs:
        if os.path.realpath(item.path).startswith(avoided):
            raise EdgeSegError(str(item.path), f"it lies in the output folder {out}", "choose another -o")
