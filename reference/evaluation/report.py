"""Renders an evaluation's page from its figures: a pure function of evaluation.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import OutputError, UsageError
from edge_runtime.system.files import write_file
from evidence.document import Block, Heading, Picture, Points, Table, to_html, to_markdown

from .appearance import MEASURES, format_agreement, format_claim
from .failures import format_failures

PICTURE = "centroids.png"
NAMES = {
    "mean_iou": "BinaryIoU",
    "lesion_iou": "tumour IoU",
    "dice": "mean Dice by slice",
    "hd95_px": "HD95, pixels",
    "overlooked": "lesions with no pixel found",
    "false_alarms": "tumour-free slices marked",
}
PERCENT = {"overlooked", "false_alarms"}

Facts = Mapping[str, Any]


def render_report(facts: Facts) -> list[Block]:
    """Return the page."""
    model = facts["model"]
    blocks: list[Block] = [
        Heading(f"How well {model['file']} segments", 1),
        *render_training(facts),
        *render_data(facts),
    ]
    blocks += render_scores(facts)
    for key, render_part in (
        ("series", render_series),
        ("calibration", render_calibration),
        ("flip", render_flip),
        ("stress", render_stress),
        ("appearance", render_appearance),
        ("failures", render_failures),
    ):
        if facts.get(key):
            blocks += render_part(facts[key])
    return blocks


def format_trained(slices: int, scored: int, record: str) -> str:
    """Return what it means that slices which are scored were trained on."""
    return (
        f"{slices} of these {scored} slices were trained on ({record}): the scores are of what the net has seen. "
        "For others give --patients MODEL.run/validation-patients.txt"
    )


def render_training(facts: Facts) -> list[Block]:
    """Return a warning if slices were trained on; nothing of a page of an earlier version."""
    found = facts.get("trained_on")
    return [f"Warning: {format_trained(**found)}."] if found and found["slices"] else []


def render_data(facts: Facts) -> list[Block]:
    """Return the paragraphs on what was scored, and how."""
    data, model = facts["data"], facts["model"]
    text = f"{data['slices']} slices of {data['patients']} patients with masks"
    text += f", {data['tumour_free']} tumour-free slices beside them" if data["tumour_free"] else ""
    text += f". Model of SHA-256 {model['sha256'][:16]}…, through {model['through']}, "
    text += f"threshold {facts['threshold']:g} ({facts['threshold_from']})."
    intervals = "Each mask is compared at its image's own size. Intervals are of 95 %, a bootstrap of 2,000 draws over "
    intervals += "patients: slices of one patient are alike and are drawn together."
    if not data["labelled"]:
        intervals += " Without labels each image counts as a patient of its own, which makes them too narrow."
    return [text, intervals]


def render_scores(facts: Facts) -> list[Block]:
    """Return the scores at the threshold, by class, by size, and at other thresholds."""
    rows = facts["thresholds"]
    first = rows[0]["scores"]
    blocks: list[Block] = [Heading("Scores")]
    table = [[NAMES[name], format_score(first, name), str(first[name]["n"])] for name in NAMES if name in first]
    extra: Facts = facts.get("with_tumour_free") or {}
    for name in ("mean_iou", "lesion_iou") if extra else ():
        table.append([f"{NAMES[name]}, tumour-free slices included", format_score(extra, name), str(extra[name]["n"])])
    blocks.append(Table(("", "value (95 %)", "slices"), table))
    for title, key in (("By class", "classes"), ("By lesion size, the true one's share of the slice", "sizes")):
        groups = facts.get(key) or {}
        if groups:
            names = ("lesion_iou", "dice", "hd95_px", "overlooked")
            body = [
                [group, f"{scores['slices']} ({scores['patients']})", *(format_score(scores, name) for name in names)]
                for group, scores in groups.items()
            ]
            blocks += [Heading(title), Table(("", "slices (patients)", *(NAMES[name] for name in names)), body)]
    if len(rows) > 1:
        names = ("mean_iou", "lesion_iou", "dice", "false_alarms")
        body = [[f"{row['threshold']:g}", *(format_value(row["scores"], name) for name in names)] for row in rows]
        blocks += [Heading("Other thresholds"), Table(("threshold", *(NAMES[name] for name in names)), body)]
    return blocks


def render_series(facts: Sequence[Facts]) -> list[Block]:
    """Return the section on series without a tumour."""
    marked, slices = sum(series["marked"] for series in facts), sum(series["slices"] for series in facts)
    text = f"Series of heads without a tumour, whole, as edge-seg reads them: {marked} of {slices} slices are marked. "
    text += "Objects are connected over slices; a volume counts each slice half the way to its neighbours."
    head = ("series", "sequence", "plane", "slices marked", "objects", "mL", "not decoded")
    body = [
        [
            str(series["number"]),
            series["sequence"] or "–",
            series["plane"] or "–",
            f"{series['marked']} of {series['slices']}",
            str(series["objects"]),
            "–" if series["volume_ml"] is None else f"{series['volume_ml']:.2f}",
            str(series["failed"]),
        ]
        for series in facts
    ]
    return [Heading("False alarms in whole series"), text, Table(head, body)]


def render_calibration(facts: Facts) -> list[Block]:
    """Return the section on the choice of the threshold."""
    text = f"{facts['threshold']:g}: {facts['rule']}; chosen on {facts['slices']} slices of {facts['patients']} "
    text += "patients (a tumour-free image counts as one), none of whom is scored above."
    names = ("dice", "lesion_iou", "false_alarms")
    body = [
        [f"{row['threshold']:g}", *(format_figure(name, row[name]) if row[name] is not None else "–" for name in names)]
        for row in facts["table"]
    ]
    return [Heading("The threshold's choice"), text, Table(("threshold", *(NAMES[name] for name in names)), body)]


def render_flip(facts: Facts) -> list[Block]:
    """Return the section on averaging with the mirror image."""
    text = f"Each probability averaged with that of the mirrored image takes {facts['time_ratio']:.2f} times as long "
    text += "(median over slices, from image to probability)."
    body = [
        [NAMES[name], format_score(facts["scores"], name), format_difference(facts["difference"], name)]
        for name in NAMES
        if name in facts["scores"] and name in facts["difference"]
    ]
    return [Heading("Test-time flip"), text, Table(("", "with flip", "gain"), body)]


def render_stress(facts: Facts) -> list[Block]:
    """Return the section on the checks for shortcuts."""
    names = ("dice", "false_alarms", "lesion_iou", "overlooked")
    body = []
    for change in facts["changes"]:
        cells = [format_change(change, name) for name in names]
        body.append([change["change"], str(change["after"]["slices"]), *cells])
    text = "The same slices unchanged → changed (95 % interval of the difference). Rescaled: the head's size in a "
    text += "frame that stays as it is; slices whose lesion is cut off are left out. Contrast: the head's brightnesses "
    text += "are spread like those of another patient's slice, of the same source (what that does by itself) and of "
    text += "the other: tumour-free for a slice with a mask, and the reverse; drawn with a fixed seed."
    blocks: list[Block] = [Heading("Does it know the source instead of the tumour?"), text]
    blocks.append(Table(("change", "slices", *(NAMES[name] for name in names)), body))
    covered = facts.get("covered")
    if covered and covered["slices"]:
        blocks.append(format_covered(covered, facts.get("other_source")))
    elif covered:
        blocks.append("No slice allowed its lesion to be covered by the mirrored other half.")
    return blocks


def format_covered(covered: Facts, other: Facts | None) -> str:
    """Return the paragraph on slices whose lesion was covered."""
    shares = {key: format_score(covered, key, True) for key in covered}
    text = f"Tumour patients without their tumour: on {covered['slices']} slices of {covered['patients']} patients the "
    text += "lesion lies in one half of a symmetric head and was covered by the mirrored other half. Marked before: "
    text += f"{shares['marked_before']}; after: {shares['marked_after']}, "
    text += f"at the covered place {shares['at_the_place']}, beyond it {shares['beyond_after']} "
    text += f"(before: {shares['beyond_before']}; of the slices that were not marked there before, "
    text += f"{shares['newly_beyond']})"
    if other is not None:
        text += f". Of the tumour-free slices beside them {format_score({'marked': other}, 'marked', True)} are marked"
    text += ". A net that knows the tumour alone would mark as few here. This is a construction, not a healthy slice: "
    text += "swelling and shifted tissue beyond the outline stay, a second lesion too, and the "
    text += f"{covered['left_out']} slices that are sagittal or tilted, or whose lesion is near the midline, are not "
    return text + "in it."


def render_appearance(facts: Facts) -> list[Block]:
    """Return the section on position and shape of each class's lesions, found against true."""
    blocks: list[Block] = [Heading("Is what it finds appropriate to the class?")]
    text = "Where lesions lie and what they look like, in the head's own units: positions in its bounding box (0, 0 "
    text += (
        "top left), lengths by its size. The head is all that is brighter than air, scalp and skull too. Planes are "
    )
    text += "mixed."
    blocks += [text, format_agreement(facts["claims"]), Points([format_claim(claim) for claim in facts["claims"]])]
    if facts.get("picture"):
        caption = "Above: centroids of true and found lesions by class over the heads' mean outline, crosses the "
        caption += "medians. Below: quartiles of their forms, whiskers from the 5th to the 95th percentile."
        blocks += [Picture(PICTURE, caption), caption]
    return [*blocks, *(tabulate_shapes(kind, measured) for kind, measured in facts["classes"].items())]


def tabulate_shapes(kind: str, measured: Facts) -> Table:
    """Return the table of a class's shape measures, true and found."""
    sides = measured["true"], measured["found"]
    body = [[what, *(format_median(side[name]) for side in sides)] for name, what in MEASURES.items()]
    shares = (measured["several"][side] for side in ("truth", "found"))
    body.append(["in more than one component", *("–" if share is None else f"{share:.1%}" for share in shares)])
    error = "distance of the found centroid from the true one, of the head's box"
    body.append([error, "", format_median(measured["error"])])
    counts = (f"{side}, {measured[side]['area']['n']} slices" for side in ("true", "found"))
    return Table((f"{kind}, medians (95 %)", *counts), body)


def render_failures(facts: Facts) -> list[Block]:
    """Return the section on failures."""
    blocks: list[Block] = [Heading("Failure cases"), " ".join(format_failures(facts))]
    worst = facts["missed"]["worst"]
    if worst:
        rows = [[row["slice"], row["class"], f"{row['area']:.2%}", f"{row['dice']:.2f}"] for row in worst]
        blocks.append(Table(("largest of the worst", "class", "of the slice", "Dice"), rows))
    if facts["false_alarms"]["worst"]:
        blocks.append("Marked without a lesion, largest first: " + ", ".join(facts["false_alarms"]["worst"]) + ".")
    return blocks


def format_score(scores: Facts, name: str, percent: bool = False) -> str:
    """Return a score with its interval; a dash where it is not defined."""
    score = scores.get(name)
    if not isinstance(score, Mapping):
        return "–"
    value, *ends = (
        f"{figure:.1%}" if percent else format_figure(name, figure)
        for figure in (score["value"], *(score["interval"] or ()))
    )
    return f"{value} ({' to '.join(ends)})" if ends else value


def format_value(scores: Facts, name: str) -> str:
    """Return a score alone; a dash where it is not defined."""
    return format_figure(name, scores[name]["value"]) if scores.get(name) else "–"


def format_change(change: Facts, name: str) -> str:
    """Return a score before and after a change, and the difference's interval."""
    if name not in change["difference"]:
        return "–"
    scores = f"{format_value(change['before'], name)} → {format_value(change['after'], name)}"
    return f"{scores} ({format_difference(change['difference'], name)})"


def format_difference(differences: Facts, name: str) -> str:
    """Return the interval of a difference, in the score's own unit with a sign."""
    difference = differences.get(name)
    if not difference or not difference["interval"]:
        return "–"
    scale, digits = (100, 1) if name in PERCENT else (1, 1 if name == "hd95_px" else 3)
    low, high = (f"{scale * value + 0.0:+.{digits}f}" for value in difference["interval"])
    return f"{low} to {high}" + (" points" if name in PERCENT else "")


def format_figure(name: str, value: float) -> str:
    """Return a score's figure with its digits and unit."""
    if name in PERCENT:
        return f"{value:.1%}"
    return f"{value:.1f}" if name == "hd95_px" else f"{value:.3f}"


def format_median(median: Facts) -> str:
    """Return a median with its interval."""
    if median["value"] is None:
        return "–"
    text = f"{median['value']:.3g}"
    return text + (f" ({median['interval'][0]:.3g} to {median['interval'][1]:.3g})" if median["interval"] else "")


def to_json(facts: Mapping[str, Any]) -> str:
    """Return the facts as JSON; a score without slices is null, because JSON has no NaN."""
    return json.dumps(without_nan(facts), indent=1, allow_nan=False) + "\n"


def without_nan(value: Any) -> Any:
    """Return a value with None for NaN, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def prepare_folder(folder: Path, force: bool) -> None:
    """Make the report's folder before the evaluation, and check that matplotlib is installed.

    Raises: UsageError if it holds a report and `force` is not given; OutputError if it cannot be made.
    """
    import matplotlib  # noqa: F401

    if (folder / "evaluation.json").exists() and not force:
        raise UsageError(str(folder), "it holds a report already", "add --force or name another --report")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error), "choose another --report") from None


def write_report(folder: Path, facts: Mapping[str, Any], picture: bytes | None) -> None:
    """Write the report's files into `folder`, evaluation.json last. Raises: OutputError if that fails."""
    facts = without_nan(facts)
    blocks = render_report(facts)
    pictures = {PICTURE: picture} if picture is not None else {}
    for name, data in pictures.items():
        write_file(folder / name, data)
    write_file(folder / "evaluation.html", to_html(blocks, pictures).encode())
    write_file(folder / "evaluation.md", to_markdown(blocks).encode())
    write_file(folder / "evaluation.json", to_json(facts).encode())
