"""How do the slices of DICOM and NIfTI series become a data folder, as the net sees them on the device?

Each slice is read as a run reads it: in order of position, from its least to its greatest value, in display
orientation. Names are aliases, so that no identifier of a patient is in the folder. A series counts as one patient's
with the others of its study: two studies of one patient are two patients here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import EdgeSegError, ImageError, OutputError
from edge_runtime.folder.records.journal import SALT
from edge_runtime.hospital.find_series import Listing, find_series
from edge_runtime.hospital.pixels.read_slice import SliceReader
from edge_runtime.hospital.plan.choose_series import choose_series
from edge_runtime.hospital.plan.plan_series import PlannedSeries, PlannedSlice, plan_series
from edge_runtime.hospital.plan.salt import keep_salt, read_salt
from edge_runtime.hospital.plan.survey import survey
from edge_runtime.hospital.series.verdict import ASSUMED, Judged
from edge_runtime.images.arrays import Image
from edge_runtime.images.limits import MAX_PIXELS
from edge_runtime.images.write import encode_mask, encode_png
from edge_runtime.system.files import write_file

# What a series may be told not to be wanted for and is a head's MR all the same: healthy heads have no contrast agent.
OTHER_HEADS = ("sequence", "contrast", "few-slices")


@dataclass(frozen=True)
class ImportedSeries:
    """What became of a series."""

    number: int  # as edge-seg --list has it
    alias: str  # begins its slices' names; "" of one that was left out
    slices: int  # written: those that decode and are not air alone
    why: str  # it was left out
    failed: tuple[str, ...] = ()  # a line for each slice that does not decode


def import_dicom(
    inputs: Sequence[Path],
    dest: Path,
    tumour_free: bool,
    asked: Sequence[str] = (),
    force: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> list[ImportedSeries]:
    """Write images/, labels.csv and, of tumour-free series, empty masks/; return what became of each series.

    asked: numbers of series, or "all"; by default those of heads, whatever their sequence.
    Raises: OutputError if `dest` is not empty; EdgeSegError if no series is taken; UsageError for unknown numbers.
    """
    if dest.is_dir() and any(dest.iterdir()) and not force:
        raise OutputError(str(dest), "it is not empty", "choose another folder, or --force to write there")
    salt = read_salt(None, dest / SALT)
    listing, chosen = find_heads(inputs, asked, salt)
    rows: list[tuple[str, str, str]] = []
    imported = {}
    for planned in chosen:
        written, failed = write_series(planned, dest, tumour_free)
        patient = (planned.judged.series.first.header.study or planned.judged.series.first.header.series)[:8]
        rows += [(name, "none" if tumour_free else "unknown", patient or planned.alias) for name in written]
        number = planned.judged.number
        progress(len(rows))
        imported[number] = ImportedSeries(number, planned.alias, len(written), "", tuple(failed))
    write_file(dest / "labels.csv", to_csv(rows))
    keep_salt(salt, dest / SALT)
    left_out = [
        ImportedSeries(item.number, "", 0, f"{item.verdict.reason}: {item.verdict.why}") for item in listing.series
    ]
    return [imported.get(item.number, item) for item in left_out]


def find_heads(
    inputs: Sequence[Path], asked: Sequence[str] = (), salt: bytes | None = None
) -> tuple[Listing, list[PlannedSeries]]:
    """Return all series of files and folders, and those asked for, by default those of heads, ready to be read.

    Raises: EdgeSegError if there is none of these; UsageError for unknown numbers.
    """
    listing = find_series(inputs, ASSUMED, recursive=True, key=salt)
    chosen = choose_series(listing, asked) if asked else [judged for judged in listing.series if is_head(judged)]
    if not chosen:
        why = "; ".join(f"series {judged.number}: {judged.verdict.why}" for judged in listing.series)
        raise EdgeSegError("the inputs", f"no series of a head: {why}", "choose with --series N, or all")
    return listing, survey(plan_series(chosen), MAX_PIXELS)


def is_head(judged: Judged) -> bool:
    """Tell whether a series is one of a head, by what it was told not to be wanted for."""
    return judged.verdict.verdict != "no" or judged.verdict.reason in OTHER_HEADS


def write_series(planned: PlannedSeries, dest: Path, tumour_free: bool) -> tuple[list[str], list[str]]:
    """Write a series' slices; return their ids, and a line for each that does not decode."""
    written: list[str] = []
    failed: list[str] = []
    for item, image in read_series(planned, failed):
        if image is None:
            continue
        name = item.file.replace("/", "-")
        write_file(dest / "images" / f"{name}.png", encode_png(image), sync=False)
        if tumour_free:
            write_file(dest / "masks" / f"{name}.png", encode_mask(np.zeros(image.shape[:2], np.uint8)), sync=False)
        written.append(name)
    return written, failed


def read_series(planned: PlannedSeries, failed: list[str]) -> Iterator[tuple[PlannedSlice, Image | None]]:
    """Yield each slice with its image, from its least to its greatest value, in display orientation.

    None for a slice of air alone, and for one that does not decode, whose line is added to `failed`.
    """
    reader = SliceReader()
    for item in planned.slices:
        image: Image | None = None
        flags: tuple[str, ...] = ()
        try:
            image, flags = reader.read(item.path, item.file, item.source, "slice-min-max", MAX_PIXELS)
        except ImageError as error:
            failed.append(str(error))
        yield item, None if "air" in flags else image


def to_csv(rows: Sequence[tuple[str, str, str]]) -> bytes:
    """Return labels.csv."""
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerows([("id", "class", "patient"), *rows])
    return text.getvalue().encode()
