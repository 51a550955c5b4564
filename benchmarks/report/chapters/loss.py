"""What does the first page say about accuracy? Scores against true masks, the loss against the float model, or neither.

Whatever was measured is stated, and only what was not is called so: each text here follows from `find_standing`.
"""

from __future__ import annotations

from benchmarks.report.blocks import Answer
from benchmarks.result.lookup import Result, find, find_number
from benchmarks.result.quoted import (
    Missing,
    Number,
    Text,
    compose,
    derive,
    find_reason,
    quote,
    quote_difference,
    quote_interval,
)
from benchmarks.result.roles import choose_baseline, find_scores, get_name, is_same_file
from benchmarks.result.wording import escape_hidden, format_count, format_percent, format_score
from evidence.change import NO_CHANGE, find_beyond, write_difference

NOTHING, MASKS, LOSS, AGREEMENT = "nothing", "masks", "loss", "agreement"
ROWS = {  # of the first page's table: a score, its label, its format, its difference where the result has one
    "dice": ("Mean Dice against the masks", format_score),
    "mean_iou": ("Mean IoU against the masks", format_score),
    "false_alarms": ("False alarms, of {} slices without a lesion", format_percent),
}


def find_standing(result: Result, key: str | None) -> str:
    """Return what is known of a subject's accuracy.

    LOSS: scores against true masks, and their difference to the float model's; MASKS: the scores alone; AGREEMENT: with
    another model's masks, without true ones; NOTHING: it was not scored, or has no result for some image.
    """
    entry = find_entry(result, key)
    scored = any(find_number(result, f"{entry}.{name}.value") is not None for name in ROWS)
    if not scored:
        return NOTHING
    if find(result, f"{entry}.against") != "masks":
        return AGREEMENT
    return LOSS if find_number(result, f"{entry}.difference.dice.value") is not None else MASKS


def find_entry(result: Result, key: str | None) -> str:
    """Return the path of a subject's scores; one that leads nowhere where it has none."""
    return f"accuracy.{find_scores(result, key) if key else None}"


def find_accuracy_reason(result: Result, key: str | None) -> str:
    """Return the reason why a subject has no scores, if the result gives one."""
    return escape_hidden(find(result, f"{find_entry(result, key)}.why") or "") or find_reason(result, "accuracy")


def format_accuracy_clause(result: Result, key: str) -> Text:
    """Return the accuracy as the end of the first page's verdict."""
    entry, standing = find_entry(result, key), find_standing(result, key)
    if standing == NOTHING:
        return compose("; accuracy: {}", Missing(find_accuracy_reason(result, key)))
    if standing == AGREEMENT:
        other = get_name(result, str(find(result, f"{entry}.against")))
        return compose("; no true masks were given: {} with the masks of {}", name_best(result, entry), other)
    if standing == MASKS:
        return compose("; {} against the given masks", name_best(result, entry))
    path = f"{entry}.difference.dice"
    low, high = (find_number(result, f"{path}.interval.{side}") for side in (0, 1))
    band = quote_difference(result, path)
    if low is None or high is None:
        return compose("; mean Dice changes by {}, on too few slices for an interval", band)
    if is_unchanged(band):
        return compose("; mean Dice: {}", band)
    if low <= 0 <= high:
        return compose("; no loss of accuracy was found (mean Dice {})", band)
    return compose("; mean Dice changes by {}{}", band, ", a significant loss" if high < 0 else ", no loss")


def is_unchanged(band: Text) -> bool:
    """Return whether a quoted difference is "no change"."""
    return isinstance(band[0], Number) and band[0].text == NO_CHANGE


def name_best(result: Result, entry: str, capital: bool = False) -> Text:
    """Return the most telling score that is known: Dice, else mean IoU, else the share of false alarms."""
    for name, words in (("dice", "Dice"), ("mean_iou", "IoU")):
        if find_number(result, f"{entry}.{name}.value") is not None:
            mean = "Mean" if capital else "mean"
            return compose(f"{mean} {words} {{}}", quote(result, f"{entry}.{name}.value", format_score))
    share = quote(result, f"{entry}.false_alarms.value", format_percent)
    return compose("{} on {} of the slices", "False alarms" if capital else "false alarms", share)


def render_loss(result: Result, key: str | None) -> Answer:
    """Return the answer on accuracy: what the model loses against the float one, or how well it finds the masks."""
    entry, standing = find_entry(result, key), find_standing(result, key)
    if standing == NOTHING or key is None:
        why = find_accuracy_reason(result, key)
        return Answer(
            "What is lost?", ("Not measured",), ((f"Accuracy was not measured{f': {why}' if why else ''}.",),)
        )
    if standing == LOSS:
        return render_difference(result, entry)
    if standing == MASKS:
        details = (*list_scores(result, entry), (explain_no_loss(result, key),), UNTESTED)
        return Answer("How accurate?", name_best(result, entry, capital=True), details)
    return render_agreement(result, entry)


UNTESTED: Text = ("Other scanners and patients were not tested.",)


def explain_no_loss(result: Result, key: str) -> str:
    """Return why scores against masks come without a loss."""
    base = choose_baseline(result, key)
    if base is None:
        return (
            "No float model was measured beside it, so what its conversion lost is not known: "
            "give the trained model too."
        )
    if find_number(result, f"{find_entry(result, key)}.dice.value") is None:
        return f"No slice has a lesion, so there is no Dice to compare with that of {get_name(result, base)}."
    return f"It was not compared slice by slice with {get_name(result, base)}."


def list_scores(result: Result, entry: str, other: str = "") -> tuple[Text, ...]:
    """Return sentences on the scores against true masks, with another entry's beside them if it is given."""
    sentences = []
    for name, template, formatter in (
        (
            "dice",
            "Mean Dice (overlap with the true outlines, 1 is perfect): {} on {} slices with a lesion.",
            format_score,
        ),
        ("mean_iou", "Mean IoU, of lesion and background: {} on {} slices.", format_score),
        ("false_alarms", "False alarms: on {} of {} slices without a lesion.", format_percent),
    ):
        path = f"{entry}.{name}"
        if find_number(result, f"{path}.value") is None:
            continue
        value: Text = (quote(result, f"{path}.value", formatter),)
        if other and find_number(result, f"{other}.{name}.value") is not None:
            theirs = quote(result, f"{other}.{name}.value", formatter)
            value = compose("{} against {} of {}", value, theirs, get_name(result, other.partition(".")[2]))
        elif interval := quote_interval(result, f"{path}.interval", formatter):
            value = compose("{} {}", value, interval)
        sentences.append(compose(template, value, quote(result, f"{path}.n", format_count)))
    return tuple(sentences)


def render_difference(result: Result, entry: str) -> Answer:
    """Return the answer on the loss against masks, image by image."""
    path, against = f"{entry}.difference.dice", str(find(result, f"{entry}.difference.against"))
    value = find_number(result, f"{path}.value") or 0.0
    low, high = (find_number(result, f"{path}.interval.{side}") for side in (0, 1))
    change = quote_difference(result, path)
    words: Text = ("No loss found",)
    if is_unchanged(change):
        words = ("No change",)
    elif low is None or high is None:
        words = compose("Dice {}, not certain", change)
    elif high < 0:
        fall = write_difference(-value, -high, -low, find_beyond(0.0, -high, -low), signed=False)
        words = compose("Dice falls by {}", derive(fall.value, -value, f"-{path}.value", f"{path}.value"))
    details = compose("Difference in Dice, slice by slice: {}.", change)
    scores = list_scores(result, entry, f"accuracy.{against}")[:1]  # the others are in the page's table
    return Answer("What is lost?", words, (*scores, details, UNTESTED))


def render_agreement(result: Result, entry: str) -> Answer:
    """Return the answer where no true masks were given: how much two models' masks agree."""
    other = get_name(result, str(find(result, f"{entry}.against")))
    count = quote(result, f"{entry}.dice.n", format_count)
    interval = quote_interval(result, f"{entry}.dice.interval", format_score)
    details = compose("Agreement with the masks of {} on {} slices where it finds a lesion", other, count)
    if interval:
        details = compose("{}: {}", details, interval)
    changed = quote(result, f"{entry}.changed_pixels", format_percent)
    if isinstance(changed, Number):
        details = compose("{}; {} of pixels changed", details, changed)
    unknown = "Whether either is correct is not known: no masks were given."
    best = name_best(result, entry)
    return Answer(
        "What is lost?", compose("Not known; {} with the float model", best), (compose("{}.", details), (unknown,))
    )


def list_score_rows(result: Result, key: str | None, base: str | None) -> list[tuple[Text, ...]]:
    """Return the first page's rows of scores against true masks: this model, the float one, and the difference."""
    entry, other = find_entry(result, key), find_entry(result, base)
    if find_standing(result, key) not in (MASKS, LOSS):
        return []
    against = find(result, f"{entry}.difference.against")
    paired = bool(against and base) and (against == base or is_same_file(result, str(against), str(base)))
    rows: list[tuple[Text, ...]] = []
    for name, (words, formatter) in ROWS.items():
        mine = quote(result, f"{entry}.{name}.value", formatter)
        if isinstance(mine, Missing):
            continue
        count = quote(result, f"{entry}.{name}.n", format_count)
        label = compose(words, count) if "{}" in words else (words,)
        scored = find(result, f"{other}.against") == "masks"
        theirs: Text = (quote(result, f"{other}.{name}.value", formatter),) if scored else ("–",)
        change = f"{entry}.difference.{name}"
        known = paired and find_number(result, f"{change}.value") is not None
        rows.append((label, (mine,), theirs, quote_difference(result, change) if known else ("–",)))
    return rows
