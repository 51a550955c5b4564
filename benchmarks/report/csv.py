"""How is summary.csv written? A row for each subject, all digits, no cell that a spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
from typing import Any

from benchmarks.report.chapters.first_page import name_device
from benchmarks.result.lookup import Result, find
from benchmarks.result.roles import find_scores, list_subjects
from benchmarks.result.specification import SCORES
from benchmarks.result.wording import escape_hidden
from edge_runtime.system.spreadsheet import escape_formula

COLUMNS = {  # of summary.csv, after those that name the run and the subject: paths below the subject
    "engine": "engine",
    "threads": "threads",
    "recipe": "recipe",
    "file": "file.name",
    "file_bytes": "file.bytes",
    "load_ms": "load_ms",
    "first_ms": "first_ms",
    "n": "latency.n",
    "mean_ms": "latency.mean_ms",
    "p50_ms": "latency.p50_ms",
    "p50_low_ms": "latency.interval_p50.0",
    "p50_high_ms": "latency.interval_p50.1",
    "p90_ms": "latency.p90_ms",
    "p95_ms": "latency.p95_ms",
    "p99_ms": "latency.p99_ms",
    "least_ms": "latency.least_ms",
    "most_ms": "latency.most_ms",
    "spread": "latency.spread",
    "per_second": "latency.per_second",
    "baseline_rss_bytes": "memory.baseline_rss_bytes",
    "loaded_rss_bytes": "memory.loaded_rss_bytes",
    "peak_rss_bytes": "memory.peak_rss_bytes",
    "peak_pss_bytes": "memory.peak_pss_bytes",
}
NAMING = ("run", "validity", "device", "subject", "name", "role", "status", "reason")


def to_csv(result: Result) -> str:
    """Return a row for each subject with all digits; a missing figure is "not measured"."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    scores = [f"{name}{part}" for name in SCORES for part in ("", "_low", "_high")]
    table.writerow([*NAMING, *COLUMNS, "accuracy_against", *scores])
    run = [find(result, "id"), find(result, "validity.status"), name_device(result)]
    for key in list_subjects(result):
        subject, entry = f"subjects.{key}", f"accuracy.{find_scores(result, key)}"
        who = [
            key,
            *(find(result, f"{subject}.{field}") for field in NAMING[4:-1]),
            find(result, f"{subject}.reason") or "",
        ]
        figures = [find(result, f"{subject}.{path}") for path in COLUMNS.values()]
        parts = ("value", "interval.0", "interval.1")
        accuracy = [find(result, f"{entry}.{name}.{part}") for name in SCORES for part in parts]
        table.writerow(map(to_cell, [*run, *who, *figures, find(result, f"{entry}.against"), *accuracy]))
    return buffer.getvalue()


def to_cell(value: Any) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    if value is None:
        return "not measured"
    if isinstance(value, int | float):
        return repr(value)
    return escape_formula(escape_hidden(value))
