"""What volume do areas on slices have? Each area counts half the way to each neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from edge_runtime.hospital.series.geometry import GAP


def find_extents(depths: Sequence[float], step_mm: float | None) -> list[float]:
    """Return how many mm along the normal each slice stands for: half the way to each neighbour.

    depths: in order, in mm. step_mm: the median step, which stands for the way beyond the first and the last slice; no
    way counts more than GAP times as much, so that missing slices are not filled in.
    """
    if step_mm is None or not depths:
        return []
    ways = [step_mm, *(min(after - before, GAP * step_mm) for before, after in pairwise(depths)), step_mm]
    return [(before + after) / 2 for before, after in pairwise(ways)]


def measure_ml(areas_mm2: Sequence[float], extents_mm: Sequence[float]) -> float:
    """Return the volume in mL of areas that stand for so many mm each."""
    return sum(area * extent for area, extent in zip(areas_mm2, extents_mm, strict=True)) / 1000
