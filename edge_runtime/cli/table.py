"""Which table does `edge-seg` print after a run?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from edge_runtime.errors import printable
from edge_runtime.folder.records.probabilities import format_highest, format_lead
from edge_runtime.folder.records.run_json import EMBEDDED_LIMITS, LARGEST_CLASS

SHOWN = 20  # rows of the table on stdout; all of them are in results.csv


def to_table(rows: Iterable[Mapping[str, str]], facts: dict[str, Any], out: Path, gallery: bool) -> str:
    """Return the table of the first images and the closing lines."""
    made = list(islice((row for row in rows if row["status"] == "ok"), SHOWN))
    largest = facts["mask_rule"] == LARGEST_CLASS
    peak = f"{'label p':>7} {'backgr.':>7}" if largest else f"{'max p':>6}"
    head = f"{'file':<36} {'size':>11} {'lesion %':>9} {'parts':>5} {peak} {'ms':>7}"
    lines = [f"{head}{'  class' * ('class' in made[0])}  flags"] if made else []
    for row in made:
        size = f"{row['width']}x{row['height']}"
        spent = sum(float(row[stage]) for stage in ("read_ms", "infer_ms", "write_ms"))
        share = 100 * float(row["lesion_fraction"])
        peak = format_peak(row, None if largest else facts["threshold"])
        name = row["file"] if len(row["file"]) <= 36 else f"{row['file'][:17]}…{row['file'][-18:]}"
        numbers = f"{size:>11} {share:9.2f} {row['components']:>5} {peak} {spent:7.1f}"
        kind = f"  {row['class']} ({float(row['class_probability']):.2f})" if "class" in row else ""
        lines.append(f"{name:<36} {numbers}{kind}  {row['flags']}")
    if largest and made:
        lines.append("a pixel is a lesion where a label is more probable than the background (backgr.); no threshold")
    counts = facts["counts"]
    if counts["ok"] > SHOWN:
        lines.append(f"… and {counts['ok'] - SHOWN} more in {out / 'results.csv'}")
    if facts["flags"]:
        lines.append("flagged: " + ", ".join(f"{number} {flag}" for flag, number in facts["flags"].items()))
    if "empty" in facts["flags"] and not facts["model"]["path"]:
        lines.append(f"note: {EMBEDDED_LIMITS}")
    kept = f", {counts['kept']} of them kept from an earlier run" if counts["kept"] else ""
    speed = f"{facts['images_per_second']:g} images a second"
    lines.append(f"{counts['ok']} segmented{kept}, {counts['failed']} failed; {speed}")
    lines.append(f"gallery: {out / 'index.html'}" if gallery else f"results: {out / 'results.csv'}")
    return "\n".join(printable(line) for line in lines)


def format_peak(row: Mapping[str, str], threshold: float | None) -> str:
    """Return the probabilities that decide whether the mask is empty."""
    if threshold is None and not row["label_probability"]:  # kept from an earlier version's run
        return " " * 15
    if threshold is None:
        lead = format_lead(float(row["label_probability"]), float(row["background_probability"]), 2)
        return " ".join(f"{text:>7}" for text in lead)
    return f"{format_highest(float(row['max_probability']), threshold, 2):>6}"
