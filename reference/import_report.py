"""What an import found, as facts for import.json and as a page, import.md. The same source gives the same bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .copies import LEAST_LIKENESS, MOST_BITS_APART, TURNS, Copy, join
from .published import PUBLISHED
from .source import Problem

ROWS = 100  # of a table on the page; import.json has all

INTENSITY = {
    "figshare": "each slice from its least to its greatest value, linearly, to 0 to 255",
    "kaggle-segmentation": "as published, colour as luma; 16 bit from a slice's least to its greatest value",
    "kaggle-classes": "as published, colour as luma; 16 bit from a slice's least to its greatest value",
}


@dataclass(frozen=True)
class Kept:
    """What is remembered of a slice that was read."""

    name: str  # its id
    place: str  # its file in the source
    kind: str
    patient: str | None  # as published; None: not said
    size: tuple[int, int]  # (height, width)
    masked: bool  # whether there is a mask, be it empty
    lesion: bool  # whether anything is in it


@dataclass(frozen=True)
class LeftOut:
    """Why a slice was read and is not imported; `other` is the slice of another folder that it is a copy of."""

    why: str
    other: str = ""


@dataclass(frozen=True)
class Known:
    """What was compared with a folder that is there already; `turns` counts the copies by how they are turned."""

    folder: str
    images: int
    turns: dict[int, int]
    same_patients: int  # slices that are no copies, of patients who have one


@dataclass
class Import:
    """Everything that is known of one import."""

    set_name: str
    source: str
    files: int
    digest: str
    problems: list[Problem]
    scans: list[Kept]
    copies: list[Copy]  # by numbers in `scans`
    patients: list[str]  # of each scan, copies of one another under one
    merged: list[list[str]]  # patients as published who share a slice
    labelled: bool = False  # whether classes and patients came from --labels
    left_out: dict[int, LeftOut] = field(default_factory=dict)  # by number in `scans`
    against: list[Known] = field(default_factory=list)

    def whose(self, copy: Copy) -> tuple[str | None, str | None]:
        """Return the two patients of a pair as published."""
        return self.scans[copy.first].patient, self.scans[copy.second].patient

    def staying(self) -> list[int]:
        """Return the numbers of the scans that are imported."""
        return [i for i in range(len(self.scans)) if i not in self.left_out]


def describe_import(found: Import) -> dict[str, Any]:
    """Return the facts of import.json."""
    stays = found.staying()
    scans = [found.scans[i] for i in stays]
    return {
        "format": "edge-seg-import-1",
        "set": found.set_name,
        "source": {"name": found.source, "files": found.files, "sha256": found.digest},
        "slices": len(scans),
        "with_mask": sum(item.masked for item in scans),
        "classes": count(item.kind for item in scans),
        "patients": len({found.patients[i] for i in stays}),
        "patients_from": tell_patients(found),
        "sizes": count(f"{item.size[0]}x{item.size[1]}" for item in scans),
        "intensity": INTENSITY[found.set_name],
        "empty_masks": [item.name for item in scans if item.masked and not item.lesion and item.kind != "none"],
        "problems": [{"file": item.file, "why": item.why, "slices": item.count} for item in found.problems],
        "copies": describe_copies(found),
        "against": [
            {
                "folder": known.folder,
                "images": known.images,
                "copies": {TURNS[turn]: its for turn, its in sorted(known.turns.items())},
                "others_of_their_patients": known.same_patients,
            }
            for known in found.against
        ],
        "left_out": [
            {"file": found.scans[i].place, "why": left.why, "other": left.other}
            for i, left in sorted(found.left_out.items())
        ],
        "notes": make_notes(found),
    }


def describe_copies(found: Import) -> dict[str, Any]:
    """Return how many slices of the set are copies, and each with the one before it that it is most alike."""
    closest: dict[int, Copy] = {}
    for copy in found.copies:
        if copy.second not in closest or copy.likeness > closest[copy.second].likeness:
            closest[copy.second] = copy
    roots = join(len(found.scans), [(copy.first, copy.second) for copy in found.copies])
    sizes = Counter(roots)
    return {
        "rule": f"at most {MOST_BITS_APART} of 64 bits of the hash apart, local contrast alike by {LEAST_LIKENESS}",
        "pairs": len(found.copies),
        "pairs_of_one_patient": sum(a is not None and a == b for a, b in map(found.whose, found.copies)),
        "turns": count(TURNS[copy.turn] for copy in found.copies),
        "slices_with_a_copy": sum(size for size in sizes.values() if size > 1),
        "different_slices": len(sizes),
        "largest_group": max(sizes.values(), default=0),
        "from_testing_in_training": count_leaks(found),
        "between_classes": [
            [found.scans[copy.first].name, found.scans[copy.second].name]
            for copy in found.copies
            if found.scans[copy.first].kind != found.scans[copy.second].kind
        ],
        "patients_merged": found.merged,
        "slices": [
            {
                "id": found.scans[second].name,
                "copy_of": found.scans[copy.first].name,
                "turn": TURNS[copy.turn],
                "likeness": round(copy.likeness, 3),
            }
            for second, copy in sorted(closest.items())
        ],
    }


def count_leaks(found: Import) -> int:
    """Return how many slices of the published Testing/ have a copy in Training/."""
    parts = [set(item.place.lower().split("/")[:-1]) for item in found.scans]
    leaks = set()
    for copy in found.copies:
        for one, other in ((copy.first, copy.second), (copy.second, copy.first)):
            if "testing" in parts[one] and "training" in parts[other]:
                leaks.add(one)
    return len(leaks)


def count(words: Iterable[str]) -> dict[str, int]:
    """Return how often each comes, in alphabetic order."""
    return dict(sorted(Counter(words).items()))


def tell_patients(found: Import) -> str:
    """Return where the patients' names are from, in one sentence."""
    if found.set_name == "figshare":
        return "the files' PID; patients who share a slice are one"
    if found.labelled:
        return "the labels given; patients who share a slice are one"
    return (
        "the set names none: each slice is a patient of its own, together with its copies, so two slices of one "
        "person can still come to stand in two parts of a split"
    )


def make_notes(found: Import) -> list[str]:
    """Return what a reader of the numbers has to know besides them."""
    notes = []
    numbers = [int(item.name) for item in found.scans if item.name.isdecimal()]
    if found.set_name != "kaggle-classes" and numbers and max(numbers) < PUBLISHED:
        notes.append(f"The published set goes on to number {PUBLISHED}; the source ends at {max(numbers)}.")
    unmasked = sum(not found.scans[i].masked for i in found.staying())
    if unmasked:
        notes.append(
            f"{unmasked} slices have a tumour and no mask: they are in unmasked/ and in labels.csv, not in images/, "
            "where a net would learn that there is none."
        )
    if found.set_name == "kaggle-segmentation" and not found.labelled:
        notes.append("Classes and patients are not in this set: give a Figshare import's labels.csv as --labels.")
    return notes


def tell_import(found: Import) -> list[str]:
    """Return what was imported in a few lines."""
    facts = describe_import(found)
    copies, count_read = facts["copies"], len(found.scans)
    lines = [
        f"{facts['slices']} slices of {facts['patients']} patients: {tell_counts(facts['classes'])}",
        f"{copies['slices_with_a_copy']} of {count_read} have a copy; {copies['different_slices']} different slices",
        *facts["notes"],
    ]
    if found.left_out:
        lines.append(f"{len(found.left_out)} left out, see import.md")
    if found.problems:
        lines.append(f"{sum(item.count for item in found.problems)} damaged or missing, see import.md")
    return lines


def write_json(facts: dict[str, Any]) -> str:
    """Return import.json."""
    return json.dumps(facts, indent=1) + "\n"


# ---------------------------------------------------------------- the page


def write_markdown(facts: dict[str, Any]) -> str:
    """Return import.md."""
    source, copies = facts["source"], facts["copies"]
    rows = [
        ("source", f"{code(source['name'])}, {source['files']} files, SHA-256 {source['sha256'][:16]}…"),
        ("slices", f"{facts['slices']}, {facts['with_mask']} of them with a mask"),
        ("classes", tell_counts(facts["classes"])),
        ("patients", f"{facts['patients']} ({facts['patients_from']})"),
        ("sizes (height x width)", tell_most(facts["sizes"])),
        ("intensities", facts["intensity"]),
        ("masks without a lesion", ", ".join(map(code, facts["empty_masks"])) or "none"),
        ("slices that have a copy in the set", tell_pairs(copies)),
        ("different slices", f"{copies['different_slices']}; the largest group has {copies['largest_group']}"),
        ("pairs by how they are turned", tell_counts(copies["turns"])),
        ("slices of Testing with a copy in Training", tell_leaks(facts)),
        ("patients who became one", "; ".join(" = ".join(map(code, names)) for names in copies["patients_merged"])),
    ]
    parts = [f"# Import: {facts['set']}", *facts["notes"], make_table(("", ""), [row for row in rows if row[1]])]
    parts.append(
        "A copy is found at any size, mirrored or turned by quarters, recompressed, blurred, sharpened, with other "
        f"brightness or contrast: {copies['rule']}. Copies are one patient, so a split by patient keeps them together."
    )
    parts += [tell_known(known) for known in facts["against"]]
    lists: list[tuple[str, Sequence[str], list[Sequence[str]]]] = [
        (
            "Damaged or missing",
            ("file", "why", "slices"),
            [(code(item["file"]), item["why"], str(item["slices"])) for item in facts["problems"]],
        ),
        (
            "Left out",
            ("file", "why", "slice"),
            [(code(item["file"]), item["why"], code(item["other"])) for item in facts["left_out"]],
        ),
        ("Copies with another class", ("one", "other"), [tuple(map(code, pair)) for pair in copies["between_classes"]]),
        (
            "Copies",
            ("slice", "most like", "how", "likeness"),
            [
                (code(item["id"]), code(item["copy_of"]), item["turn"], f"{item['likeness']:.3f}")
                for item in copies["slices"]
            ],
        ),
    ]
    for title, head, table in lists:
        if table:
            more = f"\n\n{len(table) - ROWS} more in import.json." if len(table) > ROWS else ""
            parts.append(f"## {title}\n\n{make_table(head, table[:ROWS])}{more}")
    return "\n\n".join(parts) + "\n"


def tell_known(known: dict[str, Any]) -> str:
    """Return one sentence on a folder that was compared with."""
    copies, others = known["copies"], known["others_of_their_patients"]
    return (
        f"Against {code(known['folder'])} ({known['images']} images): {sum(copies.values())} slices are copies of what "
        f"is there{' (' + tell_counts(copies) + ')' if copies else ''}, {others} more are of the same patients; "
        "all of them are left out."
    )


def tell_pairs(copies: dict[str, Any]) -> str:
    """Return how many slices have a copy, and how far one patient's neighbouring slices may pass for some."""
    inside = copies["pairs_of_one_patient"]
    neighbours = f", {inside} of them of one patient: copies, or neighbours that are as alike" if inside else ""
    return f"{copies['slices_with_a_copy']}, in {copies['pairs']} pairs{neighbours}"


def tell_leaks(facts: dict[str, Any]) -> str:
    """Return how many slices of Testing are in Training, "" for a set that has no such parts."""
    return str(facts["copies"]["from_testing_in_training"]) if facts["set"] == "kaggle-classes" else ""


def tell_most(counts: dict[str, int]) -> str:
    """Return the most frequent of many, and how many more there are."""
    most = sorted(counts.items(), key=lambda item: -item[1])[:8]
    return tell_counts(dict(most)) + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")


def tell_counts(counts: dict[str, int]) -> str:
    """Return "2 of this, 1 of that"."""
    return ", ".join(f"{its} {name}" for name, its in counts.items())


def make_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(name: str) -> str:
    """Return a file's name as it is safe in a table's cell."""
    text = " ".join(name.replace("`", "'").replace("|", "\\|").split())
    return f"`{text}`" if text else ""
