"""What runs on each device of a fleet? One table: Markdown, HTML or CSV, a pure function of the devices' files.

    FOLDER/DEVICE/status.json   the output of `edge-deploy status --json`; the playbook adds {"health": {...}}, and
                                writes {"error": "..."} for a device that did not answer
    FOLDER/DEVICE/result.json   of edge-bench, if a benchmark was run on the device

Devices wrote these files, so nothing in them is trusted: unexpected contents are reported in the device's row.
"""

from __future__ import annotations

import csv
import html
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from deploy.files import read_json, to_line
from edge_runtime.errors import UsageError
from edge_runtime.system.spreadsheet import escape_formula
from evidence.document import escape_markdown, make_table

MAX_BYTES = 64 << 20  # of one file; a benchmark's raw samples and pictures take a few MB
MAX_TEXT = 300  # of one cell


@dataclass(frozen=True)
class Device:
    """A row. `test_ms` is the median of the installation's own short test. `p50_ms` and `slices_per_hour` are from a
    benchmark of the same model on that device, None without one. `trouble` is what is wrong or could not be read."""

    device: str
    model: str = ""
    version: str = ""
    software: str = ""
    slot: str = ""
    since: str = ""
    service: str = ""
    test_ms: float | None = None
    p50_ms: float | None = None
    slices_per_hour: float | None = None
    benchmark: str = ""
    last_failure: str = ""
    trouble: str = ""


TITLES = ("device", "model", "version", "edge-seg", "slot", "since", "service", "test ms", "p50 ms", "slices/h",
          "benchmark", "last failure", "trouble")  # fmt: skip


DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)  # what reading a file may raise


def read_devices(folder: Path) -> list[Device]:
    """Return a row for each device of a folder, sorted by name. Raises: UsageError if there is none."""
    try:
        found = sorted(path for path in folder.iterdir() if os.path.lexists(path / "status.json"))
    except OSError as error:
        raise UsageError(str(folder), error.strerror or str(error), "give the folder of the devices' files") from None
    if not found:
        why = "it has no DEVICE/status.json"
        raise UsageError(str(folder), why, "gather them with the playbook status.yml, or edge-deploy status --json")
    return [read_device(path) for path in found]


def read_device(folder: Path) -> Device:
    """Return one device's row; what cannot be read is named in its `trouble`."""
    try:
        status = read_facts(folder / "status.json")
        if status.get("error"):
            return Device(to_cell(folder.name), trouble=to_cell(status["error"]))
        row = describe_status(to_cell(folder.name), status)
    except DAMAGED as error:
        return Device(
            to_cell(folder.name), trouble=to_cell(f"its status.json is damaged ({type(error).__name__}: {error})")
        )
    try:
        return add_benchmark(row, folder / "result.json")
    except DAMAGED as error:
        return replace(row, trouble=to_cell(f"its result.json is damaged ({type(error).__name__}: {error})"))


def read_facts(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises: OSError, ValueError."""
    facts = read_json(path, MAX_BYTES)
    if not isinstance(facts, dict):
        raise ValueError("it is not a JSON object")
    return facts


def describe_status(device: str, status: Mapping[str, Any]) -> Device:
    """Return the row of a status, without a benchmark."""
    slots = list(status["slots"])
    failed = [slot for slot in slots if slot["reason"] and not slot["current"]]
    failure = f"{failed[-1]['name']}, {failed[-1]['since']}: {failed[-1]['reason']}" if failed else ""
    health = status.get("health") or {}
    service = f"{health.get('state', '')}{': ' if health.get('why') else ''}{health.get('why', '')}"
    current = next((slot for slot in slots if slot["current"]), None)
    if current is None:
        return Device(device, service=to_cell(service), last_failure=to_cell(failure), trouble="nothing is installed")
    return Device(
        device=device,
        model=to_cell(current["model_id"]),
        version=to_cell(current["model_version"]),
        software=to_cell(current["software"]),
        slot=to_cell(current["name"]),
        since=to_cell(current["since"]),
        service=to_cell(service),
        test_ms=to_number(current["latency_ms"]),
        last_failure=to_cell(failure),
        trouble=find_trouble(current, health),
    )


def find_trouble(slot: Mapping[str, Any], health: Mapping[str, Any]) -> str:
    """Return what is wrong with the current slot or the service; "" if nothing is."""
    if slot["state"] != "good":
        return to_cell(slot["reason"] or f"its slot is {slot['state']}")
    return "" if health.get("well", True) else to_cell(f"its service is {health.get('state')}")


def add_benchmark(row: Device, path: Path) -> Device:
    """Return the row with the figures of a result.json, if that is of the row's model.

    Slices per hour as in edge-bench's report: from file to written mask if that was measured, and the sustained rate if
    that is lower. `benchmark` names the validity, the subject, and "the model alone" for a rate of inference only.
    """
    if not os.path.lexists(path):
        return row
    result = read_facts(path)
    model = result["model"]
    if (str(model["id"]), str(model["version"])) != (row.model, row.version):
        return replace(row, benchmark=to_cell(f"of another model, {model['id']} {model['version']}"))
    end_to_end, sustained = result.get("end_to_end") or {}, result.get("sustained") or {}
    key = find_subject(result["subjects"], end_to_end)
    if key is None:
        return replace(row, benchmark="measured nothing")
    latency = result["subjects"][key]["latency"]
    is_whole = end_to_end.get("subject") == key and bool(to_number(end_to_end.get("images_per_s")))
    per_second = to_number(end_to_end["images_per_s"] if is_whole else latency["per_second"])
    ratio = to_number(sustained.get("ratio_last_to_first")) if sustained.get("subject") == key else None
    if per_second and ratio and ratio > 1 and sustained.get("differs"):
        per_second /= ratio
    return replace(
        row,
        p50_ms=to_number(latency["p50_ms"]),
        slices_per_hour=None if per_second is None else 3600 * per_second,
        benchmark=to_cell(f"{result['validity']['status']}, {key}{'' if is_whole else ', the model alone'}"),
    )


def find_subject(subjects: Mapping[str, Any], end_to_end: Mapping[str, Any]) -> str | None:
    """Return the key of a benchmark's main subject: the one measured end to end, else the first measured one."""
    measured = [key for key, subject in subjects.items() if subject["status"] == "ok"]
    own = [key for key in measured if subjects[key]["role"] == "subject"]
    return str(end_to_end["subject"]) if end_to_end.get("subject") in measured else next(iter(own), None)


def to_cell(value: Any) -> str:
    """Return any value as one short line without control characters."""
    return to_line(value)[:MAX_TEXT]


def to_number(value: Any) -> float | None:
    """Return a number; None for another type and for what is not finite or is below zero."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if usable else None


def summarize(devices: list[Device]) -> str:
    """Return one sentence: the number of devices, of each model's devices, and of those in trouble."""
    models = Counter(f"{row.model} {row.version}" if row.slot else "without a model" for row in devices)
    parts = [f"{count} {model}" for model, count in sorted(models.items(), key=lambda item: (-item[1], item[0]))]
    troubled = sum(bool(row.trouble) for row in devices)
    parts += [f"{troubled} in trouble"] if troubled else []
    return f"{len(devices)} device{'' if len(devices) == 1 else 's'}: {', '.join(parts)}"


def list_cells(row: Device) -> list[str]:
    """Return what a reader sees of a row; a dash for what is not known."""
    return [f"{value:.3g}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"
            if isinstance(value, float) else value or "–" for value in astuple(row)]  # fmt: skip


def to_markdown(devices: list[Device]) -> str:
    """Return a Markdown table, with what it sums up to above it."""
    table = make_table(TITLES, [map(escape_markdown, list_cells(row)) for row in devices])
    return f"{escape_markdown(summarize(devices))}\n\n{table}\n"


def to_csv(devices: list[Device]) -> str:
    """Return CSV with unrounded figures, empty where unknown, and no cell that a spreadsheet takes as a formula."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow([field.name for field in fields(Device)])
    for row in devices:
        cells = ["" if value is None else value for value in astuple(row)]
        table.writerow([escape_formula(cell) if isinstance(cell, str) else cell for cell in cells])
    return buffer.getvalue()


def to_html(devices: list[Device]) -> str:
    """Return a page that opens from disk and loads nothing."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in TITLES)
    body = ""
    for row in devices:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in list_cells(row))
        body += f"<tr{' class=trouble' if row.trouble else ''}>{cells}</tr>\n"
    return PAGE.format(summary=html.escape(summarize(devices)), head=head, body=body)


PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Devices</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid #ccc }}
.trouble td {{ background: #fff0e6 }}
</style>
<h1>Devices</h1>
<p>{summary}</p>
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}</tbody>
</table>
</html>
"""
FORMATS: dict[str, Callable[[list[Device]], str]] = {".md": to_markdown, ".html": to_html, ".csv": to_csv}


def find_format(path: Path) -> Callable[[list[Device]], str]:
    """Return the function that renders a file of that suffix. Raises: UsageError."""
    if path.suffix not in FORMATS:
        raise UsageError(f"-o {path}", f"no format has the suffix {path.suffix!r}", f"use {', '.join(FORMATS)}")
    return FORMATS[path.suffix]
