"""Which image formats are read, and which functions check them?"""

from __future__ import annotations

from collections.abc import Callable

from .bmp import check_bmp, probe_bmp
from .jpeg import check_jpeg, find_jpeg_orientation, probe_jpeg
from .png import check_png, find_png_orientation, probe_png
from .tiff import check_tiff, find_tiff_orientation

SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP"}
OTHER_FORMATS = {  # often found under an image's name; (offset, signature): format
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
CHECKS = {"PNG": check_png, "JPEG": check_jpeg, "TIFF": check_tiff, "BMP": check_bmp}
PROBES: dict[str, Callable[[bytes], bytes | None]] = {"PNG": probe_png, "JPEG": probe_jpeg, "BMP": probe_bmp}
ORIENTATIONS: dict[str, Callable[[bytes], int]] = {
    "PNG": find_png_orientation,
    "JPEG": find_jpeg_orientation,
    "TIFF": find_tiff_orientation,
}
