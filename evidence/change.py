"""How are a difference and a ratio written, so that the digits do not contradict what is said of them?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

NO_CHANGE = "no change"
MAX_DECIMALS = 12  # scores are stored to six decimals; the sizes of files of a gigabyte may differ by one byte


@dataclass(frozen=True)
class WrittenChange:
    """A change's texts; `low` and `high` are "" without an interval."""

    value: str
    low: str = ""
    high: str = ""

    def __str__(self) -> str:
        """Return the value with its interval in brackets."""
        return f"{self.value} [{self.low}, {self.high}]" if self.low else self.value


def write_difference(
    value: float,
    low: float | None,
    high: float | None,
    apart: float | None = None,
    decimals: int = 4,
    signed: bool = True,
) -> WrittenChange:
    """Return a difference and its interval, "no change" where all of it rounds to zero and no more is said of it.

    apart: the limit that the difference is said to lie beyond, mostly 0. It is written with the decimals that show it.
    """
    known = [one for one in (value, low, high) if one is not None]
    if apart is None and all(round(one, decimals) == 0 for one in known):
        return WrittenChange(NO_CHANGE)
    if apart is not None:
        decimals = count_decimals(known, apart, decimals)
    return to_written([write_number(one, decimals, signed) for one in known])


def write_ratio(
    value: float, low: float | None, high: float | None, apart: float | None = None, decimals: int = 2
) -> WrittenChange:
    """Return a ratio and its interval; below 0.1 with two significant digits. An exact one has no interval.

    apart: the limit that the ratio is said to lie beyond, mostly 1. It is written with the decimals that show it.
    """
    known = [one for one in (value, low, high) if one is not None] if low != high else [value]
    if apart is not None:
        decimals = count_decimals(known, apart, decimals)
    return to_written([f"{one:.{decimals}f}" if one >= 0.1 else f"{one:.2g}" for one in known])


def find_beyond(limit: float, low: float | None, high: float | None) -> float | None:
    """Return the limit if a whole interval lies beyond it, for `apart`; None where it does not, or is not known."""
    return limit if low is not None and high is not None and not low <= limit <= high else None


def count_decimals(values: Iterable[float], apart: float, usual: int) -> int:
    """Return the decimals, `usual` or more, at which every value that differs from `apart` is written differently."""
    different = [value for value in values if math.isfinite(value) and abs(value - apart) >= 10.0**-MAX_DECIMALS]
    decimals = usual
    while decimals < MAX_DECIMALS and any(round(value, decimals) == round(apart, decimals) for value in different):
        decimals += 1
    return decimals


def to_written(texts: list[str]) -> WrittenChange:
    """Return the texts of a value and its interval; half an interval is none."""
    return WrittenChange(*texts) if len(texts) == 3 else WrittenChange(texts[0])


def write_number(value: float, decimals: int, signed: bool) -> str:
    """Return a number with a typographic minus sign and, if `signed`, a plus; zero has neither."""
    if round(value, decimals) == 0:
        return f"{0:.{decimals}f}"
    return f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", "−")
