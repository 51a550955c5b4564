"""What a run holds out: written beside its model, and checked against what the net that it starts from has seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.images import write_file

from .data import Slice, name_slice

PARTS = ("validation", "test")


def write_split(run: Path, split: str, validation: Sequence[Slice], test: Sequence[Slice]) -> None:
    """Record what is held out, so that an evaluation can use the same: slices, and patients where they were split.

    Raises: UsageError if the run has begun with others: what it was trained on would be what it is scored on.
    """
    lists: dict[Path, list[str]] = {}
    for part, held in zip(PARTS, (validation, test), strict=True):
        lists[run / f"{part}-slices.txt"] = sorted(map(name_slice, held))
        if split == "patient":
            lists[run / f"{part}-patients.txt"] = sorted({item.patient for item in held})
    for path, names in lists.items():
        if path.is_file() and path.read_text().split("\n")[:-1] != names:
            why = f"{path.name} has others than --data now gives: slices were added, left out or renamed"
            raise UsageError(str(run), why, "use another -o, or the data that it was begun with")
    for path, names in lists.items():
        write_file(path, "".join(f"{name}\n" for name in names).encode())


def check_start(model: Path, validation: Sequence[Slice], test: Sequence[Slice]) -> bool:
    """Refuse to start from a net that was trained on what is held out here; return whether its run is known.

    What it held out itself is in the run's folder beside it; a folder of which it held out nothing it never saw.
    Raises: UsageError if it has seen a held-out slice, or has chosen its epoch by one of the test.
    """
    run = model.with_suffix(".run")
    unit = "slices" if (run / "test-slices.txt").is_file() else "patients"
    if not (run / f"test-{unit}.txt").is_file():
        return False
    valid, tested = (set((run / f"{part}-{unit}.txt").read_text().split("\n")) - {""} for part in PARTS)
    folders = {name.split("/")[0] for name in valid | tested}

    def count_seen(ours: Sequence[Slice], held: set[str]) -> int:
        names = {name_slice(item) if unit == "slices" else item.patient for item in ours}
        return sum(name.split("/")[0] in folders and name not in held for name in names)

    seen = count_seen(test, tested) + count_seen(validation, valid | tested)
    if seen:
        why = f"it has seen {seen} of the {unit} that are held out here"
        raise UsageError(str(model), why, "train it with the same --data, --split, --seed and --test-share")
    return True
