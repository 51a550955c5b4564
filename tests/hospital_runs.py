"""Runs of the command on series, in this process, with a net that marks what is bright; and their results."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from edge_runtime.cli import main, series_run
from edge_runtime.folder.pools.threads import ThreadPool

TUMOUR = 880  # stored values above are the tumour in drawn studies with contrast agent; the scalp has 830


def mark_tumour(tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Half the brightness as a share of what most of the head has: 0.95 for a drawn tumour, 0.85 for the scalp."""
    head = tensor[tensor > 0.3]
    return np.clip(tensor / (2 * np.median(head)), 0, 1) if head.size else tensor * 0


def use_net(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let runs mark the drawn tumour, slices being as large as the net's input."""

    def make_pool(args: object, verdict: object, options: Any, first: object = None) -> ThreadPool:
        return ThreadPool(lambda: fakes.make_session(mark_tumour, size, threshold=0.9), options)

    monkeypatch.setattr(series_run, "make_pool", make_pool)
    monkeypatch.setattr(series_run, "choose_engine", lambda *_: SimpleNamespace(workers=1))
    monkeypatch.setattr(series_run, "describe_run", describe_run)


def describe_run(args: Any, contract: object, facts: object, counts: Any, spent: float) -> dict[str, Any]:
    from edge_runtime.folder.records import run_json

    whole = {"reason": "a test", "workers": 1, **dict(facts)}  # type: ignore[call-overload]
    return run_json.describe_run(args, contract, whole, counts, spent)  # type: ignore[arg-type]


def run(*arguments: object, status: int = 0) -> None:
    """Run the command, with an exit status that is expected."""
    assert main([*map(str, arguments), "--quiet", "--no-gallery"]) == status


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def find_taken(out: Path) -> dict[str, str]:
    """The row of the one series that was taken."""
    (row,) = [row for row in read_csv(out / "series.csv") if row["lesion_slices"]]
    return row


def list_lesion_points(path: Path) -> npt.NDArray[np.float64]:
    """The centres (N, 3) in mm of all lesion pixels of a SEG, by its own functional groups alone."""
    seg = dcmread(path)
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    frames = bits[: seg.NumberOfFrames * seg.Rows * seg.Columns].reshape(seg.NumberOfFrames, seg.Rows, seg.Columns)
    return np.concatenate([place(seg, number, frame) for number, frame in enumerate(frames)])


def place(seg: Dataset, number: int, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """DICOM PS3.3 C.7.6.2.1.1, by hand."""

    def find(macro: str) -> Dataset:
        for group in (seg.PerFrameFunctionalGroupsSequence[number], seg.SharedFunctionalGroupsSequence[0]):
            if macro in group:
                return group[macro].value[0]  # type: ignore[no-any-return]
        raise AssertionError(macro)

    origin = np.array(find("PlanePositionSequence").ImagePositionPatient, float)
    along = np.array(find("PlaneOrientationSequence").ImageOrientationPatient, float)
    rows_mm, columns_mm = map(float, find("PixelMeasuresSequence").PixelSpacing)
    row, column = np.nonzero(frame)
    return np.asarray(origin + column[:, None] * columns_mm * along[:3] + row[:, None] * rows_mm * along[3:])


def list_outputs(out: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of all that does not hold times."""
    timed = {"results.csv", "run.json", "index.html", "journal.jsonl", ".lock"}
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.name not in timed:
            yield path.relative_to(out).as_posix(), path.read_bytes()
