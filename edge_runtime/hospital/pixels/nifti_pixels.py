"""What are the values of a NIfTI file's slice? The header is read by nibabel, the voxels slice by slice."""

from __future__ import annotations

import gzip
import math
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from edge_runtime.hospital.headers.nifti import GREY, MAX_SIDE, find_offset
from edge_runtime.hospital.headers.source import MAX_PIXEL_BYTES, BoundedFile, RefusedError, find_nifti, read_start

from .levels import Stored


class VolumeFile:
    """A NIfTI file, of which slices are read one after the other; a compressed one is inflated once, in order."""

    def __init__(self, file: BoundedFile) -> None:
        """Read the header. Raises: RefusedError, and what nibabel raises."""
        file.allow_pixels()
        head = read_start(file)
        version = find_nifti(head)
        if version is None:
            raise RefusedError("no NIfTI file any more")
        make: Any = Nifti1Header if version == 1 else Nifti2Header
        fields = make(head[: 348 if version == 1 else 540], check=False)
        self.shape = [int(side) for side in fields["dim"][1 : 1 + max(0, min(7, int(fields["dim"][0])))]]
        self.shape += [1] * (3 - len(self.shape))
        self.kind = fields.get_data_dtype()
        if not all(0 < side <= MAX_SIDE for side in self.shape) or math.prod(self.shape[3:]) != 1:
            raise RefusedError("it is no volume")
        if self.kind.kind not in GREY:
            raise RefusedError("its voxels are no numbers")
        self.offset = int(find_offset(fields))
        slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
        plain = not math.isfinite(slope) or slope == 0
        self.slope, self.intercept = (1.0, 0.0) if plain else (slope, intercept if math.isfinite(intercept) else 0.0)
        file.seek(0)
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self.stream: BinaryIO = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
        self.whole: npt.NDArray[Any] | None = None

    def read_slice(self, axis: int, number: int, max_pixels: int) -> Stored:
        """Return a slice across an axis, rows along the later of the others: of axis 2, `data[:, :, number].T`.

        Raises: RefusedError, EOFError, OSError, MemoryError.
        """
        sides = [side for place, side in enumerate(self.shape[:3]) if place != axis]
        if not 0 <= axis <= 2 or not 0 <= number < self.shape[axis]:
            raise RefusedError("it has no such slice")
        if math.prod(sides) > max_pixels:
            raise RefusedError(f"{sides[1]} x {sides[0]} pixels")
        if axis == 2:
            values = self.read_values(math.prod(sides) * number, math.prod(sides)).reshape(sides[1], sides[0])
        else:
            values = np.take(self.read_whole(), number, axis=2 - axis)  # (z, y, x) without one of them
        return Stored(values, None, self.slope, self.intercept)

    def read_whole(self) -> npt.NDArray[Any]:
        """Return all voxels as (z, y, x)."""
        if self.whole is None:
            count = math.prod(self.shape[:3])
            if count * self.kind.itemsize > MAX_PIXEL_BYTES:
                raise RefusedError("the volume is too large to be cut across")
            self.whole = self.read_values(0, count).reshape(self.shape[2], self.shape[1], self.shape[0])
        return self.whole

    def read_values(self, first: int, count: int) -> npt.NDArray[Any]:
        """Return so many voxels, in this machine's byte order."""
        size = self.kind.itemsize
        self.stream.seek(self.offset + first * size)
        parts, left = [], count * size
        while left and (part := self.stream.read(min(left, 1 << 24))):
            parts.append(part)
            left -= len(part)
        if left:
            raise RefusedError("it is cut short")
        return np.frombuffer(b"".join(parts), self.kind).astype(self.kind.newbyteorder("="))
