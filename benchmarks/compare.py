"""Results side by side: one thing may differ between them, and every difference carries its interval.

What differs decides what is compared: the device, the model or recipe, or the version of the software; nothing: a
repeat. Two of them at once, another protocol, or a run that is invalid is refused, the field named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_runtime.contract import near_miss
from edge_runtime.errors import EdgeSegError, UsageError

from .differences import (
    SCORES,
    TIMES,
    Change,
    Values,
    bound_estimate,
    compare_estimates,
    estimate,
    subtract_scores,
    to_table,
)
from .numbers import (
    Result,
    escape_markdown,
    find,
    find_number,
    printable,
    say_change,
    say_mb,
    say_ms,
    say_ratio,
    say_score,
)
from .subjects import choose_headline, find_scores, list_measured, name_of

# What may differ, one at a time. The first field that does is named.
DIMENSIONS = {
    "device": (
        "machine.facts.board",
        "machine.facts.cpu",
        "machine.facts.architecture",
        "machine.facts.cores",
        "machine.facts.virtual",
        "machine.facts.governor",
    ),
    "model": ("model.source_sha256", "model.recipe", "model.input_shape"),
    "version": (
        "project.version",
        "machine.facts.versions.ai-edge-litert",
        "machine.facts.versions.tflite-runtime",
        "machine.facts.versions.openvino",
    ),
}
SIZES = {-1: "smaller", 0: "the same", 1: "larger"}
MOST_REASONS = 3
TOGETHER = {"device": "devices", "model": "models", "version": "versions", "repeat": "repeats of one run"}
GATES = (*TIMES, "size", *SCORES)


@dataclass(frozen=True)
class Row:
    """One figure of one subject in every result, and its change against the first result's."""

    subject: str
    mine: bool  # of the model itself, not of a baseline or a peer: what gates look at
    figure: str
    values: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...]
    changes: tuple[Change | None, ...]  # the first is None


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what could not be: `refused` says it for a part, by its name in GATES or a word."""

    dimension: str
    field: str
    names: tuple[str, ...]
    ids: tuple[str, ...]
    rows: tuple[Row, ...]
    refused: dict[str, str]
    notes: tuple[str, ...]


def compare_results(results: Sequence[Result]) -> Comparison:
    """Compare two or more results with the first of them.

    Raises: EdgeSegError for what cannot be compared, naming the field that differs.
    """
    if len(results) < 2:
        raise UsageError("compare", f"{len(results)} result given", "give two or more")
    refuse_invalid(results)
    refuse_other_protocol(results)
    dimension, field = find_dimension(results)
    pairs = match_subjects(results, dimension)
    refuse_strangers(results, pairs)
    scores, refused = compare_accuracy(results, pairs)
    return Comparison(
        dimension=dimension,
        field=field,
        names=tuple(name_result(result, dimension) for result in results),
        ids=tuple(str(find(result, "id")) for result in results),
        rows=(*(row for keys in pairs for row in compare_subject(results, keys)), *scores),
        refused=refused,
        notes=tuple(tell_doubt(k, reasons) for k, reasons in enumerate(list_doubts(results)) if reasons),
    )


def refuse_strangers(results: Sequence[Result], pairs: Sequence[tuple[str, ...]]) -> None:
    """Refuse results that measured nothing of the same kind."""
    if pairs:
        return
    keys = "; ".join(f"{letter(k)}: {', '.join(list_measured(result))}" for k, result in enumerate(results))
    fix = "measure with the same --engines and --threads"
    raise EdgeSegError("compare", f"no subject was measured in all of them ({keys})", fix)


def tell_doubt(number: int, reasons: Sequence[str]) -> str:
    """Return what an inconclusive run means for the comparison, with the first of its reasons."""
    more = f"; and {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
    told = "; ".join(map(printable, reasons[:MOST_REASONS])) + more
    return f"{letter(number)} is inconclusive ({told}): its speeds settle nothing"


def letter(number: int) -> str:
    """Return A for the first result, B for the second."""
    return chr(ord("A") + number) if number < 26 else f"#{number + 1}"


def name_result(result: Result, dimension: str) -> str:
    """Return what tells a result from the others."""
    facts, model = find(result, "machine.facts") or {}, find(result, "model") or {}
    names = {
        "device": facts.get("board") or facts.get("cpu"),
        "model": f"{model.get('id')} {model.get('recipe')} ({str(model.get('source_sha256'))[:8]})",
        "version": f"edge-seg {find(result, 'project.version')} {find(result, 'project.commit') or ''}".strip(),
        "repeat": find(result, "created"),
    }
    return printable(names[dimension] or "unnamed")


def refuse_invalid(results: Sequence[Result]) -> None:
    """Refuse runs that criticised themselves to the point of being void."""
    for number, result in enumerate(results):
        if find(result, "validity.status") not in ("valid", "inconclusive"):
            reasons = "; ".join(map(str, find(result, "validity.reasons") or ["no reason given"]))
            raise EdgeSegError(
                "compare", f"{letter(number)} ({find(result, 'id')}) is an invalid run: {reasons}", "measure again"
            )


def refuse_other_protocol(results: Sequence[Result]) -> None:
    """Refuse what was not measured in the same way."""
    for field in ("format", "settings.mode"):
        found = [find(result, field) for result in results]
        if any(value != found[0] for value in found):
            raise EdgeSegError("compare", f"{field} differs ({tell_values(found)})", "measure both in the same way")


def find_dimension(results: Sequence[Result]) -> tuple[str, str]:
    """Return what is compared, and the field that shows it; the software's commit counts where nothing else differs."""
    found = {
        dimension: field
        for dimension, fields in DIMENSIONS.items()
        if (field := next((field for field in fields if differs(results, field)), None))
    }
    if len(found) > 1:
        fields = " and ".join(
            f"{field} ({tell_values([find(result, field) for result in results])})" for field in found.values()
        )
        raise EdgeSegError("compare", f"{' and '.join(found)} differ at once: {fields}", "change one of them at a time")
    if not found and differs(results, "project.commit"):
        found = {"version": "project.commit"}
    return next(iter(found.items()), ("repeat", ""))


def differs(results: Sequence[Result], field: str) -> bool:
    """Tell whether a field says different things; what one of them does not tell is no difference."""
    told = [value for value in (find(result, field) for result in results) if value is not None]
    return any(value != told[0] for value in told)


def tell_values(values: Sequence[Any]) -> str:
    """Return the values of a field for an error's one line."""
    return ", ".join(f"{letter(k)}: {str(value)[:60]}" for k, value in enumerate(values))


def list_doubts(results: Sequence[Result]) -> list[list[str]]:
    """Return the reasons of each result that is inconclusive; empty for those that are not."""
    return [
        list(find(result, "validity.reasons") or ["no reason given"])
        if find(result, "validity.status") == "inconclusive" else []
        for result in results
    ]  # fmt: skip


def match_subjects(results: Sequence[Result], dimension: str) -> list[tuple[str, ...]]:
    """Return for each subject that all results measured its key in each of them."""
    tables = [
        {sign_subject(result, key, dimension): key for key in reversed(list_measured(result))} for result in results
    ]
    common = [sign for sign in reversed(tables[0]) if all(sign in table for table in tables)]
    pairs = [tuple(table[sign] for table in tables) for sign in common]
    first = tuple(choose_headline(result) for result in results)
    if dimension == "device" and all(first) and first not in pairs:  # each device with the threads that suit it
        pairs.insert(0, tuple(map(str, first)))
    return pairs


def sign_subject(result: Result, key: str, dimension: str) -> tuple[Any, ...]:
    """Return what makes a subject of one result the same as one of another."""
    subject = find(result, f"subjects.{key}")
    recipe = None if dimension == "model" and subject["role"] == "subject" else subject["recipe"]
    return subject["role"], subject["engine"], subject["threads"], recipe


def compare_subject(results: Sequence[Result], keys: tuple[str, ...]) -> list[Row]:
    """Return the rows of one subject: its times, its file and its memory."""
    each = list(zip(results, keys, strict=True))
    label = " / ".join(dict.fromkeys(name_of(result, key) for result, key in each))
    mine = find(results[0], f"subjects.{keys[0]}.role") == "subject"
    tables, doubtful = [to_table(result, key) for result, key in each], [bool(one) for one in list_doubts(results)]
    rows = [compare_times(label, mine, figure, tables, doubtful) for figure in (TIMES if mine else ["p50"])]
    for figure, path in (("size", "file.bytes"), ("memory", "memory.peak_rss_bytes")):
        values = tuple(find_number(result, f"subjects.{key}.{path}") for result, key in each)
        words = SIZES if figure == "size" else dict.fromkeys(SIZES, "one reading each")
        changes = (None, *(compare_exactly(values[0], value, words) for value in values[1:]))
        rows.append(Row(label, mine, figure, values, (None,) * len(values), changes))
    return rows


def compare_times(label: str, mine: bool, figure: str, tables: Sequence[Values], doubtful: Sequence[bool]) -> Row:
    """Return the row of one figure of the latency."""
    if not all(table.size for table in tables):
        nothing = (None,) * len(tables)
        return Row(label, mine, figure, nothing, nothing, nothing)
    estimates = [estimate(table, figure) for table in tables]
    changes: list[Change | None] = [None]
    for number, other in enumerate(estimates[1:], 1):
        if np.array_equal(tables[0], tables[number]):  # one run given twice, not two runs that agree
            changes.append(Change(1.0, 1.0, 1.0, "no difference"))
            continue
        change = compare_estimates(estimates[0], other)
        doubt = doubtful[0] or doubtful[number]
        changes.append(replace(change, verdict="inconclusive") if doubt else change)
    values = tuple(math.exp(one.value) for one in estimates)
    return Row(label, mine, figure, values, tuple(map(bound_estimate, estimates)), tuple(changes))


def compare_exactly(one: float | None, other: float | None, words: dict[int, str]) -> Change | None:
    """Return the ratio of what has no spread; `words` for smaller (-1), the same (0) and larger (1)."""
    if not one or not other:
        return None
    ratio = other / one
    return Change(ratio, ratio, ratio, words[(ratio > 1) - (ratio < 1)])


def compare_accuracy(results: Sequence[Result], pairs: list[tuple[str, ...]]) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of accuracy, or why it cannot be compared, under the names of its figures."""
    why = find_other_data(results)
    found = [tuple(find_scores(result, key) for result, key in zip(results, keys, strict=True)) for keys in pairs]
    scored = list(dict.fromkeys(tuple(map(str, keys)) for keys in found if all(keys)))
    if not why and not scored:
        why = "accuracy was not measured in all of them"
    if why:
        return [], dict.fromkeys(SCORES, why)
    return [row for keys in scored for row in compare_scores(results, keys)], {}


def compare_scores(results: Sequence[Result], keys: tuple[str, ...]) -> list[Row]:
    """Return the rows of one subject's scores, the differences drawn image by image."""
    entries = [find(result, f"accuracy.{key}") for result, key in zip(results, keys, strict=True)]
    label = " / ".join(dict.fromkeys(name_of(result, key) for result, key in zip(results, keys, strict=True)))
    mine = find(results[0], f"subjects.{keys[0]}.role") == "subject"
    rows = []
    for figure in SCORES:
        values = tuple(find_number(entry, f"{figure}.value") for entry in entries)
        bounds = [tuple(find_number(entry, f"{figure}.interval.{side}") for side in (0, 1)) for entry in entries]
        intervals = tuple((low, high) if low is not None and high is not None else None for low, high in bounds)
        changes = (None, *(subtract_scores(entries[0], entry, figure) for entry in entries[1:]))
        rows.append(Row(f"accuracy of {label}", mine, figure, values, intervals, changes))
    return rows


def find_other_data(results: Sequence[Result]) -> str:
    """Return the field that keeps accuracies apart; "" where they were measured on the same images and masks."""
    for field in ("data.sha256", "data.images", "data.masks"):
        found = [find(result, field) for result in results]
        if any(value != found[0] for value in found):
            return f"{field} differs ({tell_values(found)})"
    return ""


def render_comparison(comparison: Comparison, form: str = "text") -> str:
    """Return the comparison as a table: for a terminal ("text") or as "markdown"."""
    if form == "markdown":
        return render_markdown(comparison)
    field = f" ({comparison.field} differs)" if comparison.field else ""
    lines = [f"{len(comparison.names)} {TOGETHER[comparison.dimension]}{field}"]
    lines += [
        f"{letter(k)}  {name}, run {id_}"
        for k, (name, id_) in enumerate(zip(comparison.names, comparison.ids, strict=True))
    ]
    subject = ""
    for row in comparison.rows:
        if row.subject != subject:
            subject = row.subject
            lines += ["", subject]
        cells = [f"{tell_value(row, k):<28}" for k in range(len(row.values))]
        sign = "−" if row.figure in SCORES else "/"
        changes = [
            f"{letter(k)}{sign}A {tell_change(row.figure, change)}" for k, change in enumerate(row.changes) if change
        ]
        lines.append(f"  {row.figure:<11}{''.join(cells)}{'   '.join(changes)}".rstrip())
    return "\n".join([*lines, *(f"\n{line}" for line in tell_rest(comparison))])


def render_markdown(comparison: Comparison) -> str:
    """Return the comparison as a Markdown table."""
    head = ["", "", *(f"{letter(k)}: {name}" for k, name in enumerate(comparison.names))]
    head += [f"{letter(k)} against A" for k in range(1, len(comparison.names))]
    lines = [f"| {' | '.join(map(escape_markdown, head))} |", "|" + " --- |" * len(head)]
    for row in comparison.rows:
        cells = [row.subject, row.figure, *(tell_value(row, k) for k in range(len(row.values)))]
        cells += [tell_change(row.figure, change) if change else "" for change in row.changes[1:]]
        lines.append(f"| {' | '.join(map(escape_markdown, cells))} |")
    return "\n".join([*lines, *(f"\n{escape_markdown(line)}" for line in tell_rest(comparison))])


def tell_rest(comparison: Comparison) -> list[str]:
    """Return what could not be compared, and what to know of the rest."""
    whys: dict[str, list[str]] = {}
    for part, why in comparison.refused.items():
        whys.setdefault(why, []).append(part)
    return [*(f"not compared: {', '.join(parts)}: {why}" for why, parts in whys.items()), *comparison.notes]


def tell_value(row: Row, number: int) -> str:
    """Return a value with its interval."""
    value, interval = row.values[number], row.intervals[number]
    if value is None:
        return "not measured"
    say = say_score if row.figure in SCORES else say_mb if row.figure in ("size", "memory") else say_ms
    return say(value) + (
        f" [{say(interval[0]).removesuffix(' ms')}, {say(interval[1]).removesuffix(' ms')}]" if interval else ""
    )


def tell_change(figure: str, change: Change) -> str:
    """Return a change with its interval and its verdict."""
    say = say_change if figure in SCORES else say_ratio
    exact = change.low is None or change.high is None or change.low == change.high
    return (
        f"{say(change.value)}{'' if exact else f' [{say(change.low or 0)}, {say(change.high or 0)}]'} {change.verdict}"
    )


def parse_gates(limits: str) -> dict[str, float]:
    """Return what each gate allows: a share for times and size, a difference for scores.

    Raises: UsageError for what is no gate or no limit.
    """
    gates = {}
    for part in filter(None, (part.strip() for part in limits.split(","))):
        name, equals, limit = (piece.strip() for piece in part.partition("="))
        if name not in GATES:
            raise UsageError(
                f"--gate {part}", f"{name!r} is no gate", near_miss(name, GATES) or f"gates are {', '.join(GATES)}"
            )
        if name in gates:
            raise UsageError(f"--gate {limits}", f"{name} stands twice", "give each gate once")
        percent = limit.endswith("%")
        if percent == (name in SCORES):
            kind = "an absolute drop, as iou=0.001" if name in SCORES else "per cent, as p90=5%"
            raise UsageError(f"--gate {part}", f"the limit of {name} is {kind}", "write it so")
        try:
            value = float(limit.removesuffix("%")) / (100 if percent else 1)
        except ValueError:
            value = math.nan
        if not equals or not 0 <= value < math.inf:
            raise UsageError(
                f"--gate {part}", f"{limit!r} is no limit", "give a number of 0 or more, as p90=5% or iou=0.001"
            )
        gates[name] = value
    if not gates:
        raise UsageError("--gate", "no gate is given", "write p90=5%,iou=0.001")
    return gates


def gate(comparison: Comparison, limits: str) -> list[str]:
    """Return the gates that failed, each in one line; empty if none did.

    A gate fails where the model itself got worse beyond chance (the interval excludes no change, and a time lies
    outside the margin of samples.judge_ratio) and by more than the limit. What this run cannot tell fails no gate:
    see `list_undecided`.

    Raises: UsageError for limits that make no sense; EdgeSegError for a gate on what cannot be compared.
    """
    return [line for row, name, limit in walk_gates(comparison, limits) for line in judge_gate(row, name, limit)]


def walk_gates(comparison: Comparison, limits: str) -> list[tuple[Row, str, float]]:
    """Return the rows that the gates look at; a gate that has none is an error: it must not pass unseen."""
    found = []
    for name, limit in parse_gates(limits).items():
        rows = [row for row in comparison.rows if row.mine and row.figure == name and any(row.changes)]
        if not rows:
            why = comparison.refused.get(name) or "it was not measured in all of the results"
            raise EdgeSegError(f"--gate {name}", why, "measure both alike or leave the gate out")
        found += [(row, name, limit) for row in rows]
    return found


def judge_gate(row: Row, name: str, limit: float) -> list[str]:
    """Return a line for each result in which a row got worse beyond its limit."""
    failed = []
    for number, change in enumerate(row.changes):
        if change is None:
            continue
        worse = change.verdict == "worse" if name in SCORES else change.verdict in ("slower", "larger")
        amount = -change.value if name in SCORES else change.value - 1
        if worse and amount > limit:
            allowed = f"{limit:g} is allowed" if name in SCORES else f"{100 * limit:g} % is allowed"
            failed.append(
                f"{name} of {row.subject}, {letter(number)} against A: {tell_change(name, change)}; {allowed}"
            )
    return failed


def list_undecided(comparison: Comparison, limits: str) -> list[str]:
    """Return the gates that could not be decided, each in one line: too few rounds, too much spread, a doubtful run."""
    return [
        f"{name} of {row.subject}, {letter(number)} against A: {tell_change(name, change)}"
        for row, name, _ in walk_gates(comparison, limits)
        for number, change in enumerate(row.changes)
        if change and change.verdict == "inconclusive"
    ]
