"""Which inputs the page links, seen from OUT; and the natural order of a folder's files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.folder.gallery.originals import add_originals
from edge_runtime.folder.inputs import Input, find_inputs, natural_key

GREY = np.full((8, 9), 7, np.uint8)


@pytest.mark.parametrize(
    ("name", "pixels", "shown"),
    [
        ("a.png", GREY, True),
        ("a.png", GREY.astype(np.uint16) * 9, False),
        ("a.jpg", GREY, True),
        ("a.bmp", GREY, True),
        ("a.tif", GREY, False),
    ],
)
def test_what_a_browser_shows_as_the_model_sees_it(tmp_path: Path, name: str, pixels: Any, shown: bool) -> None:
    """PNG, JPEG and BMP of 8 bit; a 16-bit PNG would look black, and no browser shows a TIFF."""
    path = tmp_path / "in" / name
    path.parent.mkdir()
    cv2.imwrite(str(path), pixels)
    (row,) = add_originals([{"file": name, "status": "ok"}], [Input(path, name)], tmp_path / "deep" / "out")
    assert row == {"file": name, "status": "ok", "original": f"../../in/{name}" if shown else ""}


def test_what_is_not_there_has_no_link(tmp_path: Path) -> None:
    """A failed row, a file that is gone, an empty one and a row that is no input."""
    (tmp_path / "empty.png").write_bytes(b"")
    files = {"failed.jpg": "failed", "gone.png": "ok", "empty.png": "ok", "other.jpg": "ok"}
    inputs = [Input(tmp_path / name, name) for name in files if name != "other.jpg"]
    rows = [{"file": name, "status": status} for name, status in files.items()]
    assert [row["original"] for row in add_originals(rows, inputs, tmp_path / "out")] == [""] * 4


NAMES = [
    *("01.png", "1.png", "2.png", "a.png", "a1b2.png", "a1b10.png", "a2.png"),
    *("scan104.png", "scan1003.png", "é9.png"),
]


def test_names_stand_as_people_count(tmp_path: Path) -> None:
    """104 before 1003, whatever order the disk gives; folders too; names without numbers as they were."""
    shuffled = random.Random(0).sample(NAMES, len(NAMES))
    assert sorted(shuffled, key=natural_key) == NAMES
    for folder in ("scan9", "scan10"):
        (tmp_path / folder).mkdir()
    for name in shuffled:
        (tmp_path / name).write_bytes(b"x")
    for name in ("scan9/1.png", "scan10/1.png"):
        (tmp_path / name).write_bytes(b"x")
    found = [item.file for item in find_inputs([tmp_path], True, tmp_path / "out").inputs]
    assert found == [*NAMES, "scan9/1.png", "scan10/1.png"]
    plain = ["B.png", "_.png", "a-b.png", "a.png", "a_b.png"]
    assert sorted(plain, key=natural_key) == sorted(plain)
