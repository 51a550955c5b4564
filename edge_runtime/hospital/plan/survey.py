"""How bright is a series? Slices that are much darker hold air, and stretched to full scale they would be all noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace

from edge_runtime.hospital.headers.child import LineChild

from .plan_series import PlannedSeries

SAMPLES = 16  # slices of a series that are looked at
ANSWER_S = 60.0  # for one slice
CHILD_BYTES = 2_000_000_000  # of memory


def survey(planned: Sequence[PlannedSeries], max_pixels: int) -> list[PlannedSeries]:
    """Return the series, each slice with its series' brightness: the greatest of evenly spaced slices.

    None where no slice decodes. Raises: EdgeSegError if no process can be started.
    """
    if not planned:
        return []
    with closing(LineChild("edge_runtime.hospital.plan.survey_main", {"memory": CHILD_BYTES}, ANSWER_S)) as child:
        return [survey_one(series, child, max_pixels) for series in planned]


def survey_one(series: PlannedSeries, child: LineChild, max_pixels: int) -> PlannedSeries:
    """Return one series."""
    step = max(1, math.ceil(len(series.slices) / SAMPLES))
    found = []
    for item in series.slices[step // 2 :: step]:
        request = {"path": str(item.path), "slice": asdict(item.source), "max_pixels": max_pixels}
        found += [float(answer["bright"]) for answer in child.ask_lines(request) if "bright" in answer]
    bright = max((value for value in found if math.isfinite(value)), default=None)
    slices = tuple(replace(item, source=replace(item.source, bright=bright)) for item in series.slices)
    return replace(series, slices=slices)
