"""What does a person need to read before using a converted file? The report as Markdown, made of the JSON alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any
from urllib.parse import quote

from edge_runtime.errors import printable_lines
from evidence.change import write_number
from evidence.document import escape_markdown, make_table, to_code

from .words import (
    Report,
    find_quartiles,
    format_proofs,
    format_scaling,
    format_slowdown,
    format_tidied,
    format_upsampling,
)

WORDS = {"mean_iou": "mean IoU", "dice": "Dice, mean over images", "area_error": "lesion-area error",
         "false_alarms": "false alarms"}  # fmt: skip
SHOWN_LAYERS = 20  # rows of a table of layers; the JSON has all


def to_markdown(report: Report) -> str:
    """Return a conversion's report as Markdown (GitHub's dialect)."""
    blocks = [
        f"# {to_code(report['model']['id'])} as {report['recipe']}",
        *(f"**Warning: {escape(text)}.**" for text in report["warnings"]),
        render_summary(report),
        *render_section("What came in, what went out", render_model(report)),
        *render_section("Size and speed", render_size(report)),
        *render_section("Against the original", [render_drawn(report["checks"]), *render_check(report)]),
        *render_section("Files tried", render_tried(report)),
        *render_section("Layers kept float for the policy", render_float_layers(report)),
        *render_section("What is in the file", render_audit(report)),
        *render_section("How the layout was found", render_layout(report)),
        *render_section("Notes", render_notes(report)),
        *render_section("Provenance", render_provenance(report)),
    ]
    return printable_lines("\n\n".join(blocks) + "\n")


def render_section(title: str, blocks: Sequence[str]) -> list[str]:
    """Return a heading and its blocks; nothing without blocks."""
    return [f"## {title}", *blocks] if blocks else []


def render_summary(report: Report) -> str:
    """Return the result in one paragraph: size, speed, accuracy, verdict, and allowed findings."""
    facts = [f"{format_megabytes(report['size_bytes'])}, {report['fraction_of_fp32']:.1%} of the float32 file"]
    if report["speed_ratio"] is not None:
        facts.append(f"{report['speed_ratio']:.2f} of its time")
    lines = ["**" + "; ".join(facts) + ".**"]
    check, policy = report["check"], report["policy"]
    if check:
        iou = next(score for score in check["scores"] if score["name"] == "mean_iou")
        truth = "" if check["truth"] == "masks" else ", Keras' own masks taken for the truth"
        lines.append(f"Mean IoU {format_number(iou['result'])} against Keras' {format_number(iou['keras'])}, "
                     f"on {check['images']} images{truth}.")  # fmt: skip
    if policy:
        lines.append(f"The policy is {'met' if policy['met'] else '**not met**'}: {escape(policy['why'])}.")
    if not check:
        lines.append("It was not checked on images.")
    if report["allowed"]:
        lines.append(f"**Allowed: {', '.join(map(to_code, report['allowed']))}.**")
    return " ".join(lines)


def render_model(report: Report) -> list[str]:
    """Return the table of the model's source, input, output and threshold."""
    given, output, threshold = report["input"], report["output"], report["threshold"]
    labels = ", ".join(label["name"] for label in output["labels"])
    rows = [
        ("Source", f"{report['kind']}, {report['parameters']:,} parameters, {report['macs'] / 1e9:.3g} GMAC an image"),
        *([("Reference", f"the outputs of {report['reference']}")] if report.get("reference") else []),
        ("Loaded with", report.get("isolation") or "not recorded"),
        ("Input", f"{given['colour']} {format_shape(given['shape'])} {given['dtype']}, {format_scaling(given)}"),
        ("Output", f"{output['activation']} {format_shape(output['shape'])} {output['dtype']}: {labels}"),
        ("Threshold", f"{threshold['value']:g} (from {threshold['from']})"),
    ]  # fmt: skip
    return [table(("", ""), ([name, escape(words)] for name, words in rows))]


def render_size(report: Report) -> list[str]:
    """Return the table of the float32 file and the result."""
    clock = report["clock_ms"]
    rows = [
        ["static float32", format_megabytes(report["fp32_bytes"]), "100 %", "1", format_milliseconds(clock.get("fp32"))]
    ]
    ratio = "–" if report["speed_ratio"] is None else f"**{report['speed_ratio']:.2f}**"
    share = f"{report['fraction_of_fp32']:.1%}"
    times = format_milliseconds(clock.get("result"))
    rows.append([report["recipe"], format_megabytes(report["size_bytes"]), share, ratio, times])
    blocks = [table(("file", "size", "of float32", "time, ratio", "median"), rows)]
    return [*blocks, format_spread(clock)] if "result" in clock else blocks


def format_spread(clock: Mapping[str, Sequence[float]]) -> str:
    """Return the quartiles of the ratio over the rounds."""
    rounds, (low, high) = len(clock["fp32"]), find_quartiles(clock)
    return (
        f"Timed in turns, {rounds} rounds, 2 threads: half of the rounds lie between {low:.2f} and {high:.2f}. "
        "Milliseconds are this machine's at that moment; the ratio is what holds elsewhere on such a processor."
    )


def render_drawn(checks: Report) -> str:
    """Return how far the outputs on drawn images are from Keras'."""
    far = format_number(checks["largest_difference"])
    return (
        f"On {checks['images']} drawn images, noise and extremes among them, no probability is further than {far} from "
        f"Keras', and {format_percent(checks['changed_pixels'])} of the pixels change their label."
    )


def render_check(report: Report) -> list[str]:
    """Return the scores of the three models, their agreement, and the worst images with their pictures."""
    check = report["check"]
    if not check:
        return []
    truth = "true masks" if check["truth"] == "masks" else "Keras' own masks, since no true ones were given"
    intro = f"On {check['images']} images, {check['lesions']} of which show a lesion, against {truth}. "
    intro += "*Lost* is how much worse the result is than Keras; below 0 it is better. "
    intro += "The interval is a paired bootstrap's over images, 95 %."
    rows = [
        [escape(format_score_name(score["name"])), *(format_number(score[key]) for key in ("keras", "fp32", "result")),
         format_signed(score["drop"]), format_interval(score)]
        for score in check["scores"]
        if not isinstance(score["keras"], str) or not isinstance(score["result"], str)
    ]  # fmt: skip
    sides = [(name, check[key]) for name, key in (("static float32", "fp32"), (report["recipe"], "result"))]
    agree = [[name, format_percent(one["changed_pixels"]), format_number(one["mean_iou"])] for name, one in sides]
    return [
        intro,
        table(("score", "Keras", "static float32", report["recipe"], "lost", "95 % interval"), rows),
        table(("against Keras' masks", "pixels changed", "mean IoU"), agree),
        *render_gaps(check),
        *render_worst(check),
    ]


def render_gaps(check: Report) -> list[str]:
    """Return what could not be measured: labels that never occur, images left out."""
    blocks = []
    if check["absent"]:
        blocks.append(f"No image's truth has {', '.join(map(to_code, check['absent']))}: no score for that.")
    if check["left_out"]:
        items = [f"- {to_code(item['file'])}: {escape(item['why'])}" for item in check["left_out"]]
        blocks.append("\n".join([f"Left out ({len(items)}):", "", *items]))
    return blocks


def render_worst(check: Report) -> list[str]:
    """Return the images with the largest loss as a table, the first three with their pictures."""
    worst = [(item["picture"], check["rows"][item["row"]]) for item in check["worst"]]
    rows = [
        [f"[{escape(row['file'])}]({to_link(picture)})", format_signed(row["drop"]),
         *(format_number(row["dice"][key]) for key in ("keras", "result")), format_percent(row["changed_pixels"])]
        for picture, row in worst
    ]  # fmt: skip
    views = ("truth, " if check["truth"] == "masks" else "") + "Keras, result"
    shown = [f"![{escape(row['file'])}]({to_link(picture)})" for picture, row in worst[:3]]
    head = ("image", "Dice lost", "Keras", "result", "pixels changed")
    return [f"### Where it lost most ({views})", table(head, rows), *shown]


def render_tried(report: Report) -> list[str]:
    """Return the table of the files tried, if there were several."""
    entries = report["tournament"]
    if len(entries) < 2:
        return []
    rows = [
        [entry["recipe"] + (f", {format_layers(entry['kept'])} float" if entry["kept"] else ""), entry["outcome"],
         "–" if entry["size_bytes"] is None else format_megabytes(entry["size_bytes"]),
         format_number(entry["ratio"], 2), format_signed(entry["drop"]), escape(entry["why"])]
        for entry in entries
    ]  # fmt: skip
    return [table(("file", "", "size", "time, of float32", "mean IoU lost", "why"), rows)]


def render_float_layers(report: Report) -> list[str]:
    """Return which layers were left float for the policy, and what was measured for that."""
    blocks = []
    strict = bool(report["policy"] and report["policy"]["strict"])
    surely, lost = ("no more than ", "at most, 95 % sure") if strict else ("", "all images")
    for recipe, found in report["drill_down"].items():
        more = found["size_bytes"] - found["before_bytes"]
        end = "meets the policy" if found["met"] else "does **not** meet the policy"
        blocks.append(
            f"{recipe}: {len(found['kept'])} of {format_layers(found['layers'])} kept float, for "
            f"{format_megabytes(more)} more{format_slowdown(report, recipe)}: mean IoU loses {surely}"
            f"{format_signed(found['drop'])}, which {end}. Each row is a file in which these layers alone are "
            "quantized, on the images that had lost most."
        )
        rows = [
            [format_group(trial["names"]), format_percent(trial["damage"]),
             "kept float" if set(trial["names"]) & set(found["kept"]) else ""]
            for trial in found["trials"][:SHOWN_LAYERS]
        ]  # fmt: skip
        blocks.append(table(("quantized alone", "pixels changed", ""), rows))
        steps = [
            [
                str(step["kept"]),
                format_megabytes(step["size_bytes"]),
                format_signed(step["drop"]),
                "yes" if step["met"] else "no",
            ]
            for step in found["steps"]
        ]
        blocks.append(table(("layers float", "size", f"mean IoU lost, {lost}", "met"), steps))
    return blocks


def format_layers(count: int) -> str:
    """Return how many layers."""
    return f"{count} layer" + "s" * (count != 1)


def format_group(names: Sequence[str]) -> str:
    """Return a layer's name, or the first and the last of a group."""
    if len(names) == 1:
        return to_code(names[0])
    return f"{len(names)} layers, {to_code(names[0])} to {to_code(names[-1])}"


def render_audit(report: Report) -> list[str]:
    """Return the table of operations, how the weights are stored, the partitions and the findings."""
    audit = report["audit"]
    total = max(1, sum(cost["macs"] for cost in audit["costs"]))
    rows = [
        [to_code(cost["operation"]), str(cost["count"]), f"v{audit['versions'][cost['operation']]}",
         f"{cost['macs'] / 1e6:,.1f}" if cost["macs"] else "", f"{cost['macs'] / total:.1%}" if cost["macs"] else "",
         f"{cost['constant_bytes'] / 1e3:,.1f}" if cost["constant_bytes"] else ""]
        for cost in audit["costs"]
    ]  # fmt: skip
    head = ("operation", "count", "version", "million MACs", "of all", "constants, kB")
    weights = [*render_weights(audit["weights"]), render_rewrites(report)]
    return [table(head, rows), *weights, render_partitions(audit), *render_findings(audit)]


def render_rewrites(report: Report) -> str:
    """Return what was proven of the weights and what was rewritten, as a list."""
    proofs = report["audit"]["proofs"]
    items = [
        *([f"proven of the weights: {format_proofs(proofs)}"] if proofs else []),
        *([f"rewritten, exactly: {format_tidied(report)}"] if report["tidied"] else []),
        format_upsampling(report),
    ]
    return "\n".join(f"- {escape(words)}" for words in items)


def render_weights(weights: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how the weights are stored, by type and reason."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for weight in weights:
        kinds.setdefault((weight["dtype"].lower(), weight["reason"]), []).append(weight["elements"])
    rows = [[kind, str(len(sizes)), f"{sum(sizes):,}", escape(why)] for (kind, why), sizes in sorted(kinds.items())]
    return [table(("weights stored as", "tensors", "numbers", "why"), rows)] if rows else []


def render_partitions(audit: Mapping[str, Any]) -> str:
    """Return the number of XNNPACK's partitions, and the operations outside of them."""
    pieces, outside = audit["partitions"], audit["outside"]
    if pieces is None:
        return "In how many pieces XNNPACK takes the graph is not known."
    said = f"XNNPACK takes the graph in {pieces} piece{'s' * (pieces != 1)}"
    if not outside:
        return f"{said}, nothing is left to the interpreter."
    items = "\n".join(f"- {escape(operation)}" for operation in outside[:SHOWN_LAYERS])
    more = f"\n- and {len(outside) - SHOWN_LAYERS} more" if len(outside) > SHOWN_LAYERS else ""
    return f"{said}; the interpreter is left with {len(outside)} operation{'s' * (len(outside) != 1)}:\n\n{items}{more}"


def render_findings(audit: Mapping[str, Any]) -> list[str]:
    """Return the audit's findings."""
    if not audit["findings"]:
        return ["The audit found nothing wrong."]
    return ["\n".join(f"- **{finding['name']}**: {escape(finding['where'])}" for finding in audit["findings"])]


def render_layout(report: Report) -> list[str]:
    """Return the files that were timed for the layout, the fastest first."""
    choice = report["choice"]
    if not choice["table"]:
        return []
    tried = sorted(choice["table"], key=lambda row: row["ratio"])
    rows = [
        [escape(row["what"]), format_megabytes(row["bytes"]), str(row["kept"]), f"{row['ratio']:.2f}"] for row in tried
    ]
    words = f"{escape(choice['why'])}; {len(choice['kept'])} layers are left float."
    return [words[0].upper() + words[1:], table(("layout", "size", "layers float", "time, of float32"), rows)]


def render_notes(report: Report) -> list[str]:
    """Return the notes as a list."""
    return ["\n".join(f"- {escape(note)}" for note in report["notes"])] if report["notes"] else []


def render_provenance(report: Report) -> list[str]:
    """Return hashes of source and result, and the versions of what made the file."""
    source = report["source"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(source["versions"].items()))
    rows = [
        ["Model", to_code(f"{report['model']['id']} {report['model']['version']}")],
        ["Source SHA-256", to_code(source["sha256"])],
        ["Result SHA-256", to_code(report["model"]["sha256"])],
        *([["Calibration", format_calibration(report["calibration"])]] if report["calibration"] else []),
        ["Made by", escape(versions)],
        ["Report format", to_code(report["format"])],
    ]
    return [table(("", ""), rows)]


def format_calibration(calibration: Report) -> str:
    """Return the number of calibration images, and their digest."""
    return f"{calibration['count']} images, SHA-256 {to_code(calibration['sha256'])}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; columns after the first are aligned right where all of them are numbers."""
    cells = [list(row) for row in rows]
    marks = ["---" if i == 0 or not all(is_number(row[i]) for row in cells) else "---:" for i in range(len(head))]
    return make_table(head, cells, marks)


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, with or without a unit, or empty."""
    return not cell or cell.lstrip("*+−–v")[:1].isdigit() or cell == "–"


def format_score_name(name: str) -> str:
    """Return a score's name as text."""
    return WORDS.get(name, f"IoU of {name.removeprefix('iou_')}")


def escape(words: str) -> str:
    """Return text without meaning in Markdown or HTML, on one line."""
    return " ".join(escape_markdown(words, "\\`*[]|").split())


def to_link(path: str) -> str:
    """Return a relative path as a link's target."""
    return quote(path)


def format_megabytes(count: int) -> str:
    """Return bytes as megabytes."""
    return f"{count / 1e6:.2f} MB"


def format_milliseconds(samples: Sequence[float] | None) -> str:
    """Return the median; a dash without samples."""
    return f"{median(samples):.3g} ms" if samples else "–"


def format_number(value: Any, digits: int = 4) -> str:
    """Return a number; a dash for none, NaN or infinity."""
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else "–"


def format_signed(value: Any) -> str:
    """Return a difference with its sign; a dash for none."""
    return write_number(value, 5, True) if isinstance(value, (int, float)) else "–"


def format_percent(value: Any) -> str:
    """Return a share in percent; a dash for none."""
    return f"{value:.3%}" if isinstance(value, (int, float)) else "–"


def format_interval(score: Report) -> str:
    """Return a score's interval; a dash where there were too few images for one."""
    return "–" if isinstance(score["low"], str) else f"{format_signed(score['low'])} to {format_signed(score['high'])}"


def format_shape(sides: Sequence[int]) -> str:
    """Return a shape as 1×224×224×3."""
    return "×".join(map(str, sides))
