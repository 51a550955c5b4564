"""Which names are one and the same file to the file system of OUT?

Some file systems fold upper and lower case, some compose letters and accents, some ignore dots and spaces at the end.
Which of them does what is not looked up but tried: of two names that any file system may take for one, the first is
made in a folder of OUT, and then the second is looked for.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from itertools import count
from pathlib import Path

from edge_runtime.errors import OutputError
from edge_runtime.system.files import MAKE_ROOM, name_temporary

from .inputs import Input
from .outputs import list_outputs, name_sprite

IGNORED = {"Mn", "Me", "Cf"}  # Unicode categories of what may not count in a name: accents, marks, joiners
FILLERS = "\u115f\u1160\u3164\uffa0"  # letters that ext4 ignores like those
SHORT_NAME = re.compile(r"[^./~]{1,6}~\d{1,6}(\.[^./]{1,3})?")  # as FAT gives to a file beside its long name
LONG_PROBE, SHORT_PROBES = "edge seg long name.probe", ("EDGESE~1.PRO", "EDGE_S~1.PRO")


def to_coarse_key(path: str) -> str:
    """Return a text that is the same for all relative paths that some file system takes for one."""
    if not path.isascii():
        path = unicodedata.normalize("NFKD", path).upper().casefold()
        decomposed = unicodedata.normalize("NFKD", path)
        path = "".join(c for c in decomposed if unicodedata.category(c) not in IGNORED and c not in FILLERS)
    path = path.lower()
    if "./" in path or " /" in path or path.endswith((".", " ")):
        path = "/".join(part.rstrip(". ") for part in path.split("/"))
    return path


class OutputNames:
    """Tells which names OUT's file system takes for one; makes a folder in OUT to try them, until it is closed."""

    def __init__(self, out: Path) -> None:
        self.folder = name_temporary(out / "probe")
        self.numbers = count()
        self.are_one = cache(self.try_names)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> OutputNames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def are_one_path(self, path: str, other: str) -> bool:
        """Tell whether two relative paths of as many parts are one. Raises: OutputError."""
        pairs = zip(path.split("/"), other.split("/"), strict=True)
        return all(one == two or self.are_one(one, two) for one, two in pairs)

    def try_names(self, name: str, other: str) -> bool:
        """Tell whether two names in one folder are one file. Raises: OutputError if nothing can be written there."""
        if to_coarse_key(name) != to_coarse_key(other):
            return False
        return self.finds(name, other) or self.finds(other, name)

    def finds(self, made: str, wanted: str) -> bool:
        """Tell whether a file that was made under one name is found by another; not if it cannot have that name."""
        folder = self.folder / str(next(self.numbers))
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise OutputError(str(folder.parent.parent), error.strerror or str(error), MAKE_ROOM) from None
        with suppress(OSError):
            (folder / made).touch()
            return os.path.lexists(folder / wanted)
        return False

    @property
    def has_short_names(self) -> bool:
        """Whether a file has a second, short name, as on FAT."""
        return any(self.finds(LONG_PROBE, short) for short in SHORT_PROBES)


def find_clashes(inputs: Sequence[Input], out: Path) -> dict[int, str]:
    """Return {position: why} of the inputs whose outputs would be, or lie in, those of an input before them.

    Raises: OutputError if nothing can be written in OUT.
    """
    short = [position for position, item in enumerate(inputs) if is_short_name(item.name)]
    suspects = find_suspects(inputs)
    clashes: dict[int, str] = {}
    if not suspects and not short:
        return clashes
    files: dict[str, dict[str, int]] = defaultdict(dict)  # coarse key: {path of an output: position}
    folders: dict[str, dict[str, int]] = defaultdict(dict)  # the same of the folders that outputs lie in
    with OutputNames(out) as names:
        if short and names.has_short_names:
            clashes = dict.fromkeys(short, "on this file system another file may have that name too")
        for position in sorted(suspects - clashes.keys()):
            paths = list_outputs(inputs[position].name)
            other = find_owner(paths, files, folders, names)
            if other is not None:
                clashes[position] = f"its mask would be that of {inputs[other].file}"
                continue
            for path in paths:
                files[to_coarse_key(path)].setdefault(path, position)
                for parent in list_parents(path):
                    folders[to_coarse_key(parent)].setdefault(parent, position)
    return clashes


def find_owner(
    paths: Sequence[str],
    files: Mapping[str, Mapping[str, int]],
    folders: Mapping[str, Mapping[str, int]],
    names: OutputNames,
) -> int | None:
    """Return the position that has one of these paths already, as a file, or as a folder of one; None for none."""
    for path in paths:
        key = to_coarse_key(path)
        wanted = [(path, other, n) for known in (files, folders) for other, n in known.get(key, {}).items()]
        for parent in list_parents(path):
            wanted += [(parent, other, n) for other, n in files.get(to_coarse_key(parent), {}).items()]
        for own, other, position in wanted:
            if names.are_one_path(own, other):
                return position
    return None


def find_suspects(inputs: Sequence[Input]) -> set[int]:
    """Return the positions of inputs whose outputs some file system may not tell apart.

    By the hashes of the keys: a run may have a hundred thousand inputs, of which hardly any are suspects.
    """
    files: set[int] = set()
    folders: set[int] = set()
    twice: set[int] = set()
    for item in inputs:
        own, parents = list_keys(item.name)
        twice |= own & files
        files |= own
        folders |= parents
    twice |= files & folders
    keys = (list_keys(item.name) for item in inputs) if twice else ()
    return {position for position, (own, parents) in enumerate(keys) if not twice.isdisjoint(own | parents)}


def list_keys(name: str) -> tuple[set[int], frozenset[int]]:
    """Return the hashed keys of an image's outputs, whatever folder of OUT they are in, and of the folders there."""
    own = {hash(to_coarse_key(path.partition("/")[2])) for path in {name_sprite(name), f"masks/{name}"}}
    return own, hash_parents(name.rpartition("/")[0])


@lru_cache(maxsize=1000)
def hash_parents(folder: str) -> frozenset[int]:
    """Return the hashed keys of a folder and of those that it lies in."""
    return frozenset(hash(to_coarse_key(path)) for path in (*list_parents(folder), folder) if path)


def list_parents(path: str) -> list[str]:
    """Return the folders that a relative path lies in, the outermost first."""
    return [path[: mark.start()] for mark in re.finditer("/", path)]


def is_short_name(name: str) -> bool:
    """Tell whether a part of a relative path has the form of the short names of FAT, as LONGNA~1.PNG."""
    return "~" in name and any(SHORT_NAME.fullmatch(part) for part in name.split("/"))


def may_clash(name: str, other: str) -> bool:
    """Tell whether some file system may take outputs of two masks' names for one, or one for a folder of the other."""
    for path, rival in zip(list_outputs(name), list_outputs(other), strict=True):
        one, two = to_coarse_key(path), to_coarse_key(rival)
        if one == two or one.startswith(two + "/") or two.startswith(one + "/"):
            return True
    return False
