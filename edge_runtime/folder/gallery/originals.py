"""Which images of a run can a browser show as they are, and where do they lie, seen from the page?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from edge_runtime.folder.inputs import Input

SHOWN = (".png", ".jpg", ".jpeg", ".bmp")
PNG_DEPTH = 24  # the offset of the bits per sample. Source: PNG specification, IHDR
DEEP = b"\x10"  # 16 bit: a browser shows 12-bit values as black


def add_originals(rows: Iterable[Mapping[str, str]], inputs: Sequence[Input], out: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of results.csv with `original`: the image's path relative to `out`, "" where none can be shown."""
    paths = {item.file: item.path for item in inputs}
    folder = os.path.abspath(out)  # noqa: PTH100 - the page is opened by this name, links in it stay
    for row in rows:
        path = paths.get(row["file"])
        shown = path is not None and row["status"] == "ok" and can_be_shown(path)
        yield {**row, "original": os.path.relpath(os.path.abspath(path), folder) if path and shown else ""}  # noqa: PTH100


def can_be_shown(path: Path) -> bool:
    """Tell whether browsers show the file with the brightness that the model sees."""
    if path.suffix.lower() not in SHOWN:
        return False
    if path.suffix.lower() != ".png":
        return True
    try:
        with path.open("rb") as file:
            return file.read(PNG_DEPTH + 1)[PNG_DEPTH:] not in (DEEP, b"")
    except OSError:  # it was taken away meanwhile
        return False
