"""How is results.csv written, a row for each input as it is done, so that memory does not grow with their number?

No file name, message or class name in it is a formula for a spreadsheet; `read_rows` gives them back as they were.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from edge_runtime.contract.fields import Contract
from edge_runtime.system.spreadsheet import escape_formula, unescape_formula

from .journal import ResultRow

RESULTS = "results.csv"
COLUMNS = ("file", "status", "error", "width", "height", "lesion_pixels")  # then pixels_<label>, then
COLUMNS_AFTER = ("lesion_fraction", "components", "max_probability")
LEAD_COLUMNS = ("label_probability", "background_probability")  # then, where the largest class decides, and then flags
CLASS_COLUMNS = ("class", "class_probability")  # then, of a model that classifies
SERIES_COLUMNS = ("series", "slice", "position_mm", "area_mm2")  # last, of a run that takes series
TEXTS = ("file", "error", "class")  # the columns with texts of others; all others are numbers or this program's words
TIMINGS = ("read_ms", "infer_ms", "write_ms")


def list_columns(contract: Contract) -> list[str]:
    """Return the columns of results.csv."""
    lesions = contract.output.lesions
    own = [f"pixels_{label.name}" for label in lesions] if len(lesions) > 1 else []
    classes = CLASS_COLUMNS if contract.classes else ()
    lead = LEAD_COLUMNS if contract.output.activation == "softmax" else ()
    return [*COLUMNS, *own, *COLUMNS_AFTER, *lead, "flags", *classes, *TIMINGS, "input_sha256"]


def make_row(contract: Contract, file: str, error: str = "") -> ResultRow:
    """Return the row of an image that has failed, or is not done yet."""
    return dict.fromkeys(list_columns(contract), "") | {"file": file, "status": "failed", "error": error}


def write_line(file: BinaryIO, cells: Sequence[str]) -> None:
    """Write one line of a CSV file; names that are not UTF-8 are written as they are."""
    file.write((",".join(map(to_cell, cells)) + "\n").encode("utf-8", "surrogateescape"))


def to_cell(text: str) -> str:
    """Return a cell of a CSV file; Python 3.11's csv module leaves a carriage return unquoted, which splits the row."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def to_cells(row: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Return a row's cells in the order of the columns, none of them a formula."""
    return [escape_formula(row.get(name, "")) if name in TEXTS else row.get(name, "") for name in names]


def read_rows(path: Path) -> Iterator[ResultRow]:
    """Yield the rows of a results.csv, texts as they were before they were written."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for row in csv.DictReader(file):
            yield {**row, **{name: unescape_formula(row[name]) for name in TEXTS if row.get(name)}}
