"""BMP files that OpenCV cannot write: run-length coded, and with OS/2's short header. Microsoft, BITMAPINFOHEADER."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt


def make_rle_bmp(rows: npt.NDArray[np.uint8]) -> bytes:
    """An 8-bit grey BMP of (H, W), each pixel a run of one, up to 255 of them a row."""
    height, width = rows.shape
    coded = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in rows[::-1]) + b"\0\1"
    colours = b"".join(bytes([k, k, k, 0]) for k in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(coded), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, 14 + 40 + 1024) + header + colours + coded


def make_short_bmp(rows: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None) -> bytes:
    """An 8-bit BMP of (H, W) with OS/2's header of 12 bytes: grey, or of a palette (256, 3) RGB."""
    height, width = rows.shape
    grey = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    colours = (grey if palette is None else palette)[:, ::-1].tobytes()
    pixels = b"".join(row.tobytes() + bytes(-width % 4) for row in rows[::-1])
    header = struct.pack("<IHHHH", 12, width, height, 1, 8)
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, 14 + 12 + 768) + header + colours + pixels
