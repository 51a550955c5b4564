"""Which format is a file of, by its first bytes?"""

from __future__ import annotations

SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP"}
OTHER_FORMATS = {  # often found under an image's name or beside images; (offset, signature): format
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
    (4, b"n+2\0"): "a NIfTI file",
    (0, b"\x1f\x8b"): "a gzip archive",
    (0, b"PK\x03\x04"): "a ZIP archive",
}
HEAD_BYTES = 348  # enough for each of them


def find_format(head: bytes) -> str | None:
    """Return the format of a file that is read, from its first bytes; None of any other."""
    return next((kind for signature, kind in SIGNATURES.items() if head.startswith(signature)), None)


def find_other_format(head: bytes) -> str | None:
    """Return a known format that is not read, with its article; None of any other."""
    found = (kind for (start, signature), kind in OTHER_FORMATS.items() if head.startswith(signature, start))
    return next(found, None)
