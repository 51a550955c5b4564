"""Which slices are of one patient? Copies of a slice are, within a set and between sets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.images.read import read_image
from reference.data.folders import read_folder
from reference.data.same_slice import (
    MIN_LIKENESS,
    Copy,
    Fingerprints,
    compare_pairwise,
    find_copies,
    group_linked,
    make_fingerprint,
    stack_fingerprints,
)

from .layouts import number_key, to_eight_bits
from .report import ImportResult, KnownFolder, LeftOut, SliceFacts


def name_patients(scans: Sequence[SliceFacts], copies: Sequence[Copy]) -> tuple[list[str], list[list[str]]]:
    """Return each slice's patient, and the groups of published patients that were merged because they share a slice.

    Without a published patient the patient is named after the slice.
    """
    first_of: dict[str, int] = {}
    links = [(copy.first, copy.second) for copy in copies]
    for i, item in enumerate(scans):
        if item.patient is not None:
            links.append((i, first_of.setdefault(item.patient, i)))
    roots = group_linked(len(scans), links)
    published: dict[int, set[str]] = defaultdict(set)
    for item, root in zip(scans, roots, strict=True):
        published[root].update(() if item.patient is None else (item.patient,))
    names = {
        root: min(patients, key=number_key) if patients else f"slice-{scans[root].name}"
        for root, patients in published.items()
    }
    merged = [sorted(patients, key=number_key) for patients in published.values() if len(patients) > 1]
    return [names[root] for root in roots], merged


def exclude_contradictions(result: ImportResult) -> None:
    """Exclude slices that are classed as without tumour but have a copy with one: either class may be wrong."""
    for copy in result.copies:
        for one, other in ((copy.first, copy.second), (copy.second, copy.first)):
            kinds = result.scans[one].kind, result.scans[other].kind
            if kinds[0] == "none" != kinds[1]:
                why = f"classed as without tumour, its copy as {kinds[1]}"
                result.left_out[one] = LeftOut(why, result.scans[other].name)


def exclude_known(result: ImportResult, fingerprints: Fingerprints, folder: Path) -> None:
    """Exclude every slice that a data folder holds a copy of, and all others of the same patients.

    Names of patients count within a folder only, so a patient in two folders could be in two parts of a split.
    Raises: UsageError or ImageError if the folder or an image of it cannot be read.
    """
    images = [item.image for item in read_folder(folder)] + sorted((folder / "unmasked").glob("*.png"))
    closest: dict[int, Copy] = {}
    for copy in find_copies(fingerprints, fingerprint_files(images)):
        if copy.first not in closest or copy.likeness > closest[copy.first].likeness:
            closest[copy.first] = copy
    patients = {result.patients[i] for i in closest}
    others = [i for i, patient in enumerate(result.patients) if patient in patients and i not in closest]
    name = folder.resolve().name
    for i in others:
        result.left_out.setdefault(i, LeftOut(f"its patient has a slice in {name}"))
    for i, copy in closest.items():
        result.left_out[i] = LeftOut("a copy of one that is there already", f"{name}/{images[copy.second].stem}")
    turns = Counter(copy.turn for copy in closest.values())
    result.against.append(KnownFolder(name, len(images), dict(turns), len(others)))


def check_labels(labels: Path, scans: Sequence[SliceFacts], fingerprints: Fingerprints) -> None:
    """Check that slices are those of the same number in the labels' set, where images/ is beside labels.csv.

    Both publishers state that the numbers agree; this verifies it.
    Raises: UsageError naming the first slice that differs.
    """
    paths = [labels.parent / "images" / f"{item.name}.png" for item in scans]
    present = [i for i, path in enumerate(paths) if path.is_file()]
    ours = Fingerprints(fingerprints.coarse[present], fingerprints.detail[present])
    alike = compare_pairwise(ours, fingerprint_files(paths[i] for i in present))
    others = [i for i, likeness in zip(present, alike, strict=True) if likeness < MIN_LIKENESS]
    if others:
        why = f"{len(others)} of {len(present)} slices are not those of that number beside it, first {paths[others[0]]}"
        raise UsageError(str(labels), why, "give the labels of this set")


def fingerprint_files(paths: Iterable[Path]) -> Fingerprints:
    """Return the fingerprints of image files. Raises: ImageError."""
    return stack_fingerprints(make_fingerprint(to_eight_bits(read_image(path))) for path in paths)
