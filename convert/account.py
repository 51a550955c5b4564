"""What check, policy, tournament and drill-down found, as plain data for the report and as rows for the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .check import Check
from .tournament import Outcome
from .worst import name_picture

Row = tuple[str, str]
WORDS = {"mean_iou": "mean IoU", "dice": "Dice", "area_error": "lesion-area error", "false_alarms": "false alarms"}


def to_account(outcome: Outcome, pictures: str) -> dict[str, Any]:
    """Return the report's fields on check, policy, tournament and drill-down, null where there was none.

    pictures: the name of the folder with the worst images.
    """
    found = {
        "check": None if outcome.check is None else to_data(outcome.check, pictures),
        "policy": None if outcome.verdict is None else asdict(outcome.verdict),
        "tournament": [asdict(entry) for entry in outcome.entries],
        "drill_down": {name: asdict(drill) for name, drill in outcome.drills.items()},
    }
    return {name: spell_all(value) for name, value in found.items()}


def to_data(check: Check, pictures: str) -> dict[str, Any]:
    """Return a check as plain data, each of the worst images with its picture."""
    worst = [
        {"row": place, "picture": f"{pictures}/{name_picture(rank, check.rows[place].file)}"}
        for rank, place in enumerate(check.worst, 1)
    ]
    return {**asdict(check), "worst": worst}


def spell_all(value: Any) -> Any:
    """Return plain data as JSON can hold it: NaN and infinity by name, never as a number."""
    if isinstance(value, Mapping):
        return {key: spell_all(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [spell_all(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def to_rows(report: Mapping[str, Any]) -> list[Row]:
    """Return the table's rows on what the images said, from the report alone; none where nobody asked them."""
    rows: list[Row] = []
    if report["check"]:
        rows += to_check_rows(report["check"])
    if report["policy"]:
        policy = report["policy"]
        rows.append(("policy", f"{'met' if policy['met'] else 'not met'}: {policy['why']}"))
    if len(report["tournament"]) > 1:
        rows += [("tried", say_entry(entry)) for entry in report["tournament"]]
    return rows + [("kept float", say_drill(report, name)) for name in report["drill_down"]]


def to_check_rows(check: Mapping[str, Any]) -> list[Row]:
    """Return a check's rows: what it was done on, each score of the three models, agreement with Keras."""
    truth = "masks" if check["truth"] == "masks" else "Keras' own masks as the truth"
    rows = [("checked on", f"{check['images']} images with {truth}, {check['lesions']} show a lesion{say_left(check)}")]
    names = [WORDS.get(score["name"], score["name"].replace("iou_", "IoU of ")) for score in check["scores"]]
    rows += [
        (name, say_score(score))
        for name, score in zip(names, check["scores"], strict=True)
        if not isinstance(score["keras"], str)
    ]
    changed = [check[side]["changed_pixels"] for side in ("result", "fp32")]
    text = f"{say_share(changed[0])} of pixels changed ({say_share(changed[1])} by static FP32)"
    return [*rows, ("against Keras", f"{text}; IoU of the masks {say(check['result']['mean_iou'])}")]


def say_left(check: Mapping[str, Any]) -> str:
    """Return how many images were left out, and the first."""
    left = check["left_out"]
    return f"; {len(left)} left out, the first is {left[0]['file']}: {left[0]['why']}" if left else ""


def say_score(score: Mapping[str, Any]) -> str:
    """Return the three models' values and the drop with its interval."""
    text = f"Keras {say(score['keras'])}, static FP32 {say(score['fp32'])}, result {say(score['result'])}"
    return f"{text}; lost {say_drop(score)}"


def say_drop(score: Mapping[str, Any]) -> str:
    """Return a drop with its interval, if it has one."""
    if score["drop"] is None or isinstance(score["drop"], str):
        return "unknown"
    between = "" if isinstance(score["low"], str) else f" (95 %: {score['low']:.5f} to {score['high']:.5f})"
    return f"{score['drop']:.5f}{between}"


def say(value: Any) -> str:
    """Return a score; a dash where it has none."""
    return "-" if value is None or isinstance(value, str) else f"{value:.4f}"


def say_share(value: Any) -> str:
    """Return a share in percent."""
    return "-" if isinstance(value, str) else f"{value:.4%}"


def say_entry(entry: Mapping[str, Any]) -> str:
    """Return one file of the tournament in words."""
    facts = [
        *([f"{entry['kept']} layers kept float"] if entry["kept"] else []),
        *([f"{entry['size_bytes'] / 1e6:.2f} MB"] if entry["size_bytes"] else []),
        *([f"{entry['ratio']:.2f} of the time"] if entry["ratio"] else []),
    ]
    known = isinstance(entry["drop"], float)
    why = f"mean IoU lost {entry['drop']:.5f}" if known else entry["why"]
    return f"{entry['recipe']} {entry['outcome']} ({', '.join(facts) or 'no file'}): {why}"


def say_drill(report: Mapping[str, Any], recipe: str) -> str:
    """Return what a drill-down kept float and what it cost in bytes and time."""
    drill = report["drill_down"][recipe]
    more = f"{(drill['size_bytes'] - drill['before_bytes']) / 1e6:.2f} MB more{say_slower(report, recipe)}"
    names = ", ".join(drill["kept"][:4]) + (" ..." if len(drill["kept"]) > 4 else "")
    end = "" if drill["met"] else "; the policy is not met even so"
    return f"{len(drill['kept'])} of {drill['layers']} layers of {recipe} ({names}): {more}{end}"


def say_slower(report: Mapping[str, Any], recipe: str) -> str:
    """Return a recipe's time before and after layers were kept float; "" where both were not measured."""
    own = [entry for entry in report["tournament"] if entry["recipe"] == recipe and entry["ratio"]]
    before, after = ([entry for entry in own if bool(entry["kept"]) is kept] for kept in (False, True))
    if not before or not after:
        return ""
    first, last = before[0], after[0]
    return f", {last['ratio']:.2f} instead of {first['ratio']:.2f} of static FP32's time"
