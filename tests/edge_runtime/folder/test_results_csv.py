"""Cells that a spreadsheet would take for formulas are none, and the program reads back what it wrote."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from folder_runs import draw_folder, run

from edge_runtime.folder.records.results_csv import RESULTS, read_rows, to_cells, write_line
from edge_runtime.system.spreadsheet import escape_formula, unescape_formula

FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-o.png", "-5")
KEPT = ("a.png", "a=b", "'single'.png", "''", "'", "", "1e5", " =1", "é")
TRICKY = ("'=x.png", "''=x.png", "'-o.png", "'@", "'''+1")


@pytest.mark.parametrize("text", [*FORMULAS, *KEPT, *TRICKY])
def test_a_text_comes_back(text: str) -> None:
    """Also one that looks escaped already."""
    assert unescape_formula(escape_formula(text)) == text


@pytest.mark.parametrize("text", [*FORMULAS, *KEPT, *TRICKY])
def test_no_cell_is_a_formula(text: str) -> None:
    """A formula gets an apostrophe; any other text stays as it is."""
    cell = escape_formula(text)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert cell == (text if text in KEPT else f"'{text}")


def test_rows_come_back_and_numbers_are_not_touched(tmp_path: Path) -> None:
    """Texts of others are escaped in their columns alone; a negative number is a number."""
    names = ["file", "status", "error", "lesion_pixels", "class"]
    rows = [
        {"file": text, "status": "failed", "error": f"{text}: no", "lesion_pixels": "-3", "class": text}
        for text in (*FORMULAS, *KEPT, *TRICKY)
    ]
    with (tmp_path / "r.csv").open("wb") as file:
        write_line(file, names)
        for row in rows:
            write_line(file, to_cells(row, names))
    assert list(read_rows(tmp_path / "r.csv")) == rows
    cells = list(csv.reader(io.StringIO((tmp_path / "r.csv").read_bytes().decode(), newline="")))
    assert [cell for line in cells for cell in line if cell[:1] in ("=", "+", "-", "@", "\t", "\r")] == ["-3"] * len(
        rows
    )


def test_a_run_finds_its_masks_again(tmp_path: Path) -> None:
    """Results, table and page of images with such names: the run reads its own results.csv, and so does the next."""
    images = draw_folder(tmp_path / "in", 4)
    names = ["=cmd|' !A0.png", "'=cmd|' !A0.png", "-x.png", "@y.png"]
    for number, name in enumerate(names):
        (images / f"{number:02}.png").rename(images / name)
    (images / "+broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    for _ in range(2):
        status, errors = run(images, "-o", out)
        assert (status, len(errors.splitlines())) == (3, 1)
        assert errors.startswith("edge-seg: error: +broken.png: ")
        assert {row["file"] for row in read_rows(out / RESULTS)} == {*names, "+broken.png"}
    assert sorted(path.name for path in (out / "masks").iterdir()) == sorted(names)
    assert json.loads((out / "run.json").read_text())["counts"]["kept"] == 4
    page = (out / "index.html").read_text()
    assert '"=cmd|\' !A0.png"' in page and '"-x.png"' in page
