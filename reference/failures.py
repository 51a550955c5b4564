"""Which lesions were missed and what they have in common, and which slices were marked for nothing: counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .appearance import Pair
from .metrics import Row

MISSED = 0.1  # Dice below which a lesion counts as missed
LISTED = 12  # slices that are named


def describe_failures(rows: Sequence[Row], pairs: Sequence[Pair] = ()) -> dict[str, Any]:
    """Return {missed, false_alarms}: counts, what sets missed lesions apart, and the worst slices by name.

    missed {slices, of, patients, of_patients, patients_with_half, classes, area, area_of_others, contrast,
    contrast_of_others, overlooked, worst}: a lesion with Dice below MISSED. patients_with_half: how few patients hold
    half of them. Areas are medians of the slice's share, contrasts of `Shape.contrast`, null without `pairs`.
    false_alarms {slices, of, area, worst}.
    """
    contrasts = {pair.name: pair.truth.contrast for pair in pairs if pair.truth is not None}
    lesions = [row for row in rows if row.dice is not None]
    missed = [row for row in lesions if (row.dice or 0.0) < MISSED]
    rest = [row for row in lesions if (row.dice or 0.0) >= MISSED]
    free = [row for row in rows if row.dice is None]
    alarms = sorted((row for row in free if row.false), key=lambda row: -row.false)
    worst = sorted(missed, key=lambda row: (row.dice or 0.0, -row.fraction))[:LISTED]
    return {
        "missed": {
            "slices": len(missed),
            "of": len(lesions),
            "patients": len({row.patient for row in missed}),
            "of_patients": len({row.patient for row in lesions}),
            "patients_with_half": count_holders(missed),
            "classes": {
                kind: {"slices": count, "of": sum(row.kind == kind for row in lesions)}
                for kind, count in sorted(Counter(row.kind for row in missed).items())
            },
            "overlooked": sum(row.hit + row.false == 0 for row in missed),
            "area": take_median([row.fraction for row in missed]),
            "area_of_others": take_median([row.fraction for row in rest]),
            "contrast": take_median([contrasts[row.name] for row in missed if row.name in contrasts]),
            "contrast_of_others": take_median([contrasts[row.name] for row in rest if row.name in contrasts]),
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
            "area": take_median([row.false / (row.false + row.rest) for row in alarms]),
            "worst": [row.name for row in alarms[:LISTED]],
        },
    }


def count_holders(rows: Sequence[Row]) -> int:
    """Return how few patients hold half of the slices."""
    held, count = 0, 0
    for slices in sorted(Counter(row.patient for row in rows).values(), reverse=True):
        if 2 * held >= len(rows):
            break
        held, count = held + slices, count + 1
    return count


def take_median(values: Sequence[float]) -> float | None:
    """Return the median to six digits, None of nothing."""
    return round(median(values), 6) if values else None


def say_failures(found: Mapping[str, Any]) -> list[str]:
    """Return the counts as sentences."""
    missed, alarms = found["missed"], found["false_alarms"]
    said = []
    if missed["of"]:
        kinds = ", ".join(f"{its['slices']} of {its['of']} {kind}" for kind, its in missed["classes"].items())
        text = f"{missed['slices']} of {missed['of']} lesions are drawn with a Dice below {MISSED}"
        if missed["slices"]:
            text += f" ({kinds}), on {missed['overlooked']} of these slices nothing at all; they are of "
            text += f"{missed['patients']} of {missed['of_patients']} patients, half of them of "
            text += f"{missed['patients_with_half']}"
        said.append(text + ".")
    if missed["slices"] and missed["area_of_others"] is not None:
        text = f"They cover {missed['area']:.2%} of the slice in the median, the others {missed['area_of_others']:.2%}"
        if missed["contrast"] is not None and missed["contrast_of_others"] is not None:
            text += f"; they are {say_contrast(missed['contrast'])} than their surroundings, the others "
            text += say_contrast(missed["contrast_of_others"])
        said.append(text + ".")
    if alarms["of"]:
        text = f"{alarms['slices']} of {alarms['of']} slices without a lesion are marked"
        said.append(text + (f", {alarms['area']:.2%} of the slice in the median." if alarms["slices"] else "."))
    return said


def say_contrast(value: float) -> str:
    """Return a contrast in words."""
    return f"{abs(value):.2f} deviations {'brighter' if value >= 0 else 'darker'}"
