"""How is index.html made, the page that is opened from disk and shows each image with its mask and its numbers?"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from edge_runtime.folder.inputs import name_mask
from edge_runtime.folder.outputs import find_overlay, name_sprite
from edge_runtime.folder.records.journal import ResultRow
from edge_runtime.system.files import write_file


def to_page_row(row: ResultRow, out: Path) -> ResultRow:
    """Return a row with the paths of its pictures in OUT, where an earlier version or other options wrote some."""
    made, name = row["status"] == "ok", name_mask(row["file"])
    return {
        **row,
        "sprite": name_sprite(name) if made else "",
        "mask": f"masks/{name}" if made else "",
        "overlay": find_overlay(out, name) if made else "",
    }


FACTS = {  # key: label, in the order of the header; other facts follow under their own keys
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
NOTICES = ("intended_use", "warning", "limits")  # each shown as a line of its own
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
PATHS = ("sprite", "mask", "overlay", "original")  # the columns that hold paths, which the page needs as URLs


def write_gallery(path: Path, rows: Sequence[Mapping[str, str]], facts: Mapping[str, object]) -> None:
    """Write the page whole or not at all; the keys of `facts` are those of FACTS and NOTICES, and any others."""
    # File names that are not UTF-8 reach the header as lone surrogates, which UTF-8 cannot carry.
    write_file(path, to_page(rows, facts).encode("utf-8", "xmlcharrefreplace"))


def to_page(rows: Sequence[Mapping[str, str]], facts: Mapping[str, object]) -> str:
    """Return the page's HTML."""
    parts = {"notice": to_notice(facts), "facts": to_facts(facts), "data": to_data(rows)}
    template = Path(__file__).with_name("gallery.html").read_text("utf-8")
    # One pass: a file may be called {{facts}}.
    return re.sub(r"\{\{(\w+)\}\}", lambda slot: parts[slot[1]], template)


def to_data(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the rows as JSON that cannot end a script element: column names once, then one array of strings a row."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[to_cell(column, row.get(column, "")) for column in columns] for row in rows]
    text = json.dumps({"columns": columns, "rows": cells}, separators=(",", ":"))  # ASCII: U+2028 is escaped too
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def to_cell(column: str, value: str) -> str:
    """Return a cell as the page needs it."""
    return to_url(value) if column in PATHS and value else value


def to_url(path: str) -> str:
    """Return a path below the page as a relative URL, whose `./` and quoted colon keep it from naming a host."""
    return "./" + quote(os.fsencode(path), safe="/")


def to_notice(facts: Mapping[str, object]) -> str:
    """Return the lines with the intended use and a warning, where there are such."""
    texts = [str(facts[key]) for key in NOTICES if facts.get(key)]
    return "".join(f'<p class="notice">{html.escape(CONTROLS.sub("�", text))}</p>' for text in texts)


def to_facts(facts: Mapping[str, object]) -> str:
    """Return the header's facts."""
    keys = [key for key in FACTS if key in facts] + [key for key in facts if key not in FACTS and key not in NOTICES]
    return "".join(to_fact(key, facts[key]) for key in keys if facts[key] not in (None, ""))


def to_fact(key: str, value: object) -> str:
    """Return one fact with its label."""
    label = html.escape(FACTS.get(key, key.replace("_", " ").capitalize()))
    text = html.escape(f"{value:.4g}" if isinstance(value, float) else CONTROLS.sub("�", str(value)))
    kind = ' class="hash"' if key.endswith("sha256") else ""
    return f'<div><dt>{label}</dt><dd{kind} title="{text}">{text}</dd></div>\n'
