"""Files to arrays and back: what the kit reads (PNG, JPEG, TIFF, BMP) and what it writes (PNG).

A decoder is trusted with pixels, not with honesty: size, completeness and page count are read from the file's own
structure first, because OpenCV fills the missing half of a truncated JPEG with grey and allocates before it doubts.
"""

from __future__ import annotations

import os
import secrets
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from .errors import ImageError, OutputError
from .preprocess import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAX_PIXELS = 64_000_000  # 8000 x 8000: above any scanner's slice, and what a 1 GB board can still hold
SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP"}
WHOLE = "copy the file again from its source"


def read_image(path: Path) -> Image:
    """Read an image file: (H, W) or (H, W, 3) RGB, uint8 or uint16; EXIF rotation applied, alpha laid over black.

    Raises: ImageError if the file cannot be read, is not PNG, JPEG, TIFF or BMP, is incomplete, holds several pages,
    more than MAX_PIXELS pixels or a pixel type other than 8 or 16 bit.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(str(path), error.strerror or str(error), "check the file and its permissions") from None
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> Image:
    """Decode an image file's bytes; `name` is for the messages. Shapes, dtypes and Raises as `read_image`."""
    if not data:
        raise ImageError(name, "the file is empty", WHOLE)
    kind = next((kind for start, kind in SIGNATURES.items() if data.startswith(start)), None)
    if kind is None:
        raise ImageError(name, "not a PNG, JPEG, TIFF or BMP image", "convert it to one of these, or take it out")
    try:
        height, width = CHECKS[kind](data)
    except (struct.error, IndexError, ValueError) as error:
        why = str(error) if type(error) is ValueError else "it ends in the middle"
        raise ImageError(name, f"damaged {kind}: {why}", WHOLE) from None
    if height * width > MAX_PIXELS:
        raise ImageError(name, f"{width} x {height} pixels, more than {MAX_PIXELS}", "scale it down first")
    # ANYCOLOR would drop alpha without blending it; UNCHANGED would ignore EXIF rotation, which PNG rarely has.
    flags = cv2.IMREAD_UNCHANGED if kind == "PNG" else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError):
        pixels = None
    if pixels is None:
        raise ImageError(name, f"damaged {kind}: it does not decode", WHOLE)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(name, f"{pixels.dtype} pixels", "save it with 8 or 16 bit per channel")
    return to_rgb(pixels)


def to_rgb(pixels: Image) -> Image:
    """Return OpenCV's (H, W[, C]) BGR or BGRA as (H, W) grey or (H, W, 3) RGB, alpha laid over black."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2])
    colour = pixels[:, :, 2::-1] if pixels.shape[2] >= 3 else pixels[:, :, :1]
    if pixels.shape[2] in (2, 4):
        alpha = pixels[:, :, -1:].astype(np.float32) / np.iinfo(pixels.dtype).max
        colour = np.rint(colour * alpha).astype(pixels.dtype)
    return np.ascontiguousarray(colour if colour.shape[2] == 3 else colour[:, :, 0])


def check_png(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a complete PNG: every chunk present with its CRC, IEND last.

    Raises: ValueError, struct.error. Source: W3C PNG specification, section 5.3.
    """
    if data[4:8] != b"\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ValueError("its header is broken")
    width, height = struct.unpack(">II", data[16:24])
    place = 8
    while True:
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        (crc,) = struct.unpack(">I", data[place + 8 + length : place + 12 + length])
        if zlib.crc32(body) != crc:
            raise ValueError("a checksum does not match")
        if body.startswith(b"IEND"):
            return height, width
        place += 12 + length


def check_jpeg(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a JPEG that has its frame header, a scan and the end marker after it.

    Raises: ValueError, struct.error. Source: ITU-T T.81, annex B.
    """
    place, size = 2, None
    while True:
        marker, length = struct.unpack(">HH", data[place : place + 4])
        if marker >> 8 != 0xFF or length < 2:
            raise ValueError("a marker is missing")
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            size = struct.unpack(">HH", data[place + 5 : place + 9])
        place += 2 + length
        if marker == 0xFFDA:
            break
    if size is None or data.find(b"\xff\xd9", place) < 0:
        raise ValueError("it ends in the middle")
    return size


def check_bmp(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a BMP whose pixels are all there.

    Raises: ValueError, struct.error. Source: Microsoft, BITMAPINFOHEADER.
    """
    (start,) = struct.unpack("<I", data[10:14])
    width, height, _, bits, packing = struct.unpack("<iiHHI", data[18:34])
    needed = start + (abs(width) * bits + 31) // 32 * 4 * abs(height)
    if packing in (0, 3) and len(data) < needed:  # others are run-length coded: the decoder tells
        raise ValueError("it ends in the middle")
    return abs(height), abs(width)


def check_tiff(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a TIFF with one page and all its strips or tiles inside the file.

    Raises: ValueError, struct.error. Source: TIFF 6.0, section 2.
    """
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[start : start + 2])
    tags = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack(order + "HHI", data[place : place + 8])
        tags[tag] = read_tiff_values(data, order, place + 8, kind, number)
    (following,) = struct.unpack(order + "I", data[start + 2 + 12 * count : start + 6 + 12 * count])
    if following:
        raise ValueError("it has several pages, only single images are read")
    offsets, counts = tags.get(273) or tags.get(324), tags.get(279) or tags.get(325)
    if not (tags.get(256) and tags.get(257) and offsets and counts):
        raise ValueError("its header is broken")
    if any(offset + length > len(data) for offset, length in zip(offsets, counts, strict=False)):
        raise ValueError("it ends in the middle")
    return tags[257][0], tags[256][0]


def read_tiff_values(data: bytes, order: str, place: int, kind: int, number: int) -> tuple[int, ...]:
    """Return a TIFF field's SHORT or LONG values; of other types none, since no check needs them."""
    letter = {3: "H", 4: "I"}.get(kind)
    if letter is None:
        return ()
    if number * struct.calcsize(letter) > 4:
        (place,) = struct.unpack(order + "I", data[place : place + 4])
    if number > len(data):
        raise ValueError("its header is broken")
    return struct.unpack_from(f"{order}{number}{letter}", data, place)


CHECKS = {"PNG": check_png, "JPEG": check_jpeg, "TIFF": check_tiff, "BMP": check_bmp}


def encode_png(pixels: Image) -> bytes:
    """Return the PNG file of (H, W) or (H, W, 3) RGB pixels, uint8 or uint16, without loss."""
    bgr = pixels if pixels.ndim == 2 else pixels[:, :, ::-1]
    # Level 1 writes three times faster than the default for 5 % more bytes.
    ok, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise OutputError("PNG", "the encoder failed", "report this")
    return data.tobytes()


def encode_jpeg(pixels: Image, quality: int = 85) -> bytes:
    """Return the JPEG file of (H, W) or (H, W, 3) RGB uint8 pixels."""
    bgr = pixels if pixels.ndim == 2 else pixels[:, :, ::-1]
    ok, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise OutputError("JPEG", "the encoder failed", "report this")
    return data.tobytes()


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename; makes its folder.

    Raises: OutputError if that fails; nothing is left behind then.
    """
    # Short and unrelated to the name: a 255-byte name leaves no room for a suffix.
    temporary = path.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise OutputError(str(path), why, "make room or choose another folder with -o") from error
