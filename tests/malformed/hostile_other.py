"""Files of other kinds under an image's name: documents, archives, other makers' pictures, nothing at all."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

from tests.malformed.case import Case, name_cases

NO_IMAGE = "not a PNG, JPEG, TIFF or BMP"


def make_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.png"), b"\x89PNG\r\n\x1a\n")
    return packed.getvalue()


def box(name: bytes, brand: bytes) -> bytes:
    return struct.pack(">I4s4sI", 16, b"ftyp", brand, 0)[:4] + name + brand + bytes(200)


def others() -> Iterator[tuple[object, ...]]:
    """Each is refused, and named where that helps."""
    yield "pdf.png", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(300), "a PDF"
    yield "zip.png", make_zip(), "a ZIP archive"
    yield "gzip.png", b"\x1f\x8b\x08" + bytes(300), "a gzip archive"
    yield "gif.png", b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;", "a GIF"
    yield "gif87.jpg", b"GIF87a" + bytes(60), "a GIF"
    yield "webp.jpg", b"RIFF\x24\0\0\0WEBPVP8 " + bytes(300), "a WebP"
    yield "dicom.png", bytes(128) + b"DICM\2\0\0\0UL\4\0" + bytes(300), "a DICOM file"
    yield "nifti.tif", struct.pack("<I", 348) + bytes(340) + b"n+1\0" + bytes(300), "a NIfTI file"
    yield "heic.jpg", box(b"ftyp", b"heic"), "a HEIC or AVIF"
    yield "avif.jpg", box(b"ftyp", b"avif"), "a HEIC or AVIF"
    yield "exr.png", b"\x76\x2f\x31\x01\2\0\0\0" + bytes(300), "an OpenEXR"
    yield "jpeg2000.jpg", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(300), "a JPEG 2000"
    yield "jpeg2000-stream.jpg", b"\xff\x4f\xff\x51\0\x2f" + bytes(300), "a JPEG 2000"
    yield "html.png", b"<!DOCTYPE html><html><body>404 not found</body></html>", "an HTML page"
    yield "html-lower.jpg", b"<html><head></head></html>", "an HTML page"
    yield "svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", NO_IMAGE
    yield "xml.png", b"<?xml version='1.0'?><x/>", NO_IMAGE
    yield "pgm.png", b"P5\n4 4\n255\n" + bytes(16), NO_IMAGE
    yield "ppm.png", b"P6\n4 4\n255\n" + bytes(48), NO_IMAGE
    yield "pfm.tif", b"Pf\n4 4\n-1.0\n" + bytes(64), NO_IMAGE
    yield "pam.png", b"P7\nWIDTH 4\nHEIGHT 4\nDEPTH 1\nMAXVAL 255\nENDHDR\n" + bytes(16), NO_IMAGE
    yield "hdr.png", b"#?RADIANCE\n\n-Y 4 +X 4\n" + bytes(64), NO_IMAGE
    yield "ras.png", b"\x59\xa6\x6a\x95" + bytes(60), NO_IMAGE
    yield "psd.tif", b"8BPS\0\1" + bytes(60), NO_IMAGE
    yield "ico.bmp", b"\0\0\1\0\1\0" + bytes(60), NO_IMAGE
    yield "numpy.png", b"\x93NUMPY\1\0" + bytes(60), NO_IMAGE
    yield "tflite.png", b"\x1c\0\0\0TFL3" + bytes(60), NO_IMAGE
    yield "elf.png", b"\x7fELF" + bytes(60), NO_IMAGE
    yield "script.png", b"#!/bin/sh\nexit 1\n", NO_IMAGE
    yield "text.png", b"hello, this is a text\n" * 20, NO_IMAGE
    yield "utf-16.png", "hello".encode("utf-16") * 20, NO_IMAGE
    yield "lfs-pointer.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", NO_IMAGE
    yield "mac-fork.png", b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60), NO_IMAGE
    yield "empty.png", b"", "empty"
    yield "one-byte.png", b"\x89", NO_IMAGE
    yield "one-byte.jpg", b"\xff", NO_IMAGE
    yield "two-bytes.jpg", b"\xff\xd8", NO_IMAGE
    yield "three-bytes.jpg", b"\xff\xd8\xff", "damaged JPEG"
    yield "newline.tif", b"\n", NO_IMAGE
    yield "zeros.png", bytes(5000), NO_IMAGE
    yield "ones.png", b"\xff" * 5000, NO_IMAGE
    yield "deflated.png", zlib.compress(bytes(99)), NO_IMAGE


def list_cases() -> Iterator[Case]:
    """All files of other kinds."""
    yield from name_cases("", others())
