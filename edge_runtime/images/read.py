"""How does an image file (PNG, JPEG, TIFF, BMP) become an array, and how is an incomplete one refused?

Size, completeness and page count are read from the file's own structure before it is decoded, because OpenCV fills the
missing half of a truncated JPEG with grey, and allocates memory before it checks. Where only the decoder can find what
is missing, two files are decoded: the image, and a probe made of it, see formats/png.py.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.errors import ImageError
from edge_runtime.images.formats.bmp import complete_palette, read_short_palette
from edge_runtime.images.formats.jpeg_end import add_lost_end, check_last_scan
from edge_runtime.images.formats.refusals import TRUNCATED, TooManyPixels, UnsupportedKind
from edge_runtime.images.formats.registry import CHECKS, ORIENTATIONS, PROBES
from edge_runtime.images.formats.signatures import find_format, find_other_format
from edge_runtime.images.formats.tiff import has_unassociated_alpha, set_as_stored
from edge_runtime.system.quiet import drop_jpeg_warnings

from .arrays import Image
from .limits import MAX_BYTES, MAX_PIXELS

RAISE_LIMIT = "scale it down first, or raise --max-pixels"
COPY_AGAIN = "copy the file again from its source"
NO_END_MARKER = "no_end_marker"


@dataclass(frozen=True)
class DecodedFile:
    """An image file's pixels, and the flags of the file itself."""

    image: Image
    flags: tuple[str, ...] = ()  # no_end_marker: of a JPEG that has all its pixels and no end


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image file: (H, W) or (H, W, 3) RGB, uint8 or uint16; EXIF rotation applied, alpha laid over black.

    Raises: ImageError if the file cannot be read, is not PNG, JPEG, TIFF or BMP, is incomplete, holds several pages,
    more than `max_pixels` pixels or a pixel type other than 8 or 16 bit.
    """
    return decode_image(read_bytes(Path(path), str(path), max_pixels), str(path), max_pixels)


def read_bytes(path: Path, name: str, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return a file's bytes, at most as many as an image of `max_pixels` may need; `name` is for the messages.

    Raises: ImageError.
    """
    maximum = max_pixels * (MAX_BYTES // MAX_PIXELS)
    try:
        if path.exists() and not path.is_file():
            raise ImageError(name, "not a regular file", "take it out")  # reading a pipe would never end
        with open(path, "rb", opener=open_without_waiting) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise ImageError(name, "not a regular file", "take it out")
            data = b"" if facts.st_size > maximum else file.read(maximum + 1)
    except OSError as error:
        raise ImageError(name, error.strerror or str(error), "check the file and its permissions") from None
    if max(facts.st_size, len(data)) > maximum:
        raise ImageError(name, f"more than {maximum} bytes", RAISE_LIMIT)
    return data


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file without waiting for a writer, in case it has become a pipe since it was checked."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file's bytes; `name` is for the messages. Shapes, dtypes and Raises as `read_image`."""
    return decode_file(data, name, max_pixels).image


def decode_file(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> DecodedFile:
    """Decode an image file's bytes as `decode_image` does; return the file's flags too."""
    if not data:
        raise ImageError(name, "the file is empty", COPY_AGAIN)
    kind = find_kind(data, name)
    closed = add_lost_end(data) if kind == "JPEG" else None
    data = closed or data
    try:
        height, width = CHECKS[kind](data, max_pixels)
        if closed:
            check_last_scan(closed)
    except TooManyPixels as error:
        raise ImageError(name, str(error), RAISE_LIMIT) from None
    except UnsupportedKind as error:
        raise ImageError(name, f"a {kind} {error}", "save it as a plain image, 8 or 16 bit") from None
    except (struct.error, IndexError, ValueError) as error:
        why = str(error) if type(error) is ValueError else TRUNCATED
        raise ImageError(name, f"damaged {kind}: {why}", COPY_AGAIN) from None
    pixels = decode_checked(set_as_stored(data) if kind == "TIFF" else data, kind, name)
    if pixels.shape[:2] != (height, width):
        raise ImageError(name, f"damaged {kind}: it does not decode", COPY_AGAIN)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(name, f"{pixels.dtype} pixels", "save it with 8 or 16 bit per channel")
    turned = turn(pixels, ORIENTATIONS[kind](data)) if kind in ORIENTATIONS else pixels
    return DecodedFile(to_rgb(turned), (NO_END_MARKER,) if closed else ())


def find_kind(data: bytes, name: str) -> str:
    """Return a file's format by its first bytes. Raises: ImageError for others, named where they are known."""
    kind = find_format(data)
    if kind is None:
        other = find_other_format(data)
        found = f" but {other}" if other else ""
        raise ImageError(name, f"not a PNG, JPEG, TIFF or BMP image{found}", "convert it to one, or take it out")
    return kind


def decode_checked(data: bytes, kind: str, name: str) -> Image:
    """Return OpenCV's pixels of a file that is complete by its structure, not turned by EXIF.

    Raises: ImageError where it does not decode, or pixels are missing.
    """
    # ANYCOLOR drops alpha without blending it.
    alpha = kind == "PNG" or (kind == "TIFF" and has_unassociated_alpha(data))
    plain = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
    palette = read_short_palette(data) if kind == "BMP" else None
    flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR if palette else plain
    pixels = decode(complete_palette(data) if kind == "BMP" else data, flags)
    if pixels is None:
        raise ImageError(name, f"damaged {kind}: it does not decode", COPY_AGAIN)
    probe = PROBES[kind](data) if kind in PROBES else None
    with drop_jpeg_warnings():
        again = pixels if probe is None else decode(probe, flags)
    if again is None or not np.array_equal(pixels, again):
        raise ImageError(name, f"damaged {kind}: pixels are missing", COPY_AGAIN)
    if palette and palette[::3] == palette[1::3] == palette[2::3]:
        return np.ascontiguousarray(pixels[:, :, 0])
    return pixels


def turn(pixels: Image, orientation: int) -> Image:
    """Return (H, W[, C]) pixels as they are meant; for 5 to 8 (W, H[, C])."""
    if orientation >= 5:  # the first row is the left side, or the right
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def decode(data: bytes, flags: int) -> Image | None:
    """Return OpenCV's pixels of an image file, None where it cannot decode it."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError):
        return None


def to_rgb(pixels: Image) -> Image:
    """Return OpenCV's (H, W[, C]) BGR or BGRA as (H, W) grey or (H, W, 3) RGB, alpha laid over black."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2])
    colour = pixels[:, :, 2::-1] if pixels.shape[2] >= 3 else pixels[:, :, :1]
    if pixels.shape[2] in (2, 4):
        alpha = pixels[:, :, -1:].astype(np.float32) / np.iinfo(pixels.dtype).max
        colour = np.rint(colour * alpha).astype(pixels.dtype)
    return np.ascontiguousarray(colour if colour.shape[2] == 3 else colour[:, :, 0])
