"""Who is who: copies of a slice belong to one patient, within a set and between sets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.images import read_image

from .copies import LEAST_LIKENESS, Copy, Prints, compare_pairwise, find_copies, join, stack_prints, take_print
from .data import read_folder
from .import_report import Import, Kept, Known, LeftOut
from .published import by_number, to_eight_bits


def name_patients(scans: Sequence[Kept], copies: Sequence[Copy]) -> tuple[list[str], list[list[str]]]:
    """Return each scan's patient, and the patients as published who became one because they share a slice.

    One slice is of one person, whatever the set says; of nobody known, the slice's own name is the patient's.
    """
    first_of: dict[str, int] = {}
    links = [(copy.first, copy.second) for copy in copies]
    for i, item in enumerate(scans):
        if item.patient is not None:
            links.append((i, first_of.setdefault(item.patient, i)))
    roots = join(len(scans), links)
    given: dict[int, set[str]] = defaultdict(set)
    for item, root in zip(scans, roots, strict=True):
        given[root].update(() if item.patient is None else (item.patient,))
    names = {root: min(its, key=by_number) if its else f"slice-{scans[root].name}" for root, its in given.items()}
    merged = [sorted(its, key=by_number) for its in given.values() if len(its) > 1]
    return [names[root] for root in roots], merged


def leave_out_contradictions(found: Import) -> None:
    """Leave out what is classed as without tumour while a copy of it has one: which of the two is right, none knows."""
    for copy in found.copies:
        for one, other in ((copy.first, copy.second), (copy.second, copy.first)):
            kinds = found.scans[one].kind, found.scans[other].kind
            if kinds[0] == "none" != kinds[1]:
                why = f"classed as without tumour, its copy as {kinds[1]}"
                found.left_out[one] = LeftOut(why, found.scans[other].name)


def leave_out_known(found: Import, prints: Prints, folder: Path) -> None:
    """Leave out every slice that a data folder holds a copy of, and all others of the same patients.

    A patient in two folders could come to stand in two parts of a split: names of patients count in their folder only.
    Raises: UsageError or ImageError if the folder or an image of it cannot be read.
    """
    images = [item.image for item in read_folder(folder)] + sorted((folder / "unmasked").glob("*.png"))
    known: dict[int, Copy] = {}
    for copy in find_copies(prints, print_files(images)):
        if copy.first not in known or copy.likeness > known[copy.first].likeness:
            known[copy.first] = copy
    whose = {found.patients[i] for i in known}
    others = [i for i, patient in enumerate(found.patients) if patient in whose and i not in known]
    name = folder.resolve().name
    for i in others:
        found.left_out.setdefault(i, LeftOut(f"its patient has a slice in {name}"))
    for i, copy in known.items():
        found.left_out[i] = LeftOut("a copy of one that is there already", f"{name}/{images[copy.second].stem}")
    turns = Counter(copy.turn for copy in known.values())
    found.against.append(Known(name, len(images), dict(turns), len(others)))


def check_labels(labels: Path, scans: Sequence[Kept], prints: Prints) -> None:
    """See that slices are those which the labels call so, where images/ lies beside labels.csv.

    That two sets number their slices alike is what their publishers say; this looks.
    Raises: UsageError naming a slice that is another one.
    """
    paths = [labels.parent / "images" / f"{item.name}.png" for item in scans]
    there = [i for i, path in enumerate(paths) if path.is_file()]
    ours = Prints(prints.coarse[there], prints.detail[there])
    alike = compare_pairwise(ours, print_files(paths[i] for i in there))
    others = [i for i, likeness in zip(there, alike, strict=True) if likeness < LEAST_LIKENESS]
    if others:
        why = f"{len(others)} of {len(there)} slices are not those of that number beside it, first {paths[others[0]]}"
        raise UsageError(str(labels), why, "give the labels of this set")


def print_files(paths: Iterable[Path]) -> Prints:
    """Return the prints of image files. Raises: ImageError."""
    return stack_prints(take_print(to_eight_bits(read_image(path))) for path in paths)
