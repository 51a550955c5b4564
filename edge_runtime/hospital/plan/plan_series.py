"""What is each slice of a chosen series called, where is it read, and where does it lie?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.hospital.headers.header import Frame
from edge_runtime.hospital.pixels.slice_source import SliceSource, find_turn
from edge_runtime.hospital.series.geometry import find_depth, has_geometry, name_plane
from edge_runtime.hospital.series.verdict import Judged

from .plane import ACQUIRED, Cut, cut

ALIAS_DIGITS = 6


@dataclass(frozen=True)
class PlannedSlice:
    """One slice: its file, its name in results.csv, and where it lies."""

    path: Path
    file: str
    source: SliceSource
    frame: Frame


@dataclass(frozen=True)
class PlannedSeries:
    """A chosen series and its slices in order of position."""

    alias: str
    judged: Judged
    slices: tuple[PlannedSlice, ...]
    plane: str  # in which it is cut

    @property
    def form(self) -> str:
        """What its files are: "classic", "multi-frame" or "nifti"."""
        return self.judged.series.first.header.form


def name_series(judged: Judged) -> str:
    """Return a series' alias: its number, and digits of its identifier's digest, whose key is the salt."""
    return f"S{judged.number}-{judged.series.first.header.series[:ALIAS_DIGITS] or '0' * ALIAS_DIGITS}"


def plan_series(chosen: Sequence[Judged], plane: str = ACQUIRED) -> list[PlannedSeries]:
    """Return the chosen series, their slices named ALIAS/0001 and so on."""
    return [plan_one(judged, plane) for judged in chosen]


def plan_one(judged: Judged, plane: str) -> PlannedSeries:
    """Return one series."""
    alias, series = name_series(judged), judged.series
    is_volume = series.first.header.form == "nifti"
    cuts = cut(series, plane) if is_volume else [Cut(2, item.frame, item.number) for item in series.slices]
    slices = []
    for number, part in enumerate(cuts, start=1):
        found = series.first.found if is_volume else series.slices[number - 1].found
        placed = has_geometry(part.frame)
        source = SliceSource(
            form=found.header.form,
            series=alias,
            number=number,
            entry=found.entry,
            frame=part.number,
            axis=part.axis,
            turn=find_turn(part.frame.orientation or ()) if placed else (False, False, False),
            position_mm=find_depth(part.frame) if placed else None,
            pixel_mm2=part.frame.spacing[0] * part.frame.spacing[1] if part.frame.spacing else None,
        )
        slices.append(PlannedSlice(found.path, f"{alias}/{number:04d}", source, part.frame))
    first = cuts[0].frame
    name = name_plane(first.orientation or ()) if has_geometry(first) else ""
    return PlannedSeries(alias, judged, tuple(slices), name)
