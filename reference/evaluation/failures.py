"""Which lesions were missed, what do they have in common, and which slices have false alarms?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .appearance import ShapePair
from .slice_scores import SliceRow

MISSED_DICE = 0.1  # Dice below which a lesion counts as missed
MAX_LISTED = 12  # slices listed by name


def describe_failures(rows: Sequence[SliceRow], pairs: Sequence[ShapePair] = ()) -> dict[str, Any]:
    """Return {missed, false_alarms}: counts, area and contrast of missed lesions, and the worst slices by name.

    missed {slices, of, patients, of_patients, patients_with_half, classes, area, area_of_others, contrast,
    contrast_of_others, overlooked, worst}: of lesions with Dice below MISSED_DICE. patients_with_half: the least number
    of patients with half of them. Areas are median shares of the slice, contrasts medians of `Shape.contrast`, null
    without `pairs`.
    false_alarms {slices, of, area, worst}.
    """
    contrasts = {pair.name: pair.truth.contrast for pair in pairs if pair.truth is not None}
    lesions = [row for row in rows if row.dice is not None]
    missed = [row for row in lesions if (row.dice or 0.0) < MISSED_DICE]
    rest = [row for row in lesions if (row.dice or 0.0) >= MISSED_DICE]
    free = [row for row in rows if row.dice is None]
    alarms = sorted((row for row in free if row.fp), key=lambda row: -row.fp)
    worst = sorted(missed, key=lambda row: (row.dice or 0.0, -row.fraction))[:MAX_LISTED]
    return {
        "missed": {
            "slices": len(missed),
            "of": len(lesions),
            "patients": len({row.patient for row in missed}),
            "of_patients": len({row.patient for row in lesions}),
            "patients_with_half": count_patients_with_half(missed),
            "classes": {
                kind: {"slices": count, "of": sum(row.kind == kind for row in lesions)}
                for kind, count in sorted(Counter(row.kind for row in missed).items())
            },
            "overlooked": sum(row.found == 0 for row in missed),
            "area": find_median([row.fraction for row in missed]),
            "area_of_others": find_median([row.fraction for row in rest]),
            "contrast": find_median([contrasts[row.name] for row in missed if row.name in contrasts]),
            "contrast_of_others": find_median([contrasts[row.name] for row in rest if row.name in contrasts]),
            "worst": [
                {
                    "slice": row.name,
                    "class": row.kind,
                    "area": round(row.fraction, 5),
                    "dice": round(row.dice or 0.0, 4),
                }
                for row in worst
            ],
        },
        "false_alarms": {
            "slices": len(alarms),
            "of": len(free),
            "area": find_median([row.fp / (row.fp + row.tn) for row in alarms]),
            "worst": [row.name for row in alarms[:MAX_LISTED]],
        },
    }


def count_patients_with_half(rows: Sequence[SliceRow]) -> int:
    """Return the least number of patients that hold half of the slices."""
    held, count = 0, 0
    for slices in sorted(Counter(row.patient for row in rows).values(), reverse=True):
        if 2 * held >= len(rows):
            break
        held, count = held + slices, count + 1
    return count


def find_median(values: Sequence[float]) -> float | None:
    """Return the median to six digits, None without values."""
    return round(median(values), 6) if values else None


def format_failures(found: Mapping[str, Any]) -> list[str]:
    """Return the counts as sentences."""
    missed, alarms = found["missed"], found["false_alarms"]
    sentences = []
    if missed["of"]:
        kinds = ", ".join(f"{counts['slices']} of {counts['of']} {kind}" for kind, counts in missed["classes"].items())
        text = f"{missed['slices']} of {missed['of']} lesions are drawn with a Dice below {MISSED_DICE}"
        if missed["slices"]:
            text += f" ({kinds}), on {missed['overlooked']} of these slices nothing at all; they are of "
            text += f"{missed['patients']} of {missed['of_patients']} patients, half of them of "
            text += f"{missed['patients_with_half']}"
        sentences.append(text + ".")
    if missed["slices"] and missed["area_of_others"] is not None:
        text = f"They cover {missed['area']:.2%} of the slice in the median, the others {missed['area_of_others']:.2%}"
        if missed["contrast"] is not None and missed["contrast_of_others"] is not None:
            text += f"; they are {format_contrast(missed['contrast'])} than their surroundings, the others "
            text += format_contrast(missed["contrast_of_others"])
        sentences.append(text + ".")
    if alarms["of"]:
        text = f"{alarms['slices']} of {alarms['of']} slices without a lesion are marked"
        sentences.append(text + (f", {alarms['area']:.2%} of the slice in the median." if alarms["slices"] else "."))
    return sentences


def format_contrast(value: float) -> str:
    """Return a contrast as text."""
    return f"{abs(value):.2f} deviations {'brighter' if value >= 0 else 'darker'}"
