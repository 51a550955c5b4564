"""How do two or more results differ? One thing may differ between them; every difference has an interval.

It is the device, the model or recipe, or the version of the software, or nothing in a repeated run. Results that differ
in two of them or in the protocol, and invalid runs, are refused; the message names the field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.result.lookup import Result, find, find_number
from benchmarks.result.roles import choose_headline, find_scores, get_name, list_measured
from benchmarks.result.specification import COMPARED_SCORES
from benchmarks.result.wording import escape_hidden
from edge_runtime.errors import EdgeSegError, UsageError

from .differences import (
    TIMES,
    Change,
    Values,
    compare_estimates,
    estimate_figure,
    read_rounds,
    subtract_scores,
    to_interval,
)

# What may differ, one dimension at a time. The first field that differs is named.
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
SIZE_WORDS = {-1: "smaller", 0: "the same", 1: "larger"}
MAX_REASONS = 3
PLURALS = {"device": "devices", "model": "models", "version": "versions", "repeat": "repeats of one run"}
GATES = (*TIMES, "size", *COMPARED_SCORES)


@dataclass(frozen=True)
class ComparisonRow:
    """One figure of one subject in every result, and its change against the first result's."""

    subject: str
    is_subject: bool  # of the model itself, not of a baseline or a peer: gates apply to these alone
    figure: str
    values: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...]
    changes: tuple[Change | None, ...]  # the first is None


@dataclass(frozen=True)
class Comparison:
    """A comparison; `not_compared` gives the reason for each figure that could not be compared."""

    dimension: str
    field: str
    names: tuple[str, ...]
    ids: tuple[str, ...]
    rows: tuple[ComparisonRow, ...]
    not_compared: dict[str, str]
    notes: tuple[str, ...]


def compare_results(results: Sequence[Result]) -> Comparison:
    """Compare two or more results with the first one.

    Raises: EdgeSegError if they cannot be compared, naming the field that differs.
    """
    if len(results) < 2:
        raise UsageError("compare", f"{len(results)} result given", "give two or more")
    refuse_invalid(results)
    refuse_other_protocol(results)
    dimension, field = find_dimension(results)
    pairs = match_subjects(results, dimension)
    refuse_disjoint(results, pairs)
    scores, not_compared = compare_accuracy(results, pairs)
    return Comparison(
        dimension=dimension,
        field=field,
        names=tuple(name_result(result, dimension) for result in results),
        ids=tuple(str(find(result, "id")) for result in results),
        rows=(*(row for keys in pairs for row in compare_subject(results, keys)), *scores),
        not_compared=not_compared,
        notes=tuple(format_note(k, reasons) for k, reasons in enumerate(list_reasons(results)) if reasons),
    )


def refuse_disjoint(results: Sequence[Result], pairs: Sequence[tuple[str, ...]]) -> None:
    """Refuse results without a common subject. Raises: EdgeSegError."""
    if pairs:
        return
    keys = "; ".join(f"{to_letter(k)}: {', '.join(list_measured(result))}" for k, result in enumerate(results))
    fix = "measure with the same --engines and --threads"
    raise EdgeSegError("compare", f"no subject was measured in all of them ({keys})", fix)


def format_note(number: int, reasons: Sequence[str]) -> str:
    """Return the note on an inconclusive run, with the first of its reasons."""
    more = f"; and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
    first = "; ".join(map(escape_hidden, reasons[:MAX_REASONS])) + more
    return f"{to_letter(number)} is inconclusive ({first}): its speeds settle nothing"


def to_letter(number: int) -> str:
    """Return "A" for the first result, "B" for the second."""
    return chr(ord("A") + number) if number < 26 else f"#{number + 1}"


def name_result(result: Result, dimension: str) -> str:
    """Return a name by which a result differs from the others."""
    facts, model = find(result, "machine.facts") or {}, find(result, "model") or {}
    names = {
        "device": facts.get("board") or facts.get("cpu"),
        "model": f"{model.get('id')} {model.get('recipe')} ({str(model.get('source_sha256'))[:8]})",
        "version": f"edge-seg {find(result, 'project.version')} {find(result, 'project.commit') or ''}".strip(),
        "repeat": find(result, "created"),
    }
    return escape_hidden(names[dimension] or "unnamed")


def refuse_invalid(results: Sequence[Result]) -> None:
    """Refuse invalid runs. Raises: EdgeSegError."""
    for number, result in enumerate(results):
        if find(result, "validity.status") not in ("valid", "inconclusive"):
            reasons = "; ".join(map(str, find(result, "validity.reasons") or ["no reason given"]))
            raise EdgeSegError(
                "compare", f"{to_letter(number)} ({find(result, 'id')}) is an invalid run: {reasons}", "measure again"
            )


def refuse_other_protocol(results: Sequence[Result]) -> None:
    """Refuse results of different modes. Raises: EdgeSegError."""
    found = [find(result, "settings.mode") for result in results]
    if any(value != found[0] for value in found):
        why = f"settings.mode differs ({format_values(found)})"
        raise EdgeSegError("compare", why, "measure both in the same way")


def find_dimension(results: Sequence[Result]) -> tuple[str, str]:
    """Return the dimension in which results differ, and the field; the commit counts only if nothing else differs.

    Raises: EdgeSegError if they differ in two dimensions.
    """
    found = {
        dimension: field
        for dimension, fields in DIMENSIONS.items()
        if (field := next((field for field in fields if differs(results, field)), None))
    }
    if len(found) > 1:
        fields = " and ".join(
            f"{field} ({format_values([find(result, field) for result in results])})" for field in found.values()
        )
        raise EdgeSegError("compare", f"{' and '.join(found)} differ at once: {fields}", "change one of them at a time")
    if not found and differs(results, "project.commit"):
        found = {"version": "project.commit"}
    return next(iter(found.items()), ("repeat", ""))


def differs(results: Sequence[Result], field: str) -> bool:
    """Return whether a field's known values differ."""
    known = [value for value in (find(result, field) for result in results) if value is not None]
    return any(value != known[0] for value in known)


def format_values(values: Sequence[Any]) -> str:
    """Return a field's values for an error message."""
    return ", ".join(f"{to_letter(k)}: {str(value)[:60]}" for k, value in enumerate(values))


def list_reasons(results: Sequence[Result]) -> list[list[str]]:
    """Return the reasons of each result that is inconclusive; empty for those that are not."""
    return [
        list(find(result, "validity.reasons") or ["no reason given"])
        if find(result, "validity.status") == "inconclusive" else []
        for result in results
    ]  # fmt: skip


def match_subjects(results: Sequence[Result], dimension: str) -> list[tuple[str, ...]]:
    """Return the subjects that all results measured: for each, its key in every result."""
    tables = [
        {identify_subject(result, key, dimension): key for key in reversed(list_measured(result))} for result in results
    ]
    common = [identity for identity in reversed(tables[0]) if all(identity in table for table in tables)]
    pairs = [tuple(table[identity] for table in tables) for identity in common]
    first = tuple(choose_headline(result) for result in results)
    if dimension == "device" and all(first) and first not in pairs:  # each device with its best thread count
        pairs.insert(0, tuple(map(str, first)))
    return pairs


def identify_subject(result: Result, key: str, dimension: str) -> tuple[Any, ...]:
    """Return what identifies a subject across results."""
    subject = find(result, f"subjects.{key}")
    recipe = None if dimension == "model" and subject["role"] == "subject" else subject["recipe"]
    return subject["role"], subject["engine"], subject["threads"], recipe


def compare_subject(results: Sequence[Result], keys: tuple[str, ...]) -> list[ComparisonRow]:
    """Return the rows of one subject: latency, file size and memory."""
    each = list(zip(results, keys, strict=True))
    label = " / ".join(dict.fromkeys(get_name(result, key) for result, key in each))
    is_subject = find(results[0], f"subjects.{keys[0]}.role") == "subject"
    tables, inconclusive = (
        [read_rounds(result, key) for result, key in each],
        [bool(one) for one in list_reasons(results)],
    )
    rows = [
        compare_times(label, is_subject, figure, tables, inconclusive) for figure in (TIMES if is_subject else ["p50"])
    ]
    for figure, path in (("size", "file.bytes"), ("memory", "memory.peak_rss_bytes")):
        values = tuple(find_number(result, f"subjects.{key}.{path}") for result, key in each)
        words = SIZE_WORDS if figure == "size" else dict.fromkeys(SIZE_WORDS, "one reading each")
        changes = (None, *(compare_exactly(values[0], value, words) for value in values[1:]))
        rows.append(ComparisonRow(label, is_subject, figure, values, (None,) * len(values), changes))
    return rows


def compare_times(
    label: str, is_subject: bool, figure: str, tables: Sequence[Values], inconclusive: Sequence[bool]
) -> ComparisonRow:
    """Return the row of one latency figure."""
    if not all(table.size for table in tables):
        nothing = (None,) * len(tables)
        return ComparisonRow(label, is_subject, figure, nothing, nothing, nothing)
    estimates = [estimate_figure(table, figure) for table in tables]
    changes: list[Change | None] = [None]
    for number, other in enumerate(estimates[1:], 1):
        if np.array_equal(tables[0], tables[number]):  # the same run given twice, not two runs that agree
            changes.append(Change(1.0, 1.0, 1.0, "no difference"))
            continue
        change = compare_estimates(estimates[0], other)
        unsure = inconclusive[0] or inconclusive[number]
        changes.append(replace(change, verdict="inconclusive") if unsure else change)
    values = tuple(math.exp(one.value) for one in estimates)
    return ComparisonRow(label, is_subject, figure, values, tuple(map(to_interval, estimates)), tuple(changes))


def compare_exactly(one: float | None, other: float | None, words: dict[int, str]) -> Change | None:
    """Return the ratio of two exact values; `words`: the verdicts for smaller (-1), the same (0), larger (1)."""
    if not one or not other:
        return None
    ratio = other / one
    return Change(ratio, ratio, ratio, words[(ratio > 1) - (ratio < 1)])


def compare_accuracy(
    results: Sequence[Result], pairs: list[tuple[str, ...]]
) -> tuple[list[ComparisonRow], dict[str, str]]:
    """Return the rows of accuracy and, by figure, the reason why there are none."""
    why = find_data_difference(results)
    found = [tuple(find_scores(result, key) for result, key in zip(results, keys, strict=True)) for keys in pairs]
    scored = list(dict.fromkeys(tuple(map(str, keys)) for keys in found if all(keys)))
    if not why and not scored:
        why = "accuracy was not measured in all of them"
    if why:
        return [], dict.fromkeys(COMPARED_SCORES, why)
    return [row for keys in scored for row in compare_scores(results, keys)], {}


def compare_scores(results: Sequence[Result], keys: tuple[str, ...]) -> list[ComparisonRow]:
    """Return the rows of one subject's scores; the differences are paired by image."""
    entries = [find(result, f"accuracy.{key}") for result, key in zip(results, keys, strict=True)]
    label = " / ".join(dict.fromkeys(get_name(result, key) for result, key in zip(results, keys, strict=True)))
    is_subject = find(results[0], f"subjects.{keys[0]}.role") == "subject"
    rows = []
    for figure in COMPARED_SCORES:
        values = tuple(find_number(entry, f"{figure}.value") for entry in entries)
        bounds = [tuple(find_number(entry, f"{figure}.interval.{side}") for side in (0, 1)) for entry in entries]
        intervals = tuple((low, high) if low is not None and high is not None else None for low, high in bounds)
        changes = (None, *(subtract_scores(entries[0], entry, figure) for entry in entries[1:]))
        rows.append(ComparisonRow(f"accuracy of {label}", is_subject, figure, values, intervals, changes))
    return rows


def find_data_difference(results: Sequence[Result]) -> str:
    """Return the field in which the images or masks differ; "" where they are the same."""
    for field in ("data.sha256", "data.images", "data.masks"):
        found = [find(result, field) for result in results]
        if any(value != found[0] for value in found):
            return f"{field} differs ({format_values(found)})"
    return ""
