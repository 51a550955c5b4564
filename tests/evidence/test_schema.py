"""Strict shapes: the first fault is named with its path, and a misspelt field with the one that was meant."""

from __future__ import annotations

from typing import Any

import pytest

from evidence.schema import (
    Each,
    Fields,
    Maybe,
    Named,
    amount,
    anything,
    count,
    find_fault,
    flag,
    matching,
    number,
    one_of,
    row,
    text,
)

SHAPE = Fields(
    {"name": text, "size": Fields({"bytes": count}), "samples": Each(row(count, amount))},
    {
        "kind": one_of("subject", "baseline"),
        "note": Maybe(text),
        "loud": flag,
        "by": Named(number, "[a-z]+"),
        "sha": matching("[0-9a-f]{4}", "four hex digits"),
        "free": anything,
    },
)
GOOD: dict[str, Any] = {"name": "a", "size": {"bytes": 3}, "samples": [[0, 1.5], [1, 0]]}


@pytest.mark.parametrize(
    "more",
    [{}, {"kind": "subject", "note": None, "loud": True, "by": {"x": -1.5}, "sha": "00ff", "free": [{}]}],
)
def test_what_fits_has_no_fault(more: dict[str, Any]) -> None:
    """Fields that may be left out may also be there."""
    assert find_fault(SHAPE, GOOD | more) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nmae": "a"}, "unknown field 'nmae'"),
        ({"size": {"byte": 3}}, "unknown field 'size.byte'"),
        ({"size": {}}, "field 'size.bytes' is missing"),
        ({"size": 3}, "size is not an object"),
        ({"name": 3}, "name is 3, not a text"),
        ({"size": {"bytes": True}}, "size.bytes is True, not a whole number of 0 or more"),
        ({"size": {"bytes": -1}}, "size.bytes is -1, not a whole number of 0 or more"),
        ({"samples": {}}, "samples is not a list"),
        ({"samples": [[0]]}, "samples.0 is [0], not a list of 2"),
        ({"samples": [[0, 1], [0, -1]]}, "samples.1 is [0, -1], not what it should be: one of it is -1"),
        ({"kind": "subjekt"}, "kind is 'subjekt', not one of subject, baseline"),
        ({"note": 1}, "note is 1, not a text"),
        ({"loud": 1}, "loud is 1, not true or false"),
        ({"by": {"X": 1}}, "by has the key 'X', which is not of the form [a-z]+"),
        ({"by": {"x": float("nan")}}, "by.x is nan, not a finite number"),
        ({"sha": "00fg"}, "sha is '00fg', not four hex digits"),
        ({"name": ["x" * 100]}, "..., not a text"),
    ],
)
def test_the_first_fault_is_named(change: dict[str, Any], said: str) -> None:
    """Its path, what stands there, and what should."""
    assert said in find_fault(SHAPE, GOOD | change)


def test_the_near_miss_is_named() -> None:
    """A field and a word that are nearly right; far from all, the fields that there are."""
    assert "'name'" in find_fault(SHAPE, GOOD | {"nmae": "a"}).partition("(")[2]
    assert "'subject'" in find_fault(SHAPE, GOOD | {"kind": "subjekt"}).partition(";")[2]
    assert "fields here: name, size" in find_fault(SHAPE, GOOD | {"zzz": "a"})
    assert find_fault(SHAPE, []) == "it is not an object"
