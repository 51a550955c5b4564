"""How are probabilities written, so that a reader sees which one decided? Without NumPy, for the parent process."""

from __future__ import annotations

import struct

MAX_DIGITS = 10  # float32 has fewer


def format_highest(value: float, threshold: float, digits: int) -> str:
    """Return a probability with so many digits, or as many more as show whether it reaches the threshold."""
    reached = to_float32(value) >= to_float32(threshold)  # as masks are made
    count = next((n for n in range(digits, MAX_DIGITS) if (round(value, n) >= threshold) == reached), MAX_DIGITS)
    return f"{value:.{count}f}"


def format_lead(label: float, background: float, digits: int) -> tuple[str, str]:
    """Return both probabilities with so many digits, or as many more as show whether the label exceeds the other."""
    leads = label > background
    count = next(
        (n for n in range(digits, MAX_DIGITS) if (round(label, n) > round(background, n)) == leads), MAX_DIGITS
    )
    return f"{label:.{count}f}", f"{background:.{count}f}"


def to_float32(value: float) -> float:
    """Return the nearest number that 32 bits hold."""
    return float(struct.unpack("f", struct.pack("f", value))[0])
