"""The chapter on accuracy: scores with intervals, what the smaller model changes, and the worst cases as pictures."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from .blocks import Block, Chapter, Chart, Facts, Picture, Pictures, Sentence, Table
from .numbers import (
    NEW_LINE,
    Missing,
    Result,
    Say,
    Text,
    cite,
    cite_interval,
    cite_words,
    find,
    find_number,
    flow,
    printable,
    say_change,
    say_count,
    say_figure,
    say_percent,
    say_score,
    tell_why,
)
from .subjects import name_of

PNG = b"\x89PNG\r\n\x1a\n"
MAX_PICTURE = 4 << 20
SCORES: dict[str, tuple[str, Say]] = {
    "dice": ("Dice, mean by slice", say_score),
    "iou": ("IoU, all pixels", say_score),
    "binary_iou": ("BinaryIoU, all pixels", say_score),
    "hd95_px": ("HD95, px", say_figure),
    "lesion_area_error": ("lesion area, error", say_percent),
    "false_alarms": ("false alarms", say_percent),
}
NAMES = {"dice": "Dice", "iou": "IoU", "binary_iou": "BinaryIoU"}


def tell_accuracy(result: Result) -> Chapter:
    """How good the masks are, and what quantization did to them."""
    title, entries = "Accuracy", find(result, "accuracy") or {}
    if not entries:
        return Chapter("accuracy", title, flow("Accuracy: ", Missing(tell_why(result, "accuracy")), "."), ())
    blocks: list[Block] = [
        Chart("accuracy", ("Mean Dice and its 95\u00a0% interval. From accuracy.*.dice.",)),
        tabulate_scores(result, list(entries)),
    ]
    blocks += [tabulate_changes(result, other) for other in list_references(result)]
    failures = list_failures(result)
    if failures:
        blocks.append(Facts(failures, "Images without a result"))
    pictures = list_pictures(result)
    if pictures:
        words = "The worst cases first: the slice, the true outline where masks were given, and what the model found."
        blocks += [Sentence((words,)), Pictures(pictures)]
    lead = (
        "Scores with 95\u00a0% intervals over the images. They hold for these images: other scanners, protocols and "
        "patients may score otherwise, and no score says what a reader would decide."
    )
    return Chapter("accuracy", title, (lead,), tuple(blocks))


def tabulate_scores(result: Result, keys: list[str]) -> Table:
    """Return every score of every subject that was scored; a score that nobody has is no column."""
    shown = [name for name in SCORES if any(find(result, f"accuracy.{key}.{name}.n") for key in keys)]
    judges = [find(result, f"accuracy.{key}.against") for key in keys]
    words = ["the masks" if judge == "masks" else name_of(result, str(judge)) for judge in judges]
    alike = len(set(words)) == 1  # then it is said once, above the table
    rows = []
    for key, judge in zip(keys, words, strict=True):
        entry = f"accuracy.{key}"
        cells = [cite_score(result, f"{entry}.{name}", SCORES[name][1], find(result, f"{entry}.why")) for name in shown]
        who: list[Text] = [(name_of(result, key),), *([] if alike else [(judge,)])]
        rows.append((*who, (cite(result, f"{entry}.n", say_count),), *cells))
    head = ("", *([] if alike else ["against"]), "n", *(SCORES[name][0] for name in shown))
    return Table(head, tuple(rows), words=2 - alike, title=f"Scores against {words[0]}" if alike else "Scores")


def cite_score(result: Result, path: str, say: Say, why: Any) -> Text:
    """Return a score with its interval below it."""
    score, interval = (
        cite(result, f"{path}.value", say, printable(why or "")),
        cite_interval(result, f"{path}.interval", say),
    )
    return flow(score, NEW_LINE, interval) if interval else (score,)


def list_references(result: Result) -> list[str]:
    """Return the subjects whose scores or masks others were compared with."""
    parts = ("difference.against", "agreement.against")
    found = (find(result, f"accuracy.{key}.{part}") for key in find(result, "accuracy") or {} for part in parts)
    return list(dict.fromkeys(str(key) for key in found if key))


def tabulate_changes(result: Result, other: str) -> Table:
    """Return what differs from one subject's masks: scores less its own, and how far the masks are alike."""
    rows = []
    for key in find(result, "accuracy"):
        scores, masks = (f"accuracy.{key}.{part}" for part in ("difference", "agreement"))
        if other not in (find(result, f"{scores}.against"), find(result, f"{masks}.against")):
            continue
        changes = (cite_score(result, f"{scores}.{name}", say_change, "") for name in NAMES)
        alike = cite_score(result, f"{masks}.dice", say_score, "")
        rows.append(((name_of(result, key),), *changes, alike, (cite(result, f"{masks}.changed_pixels", say_percent),)))
    head = ("", *(f"{words}, difference" for words in NAMES.values()), "Dice of both masks", "pixels that differ")
    return Table(head, tuple(rows), title=f"In comparison with {name_of(result, other)}")


def list_failures(result: Result) -> tuple[tuple[str, Text], ...]:
    """Return the subjects that gave no result for some images, with the reason."""
    return tuple(
        (name_of(result, key), flow(cite(result, f"accuracy.{key}.failed", say_count), " images: ", why))
        for key in find(result, "accuracy") or {}
        if find_number(result, f"accuracy.{key}.failed")
        for why in (cite_words(result, f"accuracy.{key}.why"),)
    )


def list_pictures(result: Result) -> tuple[Picture, ...]:
    """Return the worst cases whose pictures are PNG."""
    found = []
    for number, case in enumerate(find(result, "worst") or []):
        data = decode_picture(case.get("picture"))
        if data is not None:
            field = "dice" if find_number(case, "dice") is not None else "iou"
            score = cite(result, f"worst.{number}.{field}", say_score)
            name = name_of(result, str(case.get("subject")))
            found.append(Picture(data, flow(printable(case.get("file")), f" · {NAMES[field]} ", score, f" · {name}")))
    return tuple(found)


def decode_picture(text: object) -> bytes | None:
    """Return the bytes of a PNG given as base64; None where it is none or too large."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return None
    return data if data.startswith(PNG) and len(data) <= MAX_PICTURE else None
