"""The gallery of a folder run: one page, opened from disk, that shows every image with its mask and its numbers."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from .images import write_file

Pixels = npt.NDArray[np.uint8]

FACTS = {  # the order and the words of the header; other facts follow under their own names
    "model_id": "Model",
    "model_version": "Model version",
    "model_sha256": "Model SHA-256",
    "engine": "Engine",
    "threads": "Threads",
    "threshold": "Threshold",
    "ok": "Segmented",
    "failed": "Failed",
    "images_per_second": "Images per second",
    "started": "Started",
    "version": "edge-seg",
}
NOTICE = "intended_use"  # not a fact among others: a line of its own
PATHS = ("sprite", "mask", "overlay")  # the columns that the page turns into addresses


def draw_sprite(
    image8: Pixels, mask: npt.NDArray[np.generic], overlay: Pixels, contour: Pixels, side: int = 224
) -> Pixels:
    """Original, mask, overlay and contour side by side, each letterboxed into a square: (side, 4 * side, 3) RGB."""
    views = (to_rgb(image8), to_white(mask), overlay, contour)
    squares = [letterbox(view, side, whole=number == 1) for number, view in enumerate(views)]
    return np.concatenate(squares, axis=1)  # (side, 4 * side, 3)


def write_gallery(path: Path, rows: Sequence[Mapping[str, str]], facts: Mapping[str, object]) -> None:
    """Write the page whole or not at all; the keys of `facts` are those of FACTS, `intended_use`, and any others."""
    # File names that are not UTF-8 reach the header as lone surrogates, which UTF-8 cannot carry.
    write_file(path, to_page(rows, facts).encode("utf-8", "xmlcharrefreplace"))


def to_page(rows: Sequence[Mapping[str, str]], facts: Mapping[str, object]) -> str:
    parts = {"notice": to_notice(facts), "facts": to_facts(facts), "data": to_data(rows)}
    template = resources.files("edge_runtime").joinpath("gallery.html").read_text("utf-8")
    # One pass: a file may be called {{facts}}.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def to_data(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as JSON that no HTML parser can leave: column names once, then one array of strings a row."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[to_cell(column, row.get(column, "")) for column in columns] for row in rows]
    text = json.dumps({"columns": columns, "rows": cells}, separators=(",", ":"))  # ASCII: U+2028 is escaped too
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def to_cell(column: str, value: str) -> str:
    return to_url(value) if column in PATHS and value else value


def to_url(path: str) -> str:
    """A path below the page as a relative URL; `./` and the quoted colon keep it from naming a host or a scheme."""
    return "./" + quote(os.fsencode(path), safe="/")


def to_notice(facts: Mapping[str, object]) -> str:
    text = facts.get(NOTICE)
    return f'<p class="notice">{html.escape(str(text))}</p>' if text else ""


def to_facts(facts: Mapping[str, object]) -> str:
    keys = [key for key in FACTS if key in facts] + [key for key in facts if key not in FACTS and key != NOTICE]
    return "".join(to_fact(key, facts[key]) for key in keys if facts[key] not in (None, ""))


def to_fact(key: str, value: object) -> str:
    label = html.escape(FACTS.get(key, key.replace("_", " ").capitalize()))
    text = html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))
    kind = ' class="hash"' if key.endswith("sha256") else ""
    return f'<div><dt>{label}</dt><dd{kind} title="{text}">{text}</dd></div>\n'


def to_rgb(image8: Pixels) -> Pixels:
    return image8 if image8.ndim == 3 else np.repeat(image8[..., None], 3, axis=2)  # (H, W, 3)


def to_white(mask: npt.NDArray[np.generic]) -> Pixels:
    return np.where(mask != 0, 255, 0).astype(np.uint8)  # (H, W): one channel until it is small


def letterbox(view: Pixels, side: int, whole: bool = False) -> Pixels:
    """Fit into a black square, centred; `whole` keeps every lit pixel white, so that a small lesion does not fade."""
    import cv2

    height, width = view.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if whole else cv2.INTER_LINEAR
    source: npt.NDArray[Any] = np.ascontiguousarray(view, np.float32 if whole else np.uint8)
    small = cv2.resize(source, size[::-1], interpolation=method)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    square = np.zeros((side, side, 3), np.uint8)
    shrunk = to_white(small) if whole else np.asarray(small, np.uint8)
    square[top : top + size[0], left : left + size[1]] = to_rgb(shrunk)
    return square
