"""Which images does a run segment, and what are their outputs called?"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edge_runtime.errors import EdgeSegError
from edge_runtime.folder.records.journal import JOURNAL
from edge_runtime.images.formats import SUFFIXES

from .others import count_others, describe_others, find_kind

if TYPE_CHECKING:
    from edge_runtime.hospital.pixels.slice_source import SliceSource

NUMBER_OR_CHARACTER = re.compile(r"\d+|\D", re.DOTALL)


@dataclass(frozen=True)
class Input:
    """One image file, or one slice of a series, and its name in results.csv."""

    path: Path
    file: str  # relative to the folder that was given, with / between its parts; of a slice, its alias
    slice: SliceSource | None = None

    @property
    def name(self) -> str:
        """The name of its mask and overlay in OUT."""
        return name_mask(self.file)


@dataclass(frozen=True)
class FolderContent:
    """What a folder holds: images and their relative names, and what is left out."""

    images: tuple[tuple[Path, str], ...] = ()
    others: tuple[Path, ...] = ()  # files without an image's suffix
    results: tuple[Path, ...] = ()  # folders that an earlier run wrote
    unreadable: tuple[EdgeSegError, ...] = ()  # an error for each folder that cannot be listed


@dataclass(frozen=True)
class Found:
    """The inputs of a run, in the order given, and what its folders hold besides."""

    inputs: tuple[Input, ...]
    notes: tuple[str, ...]  # a line each on what is left out, which is no error
    unreadable: tuple[EdgeSegError, ...]  # an error for each folder in a folder that cannot be listed
    others: Counter[str] = field(default_factory=Counter)  # how many files of other kinds, see `others`
    named: Counter[str] = field(default_factory=Counter)  # of which kinds the files without an image's suffix are


def name_mask(file: str) -> str:
    """Return the name of an image's mask: its own, with .png appended unless it ends so."""
    return file if PurePosixPath(file).suffix == ".png" else f"{file}.png"


def find_inputs(given: Sequence[Path], recursive: bool, out: Path) -> Found:
    """List the images of files and folders, folders in natural order of names, leaving out what lies in `out`.

    A named file is read whatever its suffix; of a folder, those with an image's suffix. With several inputs, the names
    of a folder's files begin with the folder's.
    Raises: EdgeSegError if an input does not exist, cannot be listed or lies in `out`, or there is no image at all.
    """
    return require_images(list_inputs(given, recursive, out), given, recursive)


def list_inputs(given: Sequence[Path], recursive: bool, out: Path) -> Found:
    """Return the images as `find_inputs` does, also where there are none.

    Raises: EdgeSegError if an input does not exist, cannot be listed or lies in `out`.
    """
    inputs: list[Input] = []
    named: Counter[str] = Counter()
    contents: list[FolderContent] = []
    for path in given:
        if os.path.isdir(path):  # noqa: PTH112 - unlike Path's, it never raises
            prefix = f"{Path(os.path.realpath(path)).name}/" if len(given) > 1 else ""
            content = list_folder(path, recursive, out)
            inputs += [Input(image, prefix + file) for image, file in content.images]
            contents.append(content)
        elif os.path.lexists(path):
            inputs.append(Input(path, path.name))
            if path.suffix.lower() not in SUFFIXES:
                named[find_kind(path)] += 1
        else:
            raise EdgeSegError(str(path), "no such file or folder", "check the path")
    others = count_others(path for content in contents for path in content.others)
    notes = [f"{path}: left out, since it holds the results of a run" for found in contents for path in found.results]
    check_outside(inputs, out)
    notes += describe_others(others)
    unreadable = tuple(error for found in contents for error in found.unreadable)
    return Found(tuple(inputs), tuple(notes), unreadable, others, named)


def require_images(found: Found, given: Sequence[Path], recursive: bool) -> Found:
    """Return what was found. Raises: EdgeSegError if there is no image in it."""
    if not found.inputs:
        where = ", ".join(map(str, given))
        hint = "" if recursive else ", or add --recursive for the folders in it"
        raise EdgeSegError(where, "; ".join(["no images in it", *found.notes]), f"{', '.join(SUFFIXES)} are read{hint}")
    return found


def natural_key(name: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """Return a key by which names stand as people count: scan104 before scan1003. Names without digits as before."""
    parts = NUMBER_OR_CHARACTER.findall(name)
    return tuple(("0", int(part)) if part.isdecimal() else (part, -1) for part in parts), name


def list_folder(folder: Path, recursive: bool, out: Path) -> FolderContent:
    """List a folder, in natural file name order; symbolic links to folders are not followed, hidden names are left out.

    Where a folder holds the results of a run, no folder in it is entered: its masks are no images to segment.
    Raises: EdgeSegError if the folder itself cannot be listed.
    """
    avoided = os.path.realpath(out)
    images: list[tuple[Path, str]] = []
    others: list[Path] = []
    results: list[Path] = []
    unreadable: list[EdgeSegError] = []

    def report(error: OSError) -> None:
        reason = error.strerror or str(error)
        if Path(error.filename) == folder:  # its images would be missing from the results without a message
            raise EdgeSegError(str(folder), reason, "check its permissions")
        unreadable.append(EdgeSegError(str(error.filename), f"left out: {reason}", "check its permissions"))

    own_results = recursive and os.path.isfile(folder / JOURNAL)  # noqa: PTH113 - unlike Path's, it never raises
    results += [folder] if own_results else []
    for top, folders, files in os.walk(folder, onerror=report):
        inner = [name for name in folders if not name.startswith(".")] if recursive and not own_results else []
        inner.sort(key=natural_key)
        inner = [name for name in inner if os.path.realpath(Path(top) / name) != avoided]
        results += (Path(top, name) for name in inner if os.path.isfile(Path(top, name, JOURNAL)))  # noqa: PTH113
        folders[:] = [name for name in inner if Path(top, name) not in results]
        for name in sorted(files, key=natural_key):
            path = Path(top) / name
            if not name.startswith("."):
                if path.suffix.lower() in SUFFIXES:
                    images.append((path, path.relative_to(folder).as_posix()))
                else:
                    others.append(path)
    return FolderContent(tuple(images), tuple(others), tuple(results), tuple(unreadable))


def check_outside(inputs: Sequence[Input], out: Path) -> None:
    """Refuse inputs that lie in `out`: a run could overwrite them, and the next would segment its masks."""
    avoided = os.path.realpath(out) + os.sep
    for item in inputs:
        if os.path.realpath(item.path).startswith(avoided):
            raise EdgeSegError(str(item.path), f"it lies in the output folder {out}", "choose another -o")


def check_names(inputs: Sequence[Input]) -> None:
    """Refuse two images that would have one mask: which true mask is whose could not be told. Raises: EdgeSegError."""
    first: dict[str, Input] = {}
    for item in inputs:
        other = first.setdefault(item.name, item)
        if other is not item:
            raise EdgeSegError(str(item.path), f"its mask would be that of {other.path}", "rename one of them")
