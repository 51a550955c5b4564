"""How is a number of a result printed together with its source in result.json?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evidence.change import find_beyond, write_difference, write_ratio

from .format_1 import to_file_path
from .lookup import Result, find, find_number
from .wording import Formatter, escape_hidden, format_figure


@dataclass(frozen=True)
class Number:
    """A printed number; `paths` are its sources in result.json, `formula` is what was computed from them."""

    text: str
    value: float | str
    paths: tuple[str, ...]
    formula: str = ""

    @property
    def id(self) -> str:
        """Return the path of a measured number, the formula of a computed or given one."""
        return self.formula or self.paths[0]


@dataclass(frozen=True)
class Missing:
    """What is printed instead of a number that the result does not have."""

    why: str = ""
    text: str = "not measured"


@dataclass(frozen=True)
class Mark:
    """A verdict with its tone."""

    text: str
    tone: str  # "good" | "bad" | "open"


NEW_LINE = "\n"  # a separate piece: text from a result holds none, see `escape_hidden`
Piece = str | Number | Missing | Mark
Text = tuple[Piece, ...]


def quote(result: Result, path: str, formatter: Formatter, why: str = "") -> Number | Missing:
    """Return the number at a path, formatted, or the reason why it is missing."""
    value = find_number(result, path)
    return Missing(why) if value is None else Number(formatter(value), value, (to_file_path(result, path),))


def quote_cells(result: Result, path: str, fields: Sequence[str], formatter: Formatter) -> tuple[Text, ...]:
    """Return the numbers of one object's fields as cells of a row."""
    return tuple((quote(result, f"{path}.{field}", formatter),) for field in fields)


def find_reason(result: Result, part: str) -> str:
    """Return the reason that a result gives for a part that is null."""
    return escape_hidden(find(result, f"{part}_why") or "")


def quote_words(result: Result, path: str, why: str = "") -> Piece:
    """Return the text at a path; one that holds digits keeps its source."""
    value = find(result, path)
    if value is None or value == "":
        return Missing(why)
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = escape_hidden(
        f"{value:,}" if isinstance(value, int) else format_figure(value) if isinstance(value, float) else value
    )
    return Number(text, value, (to_file_path(result, path),)) if any(letter.isdigit() for letter in text) else text


def quote_interval(result: Result, path: str, formatter: Formatter) -> Text:
    """Return "[low, high]", each with its source; empty where the result has no interval there."""
    low, high = quote(result, f"{path}.0", formatter), quote(result, f"{path}.1", formatter)
    return () if isinstance(low, Missing) or isinstance(high, Missing) else ("[", low, ", ", high, "]")


def quote_difference(result: Result, path: str, separator: str = " ") -> Text:
    """Return the {value, interval} of a difference at a path in words, its interval after the separator."""
    values = [find_number(result, f"{path}.{part}") for part in ("value", "interval.0", "interval.1")]
    if values[0] is None:
        return (Missing(),)
    low, high = values[1:]
    written = write_difference(values[0], low, high, find_beyond(0.0, low, high))
    found = [to_file_path(result, f"{path}.{part}") for part in ("value", "interval.0", "interval.1")]
    numbers = [
        Number(text, value, (source,))
        for text, value, source in zip((written.value, written.low, written.high), values, found, strict=True)
        if text and value is not None
    ]
    return join_interval(numbers, separator)


def quote_ratio(result: Result, path: str, inverse: bool = False) -> Text:
    """Return the ratio of times of the pair at a path, or its inverse, a ratio of speeds, with its interval."""
    paths = [f"{path}.{part}" for part in ("ratio_p50", "interval.0", "interval.1")]
    values = [find_number(result, part) for part in paths]
    if not values[0] or (inverse and 0 in values):
        return (Missing(),)
    if inverse:
        paths = [paths[0], paths[2], paths[1]]  # the lower bound's inverse is the higher one
        values = [1 / value if value else None for value in (values[0], values[2], values[1])]
    first = values[0] or 0.0
    apart = 1.0 if find(result, f"{path}.verdict") in ("faster", "slower") else None
    written = write_ratio(first, values[1], values[2], apart, 2 if first < 10 else 1)
    numbers = [
        derive(text, value, f"1 / {source}", source) if inverse else Number(text, value, (source,))
        for text, value, source in zip((written.value, written.low, written.high), values, paths, strict=True)
        if text and value is not None
    ]
    return join_interval(numbers)


def join_interval(numbers: Sequence[Number], separator: str = " ") -> Text:
    """Return a number, with its interval in brackets if two more are given."""
    if len(numbers) < 3:
        return (numbers[0],)
    return numbers[0], separator, "[", numbers[1], ", ", numbers[2], "]"


def derive(text: str, value: float, formula: str, *paths: str) -> Number:
    """Return a number computed from others; the formula names their paths."""
    return Number(text, value, paths, formula)


def assume(text: str, value: float, name: str) -> Number:
    """Return a number that was not measured: an assumption of benchmarks.report.sizing, or a value that was given."""
    return Number(text, value, (), name)


def compose(template: str, *parts: Piece | Text) -> Text:
    """Return a template as a text, each "{}" in it replaced by a piece or a text."""
    first, *literals = template.split("{}")
    pieces: list[Piece] = [first]
    for part, literal in zip(parts, literals, strict=True):
        pieces += [*(part if isinstance(part, tuple) else (part,)), literal]
    return tuple(piece for piece in pieces if piece)


def to_plain(text: Piece | Text) -> str:
    """Return a text without its sources."""
    if isinstance(text, tuple):
        return "".join(to_plain(piece) for piece in text)
    if isinstance(text, Missing):
        return f"{text.text} ({text.why})" if text.why else text.text
    return text if isinstance(text, str) else text.text
