"""What does a run hold out? Written beside its model, and compared with the training data of the net it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.system.files import write_file
from reference.data.folders import Slice, name_slice

PARTS = ("validation", "test")


def write_split(run: Path, split: str, validation: Sequence[Slice], test: Sequence[Slice]) -> None:
    """Write the held-out slices, and patients if split by patient, so that an evaluation can use the same.

    Raises: UsageError if the run was begun with others: it would be scored on slices that it was trained on.
    """
    lists: dict[Path, list[str]] = {}
    for part, slices in zip(PARTS, (validation, test), strict=True):
        lists[run / f"{part}-slices.txt"] = sorted(map(name_slice, slices))
        if split == "patient":
            lists[run / f"{part}-patients.txt"] = sorted({item.patient for item in slices})
    for path, names in lists.items():
        if path.is_file() and path.read_text().split("\n")[:-1] != names:
            why = f"{path.name} has others than --data now gives: slices were added, left out or renamed"
            raise UsageError(str(run), why, "use another -o, or the data that it was begun with")
    for path, names in lists.items():
        write_file(path, "".join(f"{name}\n" for name in names).encode())


def check_start(model: Path, validation: Sequence[Slice], test: Sequence[Slice]) -> bool:
    """Refuse to start from a net that was trained on what is held out here; return whether its run is known.

    The run's folder beside the net lists what it held out. It never saw a data folder of which it held out nothing.
    Raises: UsageError if it was trained on a held-out slice, or its epoch was chosen on a test slice.
    """
    run = model.with_suffix(".run")
    unit = "slices" if (run / "test-slices.txt").is_file() else "patients"
    if not (run / f"test-{unit}.txt").is_file():
        return False
    valid, tested = (set((run / f"{part}-{unit}.txt").read_text().split("\n")) - {""} for part in PARTS)
    folders = {name.split("/")[0] for name in valid | tested}

    def count_seen(slices: Sequence[Slice], unseen: set[str]) -> int:
        names = {name_slice(item) if unit == "slices" else item.patient for item in slices}
        return sum(name.split("/")[0] in folders and name not in unseen for name in names)

    seen = count_seen(test, tested) + count_seen(validation, valid | tested)
    if seen:
        why = f"it has seen {seen} of the {unit} that are held out here"
        raise UsageError(str(model), why, "train it with the same --data, --split, --seed and --test-share")
    return True
