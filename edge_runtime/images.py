"""Files to arrays and back: what the kit reads (PNG, JPEG, TIFF, BMP) and what it writes (PNG).

A decoder is trusted with pixels, not with honesty: size, completeness and page count are read from the file's own
structure first, because OpenCV fills the missing half of a truncated JPEG with grey and allocates before it doubts.
Where only the decoder can tell, it decodes twice: once the file, once a probe of it, see formats.py.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from .errors import ImageError, OutputError
from .files import write_file as write_file
from .formats import MIDDLE, TooManyPixels, UnreadKind, check_bmp, check_png, probe_bmp, probe_png
from .inputs import SUFFIXES as SUFFIXES
from .jpeg import check_jpeg, probe_jpeg
from .limits import MAX_PIXELS
from .preprocess import Image
from .tiff import check_tiff, has_loose_alpha

MAX_BYTES = 8 * MAX_PIXELS  # no image within MAX_PIXELS needs a longer file
LIMIT = "scale it down first, or raise --max-pixels"
SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP"}
FOREIGN = {  # what is often found under an image's name: (where, signature): what it is
    (0, b"II+\0"): "a BigTIFF",
    (0, b"MM\0+"): "a BigTIFF",
    (0, b"GIF8"): "a GIF",
    (8, b"WEBP"): "a WebP",
    (4, b"ftyp"): "a HEIC or AVIF",
    (0, b"\x76\x2f\x31\x01"): "an OpenEXR",
    (4, b"jP  "): "a JPEG 2000",
    (0, b"\xff\x4f\xff\x51"): "a JPEG 2000",
    (0, b"<!DOCTYPE html"): "an HTML page",
    (0, b"<html"): "an HTML page",
    (0, b"%PDF"): "a PDF",
    (128, b"DICM"): "a DICOM file",
    (344, b"n+1\0"): "a NIfTI file",
    (0, b"\x1f\x8b"): "a gzip archive",
    (0, b"PK\x03\x04"): "a ZIP archive",
}
LAMENT = threading.Lock()  # for one thread at a time: file descriptor 2 is everybody's
WHOLE = "copy the file again from its source"


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image file: (H, W) or (H, W, 3) RGB, uint8 or uint16; EXIF rotation applied, alpha laid over black.

    Raises: ImageError if the file cannot be read, is not PNG, JPEG, TIFF or BMP, is incomplete, holds several pages,
    more than `max_pixels` pixels or a pixel type other than 8 or 16 bit.
    """
    return decode_image(read_bytes(Path(path), str(path), max_pixels), str(path), max_pixels)


def read_bytes(path: Path, name: str, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return a file's bytes, as many as an image of `max_pixels` may need; `name` is for the messages.

    Raises: ImageError.
    """
    most = max_pixels * (MAX_BYTES // MAX_PIXELS)
    try:
        if path.exists() and not path.is_file():
            raise ImageError(name, "not a regular file", "take it out")  # reading a pipe would never end
        with open(path, "rb", opener=open_at_once) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise ImageError(name, "not a regular file", "take it out")
            data = b"" if facts.st_size > most else file.read(most + 1)
    except OSError as error:
        raise ImageError(name, error.strerror or str(error), "check the file and its permissions") from None
    if max(facts.st_size, len(data)) > most:
        raise ImageError(name, f"more than {most} bytes", LIMIT)
    return data


def open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for a writer, should it have become a pipe since it was looked at."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file's bytes; `name` is for the messages. Shapes, dtypes and Raises as `read_image`."""
    if not data:
        raise ImageError(name, "the file is empty", WHOLE)
    kind = next((kind for start, kind in SIGNATURES.items() if data.startswith(start)), None)
    if kind is None:
        found = next((f" but {what}" for (at, start), what in FOREIGN.items() if data.startswith(start, at)), "")
        raise ImageError(name, f"not a PNG, JPEG, TIFF or BMP image{found}", "convert it to one, or take it out")
    try:
        height, width = CHECKS[kind](data, max_pixels)
    except TooManyPixels as error:
        raise ImageError(name, str(error), LIMIT) from None
    except UnreadKind as error:
        raise ImageError(name, f"a {kind} {error}", "save it as a plain image, 8 or 16 bit") from None
    except (struct.error, IndexError, ValueError) as error:
        why = str(error) if type(error) is ValueError else MIDDLE
        raise ImageError(name, f"damaged {kind}: {why}", WHOLE) from None
    # ANYCOLOR drops alpha without blending it; UNCHANGED ignores EXIF rotation, which PNG rarely has.
    alpha = kind == "PNG" or (kind == "TIFF" and has_loose_alpha(data))
    flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
    pixels = decode(data, flags)
    if pixels is None or sorted(pixels.shape[:2]) != sorted((height, width)):
        raise ImageError(name, f"damaged {kind}: it does not decode", WHOLE)
    probe = PROBES[kind](data) if kind in PROBES else None
    with without_lament():
        again = pixels if probe is None else decode(probe, flags)
    if again is None or not np.array_equal(pixels, again):
        raise ImageError(name, f"damaged {kind}: pixels are missing", WHOLE)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(name, f"{pixels.dtype} pixels", "save it with 8 or 16 bit per channel")
    return to_rgb(pixels)


def decode(data: bytes, flags: int) -> Image | None:
    """Return OpenCV's pixels of an image file, None where it has none."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError):
        return None


@contextmanager
def without_lament() -> Iterator[None]:
    """Keep libjpeg's word on a probe's added bytes off stderr, where it would stand once for each honest JPEG.

    It has no switch for it. What others write to file descriptor 2 meanwhile is passed on.
    """
    if sys.__stderr__ is None or not hasattr(os, "memfd_create"):  # descriptor 2 may be any file then
        yield
        return
    with LAMENT, os.fdopen(os.memfd_create("stderr"), "w+b") as held, os.fdopen(os.dup(2), "wb", 0) as ours:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(ours.fileno(), 2)
            held.seek(0)
            ours.writelines(line for line in held if b"extraneous bytes before marker" not in line)


def to_rgb(pixels: Image) -> Image:
    """Return OpenCV's (H, W[, C]) BGR or BGRA as (H, W) grey or (H, W, 3) RGB, alpha laid over black."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2])
    colour = pixels[:, :, 2::-1] if pixels.shape[2] >= 3 else pixels[:, :, :1]
    if pixels.shape[2] in (2, 4):
        alpha = pixels[:, :, -1:].astype(np.float32) / np.iinfo(pixels.dtype).max
        colour = np.rint(colour * alpha).astype(pixels.dtype)
    return np.ascontiguousarray(colour if colour.shape[2] == 3 else colour[:, :, 0])


CHECKS = {"PNG": check_png, "JPEG": check_jpeg, "TIFF": check_tiff, "BMP": check_bmp}
PROBES: dict[str, Callable[[bytes], bytes | None]] = {"PNG": probe_png, "JPEG": probe_jpeg, "BMP": probe_bmp}


def encode_png(pixels: Image) -> bytes:
    """Return the PNG file of (H, W) or (H, W, 3) RGB pixels, uint8 or uint16, without loss."""
    # Level 1 writes three times faster than the default for 5 % more bytes; one filter for all lines is as good as the
    # best of each line for pictures, and OpenCV 5 lets it be chosen: two thirds of the time for 512 x 512 in colour.
    one_filter = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
    return to_png(pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1, *one_filter])


def encode_mask(mask: Image) -> bytes:
    """Return the PNG file of (H, W) uint8 of few values in large areas: runs are all there is to find."""
    no_filter = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
    runs = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return to_png(mask, [cv2.IMWRITE_PNG_COMPRESSION, 1, *runs, *no_filter])


def to_png(pixels: Image, how: list[int]) -> bytes:
    """Return a PNG file written by OpenCV with these options."""
    ok, data = cv2.imencode(".png", to_bgr(pixels), how)
    if not ok:
        raise OutputError("PNG", "the encoder failed", "report this")
    return data.tobytes()


def encode_jpeg(pixels: Image, quality: int = 85) -> bytes:
    """Return the JPEG file of (H, W) or (H, W, 3) RGB uint8 pixels."""
    ok, data = cv2.imencode(".jpg", to_bgr(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise OutputError("JPEG", "the encoder failed", "report this")
    return data.tobytes()


def to_bgr(pixels: Image) -> Image:
    """Return (H, W) as it is and (H, W, 3) RGB in OpenCV's order; reversing by index costs 30 times as much."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), pixels.dtype)
