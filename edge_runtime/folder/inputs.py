"""Which images does a run segment, and what are their outputs called?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge_runtime.errors import EdgeSegError
from edge_runtime.images.formats import SUFFIXES


@dataclass(frozen=True)
class Input:
    """One image file and its name in results.csv."""

    path: Path
    file: str  # relative to the folder that was given, with / between its parts

    @property
    def name(self) -> str:
        """The name of its mask and overlay in OUT."""
        return name_mask(self.file)


def name_mask(file: str) -> str:
    """Return the name of an image's mask: its own, with .png appended unless it ends so."""
    return file if PurePosixPath(file).suffix == ".png" else f"{file}.png"


def find_inputs(given: Sequence[Path], recursive: bool, out: Path) -> list[Input]:
    """List the images of files and folders, folders in file name order, leaving out what lies in `out`.

    A named file is read whatever its suffix; of a folder, those with an image's suffix. With several inputs, the names
    of a folder's files begin with the folder's.
    Raises: EdgeSegError if an input does not exist or lies in `out`, there is no image at all, or two would share
    their outputs.
    """
    inputs = []
    for path in given:
        if os.path.isdir(path):  # noqa: PTH112 - unlike Path's, it never raises
            prefix = f"{Path(os.path.realpath(path)).name}/" if len(given) > 1 else ""
            inputs += [Input(image, prefix + file) for image, file in walk(path, recursive, out)]
        elif os.path.lexists(path):
            inputs.append(Input(path, path.name))
        else:
            raise EdgeSegError(str(path), "no such file or folder", "check the path")
    if not inputs:
        where = ", ".join(map(str, given))
        hint = "" if recursive else ", or add --recursive for the folders in it"
        raise EdgeSegError(where, "no images in it", f"{', '.join(SUFFIXES)} are read{hint}")
    check_names(inputs)
    check_outside(inputs, out)
    return inputs


def walk(folder: Path, recursive: bool, out: Path) -> Iterator[tuple[Path, str]]:
    """Yield a folder's image files and their relative names, sorted; symbolic links to folders are not followed.

    What begins with a dot is hidden and left out.
    """
    avoided = os.path.realpath(out)
    for top, folders, files in os.walk(folder, onerror=raise_listing_error):
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and os.path.realpath(Path(top) / name) != avoided
        )
        for name in sorted(files):
            path = Path(top) / name
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path, path.relative_to(folder).as_posix()


def raise_listing_error(error: OSError) -> None:
    """Stop on a folder that cannot be listed: its images would be missing from the results without a message."""
    raise EdgeSegError(str(error.filename), error.strerror or str(error), "check its permissions")


def check_names(inputs: Sequence[Input]) -> None:
    """Refuse two inputs whose outputs would be one file, or a file and a folder of one name."""
    first: dict[str, Input] = {}
    for item in inputs:
        other = first.setdefault(item.name, item)
        if other is not item:
            why = f"its mask would be that of {other.path}"
            raise EdgeSegError(str(item.path), why, "run them one by one, each with its own -o")
    for name, item in first.items():
        for parent in PurePosixPath(name).parents:
            if str(parent) in first:
                why = f"its mask would lie in a folder named as the mask of {first[str(parent)].path}"
                raise EdgeSegError(str(item.path), why, "run them one by one, each with its own -o")


def check_outside(inputs: Sequence[Input], out: Path) -> None:
    """Refuse inputs that lie in `out`: a run could overwrite them, and the next would segment its masks."""
    avoided = os.path.realpath(out) + os.sep
    for item in inputs:
        if os.path.realpath(item.path).startswith(avoided):
            raise EdgeSegError(str(item.path), f"it lies in the output folder {out}", "choose another -o")
