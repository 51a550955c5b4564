"""How are the values of a conversion's report written as text?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from evidence.change import NO_CHANGE, find_beyond, write_difference, write_number

Report = dict[str, Any]
WORDS = {"mean_iou": "mean IoU", "dice": "Dice", "area_error": "lesion-area error", "false_alarms": "false alarms"}


def format_left_out(check: Mapping[str, Any]) -> str:
    """Return how many images were left out, and the first; "" for none."""
    left = check["left_out"]
    return f"; {len(left)} left out, the first is {left[0]['file']}: {left[0]['why']}" if left else ""


def format_score(score: Mapping[str, Any]) -> str:
    """Return the three models' values and the drop with its interval."""
    keras, fp32, result = (format_value(score[side]) for side in ("keras", "fp32", "result"))
    return f"Keras {keras}, static FP32 {fp32}, result {result}; {format_loss(score)}"


def format_loss(score: Mapping[str, Any]) -> str:
    """Return what was lost, or that nothing changed."""
    drop = format_drop(score)
    return drop if drop == NO_CHANGE else f"lost {drop}"


def format_drop(score: Mapping[str, Any]) -> str:
    """Return a drop with its interval, if it has one."""
    if score["drop"] is None or isinstance(score["drop"], str):
        return "unknown"
    low, high = (None if isinstance(score[side], str) else score[side] for side in ("low", "high"))
    found = write_difference(score["drop"], low, high, find_beyond(0, low, high), decimals=5, signed=False)
    return f"{found.value} (95 %: {found.low} to {found.high})" if found.low else found.value


def format_value(value: Any) -> str:
    """Return a score; a dash where it has none."""
    return "-" if value is None or isinstance(value, str) else f"{value:.4f}"


def format_share(value: Any) -> str:
    """Return a share in percent."""
    return "-" if isinstance(value, str) else f"{value:.4%}"


def format_tried(entry: Mapping[str, Any]) -> str:
    """Return one file that was tried, and the outcome."""
    facts = [
        *([f"{entry['kept']} layers kept float"] if entry["kept"] else []),
        *([f"{entry['size_bytes'] / 1e6:.2f} MB"] if entry["size_bytes"] else []),
        *([f"{entry['ratio']:.2f} of the time"] if entry["ratio"] else []),
    ]
    known = isinstance(entry["drop"], float)
    why = f"mean IoU lost {write_number(entry['drop'], 5, False)}" if known else entry["why"]
    return f"{entry['recipe']} {entry['outcome']} ({', '.join(facts) or 'no file'}): {why}"


def format_float_layers(report: Mapping[str, Any], recipe: str) -> str:
    """Return which layers of a recipe are left float for the policy, and what that costs in bytes and time."""
    found = report["drill_down"][recipe]
    more = f"{(found['size_bytes'] - found['before_bytes']) / 1e6:.2f} MB more{format_slowdown(report, recipe)}"
    names = ", ".join(found["kept"][:4]) + (" ..." if len(found["kept"]) > 4 else "")
    end = "" if found["met"] else "; the policy is not met even so"
    return f"{len(found['kept'])} of {found['layers']} layers of {recipe} ({names}): {more}{end}"


def format_slowdown(report: Mapping[str, Any], recipe: str) -> str:
    """Return a recipe's time before and after layers were kept float; "" where both were not measured."""
    own = [entry for entry in report["tournament"] if entry["recipe"] == recipe and entry["ratio"]]
    before, after = ([entry for entry in own if bool(entry["kept"]) is kept] for kept in (False, True))
    if not before or not after:
        return ""
    first, last = before[0], after[0]
    return f", {last['ratio']:.2f} instead of {first['ratio']:.2f} of static FP32's time"


def format_flag_limits(triage: Any) -> str:
    """Return what the device can flag, and from how many images."""
    if triage["ranges"]:
        return f"inputs unlike {triage['count']} measured images, implausible results"
    return "blank and saturated inputs, implausible results; images of [triage] in the TOML file would tell more"


def format_number(value: Any) -> str:
    """Return a number; NaN and infinity are text in the report already."""
    return value if isinstance(value, str) else f"{value:.2g}"


def format_scaling(given: Any) -> str:
    """Return how stored values become the model's input, and where that comes from."""
    rule = given["intensity"]["images"]
    pixel = {"bit-depth": "pixel", "slice-min-max": "pixel (least to greatest value as 0…255)", "z-score": "z-score"}
    text = pixel.get(rule, "pixel") if isinstance(rule, str) else f"pixel ({next(iter(rule))})"
    sides = (", ".join(f"{x:.6g}" for x in (one if isinstance(one, (list, tuple)) else [one]))
             for one in (given["scale"], given["offset"]))  # fmt: skip
    return f"{text} * {' + '.join(sides)} ({given['why']})"


def format_shape(sides: Any) -> str:
    """Return a shape as 1x224x224x3."""
    return "x".join(map(str, sides))


def join_counts(counts: dict[str, int]) -> str:
    """Return 'CONV_2D 12, ADD 4'."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def format_weights(weights: Any) -> str:
    """Return how many weight tensors have which type, and why some stayed float."""
    types = [weight["dtype"].lower() for weight in weights]
    counts = ", ".join(f"{types.count(kind)} {kind}" for kind in dict.fromkeys(sorted(types)))
    reasons = [weight["reason"] for weight in weights if weight["reason"]]
    why = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    return (counts or "none") + (f" ({why})" if why and len(reasons) < len(weights) else "")


def format_upsampling(report: Report) -> str:
    """Return how many transposed convolutions were rewritten in which form."""
    kept = report["audit"]["operations"].get("TRANSPOSE_CONV", 0)
    forms = [report["choice"]["forms"].get(name, "") for name in report["rewritten"]]
    if not forms and not kept:
        return "no transposed convolution"
    rewritten = [f"{forms.count(form)} rewritten as {form}" for form in dict.fromkeys(forms)]
    return "transposed convolutions: " + ", ".join([*rewritten, f"{kept} kept"])


def format_tidied(report: Report) -> str:
    """Return the other exact rewrites."""
    return ", ".join(f"{count} {what}" for what, count in report["tidied"].items())


def format_proofs(proofs: Any) -> str:
    """Return the result of the weight proofs."""
    wrong = [proof for proof in proofs if not proof["holds"]]
    integers = [proof for proof in proofs if proof["dtype"] == "int8"]
    if wrong:
        return f"{len(wrong)} of {len(proofs)} weight tensors do not hold; the first: {wrong[0]['why']}"
    if not integers:
        return f"{len(proofs)} weight tensors are the float32 file's, rounded to their type at most"
    error = max(proof["largest_error"] for proof in integers)
    filters = sum(proof["scales"] for proof in integers)
    return (
        f"{len(integers)} int8 weight tensors: {filters} scales max |w| / 127, integers in [-127, 127], each within "
        f"{error:.2f} steps of its weight"
    )


def format_calibration(calibration: Any) -> str:
    """Return on how many images the activations' ranges were measured, and their digest."""
    return f"{calibration['count']} images, SHA-256 {calibration['sha256'][:12]}…"


def format_partitions(audit: Any) -> str:
    """Return the number of XNNPACK's partitions, and the operations outside of them."""
    if audit["partitions"] is None:
        return "unknown"
    text, outside = f"{audit['partitions']} partition" + "s" * (audit["partitions"] != 1), audit["outside"]
    if not outside:
        return f"{text}, nothing outside"
    more = f" and {len(outside) - 4} more" if len(outside) > 4 else ""
    return f"{text}; {len(outside)} operations outside: {', '.join(outside[:4])}{more}"


def format_times(report: Report) -> str:
    """Return the ratio of the times with its quartiles over the rounds, and the medians in milliseconds."""
    clock = report["clock_ms"]
    low, high = find_quartiles(clock)
    rounds = f"half of {len(clock['fp32'])} rounds: {low:.2f} to {high:.2f}"
    medians = f"{median(clock['result']):.3g} against {median(clock['fp32']):.3g} ms, 2 threads"
    return f"{report['speed_ratio']:.2f} of static FP32's time ({rounds}; {medians})"


def find_quartiles(clock: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Return the lower and the upper quartile of the ratios of the result's times to the float32 file's."""
    ratios = sorted(a / b for a, b in zip(clock["result"], clock["fp32"], strict=True))
    return ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]


def format_layout(choice: Any) -> str:
    """Return the layouts that were timed, fastest first."""
    tried = sorted(choice["table"], key=lambda row: row["ratio"])
    rows = ", ".join(f"{row['what']} {row['ratio']:.2f} ({row['bytes'] / 1e6:.2f} MB)" for row in tried[:4])
    return f"{choice['why']}: {rows}; {len(choice['kept'])} layers left float"
