"""Renders import.md, the page on an import, from the facts of import.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evidence.document import make_table, to_code

MAX_ROWS = 100  # of a table on the page; import.json has all


def render_page(facts: dict[str, Any]) -> str:
    """Return import.md."""
    source, copies = facts["source"], facts["copies"]
    rows = [
        ("source", f"{to_code(source['name'])}, {source['files']} files, SHA-256 {source['sha256'][:16]}…"),
        ("slices", f"{facts['slices']}, {facts['with_mask']} of them with a mask"),
        ("classes", format_counts(facts["classes"])),
        ("patients", f"{facts['patients']} ({facts['patients_from']})"),
        ("sizes (height x width)", format_most_frequent(facts["sizes"])),
        ("intensities", facts["intensity"]),
        ("masks without a lesion", ", ".join(map(to_code, facts["empty_masks"])) or "none"),
        ("slices that have a copy in the set", format_copies(copies)),
        ("different slices", f"{copies['different_slices']}; the largest group has {copies['largest_group']}"),
        ("pairs by how they are turned", format_counts(copies["turns"])),
        ("slices of Testing with a copy in Training", format_leaks(facts)),
        ("patients who became one", "; ".join(" = ".join(map(to_code, names)) for names in copies["patients_merged"])),
    ]
    parts = [f"# Import: {facts['set']}", *facts["notes"], make_table(("", ""), [row for row in rows if row[1]])]
    parts.append(
        "A copy is found at any size, mirrored or turned by quarters, recompressed, blurred, sharpened, with other "
        f"brightness or contrast: {copies['rule']}. Copies are one patient, so a split by patient keeps them together."
    )
    parts += [format_known_folder(known) for known in facts["against"]]
    lists: list[tuple[str, Sequence[str], list[Sequence[str]]]] = [
        (
            "Damaged or missing",
            ("file", "why", "slices"),
            [(to_code(item["file"]), item["why"], str(item["slices"])) for item in facts["problems"]],
        ),
        (
            "Left out",
            ("file", "why", "slice"),
            [(to_code(item["file"]), item["why"], to_code(item["other"])) for item in facts["left_out"]],
        ),
        (
            "Copies with another class",
            ("one", "other"),
            [tuple(map(to_code, pair)) for pair in copies["between_classes"]],
        ),
        (
            "Copies",
            ("slice", "most like", "how", "likeness"),
            [
                (to_code(item["id"]), to_code(item["copy_of"]), item["turn"], f"{item['likeness']:.3f}")
                for item in copies["slices"]
            ],
        ),
    ]
    for title, head, table in lists:
        if table:
            more = f"\n\n{len(table) - MAX_ROWS} more in import.json." if len(table) > MAX_ROWS else ""
            parts.append(f"## {title}\n\n{make_table(head, table[:MAX_ROWS])}{more}")
    return "\n\n".join(parts) + "\n"


def format_known_folder(known: dict[str, Any]) -> str:
    """Return a sentence on the comparison with another data folder."""
    copies, others = known["copies"], known["others_of_their_patients"]
    return (
        f"Against {to_code(known['folder'])} ({known['images']} images): {sum(copies.values())} slices are copies of "
        f"what is there{' (' + format_counts(copies) + ')' if copies else ''}, {others} more are of the same patients; "
        "all of them are left out."
    )


def format_copies(copies: dict[str, Any]) -> str:
    """Return the number of slices with a copy and of pairs, and how many pairs may be neighbours of one patient."""
    inside = copies["pairs_of_one_patient"]
    neighbours = f", {inside} of them of one patient: copies, or neighbours that are as alike" if inside else ""
    return f"{copies['slices_with_a_copy']}, in {copies['pairs']} pairs{neighbours}"


def format_leaks(facts: dict[str, Any]) -> str:
    """Return how many slices of Testing are in Training; "" for a set without these parts."""
    return str(facts["copies"]["from_testing_in_training"]) if facts["set"] == "kaggle-classes" else ""


def format_most_frequent(counts: dict[str, int]) -> str:
    """Return the eight most frequent names with their counts, and the number of others."""
    frequent = sorted(counts.items(), key=lambda item: -item[1])[:8]
    return format_counts(dict(frequent)) + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")


def format_counts(counts: dict[str, int]) -> str:
    """Return "2 of this, 1 of that"."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
