"""Strict checks of JSON and TOML against a shape; a fault is named with its path and the nearest known name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.errors import near_miss

Leaf = Callable[[Any], str]  # returns "" for a value that fits, else what it should be


@dataclass(frozen=True)
class Fields:
    """An object with exactly these fields; those in `optional` may be missing."""

    required: Mapping[str, Any]
    optional: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Named:
    """An object whose keys match `pattern`, with values of one shape."""

    shape: Any
    pattern: str = ".+"


@dataclass(frozen=True)
class Each:
    """A list of values of one shape."""

    shape: Any


@dataclass(frozen=True)
class Maybe:
    """Null, or a value of this shape."""

    shape: Any


def find_fault(shape: Any, value: Any, path: str = "") -> str:
    """Return what is wrong with a value, its path first; "" if it fits."""
    if isinstance(shape, Fields):
        return find_in_fields(shape, value, path)
    if isinstance(shape, Named):
        return find_in_named(shape, value, path)
    if isinstance(shape, Each):
        if not isinstance(value, list):
            return f"{path} is not a list"
        return first(find_fault(shape.shape, item, f"{path}.{i}") for i, item in enumerate(value))
    if isinstance(shape, Maybe):
        return "" if value is None else find_fault(shape.shape, value, path)
    wrong: str = shape(value)
    return wrong and f"{path} is {shorten(value)}, not {wrong}"


def find_in_fields(shape: Fields, value: Any, path: str) -> str:
    """Return the first fault of an object with known fields."""
    if not isinstance(value, dict):
        return f"{path or 'it'} is not an object"
    known = {**shape.required, **shape.optional}
    prefix = f"{path}." if path else ""
    for name in value:
        if name not in known:
            return f"unknown field {prefix + name!r} ({near_miss(name, known) or 'fields here: ' + ', '.join(known)})"
    for name in shape.required:
        if name not in value:
            return f"field {prefix + name!r} is missing"
    return first(find_fault(known[name], item, prefix + name) for name, item in value.items())


def find_in_named(shape: Named, value: Any, path: str) -> str:
    """Return the first fault of an object with free keys."""
    if not isinstance(value, dict):
        return f"{path} is not an object"
    for name in value:
        if not re.fullmatch(shape.pattern, name):
            return f"{path} has the key {name!r}, which is not of the form {shape.pattern}"
    return first(find_fault(shape.shape, item, f"{path}.{name}") for name, item in value.items())


def first(faults: Any) -> str:
    """Return the first text that is not empty; "" if there is none."""
    return next((fault for fault in faults if fault), "")


def shorten(value: Any) -> str:
    """Return a value for a message of one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def text(value: Any) -> str:
    """A text, possibly empty."""
    return "" if isinstance(value, str) else "a text"


def flag(value: Any) -> str:
    """True or false."""
    return "" if isinstance(value, bool) else "true or false"


def number(value: Any) -> str:
    """A finite number."""
    return "" if type(value) in (int, float) and -1e300 < value < 1e300 else "a finite number"


def amount(value: Any) -> str:
    """A finite number that is not negative."""
    return "" if not number(value) and value >= 0 else "a number of 0 or more"


def count(value: Any) -> str:
    """A whole number that is not negative."""
    return "" if type(value) is int and value >= 0 else "a whole number of 0 or more"


def anything(value: Any) -> str:
    """Any value."""
    return ""


def one_of(*known: str) -> Leaf:
    """One of a few words."""

    def check(value: Any) -> str:
        hint = near_miss(value, known) if isinstance(value, str) else ""
        return "" if value in known else f"one of {', '.join(known)}" + (f"; {hint}" if hint else "")

    return check


def matching(pattern: str, what: str) -> Leaf:
    """A text that matches a pattern; `what` describes it."""
    return lambda value: "" if isinstance(value, str) and re.fullmatch(pattern, value) else what


def row(*shapes: Any) -> Leaf:
    """A list of exactly these shapes, in this order."""

    def check(value: Any) -> str:
        if not isinstance(value, list) or len(value) != len(shapes):
            return f"a list of {len(shapes)}"
        faults = (find_fault(shape, item, "one of it") for shape, item in zip(shapes, value, strict=True))
        return first(f"what it should be: {fault}" if fault else "" for fault in faults)

    return check
