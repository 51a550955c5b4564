"""How are the numbers and texts of a result formatted for a reader?"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from datetime import datetime

from evidence import document

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidirectional overrides, surrogates, line separators
Formatter = Callable[[float], str]  # of a number for print


def escape_markdown(text: str) -> str:
    """Return a text with all Markdown syntax escaped."""
    return document.escape_markdown(escape_hidden(text))


def shorten(text: str, limit: int = 48) -> str:
    """Return at most `limit` characters, the middle left out."""
    return text if len(text) <= limit else f"{text[: limit * 2 // 3 - 1]}…{text[-(limit // 3) :]}"


def format_figure(value: float) -> str:
    """Return three significant digits with thousands separators; a larger whole number keeps all its digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return use_minus_sign(f"{value:,.{max(0, digits)}f}" if digits < 7 else f"{value:.2e}")


def format_plain(value: float) -> str:
    """Return a number that a user gave, with the digits given."""
    return f"{value:,.10g}"


def format_full(value: float | str) -> str:
    """Return a value with all its digits."""
    return escape_hidden(value) if isinstance(value, str) else repr(value)


def format_ms(value: float) -> str:
    """Return milliseconds to three digits."""
    return f"{format_figure(value)} ms"


def format_mb(value: float) -> str:
    """Return bytes in MB to three digits."""
    return f"{format_figure(value / 1e6)} MB"


def format_gb(value: float) -> str:
    """Return bytes in GB to one decimal."""
    return f"{value / 1e9:.1f} GB"


def format_count(value: float) -> str:
    """Return a whole number with thousands separators."""
    return f"{value:,.0f}"


def format_percent(value: float) -> str:
    """Return a fraction as per cent to three digits."""
    return f"{format_figure(100 * value)} %"


def format_score(value: float) -> str:
    """Return a score between 0 and 1 to four decimals."""
    return use_minus_sign(f"{value:.4f}")


def format_ratio(value: float) -> str:
    """Return a ratio to two decimals; below 0.1 to two significant digits."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def format_cost(value: float) -> str:
    """Return an amount of money to two decimals; below 0.1 to two significant digits."""
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.2g}"


def format_datetime(text: str) -> str:
    """Return a UTC time in ISO 8601 as a date and time; any other text unchanged."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return escape_hidden(text)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def use_minus_sign(text: str) -> str:
    """Return a number's text with a typographic minus sign, and none before zero."""
    if text.startswith("-") and not text.strip("-0.,"):
        text = text[1:]
    return text.replace("-", "−", 1) if text.startswith("-") else text


def escape_hidden(value: object) -> str:
    """Return text that any medium can show: control, invisible and unpaired characters are escaped."""
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in HIDDEN else letter
        for letter in str(value)
    )
