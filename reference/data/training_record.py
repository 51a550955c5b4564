"""Which slices was a net trained on? Written beside it by training, and looked up before it is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import EdgeSegError
from edge_runtime.system.files import hash_file, write_file

from .folders import Slice, name_slice

RECORD = "training-slices.txt"  # in MODEL.run/: a line for each slice, the SHA-256 of its file and its name


@dataclass(frozen=True)
class TrainedOn:
    """How many of the slices that are scored a net was trained on, by the bytes of their files."""

    record: Path
    slices: int
    scored: int


def write_record(run: Path, training: Sequence[Slice]) -> None:
    """Write which slices a run trains on. Raises: OutputError."""
    lines = [f"{hash_file(item.image)}  {name_slice(item)}\n" for item in training]
    write_file(run / RECORD, "".join(lines).encode("utf-8", "surrogateescape"))


def find_trained(model: Path, scored: Sequence[Slice]) -> TrainedOn | None:
    """Return how many slices were trained on; None where no record of the net is beside the model file.

    A .tflite is looked up by the id in its contract, and by its name up to the first dot.
    """
    record = next((path for path in list_records(model) if path.is_file()), None)
    if record is None:
        return None
    known = {line[:64] for line in record.read_text("utf-8", "surrogateescape").splitlines()}
    return TrainedOn(record, sum(hash_file(item.image) in known for item in scored), len(scored))


def list_records(model: Path) -> list[Path]:
    """Return where a record of the net may be."""
    stems = [model.stem, model.name.split(".")[0]]
    if model.suffix == ".tflite":
        try:
            stems.insert(0, read_contract(model).model.id)
        except EdgeSegError:  # whoever loads it says so
            stems = stems[1:]
    return [model.with_name(f"{Path(stem).name or 'model'}.run") / RECORD for stem in stems]
