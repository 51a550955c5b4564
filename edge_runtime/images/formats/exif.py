"""How is an image to be turned before it is shown, by its EXIF?

OpenCV turns by EXIF or not, by its flags: not with IMREAD_UNCHANGED, which alone keeps alpha. A TIFF, whose tag is its
own, it turns with any flag. It is kept from both here, and all are turned once, by what is read here.
"""

from __future__ import annotations

import struct

PREFIX = b"Exif\0\0"
ORIENTATION = 0x112
INTEGERS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG
AS_STORED = 1


def read_orientation(body: bytes) -> int:
    """Return the orientation, 1 to 8, of an EXIF block; 1, as stored, where it has none that can be read.

    body: of a PNG's eXIf chunk, or a JPEG's APP1 segment, with or without the prefix "Exif".
    Source: EXIF 2.32, section 4.6.2 and tag 274.
    """
    block = body.removeprefix(PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return AS_STORED
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for offset in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", block, offset)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(order + INTEGERS.get(kind, "0s"), block, offset + 8)
                return value if value in range(1, 9) else AS_STORED
    except struct.error:  # it ends in the middle: its image does not
        pass
    return AS_STORED
