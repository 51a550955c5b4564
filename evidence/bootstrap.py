"""The bootstrap: groups (images, patients, rounds) are drawn with replacement, and a score is taken of each draw.

All draws are seeded, so that numbers can be repeated. Two models are compared on the same draws: what groups differ in
cancels out. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]  # (B, N) which groups are drawn
Weights = npt.NDArray[np.float64]  # (B, N) how often each group is drawn
Values = npt.NDArray[np.float64]  # (B,) one value for each draw

SEED, DRAWS = 20250607, 2000
BLOCK = 1_000_000  # indices in memory at a time
COVERED = (2.5, 97.5)  # percentiles of the interval


def draw_blocks(count: int, draws: int = DRAWS, seed: int = SEED) -> Iterator[Indices]:
    """Yield `draws` rows of `count` indices drawn from as many, in blocks: memory stays flat.

    The blocks continue one stream: their size changes no number.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // max(1, count))
    for start in range(0, draws, rows):
        yield rng.integers(0, count, (min(rows, draws - start), count))


def draw_indices(count: int, draws: int = DRAWS, seed: int = SEED) -> Indices:
    """Return all draws at once, (draws, count)."""
    return np.concatenate(list(draw_blocks(count, draws, seed)))


def draw_weights(count: int, draws: int = DRAWS, seed: int = SEED) -> Iterator[Weights]:
    """Yield the same draws as how often each group is in them: a sum over a draw is then a product of matrices."""
    for drawn in draw_blocks(count, draws, seed):
        first = np.arange(len(drawn))[:, None] * count
        times = np.bincount((drawn + first).ravel(), minlength=drawn.size)
        yield times.reshape(drawn.shape).astype(np.float64)


def resample(
    count: int, score: Callable[[Weights], Mapping[str, Values]], draws: int = DRAWS, seed: int = SEED
) -> dict[str, Values]:
    """Return {name: values (draws,)} of the scores of each draw; `score` takes them for a block of weights."""
    blocks = [score(weights) for weights in draw_weights(count, draws, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def find_interval(values: npt.NDArray[Any], max_undefined: float = 1.0) -> tuple[float, float]:
    """Return the 95 % interval (low, high) of the draws' values; those that are not finite are left out.

    (NaN, NaN) where none is left, or where a larger share than `max_undefined` is left out.
    """
    defined = values[np.isfinite(values)]
    if not len(defined) or len(defined) < (1 - max_undefined) * len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, COVERED)
    return float(low), float(high)


def round_interval(values: npt.NDArray[Any]) -> list[float]:
    """Return the 95 % interval as records hold it: [low, high], six digits after the point."""
    return [round(bound, 6) for bound in find_interval(values)]
