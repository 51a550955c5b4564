"""JPEG files that OpenCV cannot write: flat 8 x 8 blocks of known value, one to four components, EXIF. ITU-T T.81."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # says: four components are inverted CMYK


def make_jpeg(blocks: npt.NDArray[np.uint8], marker: bytes = b"") -> bytes:
    """A baseline JPEG of (h, w[, C]) values, each an 8 x 8 block; `marker` goes after the start of image."""
    values = blocks.reshape(*blocks.shape[:2], -1).astype(int) - 128
    height, width, count = values.shape
    table = b"\xff\xdb\x00\x43\x00" + bytes([8] * 64)  # 8 makes a flat block's coefficient its value
    frame = struct.pack(">HBHHB", 8 + 3 * count, 8, 8 * height, 8 * width, count)
    frame += b"".join(bytes([k + 1, 0x11, 0]) for k in range(count))
    direct = bytes([0, 0, 0, 9, *[0] * 12, *range(9)])  # nine sizes, four bits each
    end = bytes([1, *[0] * 15, 0])  # end of block, one bit
    codes = segment(b"\xc4", b"\x00" + direct) + segment(b"\xc4", b"\x10" + end)
    scan = bytes([count]) + b"".join(bytes([k + 1, 0]) for k in range(count)) + b"\x00\x3f\x00"
    return (
        b"\xff\xd8" + marker + table + b"\xff\xc0" + frame + codes + segment(b"\xda", scan) + code(values) + b"\xff\xd9"
    )


def segment(name: bytes, body: bytes) -> bytes:
    return b"\xff" + name + struct.pack(">H", len(body) + 2) + body


def code(values: npt.NDArray[np.int_]) -> bytes:
    """Differences from block to block, each as its size, its bits, and the end of its block."""
    bits, last = "", [0] * values.shape[2]
    for place in np.ndindex(values.shape):
        value = int(values[place])
        step, last[place[2]] = value - last[place[2]], value
        size = abs(step).bit_length()
        bits += f"{size:04b}"
        bits += f"{step if step > 0 else step + 2**size - 1:0{size}b}" if size else ""
        bits += "0"
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


def make_exif(orientation: int, order: str = ">") -> bytes:
    """An EXIF segment that says how the image is to be turned."""
    entry = struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0)
    head = struct.pack(order + "2sHI", b"MM" if order == ">" else b"II", 42, 8)
    return segment(b"\xe1", b"Exif\0\0" + head + struct.pack(order + "H", 1) + entry + bytes(4))
