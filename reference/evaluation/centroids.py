"""Draws the true and found lesions' centroids by class, over the heads' mean outline, and their shape measures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from reference.data.lesion_shape import Grey, find_head

from .appearance import SIDES, ShapePair, find_median_centroids, get_values

SIDE = 128  # pixels of the mean outline
COLOURS = {"true": "#1f77b4", "found": "#d95f02"}
SHAPE_MEASURES = ("roundness", "solidity", "edge", "contrast")


class MeanOutline:
    """Averages the outlines of heads by class; the mean does not show any patient's slice."""

    def __init__(self) -> None:
        self.sums: dict[str, npt.NDArray[np.float64]] = {}
        self.counts: dict[str, int] = {}

    def add(self, image: Grey, kind: str) -> None:
        """Add a slice's head, its box stretched to SIDE × SIDE."""
        head = find_head(image)
        if head is not None:
            left, top, width, height = head.box
            box = head.mask[top : top + height, left : left + width].astype(np.float32)
            self.sums[kind] = self.sums.get(kind, np.zeros((SIDE, SIDE))) + cv2.resize(box, (SIDE, SIDE))
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def mean(self, kind: str) -> npt.NDArray[np.float64]:
        """Return the share of a class's heads that cover each pixel, (SIDE, SIDE)."""
        return self.sums[kind] / self.counts[kind]


def draw_centroids(pairs: Sequence[ShapePair], outline: MeanOutline) -> bytes:
    """Return a PNG: above, each class's true and found centroids in the head's box; below, their shape measures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    centroids = find_median_centroids(pairs)
    kinds = sorted(centroids)
    columns = max(len(kinds), 1)
    figure = plt.figure(figsize=(3.4 * max(columns, 3), 7.4), constrained_layout=True)
    above, below = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=[1.45, 1])))
    maps = np.atleast_1d(above.subplots(1, columns))
    for axes, kind in zip(maps, kinds, strict=True):
        group = [pair for pair in pairs if pair.kind == kind and pair.truth is not None]
        draw_map(axes, kind, group, outline)
    maps[0].legend(loc="lower left", fontsize=8, framealpha=0.9)
    for axes, measure in zip(below.subplots(1, len(SHAPE_MEASURES)), SHAPE_MEASURES, strict=True):
        draw_boxes(axes, measure, kinds, pairs, centroids)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def draw_map(axes: Any, kind: str, pairs: Sequence[ShapePair], outline: MeanOutline) -> None:
    """Draw one class's centroids over its heads' mean outline, and each side's median as a cross."""
    grid = (np.arange(SIDE) + 0.5) / SIDE
    axes.contour(grid, grid, outline.mean(kind), levels=[0.25, 0.5, 0.75], colors="0.75", linewidths=(0.7, 1.4, 0.7))
    for side, key in SIDES:
        shapes = [getattr(pair, side) for pair in pairs if getattr(pair, side) is not None]
        if not shapes:
            continue
        points = np.array([(shape.x, shape.y) for shape in shapes])
        look: dict[str, Any] = (
            {"marker": "o", "s": 16, "facecolors": "none", "edgecolors": COLOURS[key], "linewidths": 0.7}
            if key == "true"
            else {"marker": ".", "s": 24, "color": COLOURS[key], "linewidths": 0, "alpha": 0.8}
        )
        axes.scatter(*points.T, label=f"{key} ({len(points)})", **look)
        middle = np.median(points, axis=0)
        axes.plot(*middle, marker="+", markersize=16, markeredgewidth=4.5, color="white", zorder=3)
        axes.plot(*middle, marker="+", markersize=15, markeredgewidth=2.2, color=COLOURS[key], zorder=4)
    found = sum(pair.found is not None for pair in pairs)
    patients = len({pair.patient for pair in pairs})
    axes.set(xlim=(-0.03, 1.03), ylim=(1.03, -0.03), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.set_title(f"{kind}: found on {found} of {len(pairs)} slices\n({patients} patients)", fontsize=10)
    axes.tick_params(labelsize=8)


def draw_boxes(
    axes: Any,
    measure: str,
    kinds: Sequence[str],
    pairs: Sequence[ShapePair],
    centroids: dict[str, tuple[float, float]],
) -> None:
    """Draw a measure's quartiles by class, true beside found; whiskers from the 5th to the 95th percentile."""
    for index, kind in enumerate(kinds):
        group = [pair for pair in pairs if pair.kind == kind and pair.truth is not None]
        for side, key, shift in (("truth", "true", -0.19), ("found", "found", 0.19)):
            values = [value for value in get_values(group, side, measure, centroids) if value is not None]
            if values:
                look = {"color": COLOURS[key]}
                axes.boxplot(
                    [values],
                    positions=[index + shift],
                    widths=0.3,
                    whis=(5, 95),
                    showfliers=False,
                    boxprops=look,
                    whiskerprops=look,
                    capprops=look,
                    medianprops={**look, "linewidth": 2.2},
                )
    axes.set_xticks(range(len(kinds)), [kind[:10] for kind in kinds], fontsize=7.5)
    axes.set_title(measure, fontsize=10)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlim(-0.6, len(kinds) - 0.4)
