"""Hostile files, each from a generator: read as they are meant or refused in one line; no crash, no hang, no lie."""

from __future__ import annotations

import csv
import os
import re
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from malformed import hostile_bmp, hostile_jpeg, hostile_other, hostile_png, hostile_tiff
from malformed.case import Array, Case

from edge_runtime.errors import ImageError
from edge_runtime.images import read_image
from edge_runtime.images.limits import MAX_PIXELS
from edge_runtime.images.read import decode_image, read_bytes
from edge_runtime.system.quiet import drop_jpeg_warnings

FAMILIES = (hostile_png, hostile_jpeg, hostile_tiff, hostile_bmp, hostile_other)
CASES = {case.name: case for family in FAMILIES for case in family.list_cases()}
COMMAND = [sys.executable, "-m", "edge_runtime.cli", "--threads", "1"]


def judge(case: Case, found: Array | str) -> str:
    """Nothing where a case came out as it must: refused for its reason, or its very pixels."""
    if isinstance(found, str):
        if case.why is None:
            return f"refused: {found}"
        return "" if case.why in found else f"refused for another reason: {found}"
    if case.pixels is None:
        return f"taken for an image {found.shape}"
    if (found.shape, found.dtype) != (case.pixels.shape, case.pixels.dtype):
        return f"{found.dtype} {found.shape} instead of {case.pixels.dtype} {case.pixels.shape}"
    apart = int(np.abs(found.astype(int) - case.pixels.astype(int)).max())
    return f"pixels {apart} off" if apart > case.slack else ""


def attempt(data: bytes, name: str) -> Array | str:
    """The pixels, or the one line of the refusal; any other exception is a failure of the test."""
    try:
        found = decode_image(data, name)
    except ImageError as error:
        line = str(error)
        assert line.startswith(f"{name}: ")
        assert "; " in line
        assert "\n" not in line
        return line
    assert found.dtype in (np.uint8, np.uint16)
    assert found.ndim == 2 or found.shape[2] == 3
    return found


def test_there_are_hundreds_of_cases() -> None:
    """At least 200 hostile files, all of different names, some of each format read and some refused."""
    assert len(CASES) == sum(1 for family in FAMILIES for _ in family.list_cases()) >= 200
    for suffix in (".png", ".jpg", ".tif", ".bmp"):
        cases = [case for case in CASES.values() if case.name.endswith(suffix)]
        assert sum(case.pixels is None for case in cases) >= 20
        assert sum(case.pixels is not None and case.why is None for case in cases) >= 10


@pytest.mark.parametrize("name", list(CASES))
def test_a_hostile_file_is_read_right_or_refused(name: str) -> None:
    """What comes of a hostile file is its very pixels or its reason, in one line; never wrong pixels."""
    case = CASES[name]
    assert judge(case, attempt(case.make(), name)) == ""


# --- a whole folder of them --------------------------------------------------------------------------------------


def limit_memory() -> None:
    """Far less than what the bombs claim: a bomb that is unpacked would end the run."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def test_a_folder_of_all_of_them_is_run_through(tmp_path: Path) -> None:
    """One run over all hostile files and special ones: exit 3, each a row with its reason, and no mask of them."""
    folder = tmp_path / "in"
    folder.mkdir()
    for case in CASES.values():
        (folder / case.name).write_bytes(case.make())
    special = make_special(folder)
    run = subprocess.run(
        [*COMMAND, folder, "-o", tmp_path / "out", "--no-gallery", "--no-overlay", "--quiet"],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit_memory,
        check=False,
    )
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert (run.returncode, run.stdout) == (3, "")
    assert set(rows) == {*CASES, *special}
    wrong = [name for name, case in CASES.items() if (case.pixels is None) > (rows[name]["status"] == "failed")]
    wrong += [name for name, case in CASES.items() if (case.why is None) > (rows[name]["status"] == "ok")]
    assert wrong == []
    for name, words in special.items():
        assert rows[name]["status"] == "failed"
        assert words in rows[name]["error"]
    failed = [row for row in rows.values() if row["status"] == "failed"]
    assert len(run.stderr.splitlines()) == len(failed)
    assert all(re.match(r"edge-seg: error: [^:]+: .+; .+", line) for line in run.stderr.splitlines())
    masks = {path.name.removesuffix(".png") for path in (tmp_path / "out" / "masks").iterdir()}
    assert masks == {row["file"].removesuffix(".png") for row in rows.values() if row["status"] == "ok"}


def make_special(folder: Path) -> dict[str, str]:
    """What is no regular file, or missing: {name: part of the reason}."""
    os.mkfifo(folder / "x-pipe.png")
    (folder / "x-folder.png").mkdir()  # passed by: only files are listed
    (folder / "x-dangling.png").symlink_to("nowhere")
    (folder / "x-loop.png").symlink_to("x-loop.png")
    (folder / "x-chain.png").symlink_to("x-chain-2.png")
    (folder / "x-chain-2.png").symlink_to("x-chain.png")
    (folder / "x-device.png").symlink_to("/dev/zero")
    (folder / "x-terminal.png").symlink_to("/dev/ptmx")
    (folder / "x-to-folder.jpg").symlink_to("x-folder.png")  # passed by, a folder too
    with (folder / "x-sparse.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(10**10)
    here = Path.cwd()
    os.chdir(folder)  # a socket's path may not be long
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x-socket.png")
    finally:
        os.chdir(here)
    no_file = dict.fromkeys(("x-pipe.png", "x-device.png", "x-terminal.png", "x-socket.png"), "not a regular file")
    loops = dict.fromkeys(("x-loop.png", "x-chain.png", "x-chain-2.png"), "symbolic links")
    return {**no_file, **loops, "x-dangling.png": "No such file", "x-sparse.png": "more than 200000000 bytes"}


# --- limits ------------------------------------------------------------------------------------------------------


def test_the_limit_of_pixels_is_the_callers(tmp_path: Path) -> None:
    """An image at the limit is read, one of a pixel more is refused, in every format, whatever the limit is."""
    for name in ("colour2-depth8.png", "kind-extended.jpg", "none-uint8.tif", "grey-8.bmp", "rle8.bmp"):
        data = CASES[name].make()
        wanted = CASES[name].pixels
        assert wanted is not None
        size = wanted.shape[0] * wanted.shape[1]
        assert (decode_image(data, name, size) == wanted).all()
        with pytest.raises(ImageError, match=f"{wanted.shape[1]} x {wanted.shape[0]} pixels, more than {size - 1}"):
            decode_image(data, name, size - 1)
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=f"more than {size - 1}"):
            read_image(tmp_path / name, size - 1)


def test_the_limit_of_bytes_goes_with_that_of_pixels(tmp_path: Path) -> None:
    """A file of eight bytes a pixel is read, one of a byte more is not, and never more than that into memory."""
    (tmp_path / "x.png").write_bytes(bytes(8 * 100))
    assert read_bytes(tmp_path / "x.png", "x.png", 100) == bytes(8 * 100)
    (tmp_path / "x.png").write_bytes(bytes(8 * 100 + 1))
    with pytest.raises(ImageError, match="more than 800 bytes"):
        read_bytes(tmp_path / "x.png", "x.png", 100)
    assert MAX_PIXELS * 8 == 200_000_000


def test_a_file_without_a_size_is_read_no_further_than_the_limit() -> None:
    """A file of size 0 that has bytes, as those of /proc have, is read up to the limit."""
    path = Path("/proc/self/maps")
    if not path.exists():
        pytest.skip("this system has no /proc")
    with pytest.raises(ImageError, match="more than 80 bytes"):
        read_bytes(path, "x.png", 10)


# --- mutations ---------------------------------------------------------------------------------------------------


def find_boundaries(data: bytes) -> Iterator[int]:
    """Where one part of a file ends and the next begins."""
    if data.startswith(b"\x89PNG"):
        offset = 8
        while offset < len(data):
            (length,) = struct.unpack_from(">I", data, offset)
            yield from (offset, offset + 4, offset + 8, offset + 8 + length, offset + 12 + length)
            offset += 12 + length
    elif data.startswith(b"\xff\xd8"):
        for part in hostile_jpeg.split(data):
            offset = data.index(part)
            yield from (offset, offset + 2, offset + 4, offset + len(part))
    elif data.startswith(b"II"):
        start = hostile_tiff.directory(data)
        yield from (2, 4, 8, *range(start, len(data), 6))
    else:
        yield from (2, 10, 14, 18, 26, 30, 54, struct.unpack_from("<I", data, 10)[0])


GOOD = (
    *("colour2-depth8.png", "colour3-depth4.png", "colour6-depth16.png", "interlaced.png", "idat-in-two.png"),
    *("kind-extended.jpg", "progressive.jpg", "restarts.jpg", "colour.jpg", "exif-orientation-6.jpg", "cmyk.jpg"),
    *("none-uint8.tif", "lzw-uint8-rgb.tif", "lzw-long-table.tif", "deflate-uint16.tif", "packbits-uint8.tif"),
    *("tiles.tif", "strips.tif", "predictor-horizontal-16.tif", "planar-8.tif"),
    *("colour-24.bmp", "grey-8.bmp", "palette-4.bmp", "rle8.bmp", "os2.bmp", "fields-565.bmp"),
)


@pytest.mark.parametrize("name", GOOD)
def test_cut_at_any_boundary_no_pixel_is_invented(name: str) -> None:
    """Cut at, before and after each part's end, and filled up with zeros to its length, a file is refused or whole."""
    data = CASES[name].make()
    whole = decode_image(data, name)
    case = Case(name, lambda: data, "", whole)
    for offset in sorted({offset + step for offset in find_boundaries(data) for step in (-1, 0, 1)}):
        if 0 <= offset < len(data):
            assert judge(case, attempt(data[:offset], name)) == "", offset
            filled = attempt(data[:offset] + bytes(len(data) - offset), name)
            if name.endswith((".png", ".jpg")) or isinstance(filled, str):
                assert judge(case, filled) == "", offset
            else:  # zeros are pixels like others where there is no checksum, and only after the header
                assert filled.shape[:2] == whole.shape[:2], offset


@pytest.mark.parametrize("name", GOOD)
def test_flipped_bits_never_do_worse_than_other_pixels(name: str) -> None:
    """One to five bytes changed at random: refused in one line, or an image; under PNG's checksums the very same."""
    data = CASES[name].make()
    whole = decode_image(data, name)
    rng = np.random.default_rng(sum(map(ord, name)))
    for _ in range(120):
        noisy = bytearray(data)
        for offset in rng.integers(0, len(data), rng.integers(1, 6)):
            noisy[offset] ^= 1 << int(rng.integers(0, 8))
        found = attempt(bytes(noisy), name)
        if name.endswith(".png") and not isinstance(found, str):
            assert np.array_equal(found, whole)


@pytest.mark.parametrize("name", ["none-uint8.tif", "grey-8.bmp"])
def test_a_changed_pixel_is_that_pixel(name: str) -> None:
    """Where pixels lie plain and without checksum, a changed byte changes one pixel, to its value, and no other."""
    data = CASES[name].make()
    whole = decode_image(data, name)
    first = data.index(whole[0].tobytes())
    for column in range(whole.shape[1]):
        changed = bytearray(data)
        changed[first + column] ^= 0x81
        found = decode_image(bytes(changed), name)
        wanted = whole.copy()
        wanted[0, column] ^= 0x81
        assert np.array_equal(found, wanted)


def list_cut_scans() -> Iterator[tuple[str, int]]:
    yield from (
        (name, k) for name in ("kind-extended.jpg", "progressive.jpg", "restarts.jpg", "colour.jpg") for k in range(4)
    )


@pytest.mark.parametrize(("name", "part"), list(list_cut_scans()))
def test_a_scan_that_is_cut_and_ended_is_refused(name: str, part: int) -> None:
    """Cut anywhere in its coded pixels and properly ended, a JPEG is refused, or nothing that can be seen is lost."""
    data = CASES[name].make()
    whole = decode_image(data, name)
    start = data.rindex(b"\xff\xda") + 14
    offsets = range(start, len(data) - 2)
    lost = 0
    for offset in list(offsets)[part :: 4 * max(1, len(offsets) // 400)]:
        found = attempt(data[:offset] + b"\xff\xd9", name)
        if not isinstance(found, str):
            lost += 1
            assert found.shape == whole.shape
            assert np.abs(found.astype(int) - whole).max() <= 4
    assert lost <= 5


def test_honest_jpegs_are_read_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    """Reading whole JPEGs of all kinds writes nothing to stderr, and what others write there meanwhile is not lost."""
    for name in ("kind-extended.jpg", "progressive.jpg", "restarts.jpg", "colour-progressive.jpg", "cmyk.jpg"):
        attempt(CASES[name].make(), name)
    assert capfd.readouterr() == ("", "")
    with drop_jpeg_warnings():
        os.write(2, b"another thread's words\n")
    assert capfd.readouterr() == ("", "another thread's words\n")


def test_long_runs_of_markers_take_no_time() -> None:
    """Megabytes of FF, of restarts, of empty segments, in a JPEG are gone through once, not once for each byte."""
    blocks = np.zeros((1, 1), np.uint8)
    whole = hostile_jpeg.make_jpeg(blocks)
    for filling in (b"\xff" * 4_000_000, b"\xff\xd0" * 2_000_000, b"\xff\xe0\0\2" * 200_000, b"\xff\0" * 2_000_000):
        for data in (whole[:2] + filling + whole[2:], whole[:-2] + filling + whole[-2:], whole[:2] + filling):
            attempt(data, "x.jpg")


def test_noise_of_every_signature_is_refused() -> None:
    """Random bytes behind each format's signature make no image and no other exception."""
    rng = np.random.default_rng(11)
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"BM")
    for start, _ in chain.from_iterable(((start, k) for k in range(60)) for start in starts):
        assert isinstance(attempt(start + rng.bytes(int(rng.integers(0, 3000))), "x.png"), str)
