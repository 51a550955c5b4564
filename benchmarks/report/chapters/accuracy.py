"""What does the chapter on accuracy say? Scores with intervals, differences to the float model, the worst cases."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from benchmarks.report.blocks import Block, Chapter, Chart, Facts, Picture, Pictures, Sentence, Table
from benchmarks.result.lookup import Result, find, find_number
from benchmarks.result.quoted import (
    NEW_LINE,
    Missing,
    Text,
    compose,
    find_reason,
    quote,
    quote_difference,
    quote_interval,
    quote_words,
)
from benchmarks.result.roles import get_name
from benchmarks.result.wording import (
    Formatter,
    escape_hidden,
    format_count,
    format_figure,
    format_percent,
    format_score,
)

PNG = b"\x89PNG\r\n\x1a\n"
MAX_PICTURE = 4 << 20
SCORES: dict[str, tuple[str, Formatter]] = {
    "dice": ("Dice, mean by slice", format_score),
    "lesion_iou": ("IoU, all pixels", format_score),
    "mean_iou": ("BinaryIoU, all pixels", format_score),
    "hd95_px": ("HD95, px", format_figure),
    "lesion_area_error": ("lesion area, error", format_percent),
    "false_alarms": ("false alarms", format_percent),
}
SCORE_TABLES = {  # two tables: one of all scores would be wider than a page
    "Overlap": ("dice", "lesion_iou", "mean_iou"),
    "Outline, area and false alarms": ("hd95_px", "lesion_area_error", "false_alarms"),
}
NAMES = {"dice": "Dice", "lesion_iou": "IoU", "mean_iou": "BinaryIoU"}


def render_accuracy(result: Result) -> Chapter:
    """Return the chapter on accuracy."""
    title, entries = "Accuracy", find(result, "accuracy") or {}
    if not entries:
        return Chapter("accuracy", title, compose("Accuracy: {}.", Missing(find_reason(result, "accuracy"))), ())
    blocks: list[Block] = [
        Chart("accuracy", ("Mean Dice and its 95\u00a0% interval. From accuracy.*.dice.",)),
        *(tabulate_scores(result, list(entries), names, title) for title, names in SCORE_TABLES.items()),
    ]
    for other in list_references(result):
        blocks += [tabulate_differences(result, other), tabulate_agreement(result, other)]
    failures = list_failures(result)
    if failures:
        blocks.append(Facts(failures, "Images without a result"))
    pictures = list_pictures(result)
    if pictures:
        words = "The worst cases first: the slice, the true outline if masks were given, and the predicted mask."
        blocks += [Sentence((words,)), Pictures(pictures)]
    lead = (
        "Scores with 95\u00a0% intervals over the images. They hold for these images: other scanners, protocols and "
        "patients may give other scores, and no score shows what a radiologist would decide."
    )
    return Chapter("accuracy", title, (lead,), tuple(blocks))


def tabulate_scores(result: Result, keys: list[str], scores: Sequence[str], title: str) -> Table:
    """Return a table of scores; a score that is defined for no image has no column."""
    shown = [name for name in scores if any(find(result, f"accuracy.{key}.{name}.n") for key in keys)]
    references = [find(result, f"accuracy.{key}.against") for key in keys]
    names = ["the masks" if key == "masks" else get_name(result, str(key)) for key in references]
    same = len(set(names)) == 1  # then it is named once, above the table
    rows = []
    for key, reference in zip(keys, names, strict=True):
        entry = f"accuracy.{key}"
        cells = [
            quote_score(result, f"{entry}.{name}", SCORES[name][1], find(result, f"{entry}.why")) for name in shown
        ]
        labels: list[Text] = [(get_name(result, key),), *([] if same else [(reference,)])]
        rows.append((*labels, (quote(result, f"{entry}.n", format_count),), *cells))
    head = ("", *([] if same else ["against"]), "n", *(SCORES[name][0] for name in shown))
    return Table(head, tuple(rows), words=2 - same, title=f"{title}, against {names[0]}" if same else title)


def quote_score(result: Result, path: str, formatter: Formatter, why: Any) -> Text:
    """Return a score with its interval below it."""
    score, interval = (
        quote(result, f"{path}.value", formatter, escape_hidden(why or "")),
        quote_interval(result, f"{path}.interval", formatter),
    )
    return compose("{}\n{}", score, interval) if interval else (score,)


def list_references(result: Result) -> list[str]:
    """Return the subjects that others were compared with."""
    parts = ("difference.against", "agreement.against")
    found = (find(result, f"accuracy.{key}.{part}") for key in find(result, "accuracy") or {} for part in parts)
    return list(dict.fromkeys(str(key) for key in found if key))


def tabulate_differences(result: Result, other: str) -> Table:
    """Return the table of differences in scores to one subject."""
    rows = []
    for key in find(result, "accuracy"):
        path = f"accuracy.{key}.difference"
        if find(result, f"{path}.against") == other:
            changes = (quote_difference(result, f"{path}.{name}", NEW_LINE) for name in NAMES)
            rows.append(((get_name(result, key),), *changes))
    head = ("", *(f"{words}, difference" for words in NAMES.values()))
    return Table(head, tuple(rows), title=f"In comparison with {get_name(result, other)}")


def tabulate_agreement(result: Result, other: str) -> Table:
    """Return the table of agreement with one subject's masks."""
    rows = []
    for key in find(result, "accuracy"):
        path = f"accuracy.{key}.agreement"
        if find(result, f"{path}.against") == other:
            alike = quote_score(result, f"{path}.dice", format_score, "")
            changed = quote(result, f"{path}.changed_pixels", format_percent)
            rows.append(((get_name(result, key),), alike, (changed,)))
    head = ("", "Dice of both masks", "pixels that differ")
    return Table(head, tuple(rows), title=f"Agreement with the masks of {get_name(result, other)}")


def list_failures(result: Result) -> tuple[tuple[str, Text], ...]:
    """Return the subjects without a result for some images, with the reason."""
    return tuple(
        (get_name(result, key), compose("{} images: {}", quote(result, f"accuracy.{key}.failed", format_count), why))
        for key in find(result, "accuracy") or {}
        if find_number(result, f"accuracy.{key}.failed")
        for why in (quote_words(result, f"accuracy.{key}.why"),)
    )


def list_pictures(result: Result) -> tuple[Picture, ...]:
    """Return the worst cases whose pictures are PNG."""
    found = []
    for number, case in enumerate(find(result, "worst") or []):
        data = decode_picture(case.get("picture"))
        if data is not None:
            field = "dice" if find_number(case, "dice") is not None else "lesion_iou"
            score = quote(result, f"worst.{number}.{field}", format_score)
            name = get_name(result, str(case.get("subject")))
            found.append(
                Picture(data, compose("{} · {} {} · {}", escape_hidden(case.get("file")), NAMES[field], score, name))
            )
    return tuple(found)


def decode_picture(text: object) -> bytes | None:
    """Return the bytes of a PNG in base64; None if it is none or too large."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return None
    return data if data.startswith(PNG) and len(data) <= MAX_PICTURE else None
