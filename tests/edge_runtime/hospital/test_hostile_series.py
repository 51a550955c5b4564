"""Hostile DICOM files, NIfTI files and zips: one row or one line each, no traceback, no hang, memory within limits."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import hospital_cd as cd
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from edge_runtime.contract.fields import Acquisition
from edge_runtime.hospital.headers.scan import HeaderReader, Scan, scan
from edge_runtime.hospital.series.group import group
from edge_runtime.hospital.series.verdict import judge

ROOT = Path(__file__).parents[3]
WANTED = Acquisition("MR", "T1", "yes", 3)
SECONDS, CHILD_BYTES = 15.0, 600_000_000
PIXELS = b"\xe0\x7f\x10\x00"


@pytest.fixture(scope="module")
def reader() -> Iterator[HeaderReader]:
    made = HeaderReader()
    yield made
    made.close()


def save(item: pydicom.Dataset) -> bytes:
    file = io.BytesIO()
    item.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture(scope="module")
def whole() -> bytes:
    """One good slice."""
    return save(next(cd.make_slices(cd.plan(20, cd.T1CE, 1, "t1ce"))))


def count_lines(path: Path, reader: HeaderReader) -> Scan:
    """Read one file: it must be one row, or one of the files that are counted."""
    started = time.monotonic()
    found = scan([path], False, reader)
    rows = judge(group(found.found, reader.hash_pixels), WANTED)
    assert len(rows) + sum(found.counts.values()) == 1
    assert time.monotonic() - started < SECONDS
    return found


def find_peak(reader: HeaderReader) -> int:
    """The child's largest resident memory in bytes."""
    text = Path(f"/proc/{reader.process.pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def list_places(data: bytes) -> list[int]:
    """Where each element of a data set begins, by its tags, walked by hand."""
    places, at = [], 132
    while at < len(data):
        places.append(at)
        long = data[at + 4 : at + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"UC", b"UR")
        length = int.from_bytes(data[at + 8 : at + 12] if long else data[at + 6 : at + 8], "little")
        at += (12 if long else 8) + length
    assert at == len(data)
    return places


def test_cut_short_at_each_tag(tmp_path: Path, whole: bytes, reader: HeaderReader) -> None:
    """At the beginning of each element, inside it, and at its last byte; no cut file is taken for whole."""
    path = tmp_path / "cut"
    places = list_places(whole)
    assert len(places) > 35
    for place in [place + extra for place in places for extra in (0, 5)] + [len(whole) - 1]:
        path.write_bytes(whole[:place])
        found = count_lines(path, reader)
        assert all(item.header.damaged or item.header.form == "other" for item in found.found)
    path.write_bytes(whole)
    assert not count_lines(path, reader).found[0].header.damaged


def test_a_hundred_and_fifty_mutations(tmp_path: Path, whole: bytes, reader: HeaderReader) -> None:
    """Bytes changed, dropped and doubled in the header."""
    path, head = tmp_path / "mutated", whole.index(PIXELS)
    for seed in range(150):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        for place in rng.integers(132, head, int(rng.integers(1, 9))):
            kind = rng.integers(3)
            if kind == 0:
                data[place] = rng.integers(256)
            elif kind == 1:
                del data[place : place + int(rng.integers(1, 20))]
            else:
                data[place:place] = rng.bytes(int(rng.integers(1, 20)))
        path.write_bytes(data)
        count_lines(path, reader)


def element(tag: str, kind: bytes, value: bytes, length: int | None = None) -> bytes:
    """One explicit element, whose length may lie."""
    code = struct.pack("<HH", int(tag[:4], 16), int(tag[4:], 16)) + kind
    size = len(value) if length is None else length
    return (
        code
        + (struct.pack("<HI", 0, size) if kind in (b"SQ", b"OW", b"UN", b"UT") else struct.pack("<H", size))
        + value
    )


ITEM, OPEN = b"\xfe\xff\x00\xe0", b"\xff\xff\xff\xff"


def deep(levels: int) -> bytes:
    """Sequences in sequences, of undefined length."""
    return (element("00081140", b"SQ", b"", 0xFFFFFFFF) + ITEM + OPEN) * levels


def many_items(count: int) -> bytes:
    """Functional groups without number."""
    return element("52009230", b"SQ", (ITEM + struct.pack("<I", 0)) * count)


HOSTILE = {
    "deep": deep(5000),
    "deep without end": deep(200_000),
    "huge text": element("00081030", b"UT", b"x", 0xFFFFFFF0),
    "huge sequence": element("52009230", b"SQ", b"x", 0xFFFFFFF0),
    "huge odd value": element("00091001", b"UN", b"x", 0xFFFFFFFE),
    "open odd value": element("00091001", b"UN", b"x" * 100, 0xFFFFFFFF),
    "many items": many_items(3_000_000),
    "30 MB of text": element("00081030", b"UT", b"x" * 30_000_000),
    "many elements": element("00091001", b"UN", b"") * 1_000_000,
    "2 to the 31 frames": element("00280008", b"IS", b"2147483648"),
    "frames below 0": element("00280008", b"IS", b"-5"),
    "NaN": element("00200037", b"DS", b"nan\\nan\\nan\\nan\\nan\\nan "),
    "infinite": element("00200032", b"DS", b"1e400\\1e400\\1e400 "),
    "rows of 65535": element("00280010", b"US", b"\xff\xff"),
    "no rows": element("00280010", b"US", b"\0\0"),
    "rows as text": element("00280010", b"LO", b"many"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_elements_that_lie(tmp_path: Path, whole: bytes, reader: HeaderReader, name: str) -> None:
    """In the place where they belong, before the pixels."""
    path, head = tmp_path / "lies", whole.index(PIXELS)
    data = bytearray(whole[:head])
    tag = HOSTILE[name][:4]
    place = next((at for at in list_places(whole) if sort_key(whole[at : at + 4]) >= sort_key(tag)), head)
    end = next((at for at in list_places(whole) if at > place), head)
    same = whole[place : place + 4] == tag
    path.write_bytes(bytes(data[:place]) + HOSTILE[name] + whole[end if same else place :])
    count_lines(path, reader)
    assert find_peak(reader) < CHILD_BYTES


def sort_key(tag: bytes) -> tuple[int, ...]:
    return struct.unpack("<HH", tag)


def test_a_bomb_that_is_deflated(tmp_path: Path, reader: HeaderReader) -> None:
    """A data set that inflates to a gigabyte is given up early."""
    item = next(cd.make_slices(cd.plan(20, cd.T1CE, 1)))
    item.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    good = save(item)
    path = tmp_path / "deflated"
    path.write_bytes(good)
    assert not count_lines(path, reader).found[0].header.damaged
    (length,) = struct.unpack("<I", good[140:144])
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    path.write_bytes(good[: 144 + length] + bomb)
    assert count_lines(path, reader).counts["unreadable"] == 1
    assert find_peak(reader) < CHILD_BYTES


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)


def test_zips_that_lie(tmp_path: Path, whole: bytes, reader: HeaderReader) -> None:
    """A bomb, a zip in a zip, an encrypted entry, another method, a damaged list, names that climb out."""
    path = tmp_path / "hostile.zip"
    write_zip(path, {"bomb": bytes(1 << 28)})
    assert count_lines(path, reader).counts["other"] == 1
    write_zip(path, {"dicom": whole[:132] + bytes(1 << 28)})
    count_lines(path, reader)
    inner = tmp_path / "inner.zip"
    write_zip(inner, {"a": whole})
    write_zip(path, {"inner.zip": inner.read_bytes()})
    assert count_lines(path, reader).counts["nested"] == 1
    write_zip(path, {"../../climbs": whole})
    assert len(count_lines(path, reader).found) == 1 and not (tmp_path.parent / "climbs").exists()
    data = bytearray(path.read_bytes())
    for sign, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(sign) + place] |= 1
    path.write_bytes(data)
    assert count_lines(path, reader).counts["encrypted"] == 1
    write_zip(path, {"a": whole})
    data = bytearray(path.read_bytes())
    for sign, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(sign) + place] = 99
    path.write_bytes(data)
    assert count_lines(path, reader).counts["unreadable"] == 1
    write_zip(path, {"a": whole})
    good = path.read_bytes()
    for place in range(0, len(good), 37):
        path.write_bytes(good[:place])
        found = scan([path], False, reader)
        assert not found.found and sum(found.counts.values()) == 1
    path.write_bytes(good[:-22] + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, 0xFFFFFFF0, 0, 0))
    assert count_lines(path, reader).counts["unreadable"] == 1
    assert find_peak(reader) < CHILD_BYTES


def make_nifti(shape: tuple[int, ...] = (6, 5, 4)) -> bytes:
    return bytes(nibabel.Nifti1Image(np.ones(shape, np.int16), np.diag([-1.0, 1.0, 2.0, 1.0])).to_bytes())


def test_nifti_files_that_lie(tmp_path: Path, reader: HeaderReader) -> None:
    """Sizes below 0 and beyond measure, an odd type, a distant offset, NaN; a packed bomb; 60 mutations; cut short."""
    path, good = tmp_path / "t1ce.nii", make_nifti()
    path.write_bytes(good)
    assert len(count_lines(path, reader).found[0].header.frames) == 4
    changes = [(40, 2, value) for value in (-1, 0, 8, 32767)] + [(42, 2, value) for value in (-3, 0, 32767)]
    changes += [(70, 2, value) for value in (0, 1, 128, 9999)] + [
        (252, 2, -7),
        (108, 4, 0x7F7FFFFF),
        (280, 4, 0x7FC00000),
    ]
    for place, size, value in changes:
        path.write_bytes(good[:place] + value.to_bytes(size, "little", signed=True) + good[place + size :])
        count_lines(path, reader)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data = bytearray(good)
        for place in rng.integers(4, 344, 6):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        count_lines(path, reader)
    for place in range(352, len(good), 50):
        path.write_bytes(good[:place])
        assert count_lines(path, reader).found[0].header.damaged
    path.write_bytes(gzip.compress(good[:352] + bytes(1 << 28)))
    assert len(count_lines(path, reader).found) == 1
    path.write_bytes(gzip.compress(good)[:30])
    count_lines(path, reader)
    assert find_peak(reader) < CHILD_BYTES


def test_what_is_no_file_is_not_waited_for(tmp_path: Path, whole: bytes, reader: HeaderReader) -> None:
    """Pipes, sockets of no one, links in a circle and links to nothing, beside a good file."""
    (tmp_path / "good").write_bytes(whole)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "empty").touch()
    found = scan([tmp_path], True, reader)
    assert len(found.found) == 1 and found.counts == {"unreadable": 4, "other": 1}


def test_a_killed_reader_costs_one_file(tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process reads on, with the same digests: a series stays whole."""
    for number, item in enumerate(cd.make_slices(cd.plan(20, cd.T1CE, 1, "t1ce"))):
        (tmp_path / f"{number}").write_bytes(save(item))
    reader = HeaderReader()
    ask = reader.ask

    def kill_before(path: Path, **more: object) -> Iterator[dict[str, object]]:
        if path.name == "2":
            reader.process.kill()
            reader.process.wait()
        return ask(path, **more)

    monkeypatch.setattr(reader, "ask", kill_before)
    found = scan([tmp_path], False, reader)
    assert found.counts["unreadable"] == 1
    (series,) = group(found.found, reader.hash_pixels)
    assert (len(series.slices), series.steps.missing) == (4, 1)
    reader.close()


def test_a_folder_of_all_of_them(tmp_path: Path, whole: bytes) -> None:
    """By the command itself: no traceback, nothing on stderr but what is assumed, exit 3."""
    head = whole.index(PIXELS)
    for number, (name, data) in enumerate(HOSTILE.items()):
        if len(data) < 1_000_000:
            (tmp_path / str(number)).write_bytes(whole[:head] + data + whole[head:] + name.encode())
    (tmp_path / "cut").write_bytes(whole[: head // 2])
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-P", "-m", "edge_runtime.cli", "--list", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1 and "assumed" in done.stderr
    assert "would be taken" in done.stdout
