"""A figure in print: its text, and where in result.json it comes from, so that a reader can check it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Result = dict[str, Any]
Say = Callable[[float], str]  # a figure in print
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidirectional overrides, surrogates, line separators


@dataclass(frozen=True)
class Number:
    """A figure as printed; `paths` lead to its sources in result.json, `formula` says what was made of them."""

    text: str
    value: float | str
    paths: tuple[str, ...]
    formula: str = ""

    @property
    def id(self) -> str:
        """The path of a figure that was measured, the formula of one that was computed or given."""
        return self.formula or self.paths[0]


@dataclass(frozen=True)
class Missing:
    """What stands in the place of a figure that the result does not have."""

    why: str = ""
    text: str = "not measured"


@dataclass(frozen=True)
class Mark:
    """A verdict: its words, and whether they are good, bad or leave the matter open."""

    text: str
    tone: str  # "good" | "bad" | "open"


NEW_LINE = "\n"  # a piece of its own: text of the result never holds one, see `printable`
Piece = str | Number | Missing | Mark
Text = tuple[Piece, ...]


def find(result: Any, path: str) -> Any:
    """Return what a path of keys and list positions leads to; None where it leads nowhere."""
    for step in path.split("."):
        if isinstance(result, dict):
            result = result.get(step)
        elif isinstance(result, list) and step.isdecimal() and int(step) < len(result):
            result = result[int(step)]
        else:
            return None
    return result


def find_number(result: Result, path: str) -> float | None:
    """Return the finite number at a path; None where there is none."""
    value = find(result, path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def cite(result: Result, path: str, say: Say, why: str = "") -> Number | Missing:
    """Return the number at a path in print, or why it is missing."""
    value = find_number(result, path)
    return Missing(why) if value is None else Number(say(value), value, (path,))


def cite_cells(result: Result, path: str, fields: Sequence[str], say: Say) -> tuple[Text, ...]:
    """Return the fields of one object as cells of a row."""
    return tuple((cite(result, f"{path}.{field}", say),) for field in fields)


def tell_why(result: Result, part: str) -> str:
    """Return the result's own words on why a part of it is null."""
    return printable(find(result, f"{part}_why") or "")


def cite_words(result: Result, path: str, why: str = "") -> Piece:
    """Return the words at a path as they stand; a figure among them keeps its id."""
    value = find(result, path)
    if value is None or value == "":
        return Missing(why)
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = printable(
        f"{value:,}" if isinstance(value, int) else say_figure(value) if isinstance(value, float) else value
    )
    return Number(text, value, (path,)) if any(letter.isdigit() for letter in text) else text


def cite_interval(result: Result, path: str, say: Say) -> Text:
    """Return '[low, high]', each with its id; nothing where the result has no interval there."""
    low, high = cite(result, f"{path}.0", say), cite(result, f"{path}.1", say)
    return () if isinstance(low, Missing) or isinstance(high, Missing) else ("[", low, ", ", high, "]")


def derive(text: str, value: float, formula: str, *paths: str) -> Number:
    """Return a figure that was computed from others; the formula names their paths."""
    return Number(text, value, paths, formula)


def assume(text: str, value: float, name: str) -> Number:
    """Return a figure that nothing measured: an assumption of benchmarks.sizing, or what the reader gave."""
    return Number(text, value, (), name)


def flow(*parts: Piece | Text) -> Text:
    """Return texts and pieces as one text."""
    return tuple(piece for part in parts for piece in (part if isinstance(part, tuple) else (part,)))


def plain(text: Piece | Text) -> str:
    """Return the words alone."""
    if isinstance(text, tuple):
        return "".join(plain(piece) for piece in text)
    if isinstance(text, Missing):
        return f"{text.text} ({text.why})" if text.why else text.text
    return text if isinstance(text, str) else text.text


def printable(value: object) -> str:
    """Return text that every medium can carry: controls, invisible and unpaired characters are spelled out."""
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in HIDDEN else letter
        for letter in str(value)
    )


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it stands."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+!|~$" else letter for letter in text)


def shorten(text: str, most: int = 48) -> str:
    """Return at most so many characters, the middle left out."""
    return text if len(text) <= most else f"{text[: most * 2 // 3 - 1]}…{text[-(most // 3) :]}"


def say_figure(value: float) -> str:
    """Return three significant digits, thousands separated; a whole number beyond them keeps all its digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return minus(f"{value:,.{max(0, digits)}f}" if digits < 7 else f"{value:.2e}")


def say_plain(value: float) -> str:
    """Return a figure that somebody chose, as it was chosen."""
    return f"{value:,.10g}"


def say_full(value: float | str) -> str:
    """Return a figure's value with all its digits."""
    return printable(value) if isinstance(value, str) else repr(value)


def say_ms(value: float) -> str:
    """Return milliseconds to three digits."""
    return f"{say_figure(value)} ms"


def say_seconds(value_ms: float) -> str:
    """Return milliseconds as seconds to three digits."""
    return f"{say_figure(value_ms / 1000)} s"


def say_mb(value: float) -> str:
    """Return bytes as millions of bytes to three digits."""
    return f"{say_figure(value / 1e6)} MB"


def say_gb(value: float) -> str:
    """Return bytes as thousands of millions to one decimal."""
    return f"{value / 1e9:.1f} GB"


def say_count(value: float) -> str:
    """Return a whole number, thousands separated."""
    return f"{value:,.0f}"


def say_percent(value: float) -> str:
    """Return a fraction as per cent to three digits."""
    return f"{say_figure(100 * value)} %"


def say_score(value: float) -> str:
    """Return a score between 0 and 1 to four decimals."""
    return minus(f"{value:.4f}")


def say_change(value: float) -> str:
    """Return a difference of scores with its sign, of one that rounds to nothing without."""
    return minus(f"{value:+.4f}") if abs(value) >= 0.00005 else "0.0000"


def say_ratio(value: float) -> str:
    """Return a ratio to two decimals, or to two digits where it is small."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def say_times(value: float) -> str:
    """Return a factor to two decimals below 10, to one above."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def say_cost(value: float) -> str:
    """Return an amount of money to two decimals, or to two digits where it is a fraction of that."""
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.2g}"


def say_moment(text: str) -> str:
    """Return a UTC time, ISO 8601, in words; any other text as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return printable(text)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def minus(text: str) -> str:
    """Return the text with a true minus sign, and none before a zero."""
    if text.startswith("-") and not text.strip("-0.,"):
        text = text[1:]
    return text.replace("-", "−", 1) if text.startswith("-") else text
