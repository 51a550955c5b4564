"""What did an import find? Facts for import.json; the same source gives the same bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from reference.data.same_slice import MAX_BITS_APART, MIN_LIKENESS, TURNS, Copy, group_linked

from .download import Problem
from .layouts import PUBLISHED_SLICES
from .page import format_counts

INTENSITY = {
    "figshare": "each slice from its least to its greatest value, linearly, to 0 to 255",
    "kaggle-segmentation": "as published, colour as luma; 16 bit from a slice's least to its greatest value",
    "kaggle-classes": "as published, colour as luma; 16 bit from a slice's least to its greatest value",
}


@dataclass(frozen=True)
class SliceFacts:
    """The facts of a slice that was read."""

    name: str  # the id
    file: str  # its name in the source
    kind: str
    patient: str | None  # as published; None: unknown
    size: tuple[int, int]  # (height, width)
    masked: bool  # whether there is a mask, even an empty one
    lesion: bool  # whether the mask is not empty


@dataclass(frozen=True)
class LeftOut:
    """Why a slice is excluded; `other` is the slice of another folder that it is a copy of."""

    why: str
    other: str = ""


@dataclass(frozen=True)
class KnownFolder:
    """The comparison with an existing data folder; `turns` counts the copies by their turn."""

    folder: str
    images: int
    turns: dict[int, int]
    same_patients: int  # other slices of the copies' patients


@dataclass
class ImportResult:
    """All findings of one import."""

    set_name: str
    source: str
    files: int
    digest: str
    problems: list[Problem]
    scans: list[SliceFacts]
    copies: list[Copy]  # by indices into `scans`
    patients: list[str]  # of each scan; copies share one
    merged: list[list[str]]  # published patients that share a slice
    labelled: bool = False  # whether classes and patients came from --labels
    left_out: dict[int, LeftOut] = field(default_factory=dict)  # by index into `scans`
    against: list[KnownFolder] = field(default_factory=list)

    def patients_of(self, copy: Copy) -> tuple[str | None, str | None]:
        """Return the published patients of both slices of a pair."""
        return self.scans[copy.first].patient, self.scans[copy.second].patient

    def list_imported(self) -> list[int]:
        """Return the indices of the scans that are imported."""
        return [i for i in range(len(self.scans)) if i not in self.left_out]


def describe_import(result: ImportResult) -> dict[str, Any]:
    """Return the facts of import.json."""
    imported = result.list_imported()
    scans = [result.scans[i] for i in imported]
    return {
        "format": "edge-seg-import-1",
        "set": result.set_name,
        "source": {"name": result.source, "files": result.files, "sha256": result.digest},
        "slices": len(scans),
        "with_mask": sum(item.masked for item in scans),
        "classes": count_each(item.kind for item in scans),
        "patients": len({result.patients[i] for i in imported}),
        "patients_from": describe_patient_source(result),
        "sizes": count_each(f"{item.size[0]}x{item.size[1]}" for item in scans),
        "intensity": INTENSITY[result.set_name],
        "empty_masks": [item.name for item in scans if item.masked and not item.lesion and item.kind != "none"],
        "problems": [{"file": item.file, "why": item.why, "slices": item.count} for item in result.problems],
        "copies": describe_copies(result),
        "against": [
            {
                "folder": known.folder,
                "images": known.images,
                "copies": {TURNS[turn]: copies for turn, copies in sorted(known.turns.items())},
                "others_of_their_patients": known.same_patients,
            }
            for known in result.against
        ],
        "left_out": [
            {"file": result.scans[i].file, "why": exclusion.why, "other": exclusion.other}
            for i, exclusion in sorted(result.left_out.items())
        ],
        "notes": make_notes(result),
    }


def describe_copies(result: ImportResult) -> dict[str, Any]:
    """Return the counts of copies in the set, and each copy with the most similar slice before it."""
    closest: dict[int, Copy] = {}
    for copy in result.copies:
        if copy.second not in closest or copy.likeness > closest[copy.second].likeness:
            closest[copy.second] = copy
    roots = group_linked(len(result.scans), [(copy.first, copy.second) for copy in result.copies])
    sizes = Counter(roots)
    return {
        "rule": f"at most {MAX_BITS_APART} of 64 bits of the hash apart, local contrast alike by {MIN_LIKENESS}",
        "pairs": len(result.copies),
        "pairs_of_one_patient": sum(a is not None and a == b for a, b in map(result.patients_of, result.copies)),
        "turns": count_each(TURNS[copy.turn] for copy in result.copies),
        "slices_with_a_copy": sum(size for size in sizes.values() if size > 1),
        "different_slices": len(sizes),
        "largest_group": max(sizes.values(), default=0),
        "from_testing_in_training": count_leaks(result),
        "between_classes": [
            [result.scans[copy.first].name, result.scans[copy.second].name]
            for copy in result.copies
            if result.scans[copy.first].kind != result.scans[copy.second].kind
        ],
        "patients_merged": result.merged,
        "slices": [
            {
                "id": result.scans[second].name,
                "copy_of": result.scans[copy.first].name,
                "turn": TURNS[copy.turn],
                "likeness": round(copy.likeness, 3),
            }
            for second, copy in sorted(closest.items())
        ],
    }


def count_leaks(result: ImportResult) -> int:
    """Return how many slices of the published Testing/ have a copy in Training/."""
    parts = [set(item.file.lower().split("/")[:-1]) for item in result.scans]
    leaks = set()
    for copy in result.copies:
        for one, other in ((copy.first, copy.second), (copy.second, copy.first)):
            if "testing" in parts[one] and "training" in parts[other]:
                leaks.add(one)
    return len(leaks)


def count_each(words: Iterable[str]) -> dict[str, int]:
    """Return {word: how often it occurs}, in alphabetical order."""
    return dict(sorted(Counter(words).items()))


def describe_patient_source(result: ImportResult) -> str:
    """Return the origin of the patients' names as a sentence."""
    if result.set_name == "figshare":
        return "the files' PID; patients who share a slice are one"
    if result.labelled:
        return "the labels given; patients who share a slice are one"
    return (
        "the set names none: each slice is a patient of its own, together with its copies, so two slices of one "
        "person can still come to stand in two parts of a split"
    )


def make_notes(result: ImportResult) -> list[str]:
    """Return notes on the limits of the numbers."""
    notes = []
    numbers = [int(item.name) for item in result.scans if item.name.isdecimal()]
    if result.set_name != "kaggle-classes" and numbers and max(numbers) < PUBLISHED_SLICES:
        notes.append(f"The published set goes on to number {PUBLISHED_SLICES}; the source ends at {max(numbers)}.")
    unmasked = sum(not result.scans[i].masked for i in result.list_imported())
    if unmasked:
        notes.append(
            f"{unmasked} slices have a tumour and no mask: they are in unmasked/ and in labels.csv, not in images/, "
            "where a net would learn that there is none."
        )
    if result.set_name == "kaggle-segmentation" and not result.labelled:
        notes.append("Classes and patients are not in this set: give a Figshare import's labels.csv as --labels.")
    return notes


def render_summary(result: ImportResult) -> list[str]:
    """Return a summary of an import, line by line."""
    facts = describe_import(result)
    copies, count_read = facts["copies"], len(result.scans)
    lines = [
        f"{facts['slices']} slices of {facts['patients']} patients: {format_counts(facts['classes'])}",
        f"{copies['slices_with_a_copy']} of {count_read} have a copy; {copies['different_slices']} different slices",
        *facts["notes"],
    ]
    if result.left_out:
        lines.append(f"{len(result.left_out)} left out, see import.md")
    if result.problems:
        lines.append(f"{sum(item.count for item in result.problems)} damaged or missing, see import.md")
    return lines


def to_json(facts: dict[str, Any]) -> str:
    """Return import.json."""
    return json.dumps(facts, indent=1) + "\n"
