"""The report as Markdown: what a person reads who must decide on a converted file, made of the JSON alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any
from urllib.parse import quote

from .account import say_slower
from .report import say_proofs, say_tidied, say_upsampling

Report = dict[str, Any]
WORDS = {"mean_iou": "mean IoU", "dice": "Dice, mean over images", "area_error": "lesion-area error",
         "false_alarms": "false alarms"}  # fmt: skip
SHOWN_LAYERS = 20  # rows of a table of layers; the JSON has all


def to_markdown(report: Report) -> str:
    """Return a conversion's report as Markdown (GitHub's dialect)."""
    parts = [
        f"# {code(report['model']['id'])} as {report['recipe']}",
        summarize(report),
        *section("What came in, what went out", write_model(report)),
        *section("Size and speed", write_size(report)),
        *section("Against the original", [write_drawn(report["checks"]), *write_check(report)]),
        *section("Files tried", write_tournament(report)),
        *section("Layers kept float for the policy", write_drills(report)),
        *section("What is in the file", write_audit(report)),
        *section("How the layout was found", write_layout(report)),
        *section("Notes", write_notes(report)),
        *section("Provenance", write_provenance(report)),
    ]
    return "\n\n".join(parts) + "\n"


def section(title: str, blocks: Sequence[str]) -> list[str]:
    """Return a heading and its blocks; nothing without blocks."""
    return [f"## {title}", *blocks] if blocks else []


def summarize(report: Report) -> str:
    """Return the result in one paragraph: size, speed, accuracy, verdict, and what was wrong."""
    facts = [f"{megabytes(report['size_bytes'])}, {report['fraction_of_fp32']:.1%} of the float32 file"]
    if report["speed_ratio"] is not None:
        facts.append(f"{report['speed_ratio']:.2f} of its time")
    lines = ["**" + "; ".join(facts) + ".**"]
    check, policy = report["check"], report["policy"]
    if check:
        iou = next(score for score in check["scores"] if score["name"] == "mean_iou")
        truth = "" if check["truth"] == "masks" else ", Keras' own masks taken for the truth"
        lines.append(f"Mean IoU {number(iou['result'])} against Keras' {number(iou['keras'])}, "
                     f"on {check['images']} images{truth}.")  # fmt: skip
    if policy:
        lines.append(f"The policy is {'met' if policy['met'] else '**not met**'}: {text(policy['why'])}.")
    if not check:
        lines.append("It was not checked on images.")
    if report["allowed"]:
        lines.append(f"**Allowed: {', '.join(map(code, report['allowed']))}.**")
    return " ".join(lines)


def write_model(report: Report) -> list[str]:
    """Return the table of what the model eats and gives."""
    eats, gives, threshold = report["input"], report["output"], report["threshold"]
    labels = ", ".join(label["name"] for label in gives["labels"])
    rows = [
        ("Source", f"{report['kind']}, {report['parameters']:,} parameters, {report['macs'] / 1e9:.3g} GMAC an image"),
        ("Input", f"{eats['colour']} {shape(eats['shape'])} {eats['dtype']}, pixel × {eats['scale']:.6g} + "
         f"{eats['offset']:g} ({eats['why']})"),
        ("Output", f"{gives['activation']} {shape(gives['shape'])} {gives['dtype']}: {labels}"),
        ("Threshold", f"{threshold['value']:g} (from {threshold['from']})"),
    ]  # fmt: skip
    return [table(("", ""), ([name, text(words)] for name, words in rows))]


def write_size(report: Report) -> list[str]:
    """Return the table of the float32 file and the result."""
    clock = report["clock_ms"]
    rows = [["static float32", megabytes(report["fp32_bytes"]), "100 %", "1", milliseconds(clock.get("fp32"))]]
    ratio = "–" if report["speed_ratio"] is None else f"**{report['speed_ratio']:.2f}**"
    share = f"{report['fraction_of_fp32']:.1%}"
    times = milliseconds(clock.get("result"))
    rows.append([report["recipe"], megabytes(report["size_bytes"]), share, ratio, times])
    blocks = [table(("file", "size", "of float32", "time, ratio", "median"), rows)]
    return [*blocks, say_spread(clock)] if "result" in clock else blocks


def say_spread(clock: Mapping[str, Sequence[float]]) -> str:
    """Return how sure the ratio is."""
    ratios = sorted(a / b for a, b in zip(clock["result"], clock["fp32"], strict=True))
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    return (
        f"Timed in turns, {len(ratios)} rounds, 2 threads: half of the rounds lie between {low:.2f} and {high:.2f}. "
        "Milliseconds are this machine's at that moment; the ratio is what holds elsewhere on such a processor."
    )


def write_drawn(checks: Report) -> str:
    """Return how far the outputs on drawn images are from Keras'."""
    far = number(checks["largest_difference"])
    return (
        f"On {checks['images']} drawn images, noise and extremes among them, no probability is further than {far} from "
        f"Keras', and {percent(checks['changed_pixels'])} of the pixels change their label."
    )


def write_check(report: Report) -> list[str]:
    """Return the scores of the three models, their agreement, and the worst images with their pictures."""
    check = report["check"]
    if not check:
        return []
    truth = "true masks" if check["truth"] == "masks" else "Keras' own masks, since no true ones were given"
    intro = f"On {check['images']} images, {check['lesions']} of which show a lesion, against {truth}. "
    intro += "*Lost* is how much worse the result is than Keras; below 0 it is better. "
    intro += "The interval is a paired bootstrap's over images, 95 %."
    rows = [
        [text(name_score(score["name"])), *(number(score[side]) for side in ("keras", "fp32", "result")),
         signed(score["drop"]), interval(score)]
        for score in check["scores"]
        if not isinstance(score["keras"], str) or not isinstance(score["result"], str)
    ]  # fmt: skip
    sides = [(name, check[key]) for name, key in (("static float32", "fp32"), (report["recipe"], "result"))]
    agree = [[name, percent(one["changed_pixels"]), number(one["mean_iou"])] for name, one in sides]
    return [
        intro,
        table(("score", "Keras", "static float32", report["recipe"], "lost", "95 % interval"), rows),
        table(("against Keras' masks", "pixels changed", "mean IoU"), agree),
        *write_gaps(check),
        *write_worst(check),
    ]


def write_gaps(check: Report) -> list[str]:
    """Return what the images could not tell: labels that never occur, images left out."""
    blocks = []
    if check["absent"]:
        blocks.append(f"No image's truth has {', '.join(map(code, check['absent']))}: no score for that.")
    if check["left_out"]:
        items = [f"- {code(item['file'])}: {text(item['why'])}" for item in check["left_out"]]
        blocks.append("\n".join([f"Left out ({len(items)}):", "", *items]))
    return blocks


def write_worst(check: Report) -> list[str]:
    """Return the worst images as a table, the first three with their pictures."""
    worst = [(item["picture"], check["rows"][item["row"]]) for item in check["worst"]]
    rows = [
        [f"[{text(row['file'])}]({link(picture)})", signed(row["drop"]), number(row["dice"]["keras"]),
         number(row["dice"]["result"]), percent(row["changed_pixels"])]
        for picture, row in worst
    ]  # fmt: skip
    views = ("truth, " if check["truth"] == "masks" else "") + "Keras, result"
    shown = [f"![{text(row['file'])}]({link(picture)})" for picture, row in worst[:3]]
    head = ("image", "Dice lost", "Keras", "result", "pixels changed")
    return [f"### Where it lost most ({views})", table(head, rows), *shown]


def write_tournament(report: Report) -> list[str]:
    """Return the table of the files tried, if there were several."""
    entries = report["tournament"]
    if len(entries) < 2:
        return []
    rows = [
        [entry["recipe"] + (f", {layers(entry['kept'])} float" if entry["kept"] else ""), entry["outcome"],
         "–" if entry["size_bytes"] is None else megabytes(entry["size_bytes"]), number(entry["ratio"], 2),
         signed(entry["drop"]), text(entry["why"])]
        for entry in entries
    ]  # fmt: skip
    return [table(("file", "", "size", "time, of float32", "mean IoU lost", "why"), rows)]


def write_drills(report: Report) -> list[str]:
    """Return what each drill-down measured and kept."""
    blocks = []
    strict = bool(report["policy"] and report["policy"]["strict"])
    surely, lost = ("no more than ", "at most, 95 % sure") if strict else ("", "all images")
    for recipe, drill in report["drill_down"].items():
        more = drill["size_bytes"] - drill["before_bytes"]
        end = "meets the policy" if drill["met"] else "does **not** meet the policy"
        blocks.append(
            f"{recipe}: {len(drill['kept'])} of {layers(drill['layers'])} kept float, for {megabytes(more)} more"
            f"{say_slower(report, recipe)}: mean IoU loses {surely}{signed(drill['drop'])}, which {end}. Each row is a "
            "file in which these layers alone are quantized, on the images that had lost most."
        )
        rows = [
            [name_group(trial["names"]), percent(trial["damage"]),
             "kept float" if set(trial["names"]) & set(drill["kept"]) else ""]
            for trial in drill["trials"][:SHOWN_LAYERS]
        ]  # fmt: skip
        blocks.append(table(("quantized alone", "pixels changed", ""), rows))
        steps = [
            [str(step["kept"]), megabytes(step["size_bytes"]), signed(step["drop"]), "yes" if step["met"] else "no"]
            for step in drill["steps"]
        ]
        blocks.append(table(("layers float", "size", f"mean IoU lost, {lost}", "met"), steps))
    return blocks


def layers(count: int) -> str:
    """Return how many layers."""
    return f"{count} layer" + "s" * (count != 1)


def name_group(names: Sequence[str]) -> str:
    """Return a layer's name, or those of a group's ends."""
    if len(names) == 1:
        return code(names[0])
    return f"{len(names)} layers, {code(names[0])} to {code(names[-1])}"


def write_audit(report: Report) -> list[str]:
    """Return the table of operations, what became of the weights, the partitions and what broke them."""
    audit = report["audit"]
    total = max(1, sum(cost["macs"] for cost in audit["costs"]))
    rows = [
        [code(cost["operation"]), str(cost["count"]), f"v{audit['versions'][cost['operation']]}",
         f"{cost['macs'] / 1e6:,.1f}" if cost["macs"] else "", f"{cost['macs'] / total:.1%}" if cost["macs"] else "",
         f"{cost['constant_bytes'] / 1e3:,.1f}" if cost["constant_bytes"] else ""]
        for cost in audit["costs"]
    ]  # fmt: skip
    head = ("operation", "count", "version", "million MACs", "of all", "constants, kB")
    weights = [*write_weights(audit["weights"]), write_rewrites(report)]
    return [table(head, rows), *weights, write_partitions(audit), *write_findings(audit)]


def write_rewrites(report: Report) -> str:
    """Return what was proven of the weights and what was rewritten, as a list."""
    proofs = report["audit"]["proofs"]
    said = [
        *([f"proven of the weights: {say_proofs(proofs)}"] if proofs else []),
        *([f"rewritten, exactly: {say_tidied(report)}"] if report["tidied"] else []),
        say_upsampling(report),
    ]
    return "\n".join(f"- {text(words)}" for words in said)


def write_weights(weights: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how the weights are stored, by type and reason."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for weight in weights:
        kinds.setdefault((weight["dtype"].lower(), weight["reason"]), []).append(weight["elements"])
    rows = [[kind, str(len(sizes)), f"{sum(sizes):,}", text(why)] for (kind, why), sizes in sorted(kinds.items())]
    return [table(("weights stored as", "tensors", "numbers", "why"), rows)] if rows else []


def write_partitions(audit: Mapping[str, Any]) -> str:
    """Return in how many pieces XNNPACK takes the graph, and each operation that breaks it."""
    pieces, outside = audit["partitions"], audit["outside"]
    if pieces is None:
        return "In how many pieces XNNPACK takes the graph is not known."
    said = f"XNNPACK takes the graph in {pieces} piece{'s' * (pieces != 1)}"
    if not outside:
        return f"{said}, nothing is left to the interpreter."
    items = "\n".join(f"- {text(place)}" for place in outside[:SHOWN_LAYERS])
    more = f"\n- and {len(outside) - SHOWN_LAYERS} more" if len(outside) > SHOWN_LAYERS else ""
    return f"{said}; the interpreter is left with {len(outside)} operation{'s' * (len(outside) != 1)}:\n\n{items}{more}"


def write_findings(audit: Mapping[str, Any]) -> list[str]:
    """Return what the audit found."""
    if not audit["findings"]:
        return ["The audit found nothing wrong."]
    return ["\n".join(f"- **{finding['name']}**: {text(finding['where'])}" for finding in audit["findings"])]


def write_layout(report: Report) -> list[str]:
    """Return the files that were timed for the layout, the fastest first."""
    choice = report["choice"]
    if not choice["table"]:
        return []
    tried = sorted(choice["table"], key=lambda row: row["ratio"])
    rows = [[text(row["what"]), megabytes(row["bytes"]), str(row["kept"]), f"{row['ratio']:.2f}"] for row in tried]
    words = f"{text(choice['why'])}; {len(choice['kept'])} layers are left float."
    return [words[0].upper() + words[1:], table(("layout", "size", "layers float", "time, of float32"), rows)]


def write_notes(report: Report) -> list[str]:
    """Return the notes as a list."""
    return ["\n".join(f"- {text(note)}" for note in report["notes"])] if report["notes"] else []


def write_provenance(report: Report) -> list[str]:
    """Return where the file comes from and what made it."""
    source = report["source"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(source["versions"].items()))
    rows = [
        ["Model", code(f"{report['model']['id']} {report['model']['version']}")],
        ["Source SHA-256", code(source["sha256"])],
        ["Result SHA-256", code(report["model"]["sha256"])],
        *([["Calibration", write_calibration(report["calibration"])]] if report["calibration"] else []),
        ["Made by", text(versions)],
        ["Report format", code(report["format"])],
    ]
    return [table(("", ""), rows)]


def write_calibration(calibration: Report) -> str:
    """Return how many images set the activations' ranges, and their digest."""
    return f"{calibration['count']} images, SHA-256 {code(calibration['sha256'])}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; columns after the first are aligned right where all of them are numbers."""
    cells = [list(row) for row in rows]
    marks = ["---" if i == 0 or not all(is_number(row[i]) for row in cells) else "---:" for i in range(len(head))]
    lines = [head, marks, *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def is_number(cell: str) -> bool:
    """Tell whether a cell is a number, with a unit perhaps, or empty."""
    return not cell or cell.lstrip("*+−–v")[:1].isdigit() or cell == "–"


def name_score(name: str) -> str:
    """Return a score's name in words."""
    return WORDS.get(name, f"IoU of {name.removeprefix('iou_')}")


def text(words: str) -> str:
    """Return words that mean nothing to Markdown or HTML, on one line."""
    for mark in "\\`*[]|":
        words = words.replace(mark, f"\\{mark}")
    return " ".join(words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def code(name: str) -> str:
    """Return a name as code, on one line and safe in a table."""
    return "`" + " ".join(name.replace("`", "'").replace("|", "\\|").split()) + "`"


def link(path: str) -> str:
    """Return a relative path as a link's target."""
    return quote(path)


def megabytes(count: int) -> str:
    """Return bytes in words."""
    return f"{count / 1e6:.2f} MB"


def milliseconds(samples: Sequence[float] | None) -> str:
    """Return the median in words; a dash without samples."""
    return f"{median(samples):.3g} ms" if samples else "–"


def number(value: Any, digits: int = 4) -> str:
    """Return a number; a dash for none, or one that the report had to spell."""
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else "–"


def signed(value: Any) -> str:
    """Return a difference with its sign; a dash for none."""
    return f"{value:+.5f}".replace("-", "−") if isinstance(value, (int, float)) else "–"


def percent(value: Any) -> str:
    """Return a share in percent; a dash for none."""
    return f"{value:.3%}" if isinstance(value, (int, float)) else "–"


def interval(score: Report) -> str:
    """Return a score's interval; a dash where there were too few images for one."""
    return "–" if isinstance(score["low"], str) else f"{signed(score['low'])} to {signed(score['high'])}"


def shape(sides: Sequence[int]) -> str:
    """Return a shape as 1×224×224×3."""
    return "×".join(map(str, sides))
