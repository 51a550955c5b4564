"""An evaluation's figures told as a page: a pure function of evaluation.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .appearance import MEASURES, say_agreement, say_claim
from .blocks import Block, Heading, Picture, Points, Table
from .failures import say_failures

PICTURE = "centroids.png"
NAMES = {
    "binary_io_u": "BinaryIoU",
    "tumour_iou": "tumour IoU",
    "dice": "mean Dice by slice",
    "hd95_px": "HD95, pixels",
    "overlooked": "lesions with no pixel found",
    "false_alarms": "tumour-free slices marked",
}
PERCENT = {"overlooked", "false_alarms"}

Facts = Mapping[str, Any]


def tell(facts: Facts) -> list[Block]:
    """Return the page."""
    model = facts["model"]
    blocks: list[Block] = [Heading(f"How well {model['file']} segments", 1), *tell_data(facts)]
    blocks += tell_scores(facts)
    for key, tell_part in (
        ("calibration", tell_calibration),
        ("flip", tell_flip),
        ("stress", tell_stress),
        ("appearance", tell_appearance),
        ("failures", tell_failures),
    ):
        if facts.get(key):
            blocks += tell_part(facts[key])
    return blocks


def tell_data(facts: Facts) -> list[Block]:
    """Say what was scored and how."""
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


def tell_scores(facts: Facts) -> list[Block]:
    """Show scores at the threshold, by class, by size, and at other thresholds."""
    rows = facts["thresholds"]
    first = rows[0]["scores"]
    blocks: list[Block] = [Heading("Scores")]
    table = [[NAMES[name], say_score(first, name), str(first[name]["n"])] for name in NAMES if name in first]
    extra = facts.get("with_tumour_free")
    if extra:
        for name in ("binary_io_u", "tumour_iou"):
            table.append([f"{NAMES[name]}, tumour-free slices included", say_score(extra, name), str(extra[name]["n"])])
    blocks.append(Table(("", "value (95 %)", "slices"), table))
    for title, key in (("By class", "classes"), ("By lesion size, the true one's share of the slice", "sizes")):
        groups = facts.get(key) or {}
        if groups:
            names = ("tumour_iou", "dice", "hd95_px", "overlooked")
            body = [
                [group, f"{its['slices']} ({its['patients']})", *(say_score(its, name) for name in names)]
                for group, its in groups.items()
            ]
            blocks += [Heading(title), Table(("", "slices (patients)", *(NAMES[name] for name in names)), body)]
    if len(rows) > 1:
        names = ("binary_io_u", "tumour_iou", "dice", "false_alarms")
        body = [[f"{row['threshold']:g}", *(say_value(row["scores"], name) for name in names)] for row in rows]
        blocks += [Heading("Other thresholds"), Table(("threshold", *(NAMES[name] for name in names)), body)]
    return blocks


def tell_calibration(facts: Facts) -> list[Block]:
    """Show how the threshold was chosen."""
    text = (
        f"{facts['threshold']:g}: {facts['rule']}; chosen on {facts['slices']} slices of {facts['patients']} patients "
    )
    text += "(a tumour-free image counts as one), none of whom is scored above."
    names = ("dice", "tumour_iou", "false_alarms")
    body = [
        [f"{row['threshold']:g}", *(say_figure(name, row[name]) if row[name] is not None else "–" for name in names)]
        for row in facts["table"]
    ]
    return [Heading("The threshold's choice"), text, Table(("threshold", *(NAMES[name] for name in names)), body)]


def tell_flip(facts: Facts) -> list[Block]:
    """Show what averaging with the mirror image gains and costs."""
    text = f"Each probability averaged with that of the mirrored image takes {facts['time_ratio']:.2f} times as long "
    text += "(median over slices, from image to probability)."
    body = [
        [NAMES[name], say_score(facts["scores"], name), say_difference(facts["difference"], name)]
        for name in NAMES
        if name in facts["scores"] and name in facts["difference"]
    ]
    return [Heading("Test-time flip"), text, Table(("", "with flip", "gain"), body)]


def tell_stress(facts: Facts) -> list[Block]:
    """Show the checks for shortcuts."""
    names = ("dice", "false_alarms", "tumour_iou", "overlooked")
    body = []
    for its in facts["changes"]:
        cells = [say_change(its, name) for name in names]
        body.append([its["change"], str(its["after"]["slices"]), *cells])
    text = "The same slices unchanged → changed (95 % interval of the difference). Rescaled: the head's size in a "
    text += "frame that stays as it is; slices whose lesion is cut off are left out. Contrast: the head's brightnesses "
    text += (
        "are spread like those of another patient's slice, of the same source (what that does by itself) and of the "
    )
    text += "other: tumour-free for a slice with a mask, and the reverse; drawn with a fixed seed."
    blocks: list[Block] = [Heading("Does it know the source instead of the tumour?"), text]
    blocks.append(Table(("change", "slices", *(NAMES[name] for name in names)), body))
    covered = facts.get("covered")
    if covered and covered["slices"]:
        blocks.append(say_covered(covered, facts.get("other_source")))
    elif covered:
        blocks.append("No slice allowed its lesion to be covered by the mirrored other half.")
    return blocks


def say_covered(covered: Facts, other: Facts | None) -> str:
    """Say what is found where tumour patients' lesions were covered."""
    said = {key: say_score(covered, key, True) for key in covered}
    text = f"Tumour patients without their tumour: on {covered['slices']} slices of {covered['patients']} patients the "
    text += "lesion lies in one half of a symmetric head and was covered by the mirrored other half. Marked before: "
    text += (
        f"{said['marked_before']}; after: {said['marked_after']}, at the covered place {said['at_the_place']}, beyond "
    )
    text += f"it {said['beyond_after']} (before: {said['beyond_before']}; of the slices that were not marked there "
    text += f"before, {said['newly_beyond']})"
    if other is not None:
        text += f". Of the tumour-free slices beside them {say_score({'its': other}, 'its', True)} are marked"
    text += ". A net that knows the tumour alone would mark as few here. This is a construction, not a healthy slice: "
    text += "swelling and shifted tissue beyond the outline stay, a second lesion too, and the "
    text += f"{covered['left_out']} slices that are sagittal or tilted, or whose lesion is near the midline, are not "
    return text + "in it."


def tell_appearance(facts: Facts) -> list[Block]:
    """Show where lesions of each class lie and what they look like, found against true."""
    blocks: list[Block] = [Heading("Is what it finds appropriate to the class?")]
    text = (
        "Where lesions lie and what they look like, in the head's own units: positions in its bounding box (0, 0 top "
    )
    text += (
        "left), lengths by its size. The head is all that is brighter than air, scalp and skull too. Planes are mixed."
    )
    blocks += [text, say_agreement(facts["claims"]), Points([say_claim(its) for its in facts["claims"]])]
    if facts.get("picture"):
        caption = (
            "Above: centroids of true and found lesions by class over the heads' mean outline, crosses the medians. "
        )
        caption += "Below: quartiles of their forms, whiskers from the 5th to the 95th percentile."
        blocks += [Picture(PICTURE, caption), caption]
    for kind, its in facts["classes"].items():
        body = [[what, *(say_median(its[side][name]) for side in ("true", "found"))] for name, what in MEASURES.items()]
        shares = (its["several"][side] for side in ("truth", "found"))
        body.append(["in more than one component", *("–" if share is None else f"{share:.1%}" for share in shares)])
        body.append(
            ["distance of the found centroid from the true one, of the head's box", "", say_median(its["error"])]
        )
        header = (
            f"{kind}, medians (95 %)",
            *(f"{side}, {its[side]['area']['n']} slices" for side in ("true", "found")),
        )
        blocks.append(Table(header, body))
    return blocks


def tell_failures(facts: Facts) -> list[Block]:
    """Describe the failures."""
    blocks: list[Block] = [Heading("Failure cases"), " ".join(say_failures(facts))]
    worst = facts["missed"]["worst"]
    if worst:
        rows = [[its["slice"], its["class"], f"{its['area']:.2%}", f"{its['dice']:.2f}"] for its in worst]
        blocks.append(Table(("largest of the worst", "class", "of the slice", "Dice"), rows))
    if facts["false_alarms"]["worst"]:
        blocks.append("Marked without a lesion, largest first: " + ", ".join(facts["false_alarms"]["worst"]) + ".")
    return blocks


def say_score(scores: Facts, name: str, percent: bool = False) -> str:
    """Return a score with its interval; a dash where it is not defined."""
    its = scores.get(name)
    if not isinstance(its, Mapping):
        return "–"
    value, *ends = (
        f"{figure:.1%}" if percent else say_figure(name, figure) for figure in (its["value"], *(its["interval"] or ()))
    )
    return f"{value} ({' to '.join(ends)})" if ends else value


def say_value(scores: Facts, name: str) -> str:
    """Return a score alone; a dash where it is not defined."""
    return say_figure(name, scores[name]["value"]) if scores.get(name) else "–"


def say_change(its: Facts, name: str) -> str:
    """Return a score before and after a change, and the difference's interval."""
    if name not in its["difference"]:
        return "–"
    scores = f"{say_value(its['before'], name)} → {say_value(its['after'], name)}"
    return f"{scores} ({say_difference(its['difference'], name)})"


def say_difference(differences: Facts, name: str) -> str:
    """Return the interval of a difference, in the score's own unit with a sign."""
    its = differences.get(name)
    if not its or not its["interval"]:
        return "–"
    scale, digits = (100, 1) if name in PERCENT else (1, 1 if name == "hd95_px" else 3)
    low, high = (f"{scale * value + 0.0:+.{digits}f}" for value in its["interval"])
    return f"{low} to {high}" + (" points" if name in PERCENT else "")


def say_figure(name: str, value: float) -> str:
    """Return a score's figure with its digits and unit."""
    if name in PERCENT:
        return f"{value:.1%}"
    return f"{value:.1f}" if name == "hd95_px" else f"{value:.3f}"


def say_median(its: Facts) -> str:
    """Return a median with its interval."""
    if its["value"] is None:
        return "–"
    text = f"{its['value']:.3g}"
    return text + (f" ({its['interval'][0]:.3g} to {its['interval'][1]:.3g})" if its["interval"] else "")
