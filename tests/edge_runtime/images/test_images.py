"""Files to arrays and back: what is read is right, what is not right is refused in one line."""

from __future__ import annotations

import os
import resource
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from malformed.bmp import make_rle_bmp, make_short_bmp
from malformed.hostile_bmp import GREYS, make_bmp, pack
from malformed.jpeg import ADOBE, make_exif, make_jpeg
from malformed.png import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, make_bomb, make_chunk, make_png
from malformed.tiff import (
    ASSOCIATED,
    DEFLATE,
    LZW,
    NONE,
    PACKBITS,
    SHORT,
    UNASSOCIATED,
    WHITE_IS_ZERO,
    make_big_tiff,
    make_tiff,
)
from malformed.tiff import PALETTE as TIFF_PALETTE

from edge_runtime.errors import ImageError, OutputError
from edge_runtime.images import read_image
from edge_runtime.images.read import decode_image
from edge_runtime.images.write import encode_jpeg, encode_png
from edge_runtime.system.files import write_file

Array = npt.NDArray[np.generic]
TURNS: dict[int, Callable[[Array], Array]] = {  # EXIF 2.32, tag 274: from what is stored to what is meant
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: np.swapaxes(x, 0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(np.swapaxes(x, 0, 1), 2),
    8: lambda x: np.rot90(x),
}


def draw(rng: np.random.Generator, dtype: str, channels: int, height: int = 21, width: int = 34) -> Array:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def encode(suffix: str, pixels: Array, *options: int) -> bytes:
    """By OpenCV, from RGB or RGBA."""
    bgr = pixels if pixels.ndim == 2 else pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    ok, data = cv2.imencode(suffix, bgr, list(options))
    assert ok
    return bytes(data.tobytes())


def over_black(pixels: Array) -> Array:
    """A naive oracle: colour times alpha, rounded."""
    colour, alpha = pixels[..., :-1].astype(float), pixels[..., -1:].astype(float)
    return np.rint(colour * alpha / np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def assert_same(found: Array, wanted: Array, slack: int = 0) -> None:
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= slack


def refused(data: bytes, name: str = "x.png") -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ImageError) as caught:
        decode_image(data, name)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{name}: ")
    assert "; " in line
    return line


# --- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "dtype"), [(".png", "uint8"), (".png", "uint16"), (".tif", "uint8"), (".bmp", "uint8")]
)
def test_lossless_formats_come_back_bit_for_bit(
    rng: np.random.Generator, suffix: str, dtype: str, channels: int
) -> None:
    """PNG, TIFF and BMP, grey and colour, 8 and 16 bit, are read as they were drawn, colours in RGB order."""
    pixels = draw(rng, dtype, channels)
    assert_same(decode_image(encode(suffix, pixels), "x"), pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_colour_with_alpha_is_laid_over_black(rng: np.random.Generator, dtype: str) -> None:
    """A PNG's alpha darkens its colours, 8 and 16 bit."""
    pixels = draw(rng, dtype, 4)
    assert_same(decode_image(encode(".png", pixels), "x"), over_black(pixels), slack=1)


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_with_alpha_is_laid_over_black(rng: np.random.Generator, depth: int) -> None:
    """A grey PNG with alpha equals the grey image darkened by hand, however many channels carry it."""
    pixels = draw(rng, f"uint{depth}", 2, 5, 7)
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)
    found = decode_image(make_png(7, 5, depth, GREY_ALPHA, rows), "x")
    grey = found if found.ndim == 2 else found[:, :, 0]
    assert found.ndim == 2 or (found == grey[:, :, None]).all()
    assert_same(np.ascontiguousarray(grey), over_black(pixels)[:, :, 0], slack=1)


def test_palette_png_gives_its_colours() -> None:
    """A palette PNG is read as the colours of its palette, transparent entries laid over black."""
    palette = make_chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60, 70, 80, 90]))
    assert decode_image(make_png(3, 1, 8, PALETTE, b"\0\0\1\2", [palette]), "x").tolist() == [
        [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    ]
    clear = make_chunk(b"tRNS", bytes([0, 255, 255]))
    assert decode_image(make_png(3, 1, 8, PALETTE, b"\0\0\1\2", [palette, clear]), "x").tolist() == [
        [[0, 0, 0], [40, 50, 60], [70, 80, 90]]
    ]


def test_one_bit_png_is_black_and_white() -> None:
    """A PNG of 1, 2 or 4 bits uses the full range of 8 bits."""
    assert decode_image(make_png(8, 1, 1, GREY, b"\0\xa5"), "x").tolist() == [[255, 0, 255, 0, 0, 255, 0, 255]]
    assert decode_image(make_png(4, 1, 2, GREY, b"\0\x1b"), "x").tolist() == [[0, 85, 170, 255]]
    assert decode_image(make_png(2, 1, 4, GREY, b"\0\x0f"), "x").tolist() == [[0, 255]]


@pytest.mark.parametrize("colour", [GREY, RGB, RGB_ALPHA])
def test_png_of_one_pixel(colour: int) -> None:
    """The smallest image is an image."""
    channels = {GREY: 1, RGB: 3, RGB_ALPHA: 4}[colour]
    assert decode_image(make_png(1, 1, 8, colour, b"\0" + b"\xff" * channels), "x").max() == 255


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE, PACKBITS])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_every_order_and_compression(
    rng: np.random.Generator, order: str, compression: int, dtype: str, channels: int
) -> None:
    """Both byte orders, four compressions, 8 and 16 bit, grey and colour, in strips and in tiles, are read exactly."""
    pixels = draw(rng, dtype, channels)
    assert_same(decode_image(make_tiff(pixels, order, compression), "x"), pixels)
    assert_same(decode_image(make_tiff(pixels, order, compression, rows=5), "x"), pixels)
    assert_same(decode_image(make_tiff(pixels, order, compression, tile=32), "x"), pixels)


def test_tiff_of_other_kinds(rng: np.random.Generator) -> None:
    """White as zero, a palette, separate planes: 8-bit TIFFs of these kinds are read as they are meant."""
    grey, colour = draw(rng, "uint8", 1), draw(rng, "uint8", 3)
    palette = rng.integers(0, 256, (256, 3)).astype(np.uint8)
    table = [(320, SHORT, (palette.T.astype(int) * 257).ravel().tolist())]
    assert_same(decode_image(make_tiff(grey, photometric=WHITE_IS_ZERO), "x"), 255 - grey)
    assert_same(decode_image(make_tiff(grey, photometric=TIFF_PALETTE, more=table), "x"), palette[grey])
    assert_same(decode_image(make_tiff(colour, planar=True), "x"), colour)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_with_alpha_is_laid_over_black_once(rng: np.random.Generator, dtype: str) -> None:
    """Loose alpha darkens the colours; associated alpha has done so already."""
    pixels = draw(rng, dtype, 4)
    assert_same(decode_image(make_tiff(pixels, extra=UNASSOCIATED), "x"), over_black(pixels), slack=1)
    assert_same(decode_image(make_tiff(pixels, extra=ASSOCIATED), "x"), np.ascontiguousarray(pixels[:, :, :3]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(rng: np.random.Generator, orientation: int) -> None:
    """All eight orientations, of EXIF in both byte orders and of TIFF, turn the image as the standard defines."""
    blocks = np.array([[0, 50, 100], [150, 200, 255]], np.uint8)
    wanted = np.kron(TURNS[orientation](blocks), np.ones((8, 8), np.uint8))
    for order in "<>":
        assert_same(decode_image(make_jpeg(blocks, make_exif(orientation, order)), "x"), wanted)
    for dtype in ("uint8", "uint16"):
        pixels = draw(rng, dtype, 1)
        found = decode_image(make_tiff(pixels, orientation=orientation), "x")
        assert_same(found, np.ascontiguousarray(TURNS[orientation](pixels)))


def list_png_kinds(rng: np.random.Generator) -> list[tuple[int, int, Array, list[bytes], Array]]:
    """Of each colour type and depth: (colour type, depth, samples as stored, chunks, pixels as meant)."""
    table = rng.integers(0, 256, (256, 3)).astype(np.uint8)
    palette = [make_chunk(b"PLTE", table.tobytes())]
    clear = [*palette, make_chunk(b"tRNS", bytes(128))]  # the first half of the palette is transparent
    index = draw(rng, "uint8", 1)
    shown = table[index] * (index >= 128)[:, :, None]
    kinds = [(PALETTE, 8, index, palette, table[index]), (PALETTE, 8, index, clear, shown)]
    for depth in (8, 16):
        for colour, channels in ((GREY, 1), (RGB, 3), (GREY_ALPHA, 2), (RGB_ALPHA, 4)):
            stored = draw(rng, f"uint{depth}", channels)
            meant = over_black(stored) if channels in (2, 4) else stored
            kinds.append((colour, depth, stored, [], np.repeat(meant, 3, axis=2) if channels == 2 else meant))
    return kinds


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_every_kind_of_png_is_applied(rng: np.random.Generator, orientation: int) -> None:
    """A PNG's eXIf turns grey, colour, palette and alpha, of 8 and 16 bit, before the pixels or after them, once."""
    for colour, depth, stored, chunks, meant in list_png_kinds(rng):
        rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in stored)
        plain = make_png(stored.shape[1], stored.shape[0], depth, colour, rows, chunks)
        assert_same(decode_image(plain, "x"), meant.astype(meant.dtype), slack=1)
        for order in "<>":
            block = make_exif(orientation, order)[10:]
            for chunk in (make_chunk(b"eXIf", block), make_chunk(b"eXIf", b"Exif\0\0" + block)):
                wanted = np.ascontiguousarray(TURNS[orientation](meant))
                for data in (plain[:33] + chunk + plain[33:], plain[:-12] + chunk + plain[-12:]):
                    assert_same(decode_image(data, "x"), wanted, slack=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_every_kind_of_tiff_is_applied(rng: np.random.Generator, orientation: int) -> None:
    """TIFF's tag turns grey and colour, alpha, of 8 and 16 bit, palettes, strips, tiles and planes."""
    grey, colour = draw(rng, "uint8", 1), draw(rng, "uint8", 3)
    palette = rng.integers(0, 256, (256, 3)).astype(np.uint8)
    table = [(320, SHORT, (palette.T.astype(int) * 257).ravel().tolist())]
    turned = {"orientation": orientation}
    cases = [
        (make_tiff(colour, planar=True, **turned), colour),
        (make_tiff(grey, tile=32, **turned), grey),
        (make_tiff(grey, rows=5, compression=LZW, **turned), grey),
        (make_tiff(grey, photometric=WHITE_IS_ZERO, **turned), 255 - grey),
        (make_tiff(grey, photometric=TIFF_PALETTE, more=table, **turned), palette[grey]),
    ]
    for dtype in ("uint8", "uint16"):
        for order in "<>":
            pixels, alpha = draw(rng, dtype, 3), draw(rng, dtype, 4)
            cases.append((make_tiff(pixels, order, **turned), pixels))
            cases.append((make_tiff(alpha, order, extra=UNASSOCIATED, **turned), over_black(alpha)))
    for data, wanted in cases:
        found = decode_image(data, "x")
        assert_same(found, np.ascontiguousarray(TURNS[orientation](wanted)), slack=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_every_kind_of_jpeg_is_applied(orientation: int) -> None:
    """EXIF turns colour, inks and progressive JPEGs as it turns grey ones; values of other integer types count too."""
    blocks = np.random.default_rng(5).integers(0, 256, (2, 3, 3)).astype(np.uint8)
    rgb = ADOBE[:-1] + b"\0"
    plain = decode_image(make_jpeg(blocks, rgb), "x")
    turned = np.ascontiguousarray(TURNS[orientation](plain))
    assert_same(decode_image(make_jpeg(blocks, make_exif(orientation) + rgb), "x"), turned)
    ok, data = cv2.imencode(".jpg", plain, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert ok
    progressive = data.tobytes()
    wanted = np.ascontiguousarray(TURNS[orientation](decode_image(progressive, "x")))
    assert_same(decode_image(progressive[:2] + make_exif(orientation) + progressive[2:], "x"), wanted)
    long = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x112, 4, 1, orientation) + bytes(4)
    exif = b"\xff\xe1" + struct.pack(">H", len(long) + 8) + b"Exif\0\0" + long
    assert_same(decode_image(make_jpeg(blocks, exif + rgb), "x"), turned)


@pytest.mark.parametrize("option", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_jpeg_of_every_kind(drawn: Array, option: tuple[int, ...]) -> None:
    """Baseline, progressive and restart-marked JPEGs, grey and colour, come close to what was drawn."""
    for pixels in (drawn, np.repeat(drawn[:, :, None], 3, axis=2)):
        found = decode_image(encode(".jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, 100, *option), "x")
        assert_same(found, pixels, slack=12)


def test_cmyk_jpeg_is_read_in_rgb() -> None:
    """A four-component JPEG as Adobe writes it: all inks off is white, all black ink is black, cyan takes red."""
    inks = np.array([[[255, 255, 255, 255], [255, 255, 255, 0], [0, 255, 255, 255]]], np.uint8)
    found = decode_image(make_jpeg(inks, ADOBE), "x")[0, ::8].astype(int)
    assert np.abs(found - [[255, 255, 255], [0, 0, 0], [0, 255, 255]]).max() <= 2


def test_jpeg_with_filled_markers_is_read(rng: np.random.Generator) -> None:
    """Any number of FF bytes may stand before a marker (T.81, B.1.1.2)."""
    blocks = rng.integers(0, 256, (2, 3)).astype(np.uint8)
    whole = make_jpeg(blocks)
    assert_same(decode_image(whole[:2] + b"\xff\xff\xff" + whole[2:], "x"), decode_image(whole, "x"))


def test_rare_bmps_are_read(rng: np.random.Generator) -> None:
    """Run-length coded BMPs and those with the short header of OS/2 are read exactly."""
    pixels = draw(rng, "uint8", 1)
    assert_same(decode_image(make_rle_bmp(pixels), "x"), pixels)
    assert_same(decode_image(make_short_bmp(pixels), "x"), pixels)


def test_os2_palette_keeps_its_colours(rng: np.random.Generator) -> None:
    """A BMP with OS/2's header has the colours of its palette, also where one alone is not grey."""
    pixels, palette = draw(rng, "uint8", 1), rng.integers(0, 256, (256, 3)).astype(np.uint8)
    assert_same(decode_image(make_short_bmp(pixels, palette), "x"), palette[pixels])
    nearly = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    nearly[7, 2] += 1
    assert_same(decode_image(make_short_bmp(pixels, nearly), "x"), nearly[pixels])


@pytest.mark.parametrize("header", [12, 40])
def test_colours_that_a_short_palette_lacks_are_refused(rng: np.random.Generator, header: int) -> None:
    """Where pixels begin before the palette's end, those within it are read, and any beyond are missing."""
    pixels, size = draw(rng, "uint8", 1) % 100, 3 if header == 12 else 4
    whole = make_short_bmp(pixels) if header == 12 else make_bmp(*pixels.shape[::-1], 8, pack(pixels), GREYS)
    first = 14 + header
    for kept in (100, 99, 0):
        data = whole[:10] + struct.pack("<I", first + size * kept) + whole[14 : first + size * kept]
        data += whole[first + size * 256 :]
        if kept > pixels.max():
            assert_same(decode_image(data, "x"), pixels)
        else:
            with pytest.raises(ImageError, match="pixels are missing"):
                decode_image(data, "x")


def test_content_counts_not_the_name(tmp_path: Path, drawn: Array) -> None:
    """A PNG named .jpg is a PNG."""
    (tmp_path / "x.jpg").write_bytes(encode(".png", drawn))
    assert_same(read_image(tmp_path / "x.jpg"), drawn)


# --- what is refused ---------------------------------------------------------------------------------------------


def list_files(rng: np.random.Generator) -> dict[str, bytes]:
    grey, colour = draw(rng, "uint8", 1), draw(rng, "uint8", 3)
    return {
        "png": encode(".png", colour),
        "png16": encode(".png", draw(rng, "uint16", 1)),
        "jpeg": encode(".jpg", colour),
        "progressive": encode(".jpg", colour, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "exif": make_jpeg(grey[:4, :4], make_exif(6)),
        "tiff": make_tiff(colour, rows=4),
        "tiff-lzw": encode(".tif", draw(rng, "uint16", 3)),
        "tiff-tiles": make_tiff(grey, ">", DEFLATE, tile=32),
        "bmp": encode(".bmp", colour),
        "bmp-rle": make_rle_bmp(grey),
    }


@pytest.mark.parametrize("kind", list(list_files(np.random.default_rng(0))))
def test_truncated_files_are_never_taken_for_whole(rng: np.random.Generator, kind: str) -> None:
    """Cut anywhere, a file is refused in one line, or no pixel of it is lost."""
    data = list_files(rng)[kind]
    whole = decode_image(data, "x")
    offsets = {*np.linspace(0, len(data) - 1, 120).astype(int).tolist(), *range(max(0, len(data) - 40), len(data))}
    for offset in sorted(offsets):
        try:
            found = decode_image(data[:offset], "x")
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert_same(found, whole)
            assert offset > 0.9 * len(data)


@pytest.mark.parametrize("kind", list(list_files(np.random.default_rng(0))))
def test_trailing_bytes_do_no_harm(rng: np.random.Generator, kind: str) -> None:
    """What some programs append after an image's end is not looked at."""
    data = list_files(rng)[kind]
    assert_same(decode_image(data + b"appended\0\xff", "x"), decode_image(data, "x"))


def test_a_flipped_bit_in_a_png_is_found(rng: np.random.Generator) -> None:
    """Every bit of a PNG after its signature is under a checksum, so that no flip passes."""
    data = encode(".png", draw(rng, "uint8", 1, 8, 8))
    for bit in range(0, 8 * len(data), 3):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        refused(bytes(flipped))


@pytest.mark.parametrize("kind", list(list_files(np.random.default_rng(0))))
def test_noise_in_a_file_raises_nothing_but_an_image_error(rng: np.random.Generator, kind: str) -> None:
    """Bytes overwritten at random give an image or an ImageError, never another exception."""
    data = list_files(rng)[kind]
    for _ in range(60):
        noisy = bytearray(data)
        for offset in rng.integers(0, len(data), rng.integers(1, 6)):
            noisy[offset] = rng.integers(0, 256)
        try:
            found = decode_image(bytes(noisy), "x")
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert found.dtype in (np.uint8, np.uint16)


def test_a_bomb_is_refused_before_memory_is_asked_for() -> None:
    """30,000 x 30,000 pixels in a small valid PNG are refused at once, by the header alone."""
    bomb = make_bomb()
    assert len(bomb) < 10_000_000
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    line = refused(bomb)
    spent, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "30000 x 30000 pixels" in line
    assert spent < 2
    assert peak < 20_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; OpenCV's memory too


@pytest.mark.parametrize("kind", ["jpeg", "tiff", "bmp"])
def test_a_bomb_of_any_format_is_refused(kind: str) -> None:
    """A header that claims 30,000 x 30,000 pixels is refused by its size or because the pixels are not there."""
    side = 30_000
    if kind == "jpeg":
        whole = make_jpeg(np.zeros((1, 1), np.uint8))
        data = whole.replace(struct.pack(">HH", 8, 8), struct.pack(">HH", side, side), 1)
    elif kind == "tiff":
        data = make_tiff(np.zeros((side, 1), np.uint8), compression=DEFLATE)
        data = data.replace(struct.pack("<HHII", 256, 4, 1, 1), struct.pack("<HHII", 256, 4, 1, side))
    else:
        data = make_rle_bmp(np.zeros((1, 1), np.uint8))
        data = data[:18] + struct.pack("<ii", side, side) + data[26:]
    assert "30000 x 30000 pixels" in refused(data)


def test_a_tiff_of_tags_without_end_is_refused_quickly() -> None:
    """65,535 tags, each claiming all of a large file, are not read 65,535 times."""
    body = struct.pack("<HHII", 273, 4, 250_000, 8) * 65_535
    data = b"II*\0" + struct.pack("<I", 1_000_008) + bytes(1_000_000) + struct.pack("<H", 65_535) + body + bytes(4)
    started = time.perf_counter()
    refused(data)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, this is a text\n" * 20, "not a PNG, JPEG, TIFF or BMP"),
        (b"%PDF-1.7\n" + bytes(300), "a PDF"),
        (b"GIF89a" + bytes(300), "a GIF"),
        (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(300), "a WebP"),
        (bytes(128) + b"DICM" + bytes(300), "a DICOM file"),
        (b"\x1f\x8b\x08" + bytes(300), "a gzip archive"),
        (make_big_tiff(), "a BigTIFF"),
    ],
)
def test_foreign_files_are_named(data: bytes, words: str) -> None:
    """A file of another kind under an image's name is refused, and the error names its format."""
    assert words in refused(data)


def test_tiffs_that_would_be_read_wrong_are_refused(rng: np.random.Generator) -> None:
    """TIFFs that OpenCV decodes to wrong pixels without an error, or that are not of 8 or 16 bit, are refused."""
    grey, colour = draw(rng, "uint16", 1), draw(rng, "uint16", 3)
    cases = {
        "several pages": make_tiff(grey, pages=3),
        "black as zero": make_tiff(grey, photometric=WHITE_IS_ZERO),
        "separate colour planes": make_tiff(colour, planar=True),
        "grey and alpha": make_tiff(draw(rng, "uint8", 2), extra=UNASSOCIATED),
        "float32": make_tiff(grey.astype(np.float32)),
        "float64": make_tiff(grey.astype(np.float64)),
        "int16": make_tiff(grey.astype(np.int16)),
        "TIFF": make_tiff(draw(rng, "uint8", 5)),
    }
    for words, data in cases.items():
        assert words in refused(data, "x.tif")


def test_an_animated_png_is_refused() -> None:
    """A file of several frames is refused."""
    frames = make_chunk(b"acTL", struct.pack(">II", 2, 0))
    assert "several frames" in refused(make_png(2, 1, 8, GREY, b"\0\1\2", [frames]))


def test_a_png_that_is_whole_but_wrong_is_refused() -> None:
    """Valid checksums around too few rows, no pixels, a broken stream or no size do not make an image."""
    palette = make_chunk(b"PLTE", bytes(6))
    for data in (
        make_png(10, 10, 8, GREY, (b"\0" + bytes(10)) * 9),
        make_png(10, 10, 8, GREY, b""),
        make_png(0, 0, 8, GREY, b""),
        make_png(2, 1, 8, GREY, b"\x09\1\2"),
        make_png(2, 1, 8, PALETTE, b"\0\0\1"),
        make_png(2, 1, 3, GREY, b"\0\1"),
        make_png(2, 1, 8, GREY, b"\0\1\2", [make_chunk(b"ABCD", b"x")]),
        make_png(2, 1, 8, GREY, b"\0\1\2", [palette])[:-12],
    ):
        refused(data)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe, a missing file and a loop of links are refused in one line each, and none is waited for."""
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("folder.png", "pipe.png", "none.png", "loop.png"):
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)


def test_a_file_too_long_for_any_image_is_not_read(tmp_path: Path) -> None:
    """A terabyte named .png is refused by its length."""
    with (tmp_path / "x.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(2**40)
    with pytest.raises(ImageError, match="more than"):
        read_image(tmp_path / "x.png")


def test_a_name_with_newlines_gives_one_line() -> None:
    """Whatever the name, an error is one line."""
    with pytest.raises(ImageError) as caught:
        decode_image(b"", "a\nb\r\n.png")
    assert "\n" not in str(caught.value)
    assert "\r" not in str(caught.value)


# --- what is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_written_without_loss(rng: np.random.Generator, dtype: str, channels: int) -> None:
    """What encode_png writes, decode_image reads back bit for bit."""
    pixels = draw(rng, dtype, channels)
    assert_same(decode_image(encode_png(pixels), "x"), pixels)


def test_jpeg_is_written_in_rgb_order() -> None:
    """A red picture is red after encode_jpeg."""
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 0] = 255
    assert decode_image(encode_jpeg(red), "x")[8, 8].argmax() == 0


def test_write_file_makes_folders_and_replaces(tmp_path: Path) -> None:
    """A file is written into folders that did not exist, replaces an older one, and nothing else stays."""
    path = tmp_path / "a" / "b" / "c.png"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_write_file_leaves_nothing_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the rename fails the old file stays, the temporary one is removed, and the error is one line."""

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    write_file(tmp_path / "x", b"old")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="No space left") as caught:
        write_file(tmp_path / "x", b"new")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_write_file_into_a_file_is_an_output_error(tmp_path: Path) -> None:
    """A file where a folder should be is an error in one line."""
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(OutputError):
        write_file(tmp_path / "x" / "y.png", b"")
