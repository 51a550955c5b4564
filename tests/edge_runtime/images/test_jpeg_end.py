"""A JPEG without its end marker is read if all its pixels are there, to the last bit, and refused otherwise."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from malformed.hostile_jpeg import split
from malformed.jpeg import code, make_jpeg, segment

from edge_runtime.errors import ImageError
from edge_runtime.images.read import decode_file

Array = npt.NDArray[np.uint8]
END = b"\xff\xd9"
OPTIONS = {
    "baseline": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "progressive-restarts": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
    "optimized": (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "low": (cv2.IMWRITE_JPEG_QUALITY, 20, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "high": (cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "444": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "411": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
}


def draw_pictures() -> dict[str, Array]:
    """Noise, and what is smooth: few codes a block, long ends of bands; of odd sizes."""
    noise = np.random.default_rng(2).integers(0, 256, (33, 41, 3)).astype(np.uint8)
    return {"grey": noise[:, :, 0], "colour": noise, "smooth": cv2.GaussianBlur(noise, (9, 9), 4)}


def make_scan_by_scan(blocks: Array) -> bytes:
    """A baseline JPEG whose three components are coded in a scan each."""
    parts = split(make_jpeg(blocks))
    scans = []
    for k in range(3):
        header = segment(b"\xda", bytes([1, k + 1, 0, 0, 63, 0]))
        scans.append(header + code(blocks[:, :, k : k + 1].astype(int) - 128))
    return b"".join([*parts[:-2], *scans, END])


def make_files() -> dict[str, bytes]:
    files = {}
    for shown, picture in draw_pictures().items():
        for name, options in OPTIONS.items():
            ok, data = cv2.imencode(".jpg", picture, list(options))
            assert ok
            files[f"{shown}-{name}"] = bytes(data.tobytes())
    blocks = np.random.default_rng(3).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return files | {"scan-by-scan": make_scan_by_scan(blocks), "flat": make_jpeg(np.zeros((2, 2), np.uint8))}


FILES = make_files()


@pytest.mark.parametrize("name", list(FILES))
def test_cut_at_every_byte_only_the_end_marker_may_be_missing(name: str) -> None:
    """Cut before the end marker or in it, the very pixels are read, with a flag; cut anywhere else, it is refused."""
    data = FILES[name]
    whole = decode_file(data, "x.jpg")
    assert whole.flags == ()
    for length in range(3, len(data)):
        if length >= len(data) - 2:
            found = decode_file(data[:length], "x.jpg")
            assert found.flags == ("no_end_marker",)
            assert np.array_equal(found.image, whole.image)
        else:
            with pytest.raises(ImageError, match="damaged JPEG"):
                decode_file(data[:length], "x.jpg")


@pytest.mark.parametrize("name", ["grey-baseline", "colour-progressive", "smooth-restarts", "scan-by-scan"])
@pytest.mark.parametrize("filling", [0x00, 0x55, 0xFE])
def test_filled_up_to_its_length_a_cut_file_is_refused(name: str, filling: int) -> None:
    """A sector that was never written reads as zeros or anything: these are no pixels, though they decode."""
    data = FILES[name]
    for length in range(len(data) - 60, len(data) - 3):
        with pytest.raises(ImageError):
            decode_file(data[:length] + bytes([filling]) * (len(data) - length), "x.jpg")


def test_bytes_after_the_pixels_are_refused() -> None:
    """Without an end marker, a byte more than the pixels take may be a part of anything."""
    for data in FILES.values():
        for more in (b"\0", b"\x7f", b"appended"):
            with pytest.raises(ImageError):
                decode_file(data[:-2] + more, "x.jpg")


def test_the_filling_of_the_last_byte_is_checked() -> None:
    """The last byte's unused bits are ones (T.81, F.1.2.3); where they are not, the byte may be another."""
    blocks = np.array([[[128]]], np.uint8)
    data = make_jpeg(blocks)  # size 0, end of block: 5 bits, then 3 of filling
    assert data[-3] & 7 == 7
    assert decode_file(data[:-2], "x.jpg").flags == ("no_end_marker",)
    with pytest.raises(ImageError):
        decode_file(data[:-3] + bytes([data[-3] & 0xF8]), "x.jpg")


def test_a_scan_too_long_to_be_walked_is_refused() -> None:
    """Where the proof would take minutes, the file is refused, and the reason is said."""
    data = make_jpeg(np.zeros((600, 600), np.uint8))
    parts = split(data)
    frame = next(part for part in parts if part[1] == 0xC0)
    assert len(parts[-2]) < 8_000_000
    longer = data[:-2] + bytes(8_100_000)
    with pytest.raises(ImageError, match="too large to be checked without it"):
        decode_file(longer, "x.jpg")
    assert struct.unpack(">HH", frame[5:9]) == (4800, 4800)


def test_a_marker_elsewhere_is_no_end() -> None:
    """The end marker of a thumbnail, or after the file's own, is not the one that is missing."""
    whole = FILES["grey-baseline"]
    thumbnail = whole[:2] + segment(b"\xe1", b"Exif\0\0" + FILES["flat"]) + whole[2:]
    assert decode_file(thumbnail[:-2], "x.jpg").flags == ("no_end_marker",)
    assert decode_file(whole + b"appended", "x.jpg").flags == ()
    with pytest.raises(ImageError):
        decode_file(thumbnail[: 2 + 4 + 6 + len(FILES["flat"])], "x.jpg")
