"""Which slices make one series, and which of them are copies, in conflict or missing?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from edge_runtime.hospital.headers.header import Frame, Header
from edge_runtime.hospital.headers.scan import Found

from .geometry import (
    SAME_MM,
    Steps,
    find_depth,
    find_normal,
    has_geometry,
    is_same_orientation,
    is_same_spacing,
    measure_steps,
)

MOST_PARTS = 4  # a group of more echoes, times or b-values stays one series, of four dimensions


@dataclass(frozen=True)
class Slice:
    """One slice, the object that holds it and which of its frames it is."""

    found: Found
    frame: Frame
    number: int  # of the frame, from 0

    @property
    def header(self) -> Header:
        """The object's header."""
        return self.found.header


@dataclass(frozen=True)
class Series:
    """Slices of one grid, in order of position."""

    slices: tuple[Slice, ...]
    depths: tuple[float, ...] = ()  # mm along the normal, one for each slice; empty where positions are not said
    steps: Steps = field(default_factory=lambda: Steps(None, 0, 0, 0))
    duplicates: int = 0  # copies that were left out
    conflicts: int = 0  # positions, or identifiers, with different pixels
    repeats: int = 0  # positions that more than MOST_PARTS slices share, at most so many each
    damaged: int = 0  # slices without all of their pixels, left out
    part: bool = False  # one of several that share positions

    @property
    def first(self) -> Slice:
        """The first slice: what a series has in common is taken from it."""
        return self.slices[0]


def group(found: Iterable[Found], hash_pixels: Callable[[Found], str]) -> list[Series]:
    """Return the series of all objects, in order of their first file.

    hash_pixels: a digest of an object's pixels, asked for only where two slices share a position.
    """
    objects: dict[Hashable, list[Found]] = defaultdict(list)
    for number, item in enumerate(found):
        header = item.header
        alone = None if header.series else number
        key = header.study, header.series, header.form, header.reference_frame, header.rows, header.columns, alone
        objects[key].append(item)
    series: list[Series] = []
    for items in objects.values():
        if items[0].header.form == "other":
            series.append(Series(tuple(Slice(item, Frame(), 0) for item in items)))
            continue
        slices = [Slice(item, frame, n) for item in items for n, frame in enumerate(item.header.frames)]
        for grid in split_by_grid(slices):
            series += split_where_positions_collide(grid, hash_pixels)
    return series


def split_by_grid(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return slices by orientation and spacing; those that do not say where they lie together."""
    grids: list[list[Slice]] = []
    for item in slices:
        for grid in reversed(grids):  # mostly the last one
            if is_same_grid(grid[0].frame, item.frame):
                grid.append(item)
                break
        else:
            grids.append([item])
    return grids


def is_same_grid(a: Frame, b: Frame) -> bool:
    """Tell whether two slices have one orientation and spacing."""
    if not has_geometry(a) or not has_geometry(b):
        return has_geometry(a) == has_geometry(b)
    assert a.orientation is not None and b.orientation is not None
    return is_same_orientation(a.orientation, b.orientation) and is_same_spacing(a.spacing, b.spacing)


SPLITS: tuple[Callable[[Slice], Hashable], ...] = (
    lambda item: item.frame.echo_ms,
    lambda item: item.frame.kind,
    lambda item: item.frame.temporal,
    lambda item: item.frame.b_value,
)


def split_where_positions_collide(slices: list[Slice], hash_pixels: Callable[[Found], str]) -> list[Series]:
    """Return the series of one grid: one, or where positions collide, one for each echo, image type, time, b-value.

    Last comes AcquisitionNumber, after copies were left out: a scanner may number the parts of one stack.
    """
    slices, copies = drop_same_objects(slices, hash_pixels)
    damaged = sum(item.header.damaged for item in slices)
    whole = [item for item in slices if not item.header.damaged]
    if not whole:
        return [Series(tuple(slices), damaged=damaged)] if slices else []
    if not has_geometry(whole[0].frame):
        ordered = sorted(whole, key=lambda item: (item.header.number or 0, item.number))
        names = {(item.header.instance, item.number) for item in ordered if item.header.instance}
        twice = sum(bool(item.header.instance) for item in ordered) - len(names)
        return [Series(tuple(ordered), duplicates=copies, conflicts=twice, damaged=damaged)]
    parts = [whole]
    for key in SPLITS:
        parts = [piece for part in parts for piece in (split(part, key) if collides(part) else [part])]
    if len(parts) > MOST_PARTS:
        return [order(whole, hash_pixels, copies, damaged, False, compare=False)]
    cleaned: list[tuple[list[Slice], int]] = []
    for part in parts:
        kept, dropped = drop_copies(part, hash_pixels)
        pieces = split(kept, lambda item: item.header.acquisition) if collides(kept) else [kept]
        pieces = pieces if len(pieces) <= MOST_PARTS else [kept]
        cleaned += [(piece, dropped * (number == 0)) for number, piece in enumerate(pieces)]
    result = []
    for number, (part, dropped) in enumerate(cleaned):
        first = number == 0  # what belongs to the whole is said once
        result.append(
            order(part, hash_pixels, dropped + copies * first, damaged * first, len(cleaned) > 1, compare=True)
        )
    return result


def split(slices: Iterable[Slice], key: Callable[[Slice], Hashable]) -> list[list[Slice]]:
    """Return slices by a key, in order of first appearance."""
    parts: dict[Hashable, list[Slice]] = defaultdict(list)
    for item in slices:
        parts[key(item)].append(item)
    return list(parts.values())


def list_positions(slices: Iterable[Slice]) -> list[list[Slice]]:
    """Return slices sorted by position along the normal, those in one place together."""
    ordered = sorted(slices, key=lambda item: find_depth(item.frame))
    places: list[list[Slice]] = []
    for item in ordered:
        if places and find_depth(item.frame) - find_depth(places[-1][0].frame) <= SAME_MM:
            places[-1].append(item)
        else:
            places.append([item])
    return places


def collides(slices: Iterable[Slice]) -> bool:
    """Tell whether two slices lie in one place."""
    return any(len(place) > 1 for place in list_positions(slices))


def drop_same_objects(slices: list[Slice], hash_pixels: Callable[[Found], str]) -> tuple[list[Slice], int]:
    """Return slices without those of an object that is there twice, and how many were dropped."""
    first: dict[tuple[str, int], Slice] = {}
    kept = []
    for item in slices:
        key = item.header.instance, item.number
        other = first.setdefault(key, item) if key[0] else item
        if other is item or hash_pixels(other.found) != hash_pixels(item.found):
            kept.append(item)
    return kept, len(slices) - len(kept)


def drop_copies(slices: list[Slice], hash_pixels: Callable[[Found], str]) -> tuple[list[Slice], int]:
    """Return slices without those of the same place and pixels; the higher AcquisitionNumber stays."""
    kept = []
    for place in list_positions(slices):
        if len(place) == 1:
            kept += place
            continue
        by_pixels: dict[Hashable, Slice] = {}
        for item in sorted(place, key=lambda item: item.header.acquisition or 0):
            by_pixels[hash_pixels(item.found), item.number if item.header.form == "multi-frame" else 0] = item
        kept += by_pixels.values()
    return kept, len(slices) - len(kept)


def order(
    slices: list[Slice],
    hash_pixels: Callable[[Found], str],
    duplicates: int,
    damaged: int,
    part: bool,
    compare: bool,
) -> Series:
    """Return a series in order of position. compare: whether slices in one place are a conflict."""
    places = list_positions(slices)
    shared = sum(len(place) > 1 for place in places)
    depths = [find_depth(place[0].frame) for place in places]
    return Series(
        slices=tuple(item for place in places for item in place),
        depths=tuple(depths),
        steps=measure_steps(depths),
        duplicates=duplicates,
        conflicts=shared if compare else 0,
        repeats=0 if compare else shared,
        damaged=damaged,
        part=part,
    )


def count_orientations(series: Iterable[Series]) -> int:
    """Return how many planes a scanner's series has."""
    frames = [item.first.frame for item in series if has_geometry(item.first.frame)]
    normals = [find_normal(frame.orientation) for frame in frames if frame.orientation is not None]
    different: list[tuple[float, ...]] = []
    for normal in normals:
        if not any(abs(sum(a * b for a, b in zip(normal, other, strict=True))) > 0.7 for other in different):
            different.append(normal)
    return len(different)
