"""One hostile file: what it is called, how its bytes are made, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Make = Callable[[], bytes]


@dataclass(frozen=True)
class Case:
    """Refused with `why` in the reason, or read as `pixels`; with both, either will do, since decoders differ."""

    name: str  # ends with the suffix of the file that it pretends to be
    make: Make
    why: str | None = None
    pixels: Array | None = None
    slack: int = 0  # how far a pixel may lie from `pixels`


def name_cases(suffix: str, cases: Iterable[tuple[object, ...]]) -> Iterator[Case]:
    """Cases from (name, bytes or their maker, why) and (name, bytes or maker, pixels[, slack[, why]])."""
    for name, data, wanted, *rest in cases:
        make = data if callable(data) else (lambda data=data: data)
        if isinstance(wanted, str):
            yield Case(f"{name}{suffix}", make, why=wanted)
        else:
            slack, why = (*rest, *(0, None)[len(rest) :])
            yield Case(f"{name}{suffix}", make, why, np.ascontiguousarray(wanted), slack)  # type: ignore[arg-type]


def draw(seed: int, dtype: str = "uint8", channels: int = 1, height: int = 13, width: int = 17) -> Array:
    """Noise: (H, W) or (H, W, C), all values of its type."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def lay_over_black(pixels: Array) -> Array:
    """A naive oracle: colour times alpha, rounded."""
    colour, alpha = pixels[..., :-1].astype(float), pixels[..., -1:].astype(float)
    return np.rint(colour * alpha / np.iinfo(pixels.dtype).max).astype(pixels.dtype)
