"""Hostile pixels: cut, altered and lying files cost an error of one slice, whatever the decoders do with them."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import uid
from test_pixels import draw, encode, make

from edge_runtime.errors import ImageError
from edge_runtime.hospital.headers.child import LineChild
from edge_runtime.hospital.pixels.read_slice import SliceReader
from edge_runtime.hospital.pixels.slice_source import SliceSource

MOST = 10**6
SYNTAXES = (
    uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless,
    uid.JPEGLSLossless, uid.JPEGLosslessSV1,
)  # fmt: skip


@pytest.fixture(scope="module")
def child() -> Iterator[LineChild]:
    with closing(LineChild("edge_runtime.hospital.plan.survey_main", {"memory": 1_000_000_000}, 20.0)) as made:
        yield made


def ask(child: LineChild, path: Path, form: str = "classic") -> list[dict[str, Any]]:
    source = asdict(SliceSource(form, "S1", 1))
    return list(child.ask_lines({"path": str(path), "slice": source, "max_pixels": MOST}))


def alter(data: bytes, seed: int) -> bytes:
    """A few bytes changed, from the pixels on or anywhere, or the end cut off."""
    rng = np.random.default_rng(seed)
    start = data.find(b"\xe0\x7f\x10\x00") if seed % 2 else 132
    if seed % 5 == 0:
        return data[: int(rng.integers(start, len(data)))]
    changed = bytearray(data)
    for place in rng.integers(max(start, 132), len(data), int(rng.integers(1, 12))):
        changed[place] = int(rng.integers(0, 256))
    return bytes(changed)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: uid.UID(syntax).name)
def test_altered_files(tmp_path: Path, child: LineChild, syntax: str) -> None:
    """30 of each transfer syntax: an answer each, in seconds; a whole file is read after them."""
    whole = encode(make(draw("u12"), "u12"), syntax)
    started = time.monotonic()
    for seed in range(30):
        (tmp_path / "a").write_bytes(alter(whole, seed))
        assert len(ask(child, tmp_path / "a")) <= 1
    (tmp_path / "b").write_bytes(whole)
    assert "bright" in ask(child, tmp_path / "b")[0]
    assert time.monotonic() - started < 60


def test_altered_volumes(tmp_path: Path, child: LineChild) -> None:
    """The same of NIfTI files, packed and not."""
    data = nibabel.Nifti1Image(np.arange(600, dtype=np.int16).reshape(10, 10, 6), np.eye(4)).to_bytes()
    for seed in range(30):
        changed = bytearray(data)
        for place in np.random.default_rng(seed).integers(40, 352, 4):
            changed[place] = seed * 37 % 256
        for name, content in (("a", bytes(changed)), ("b", gzip.compress(bytes(changed))[: 400 - seed * 10])):
            (tmp_path / name).write_bytes(content)
            assert len(ask(child, tmp_path / name, "nifti")) <= 1
    (tmp_path / "c").write_bytes(gzip.compress(data))
    assert "bright" in ask(child, tmp_path / "c", "nifti")[0]


def test_bombs_are_refused(tmp_path: Path) -> None:
    """A deflated data set and a volume that would inflate to much, and more pixels than a run allows."""
    item = make(draw("u12"), "u12")
    plain = encode(item, uid.DeflatedExplicitVRLittleEndian)
    start = plain.find(b"1.2.840.10008.1.2.1.99") + 22
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = b"\x08\x00\x16\x00UI\x1a\x001.2.840.10008.5.1.4.1.1.4\0\xe0\x7f\x10\x00OW\0\0\0\0\0\x7f"
    inner = packer.compress(head) + b"".join(packer.compress(bytes(1 << 24)) for _ in range(20)) + packer.flush()
    (tmp_path / "deflated").write_bytes(plain[:start] + inner)
    volume = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    volume.header["dim"][1:4] = 30000
    (tmp_path / "volume").write_bytes(gzip.compress(volume.header.binaryblock + bytes(1 << 22)))
    for name, form in (("deflated", "classic"), ("volume", "nifti")):
        started = time.monotonic()
        with pytest.raises(ImageError):
            SliceReader().read(tmp_path / name, "S1/0001", SliceSource(form, "S1", 1), "slice-min-max", MOST)
        assert time.monotonic() - started < 60
