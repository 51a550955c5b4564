"""How many objects does a series' mask have, and how large is the largest across?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[Any]  # (H, W), not 0 where there is a lesion


class ObjectCounter:
    """Counts what is connected, also over corners, in slices that are given one after the other."""

    def __init__(self) -> None:
        self.parents: list[int] = []  # of each region, by number, a region of the same object
        self.above: npt.NDArray[Any] | None = None  # the numbers of the slice before's regions, from 1; 0: none

    def add(self, mask: Mask, joined: bool = True) -> None:
        """Add a slice; joined: whether it is next to the one before, and not beyond a gap."""
        count, labels = cv2.connectedComponents((mask != 0).astype(np.uint8), connectivity=8)
        numbers = np.where(labels > 0, labels + len(self.parents), 0)
        self.parents += range(len(self.parents), len(self.parents) + count - 1)
        if joined and self.above is not None and count > 1 and self.above.any():
            for up in range(-1, 2):
                for left in range(-1, 2):
                    self.join(shift(self.above, up, left), numbers)
        self.above = numbers

    def join(self, above: npt.NDArray[Any], below: npt.NDArray[Any]) -> None:
        """Join the regions that lie over each other."""
        touching = (above > 0) & (below > 0)
        for one, other in {(int(a), int(b)) for a, b in zip(above[touching], below[touching], strict=True)}:
            self.parents[self.find(one - 1)] = self.find(other - 1)

    def find(self, number: int) -> int:
        """Return the region that stands for an object."""
        while self.parents[number] != number:
            number = self.parents[number]
        return number

    @property
    def count(self) -> int:
        """How many objects there are."""
        return sum(self.find(number) == number for number in range(len(self.parents)))


def shift(labels: npt.NDArray[Any], up: int, left: int) -> npt.NDArray[Any]:
    """Return labels moved by a pixel or none, with 0 where they came from."""
    moved = np.zeros_like(labels)
    height, width = labels.shape
    moved[max(0, -up) : height - max(0, up), max(0, -left) : width - max(0, left)] = labels[
        max(0, up) : height - max(0, -up), max(0, left) : width - max(0, -left)
    ]
    return moved


def measure_diameter(mask: Mask, spacing: tuple[float, float]) -> float:
    """Return the greatest distance in mm between the centres of two pixels of one object in a slice.

    spacing: mm from row to row, and from column to column.
    """
    outlines, _ = cv2.findContours((mask != 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max((find_greatest(outline[:, 0, :], spacing) for outline in outlines), default=0.0)


def find_greatest(points: Iterable[Any], spacing: tuple[float, float]) -> float:
    """Return the greatest distance of (column, row) points; it lies between corners of their hull."""
    hull = cv2.convexHull(np.asarray(points, np.int32))[:, 0, :].astype(np.float64)
    corners = hull * np.array([spacing[1], spacing[0]])
    return max((math.hypot(*(a - b)) for number, a in enumerate(corners) for b in corners[:number]), default=0.0)
