"""Under which name is a file recorded whose name, or whose outputs' names, were used before?

What was done is remembered as long as its outputs stand. A file that comes again with other bytes has a second life:
`scan.png` is then `scan (2).png` in results.csv and OUT, the next one `scan (3).png`. With the same bytes it is done
already. A file whose mask would be that of another file fails. OUT itself is asked which names it takes for one.
"""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from pathlib import Path, PurePosixPath

from edge_runtime.errors import ImageError
from edge_runtime.folder.inputs import Input, name_mask
from edge_runtime.folder.names import to_coarse_key
from edge_runtime.folder.outputs import find_obstacle, list_outputs
from edge_runtime.folder.records.journal import JOURNAL, JournalEntry, scan_journal
from edge_runtime.images.limits import MAX_BYTES
from edge_runtime.system.files import hash_file

NUMBERS = re.compile(r"( \(\d+\))+(?=\.|$)")


class Lives:
    """What stands in OUT under the names of some files."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.entries: dict[str, dict[str, JournalEntry]] = defaultdict(dict)  # family: {row's file: newest entry}

    def look_up(self, inputs: Iterable[Input]) -> None:
        """Read the journal for the files among these whose outputs stand in OUT; all others are forgotten."""
        self.entries.clear()
        wanted = {to_family(item.name) for item in inputs if self.stands(item.name)}
        for entry in scan_journal(self.out / JOURNAL) if wanted else ():
            if to_family(name_mask(entry.row["file"])) in wanted:
                self.add(entry)

    def add(self, entry: JournalEntry) -> None:
        """Record what was done since."""
        self.entries[to_family(name_mask(entry.row["file"]))][entry.row["file"]] = entry

    def choose_name(self, item: Input) -> Input | JournalEntry | ImageError:
        """Return the input under the name to record it by, the entry that it has already, or why it cannot be done."""
        digest = ""
        for number in count(1):
            life = Input(item.path, number_file(item.file, number))
            obstacle, owner = find_obstacle(self.out, life.name), self.find_owner(life.name)
            if obstacle is not None and number == 1:
                return ImageError(item.file, f"{obstacle} stands where its outputs would be", "rename it")
            if obstacle is None and owner is None:
                return life
            if owner is not None and owner.row["file"] != life.file and number == 1:
                return ImageError(item.file, f"its mask would be that of {owner.row['file']}", "rename it")
            digest = digest or read_digest(item.path)
            if owner is not None and owner.source == item.file and owner.row["input_sha256"] == digest:
                return owner
        raise AssertionError("numbers do not end")

    def find_owner(self, name: str) -> JournalEntry | None:
        """Return the entry of the image whose outputs stand under a mask's name.

        None also for outputs that no entry names, as a service leaves them that was killed before it recorded them.
        """
        if not self.stands(name):
            return None
        entries = [entry for entry in self.entries.get(to_family(name), {}).values() if entry.row["status"] == "ok"]
        named = [(name_mask(entry.row["file"]), entry) for entry in entries]
        own = (entry for other, entry in named if other == name)
        return next(own, next((entry for other, entry in named if self.are_one(name, other)), None))

    def stands(self, name: str) -> bool:
        """Tell whether an output stands in OUT under a mask's name."""
        return any(os.path.lexists(self.out / path) for path in list_outputs(name))

    def are_one(self, name: str, other: str) -> bool:
        """Tell whether two masks' names have an output in common, as OUT's file system sees them."""
        if to_coarse_key(name) != to_coarse_key(other):
            return False
        pairs = zip(list_outputs(name), list_outputs(other), strict=True)
        return any(is_same_file(self.out / one, self.out / two) for one, two in pairs)


def number_file(file: str, number: int) -> str:
    """Return the name of a file's life: its own for the first, `scan (2).png` for the second of `scan.png`."""
    path = PurePosixPath(file)
    return file if number == 1 else str(path.with_name(f"{path.stem} ({number}){path.suffix}"))


def to_family(name: str) -> str:
    """Return a key that a mask's name shares with those of its other lives."""
    folder, mark, last = to_coarse_key(name).rpartition("/")
    return folder + mark + NUMBERS.sub("", last)


def is_same_file(path: Path, other: Path) -> bool:
    """Tell whether two paths are one existing file."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def read_digest(path: Path) -> str:
    """Return a file's SHA-256; a word that no entry has of one that cannot be read, or is no image by its size."""
    try:
        facts = path.stat()
        if stat.S_ISREG(facts.st_mode) and facts.st_size <= MAX_BYTES:
            return hash_file(path)
    except OSError:
        pass
    return "unreadable"
