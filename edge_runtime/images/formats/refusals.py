"""For which reasons is an image file refused before it is decoded?"""

from __future__ import annotations

BROKEN_HEADER, TRUNCATED = "its header is broken", "it ends in the middle"
MAX_PARTS = 100_000  # chunks, segments, strips: far more than any program writes, and checked in a second


class UnsupportedKind(ValueError):
    """A valid file of a kind that is not read: "with ..."."""


class TooManyPixels(ValueError):
    """An image that would take too much memory."""


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse a size that no image has or that is too large, before its pixels are read."""
    if height == 0 or width == 0:
        raise ValueError(BROKEN_HEADER)  # a JPEG's height may follow its first scan, which hardly any decoder supports
    if height * width > max_pixels:
        raise TooManyPixels(f"{width} x {height} pixels, more than {max_pixels}")
