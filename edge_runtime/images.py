"""Files to arrays and back: what the kit reads (PNG, JPEG, TIFF, BMP) and what it writes (PNG).

A decoder is trusted with pixels, not with honesty: size, completeness and page count are read from the file's own
structure first, because OpenCV fills the missing half of a truncated JPEG with grey and allocates before it doubts.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from .errors import ImageError, OutputError
from .files import write_file as write_file
from .inputs import SUFFIXES as SUFFIXES
from .limits import MAX_PIXELS
from .preprocess import Image

MAX_BYTES = 8 * MAX_PIXELS  # no image within MAX_PIXELS needs a longer file
SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP"}
FOREIGN = {  # what is often found under an image's name: (where, signature): what it is
    (0, b"II+\0"): "a BigTIFF",
    (0, b"MM\0+"): "a BigTIFF",
    (0, b"GIF8"): "a GIF",
    (8, b"WEBP"): "a WebP",
    (0, b"%PDF"): "a PDF",
    (128, b"DICM"): "a DICOM file",
    (344, b"n+1\0"): "a NIfTI file",
    (0, b"\x1f\x8b"): "a gzip archive",
    (0, b"PK\x03\x04"): "a ZIP archive",
}
WHOLE = "copy the file again from its source"
SMALLER = "scale it down first, or raise --max-pixels"
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # not a stuffed byte, not a restart
TIFF_TAGS = {"width": 256, "height": 257, "bits": 258, "colours": 262, "samples": 277, "planar": 284, "extra": 338}
TIFF_BLOCKS = ((273, 279), (324, 325))  # offsets and lengths of strips, of tiles
BLACK_IS_ZERO, RGB, UNASSOCIATED_ALPHA = 1, 2, 2


class UnreadKind(ValueError):
    """An honest file of a kind that is not read: "with ..."."""


def read_image(path: str | Path) -> Image:
    """Read an image file: (H, W) or (H, W, 3) RGB, uint8 or uint16; EXIF rotation applied, alpha laid over black.

    Raises: ImageError if the file cannot be read, is not PNG, JPEG, TIFF or BMP, is incomplete, holds several pages,
    more than MAX_PIXELS pixels or a pixel type other than 8 or 16 bit.
    """
    return decode_image(read_bytes(Path(path), str(path)), str(path))


def read_bytes(path: Path, name: str, most_pixels: int = MAX_PIXELS) -> bytes:
    """Return a file's bytes; `name` is for the messages. Raises: ImageError."""
    most = MAX_BYTES // MAX_PIXELS * most_pixels
    try:
        if path.exists() and not path.is_file():
            raise ImageError(name, "not a regular file", "take it out")  # reading a pipe would never end
        if path.stat().st_size > most:
            raise ImageError(name, f"more than {most} bytes", SMALLER)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(name, error.strerror or str(error), "check the file and its permissions") from None


def decode_image(data: bytes, name: str, most_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file's bytes; `name` is for the messages. Shapes, dtypes and Raises as `read_image`."""
    if not data:
        raise ImageError(name, "the file is empty", WHOLE)
    kind = next((kind for start, kind in SIGNATURES.items() if data.startswith(start)), None)
    if kind is None:
        found = next((f" but {what}" for (at, start), what in FOREIGN.items() if data.startswith(start, at)), "")
        raise ImageError(name, f"not a PNG, JPEG, TIFF or BMP image{found}", "convert it to one, or take it out")
    try:
        height, width = CHECKS[kind](data)
    except UnreadKind as error:
        raise ImageError(name, f"a {kind} {error}", "save it as a plain image, 8 or 16 bit") from None
    except (struct.error, ValueError) as error:
        why = str(error) if type(error) is ValueError else "it ends in the middle"
        raise ImageError(name, f"damaged {kind}: {why}", WHOLE) from None
    if height * width > most_pixels:
        raise ImageError(name, f"{width} x {height} pixels, more than {most_pixels}", SMALLER)
    # ANYCOLOR drops alpha without blending it; UNCHANGED ignores EXIF rotation, which PNG rarely has.
    alpha = kind == "PNG" or (kind == "TIFF" and has_loose_alpha(data))
    flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
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
        if body.startswith(b"acTL"):
            raise UnreadKind("with several frames")
        if body.startswith(b"IEND"):
            return height, width
        place += 12 + length


def check_jpeg(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a JPEG that has its frame header, a scan and the end marker after it.

    Raises: ValueError, struct.error. Source: ITU-T T.81, annex B.
    """
    place, size, scanned = 2, None, False
    while found := JPEG_MARKER.search(data, place):
        if not scanned and found.start() != place:
            raise ValueError("a marker is missing")
        marker, place = found[1][0], found.end()
        if marker == 0xD9:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            size = struct.unpack(">HH", data[place + 3 : place + 7])
        scanned |= marker == 0xDA
        place += struct.unpack(">H", data[place : place + 2])[0]
    if not found or size is None or not scanned:
        raise ValueError("it ends in the middle")
    return size


def check_bmp(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a BMP whose pixels are all there.

    Raises: ValueError, struct.error. Source: Microsoft, BITMAPINFOHEADER.
    """
    (start,) = struct.unpack("<I", data[10:14])
    if data[14:18] == b"\x0c\0\0\0":  # OS/2's short header
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
        packing = 0
    else:
        width, height, _, bits, packing = struct.unpack("<iiHHI", data[18:34])
    needed = start + (abs(width) * bits + 31) // 32 * 4 * abs(height)
    if packing in (0, 3) and len(data) < needed:  # others are run-length coded: the decoder tells
        raise ValueError("it ends in the middle")
    return abs(height), abs(width)


def check_tiff(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a TIFF with one page, all its strips or tiles inside the file, that OpenCV gets right.

    Raises: ValueError, struct.error. Source: TIFF 6.0, section 2.
    """
    tags, following = read_tiff_tags(data)
    if following:
        raise UnreadKind("with several pages")
    get = {name: tags.get(tag, (1,)) for name, tag in TIFF_TAGS.items()}
    blocks = next((pair for pair in TIFF_BLOCKS if tags.get(pair[0])), TIFF_BLOCKS[0])
    offsets, lengths = (tags.get(tag, ()) for tag in blocks)
    if not (tags.get(256) and tags.get(257) and offsets and len(offsets) == len(lengths) and all(get.values())):
        raise ValueError("its header is broken")
    if any(offset + length > len(data) for offset, length in zip(offsets, lengths, strict=True)):
        raise ValueError("it ends in the middle")
    # What OpenCV 4 and 5 decode without a word to wrong pixels.
    if get["samples"][0] == 2:
        raise UnreadKind("with grey and alpha")
    if get["bits"][0] > 8 and get["colours"][0] not in (BLACK_IS_ZERO, RGB):
        raise UnreadKind("with more than 8 bit that is neither RGB nor grey with black as zero")
    if get["bits"][0] > 8 and get["samples"][0] > 1 and get["planar"][0] != 1:
        raise UnreadKind("with more than 8 bit in separate colour planes")
    return get["height"][0], get["width"][0]


def has_loose_alpha(data: bytes) -> bool:
    """Tell whether a TIFF's alpha is still to be laid over black; libtiff does so with 8 bit itself."""
    tags, _ = read_tiff_tags(data)
    return tags.get(TIFF_TAGS["bits"], (8,))[0] > 8 and tags.get(TIFF_TAGS["extra"]) == (UNASSOCIATED_ALPHA,)


def read_tiff_tags(data: bytes) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return {tag: values} of a TIFF's first page, as far as checks need them, and where the next page begins."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[start : start + 2])
    wanted = {*TIFF_TAGS.values(), *(tag for pair in TIFF_BLOCKS for tag in pair)}
    tags: dict[int, tuple[int, ...]] = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack(order + "HHI", data[place : place + 8])
        if tag in wanted and tag not in tags:
            tags[tag] = read_tiff_values(data, order, place + 8, kind, number)
    (following,) = struct.unpack(order + "I", data[start + 2 + 12 * count : start + 6 + 12 * count])
    return tags, following


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
    # Level 1 writes three times faster than the default for 5 % more bytes; one filter for all lines is as good as the
    # best of each line for pictures, and OpenCV 5 lets it be chosen: 17 against 27 ms for 512 x 512 in colour.
    one_filter = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
    return to_png(pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1, *one_filter])


def encode_mask(mask: Image) -> bytes:
    """Return the PNG file of (H, W) uint8 of few values in large areas: runs are all there is to find."""
    no_filter = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
    runs = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return to_png(mask, [cv2.IMWRITE_PNG_COMPRESSION, 1, *runs, *no_filter])


def to_png(pixels: Image, how: list[int]) -> bytes:
    """Return a PNG file written by OpenCV with these options."""
    ok, data = cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[:, :, ::-1], how)
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
