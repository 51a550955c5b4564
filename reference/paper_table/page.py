"""Renders a table's page as Markdown and as one HTML file: a function of table.json and its pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.system.files import write_file
from evidence.document import rule_table, to_heads, to_rows

from .curves import NAMES, draw_curves
from .goals import find_uneven, read_paper

ENGINES = {"keras-fp32": "FP32, Keras", "litert-fp32": "FP32, LiteRT", "litert-drq": "DRQ, LiteRT"}
SCORES = ("mean_iou", "lesion_iou", "dice", "hd95_px", "false_alarms")
HEADS = (
    "net", "file, engine", "mean IoU", "paper", "tumour IoU", "mean Dice", "HD95 px", "false alarms", "MiB", "MB",
    "paper MiB", "p50 ms", "paper ms", "peak MB",
)  # fmt: skip
BESIDE = "The same nets by the other split"
BESIDE_HEADS = ("net", "split", "mean IoU, FP32", "epochs", "split", "mean IoU, FP32", "epochs", "difference")
STYLE = """
:root { --ink: #1a1d21; --muted: #5c6670; --rule: #dfe3e7; --wash: #f5f7f8; --red: #b3261e; --green: #00674b; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 28px 24px 72px; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
h1 { margin: 0; font-size: 29px; line-height: 1.2; font-weight: 650; letter-spacing: -.015em; text-wrap: balance; }
h2 { margin: 48px 0 10px; font-size: 20px; font-weight: 650; }
p { max-width: 46em; margin: 10px 0; text-wrap: pretty; overflow-wrap: anywhere; }
.note { color: var(--muted); font-size: 14px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; line-height: 1.4; font-variant-numeric: tabular-nums; }
th { padding: 0 0 7px 16px; border-bottom: 1px solid var(--ink); color: var(--muted); font-size: 13px; font-weight: 600;
  text-align: right; vertical-align: bottom; }
td { padding: 7px 0 7px 16px; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; padding-right: 8px; position: sticky; left: 0; background: #fff; }
.t { text-align: left; }
.words td, .words th { white-space: normal; text-align: left; vertical-align: top; }
.met { color: var(--green); font-weight: 600; }
.missed { color: var(--red); font-weight: 600; }
.open { color: var(--muted); font-weight: 600; }
.alert { padding: 12px 16px; border: 1px solid var(--red); border-radius: 6px; background: #fdeceb; color: #7a1710; }
img { display: block; max-width: 100%; height: auto; margin-top: 12px; }
@media (max-width: 640px) { body { padding: 20px 16px 56px; } h1 { font-size: 24px; } th, td { padding-left: 12px; } }
"""


def write_page(table: Mapping[str, Any], out: Path) -> list[Path]:
    """Write table.md, table.html and curves.png beside the table's pictures; return the pages."""
    draw_curves(table, out / "curves.png")
    pages = [out / "table.md", out / "table.html"]
    write_file(pages[0], to_markdown(table).encode())
    pictures = {name: (out / name).read_bytes() for name in list_pictures(table)}
    write_file(pages[1], to_html(table, pictures).encode())
    return pages


def list_pictures(table: Mapping[str, Any]) -> dict[str, str]:
    """Return {file: caption} of the page's pictures."""
    found = {"curves.png": "A line ends where the image size changes: scores at two sizes do not compare."}
    if table["figures"]:
        detail = NAMES[table["figures"]["detail"]]
        found["figure-9.png"] = (
            "As the paper's figure 9: what the DRQ files find in a drawn slice of each class. Drawn slices alone are "
            "shown, whatever the nets were trained on: no image here is a patient's."
        )
        found["figure-a2.png"] = f"As the paper's figure A2: original, mask, overlay and contour ({detail}, DRQ)."
    return found


def list_rows(table: Mapping[str, Any]) -> list[list[str]]:
    """Return the table's cells, one row per engine; for a variant without figures one row with the reason."""
    rows = []
    for name, variant in table["variants"].items():
        if "rows" not in variant:
            rows.append([NAMES[name], variant["why"], *[""] * (len(HEADS) - 2)])
        for engine, row in variant.get("rows", {}).items():
            paper = read_paper(name, engine) or {}
            scores = [format_number(row.get(key), ".1f" if key == "hd95_px" else ".4f") for key in SCORES]
            size = [
                format_number(row["bytes"], ".2f", 2**20),
                format_number(row["bytes"], ".2f", 1e6),
                format_number(paper.get("megabytes"), ".2f"),
            ]
            speed = [format_number(row.get("p50_ms"), ".1f"), format_number(paper.get("seconds"), ".1f", 1e-3)]
            scores.insert(1, format_number(paper.get("mean_iou"), ".4f"))
            peak = format_number(row.get("peak_rss_bytes"), ".0f", 1e6)
            rows.append([NAMES[name], ENGINES[engine], *scores, *size, *speed, peak])
    return rows


def format_number(value: float | None, digits: str, unit: float = 1.0) -> str:
    """Return a number in its unit, or a dash for None."""
    return "–" if value is None else format(value / unit, digits.replace(".", "z."))  # no minus before a 0


def list_goals(table: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the goals: goal, variant, measured value, verdict."""
    rows = []
    for goal in table["goals"]:
        value = goal["value"]
        by = f" by {goal['missed_by']:.5f}" if goal["missed_by"] is not None else ""
        why = f": {goal['why']}" if goal.get("why") else ""
        rows.append([goal["goal"], NAMES[goal["variant"]], format_number(value, ".5f"), goal["verdict"] + by + why])
    return rows


def list_beside(table: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of both splits: each variant's mean IoU and epochs here and in the other table."""
    rows = []
    for name, facts in table["variants"].items():
        score = facts["rows"]["keras-fp32"]["mean_iou"] if "rows" in facts else None
        other = table["beside"]["variants"].get(name, {})
        other_score = other.get("mean_iou")
        difference = other_score - score if score is not None and other_score is not None else None
        cells = [
            format_number(score, ".4f"),
            str(facts.get("epochs", "–")),
            format_number(other_score, ".4f"),
            str(other.get("epochs", "–")),
        ]
        rows.append(
            [NAMES[name], f"by {table['data']['split']}", *cells[:2], f"by {table['beside']['split']}", *cells[2:]]
        )
        rows[-1].append(format_number(difference, "+.4f"))
    return rows


def list_notes(table: Mapping[str, Any]) -> list[str]:
    """Return the notes on how to read the table."""
    data, recipe, machine = table["data"], table["recipe"], table["machine"]
    counts = [f"{data[part]['slices']} slices" for part in ("training", "validation", "test")]
    kinds = ", ".join(f"{count} {kind}" for kind, count in data["test"]["kinds"].items())
    shared = data["test_slices_of_training_patients"]
    split = (
        f"Split by patient: nobody's slices are in two parts ({data['test']['patients']} patients in the test)."
        if data["split"] == "patient"
        else f"Split by slice, as in the paper: {shared} of the test's slices are of patients that were trained on. "
        "What is scored here includes what was learnt by heart."
    )
    memory = machine["memory_bytes"]
    return [
        f"{split} Trained on {counts[0]}, validated on {counts[1]}, tested on {counts[2]} ({kinds}) of "
        f"{', '.join(data['folders'])}; the seed of the split and of all else is {recipe['seed']}.",
        "Mean IoU is Keras's BinaryIoU at 0.5: the mean of tumour and background over all pixels of all test slices, "
        "each at its image's own size. Dice and HD95 are means over slices; Table I has neither.",
        format_training(table),
        *format_policy(table),
        f"Latency is the median of single inferences, tensor in, tensor out, {table['threads']} threads in every "
        "engine, all engines of a variant timed in turns; memory is the peak RSS of a process that does only this. The "
        "paper's seconds are means on a Tesla M10, of a runtime that it does not name.",
        f"{machine['processor'] or machine['machine']}, {machine['cores']} cores, "
        f"{format_number(memory, '.0f', 2**30)} GiB, {machine['system']}; "
        + ", ".join(f"{name} {version}" for name, version in table["versions"].items())
        + f". {table['created']}.",
    ]


def format_training(table: Mapping[str, Any]) -> str:
    """Return the note on the training: epochs, recipe, start."""
    recipe, start = table["recipe"], table["start"]
    reached = {NAMES[name]: facts["epochs"] for name, facts in table["variants"].items() if "rows" in facts}
    counts = ", ".join(f"{name} {count}" for name, count in reached.items()) or "none yet"
    small = recipe["small_epochs"]
    sizes = f", the first {small} at {recipe['small_size']} pixels" if small else ""
    began = ""
    if start:
        known = f" ({start['epochs']} epochs of its own)" if start.get("epochs") else ""
        seen = "" if start.get("run_known", True) else ", whose own training data are not known here"
        began = f" All start from {start['file']}{known}{seen}."
    return (
        f"Epochs trained: {counts}, of {recipe['epochs']}{sizes}; the paper: up to 50 from ImageNet weights. Schedule "
        f"{recipe['schedule']} from {recipe['rate']:g}, batch {recipe['batch']}, Dice weight {recipe['dice']:g}, "
        f"augmentation {'on' if recipe['augment'] else 'off'}.{began}{format_rising(table)}"
    )


def format_policy(table: Mapping[str, Any]) -> list[str]:
    """Return the note on the layers that conversion left float for the goal, if it had the goal as policy."""
    policies = {NAMES[name]: facts["policy"] for name, facts in table["variants"].items() if facts.get("policy")}
    if not policies:
        return []
    images = max(policy["images"] for policy in policies.values())
    by_interval = any(policy.get("sure") for policy in policies.values())

    def format_condition(policy: Mapping[str, Any]) -> str:
        if not policy["met"]:
            return " (not met)"
        if not by_interval or policy["sure"]:
            return ""
        return " (by the loss itself alone, since the file would be too large)"

    counts = [f"{name} {len(policy['kept'])}{format_condition(policy)}" for name, policy in policies.items()]
    whole = " by the whole 95 % interval of the loss" if by_interval else ""
    return [
        f"DRQ is made with the goal as its policy, held on {images} validation slices, none of the test's: layers that "
        f"hurt stay float until it is met{whole}. So many did: {', '.join(counts)}."
    ]


def format_rising(table: Mapping[str, Any]) -> str:
    """Return the note on variants that were best in their last epoch, when the budget ended."""
    rising = []
    for name, facts in table["variants"].items():
        curve = [row for row in facts.get("curve", []) if row["size"] == facts["curve"][-1]["size"]]
        if curve and max(curve, key=lambda row: row["val_mean_iou"] or 0.0) is curve[-1]:
            rising.append(NAMES[name])
    return f" Still rising when the budget ended: {', '.join(rising)} (best in the last epoch)." if rising else ""


def list_alerts(table: Mapping[str, Any]) -> list[str]:
    """Return warnings against misreading the table."""
    found = [find_uneven(table)]
    for name, facts in table["variants"].items():
        timing = facts.get("timing")
        if timing and timing["status"] != "valid":
            reasons = "; ".join(timing["reasons"])
            found.append(f"Latency and memory of {NAMES[name]}: {timing['status']} ({reasons}).")
    return [text for text in found if text]


def to_markdown(table: Mapping[str, Any]) -> str:
    """Return the page as Markdown."""
    lines = ["# Table I, ours", ""]
    lines += [f"> {text}\n" for text in list_alerts(table)]
    lines += [rule_table(HEADS, list_rows(table), 2), "", "## Goals", ""]
    lines += [rule_table(("goal", "net", "measured", "verdict"), list_goals(table), 4), ""]
    if table["beside"]:
        lines += [f"## {BESIDE}", "", rule_table(BESIDE_HEADS, list_beside(table), 1), ""]
    lines += ["## How to read it", ""]
    lines += [f"{note}\n" for note in list_notes(table)]
    for name, caption in list_pictures(table).items():
        lines += [f"![{caption}]({name})", "", caption, ""]
    return "\n".join(lines)


def to_html(table: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return the page as one HTML file, pictures included."""
    alerts = "".join(f'<p class="alert">{html.escape(text)}</p>' for text in list_alerts(table))
    notes = "".join(f"<p>{html.escape(text)}</p>" for text in list_notes(table))
    figures = "".join(
        f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{base64.b64encode(pictures[name]).decode()}">'
        f'<p class="note">{html.escape(caption)}</p>'
        for name, caption in list_pictures(table).items()
    )
    heads = to_heads(("goal", "net", "measured", "verdict"), 4)
    beside = ""
    if table["beside"]:
        rows = to_rows(list_beside(table), 1)
        beside = f'<h2>{BESIDE}</h2><div class="wide"><table><tr>{to_heads(BESIDE_HEADS, 1)}</tr>{rows}</table></div>'
    goals = to_rows(list_goals(table), 4, lambda cell: cell.split(" ")[0].rstrip(":"))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Table I, ours</title><style>{STYLE}</style></head><body>
<h1>Table I, ours: the four Res-UNets, FP32 and DRQ</h1>
<p class="note">Not a medical device. For research and evaluation.</p>{alerts}
<div class="wide"><table><tr>{to_heads(HEADS, 2)}</tr>{to_rows(list_rows(table), 2)}</table></div>
<h2>Goals</h2>
<div class="wide"><table class="words"><tr>{heads}</tr>{goals}</table></div>
{beside}
<h2>How to read it</h2>{notes}
<h2>Curves and pictures</h2>{figures}
</body></html>
"""
