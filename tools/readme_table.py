"""Writes the README's table of measured numbers from the committed benchmark result: `python tools/readme_table.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "records" / "default-benchmark" / "result.json"
BEGIN, END = "<!-- written by python tools/readme_table.py -->\n", "<!-- to here -->\n"


def to_table(result: dict[str, Any]) -> str:
    """Return the table of a benchmark result, in Markdown."""
    subjects, accuracy = result["subjects"], result["accuracy"]
    name = next(key for key, one in subjects.items() if one["role"] == "subject")
    facts, lines = result["machine"]["facts"], ["| embedded model | measured |", "| --- | --- |"]
    for pair in (pair for pair in result["pairs"] if pair["subject"] == name):
        low, high = pair["interval"]
        base = subjects[pair["baseline"]]
        text = f"{pair['ratio_p50']:.2f} of the time ({low:.2f} to {high:.2f}: {pair['verdict']})"
        share = subjects[name]["file"]["bytes"] / base["file"]["bytes"]
        lines.append(f"| against {base['name']} | {text}, {share:.1%} of the size |")
    end = result["end_to_end"]
    lines.append(
        f"| from file to masks, overlays and table | {end['images_per_s']:.0f} slices a second, peak "
        f"{end['peak_rss_bytes'] / 1e6:.0f} MB |"
    )
    mean_iou = "mean_iou" if "mean_iou" in accuracy[name] else "binary_iou"  # the name in earlier results
    for key, label in ((mean_iou, "mean IoU"), ("dice", "mean Dice")):
        low, high = accuracy[name][key]["interval"]
        text = f"{accuracy[name][key]['value']:.3f} ({low:.3f} to {high:.3f})"
        lines.append(f"| {label} on {accuracy[name][key]['n']} slices of held-out patients | {text} |")
    cpu, cores = facts["cpu"], facts["cores"]
    lines.append(f"\n{cpu}, {cores} cores; run {result['id']}: {result['validity']['status']}.")
    return "\n".join(lines) + "\n"


def replace_block(page: str, block: str) -> str:
    """Return the page with what stands between the marks replaced."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + block + END + rest.split(END)[1]


def main() -> None:
    """Rewrite the README's block."""
    page = ROOT / "README.md"
    page.write_text(replace_block(page.read_text("utf-8"), to_table(json.loads(RESULT.read_text("utf-8")))), "utf-8")


if __name__ == "__main__":
    main()
