"""Which table does `edge-seg` print after a run?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from edge_runtime.errors import printable

SHOWN = 20  # rows of the table on stdout; all of them are in results.csv


def to_table(rows: Iterable[Mapping[str, str]], facts: dict[str, Any], out: Path, gallery: bool) -> str:
    """Return the table of the first images and the closing lines."""
    made = list(islice((row for row in rows if row["status"] == "ok"), SHOWN))
    head = f"{'file':<36} {'size':>11} {'lesion %':>9} {'parts':>5} {'max p':>6} {'ms':>7}"
    lines = [f"{head}{'  class' * ('class' in made[0])}  flags"] if made else []
    for row in made:
        size = f"{row['width']}x{row['height']}"
        spent = sum(float(row[stage]) for stage in ("read_ms", "infer_ms", "write_ms"))
        share, peak = 100 * float(row["lesion_fraction"]), float(row["max_probability"])
        name = row["file"] if len(row["file"]) <= 36 else f"{row['file'][:17]}…{row['file'][-18:]}"
        numbers = f"{size:>11} {share:9.2f} {row['components']:>5} {peak:6.2f} {spent:7.1f}"
        kind = f"  {row['class']} ({float(row['class_probability']):.2f})" if "class" in row else ""
        lines.append(f"{name:<36} {numbers}{kind}  {row['flags']}")
    counts = facts["counts"]
    if counts["ok"] > SHOWN:
        lines.append(f"… and {counts['ok'] - SHOWN} more in {out / 'results.csv'}")
    if facts["flags"]:
        lines.append("flagged: " + ", ".join(f"{number} {flag}" for flag, number in facts["flags"].items()))
    kept = f", {counts['kept']} of them kept from an earlier run" if counts["kept"] else ""
    speed = f"{facts['images_per_second']:g} images a second"
    lines.append(f"{counts['ok']} segmented{kept}, {counts['failed']} failed; {speed}")
    lines.append(f"gallery: {out / 'index.html'}" if gallery else f"results: {out / 'results.csv'}")
    return "\n".join(printable(line) for line in lines)
