"""Pixels of DICOM files: each transfer syntax and kind of value against the values that were written."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import hospital_cd as cd
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from edge_runtime.errors import ImageError
from edge_runtime.hospital.headers.source import BoundedFile
from edge_runtime.hospital.pixels.dicom_pixels import ImageFile
from edge_runtime.hospital.pixels.levels import Stored, flag_brightness, to_image
from edge_runtime.hospital.pixels.read_slice import SliceReader
from edge_runtime.hospital.pixels.slice_source import SliceSource

ROWS, COLUMNS = 40, 67  # no smaller: openjpeg
KINDS = {  # BitsAllocated, BitsStored, signed
    "u8": (8, 8, False),
    "u12": (16, 12, False),
    "u16": (16, 16, False),
    "s12": (16, 12, True),
    "s16": (16, 16, True),
}
SYNTAXES = (
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.JPEGLossless,
)  # fmt: skip
COMPRESSED_BY_GDCM = (uid.JPEGLosslessSV1, uid.JPEGLossless)
Values = npt.NDArray[Any]


def draw(kind: str, seed: int = 0) -> Values:
    """Values over the whole range of a kind, smooth enough for all codecs."""
    allocated, stored, signed = KINDS[kind]
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    rng = np.random.default_rng(seed)
    values = rng.integers(low, high, (ROWS, COLUMNS), endpoint=True)
    values[0, :2] = low, high
    return values.astype(f"{'i' if signed else 'u'}{allocated // 8}")


def make(values: Values, kind: str, garbage: bool = False) -> Dataset:
    allocated, stored, signed = KINDS[kind]
    item = next(cd.make_slices(cd.plan(20, cd.T1CE, 1, "t1ce")))
    item.Rows, item.Columns = values.shape
    item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = allocated, stored, stored - 1, signed
    raw = values.astype(values.dtype).view(f"u{allocated // 8}")
    if garbage:
        raw = (raw & (2**stored - 1)) | (
            np.random.default_rng(1).integers(0, 16, raw.shape).astype(raw.dtype) << stored
        )
    item.PixelData = raw.tobytes()
    item["PixelData"].VR = "OW" if allocated == 16 else "OB"
    return item


def encode(item: Dataset, syntax: str) -> bytes:
    """The file of a data set in a transfer syntax, by pydicom's encoders or gdcm's."""
    if syntax in COMPRESSED_BY_GDCM:
        return encode_by_gdcm(item, syntax)
    file = BytesIO()
    if syntax in (uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless):
        item.compress(syntax, generate_instance_uid=False)
    elif syntax == uid.ExplicitVRBigEndian:
        item.PixelData = np.frombuffer(item.PixelData, f"<u{item.BitsAllocated // 8}").byteswap().tobytes()
    item.file_meta.TransferSyntaxUID = syntax
    item.save_as(file, enforce_file_format=True)
    return file.getvalue()


def encode_by_gdcm(item: Dataset, syntax: str) -> bytes:
    gdcm = pytest.importorskip("gdcm")
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = str(Path(folder) / "plain"), str(Path(folder) / "packed")
        item.save_as(plain, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(plain)
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        kinds = {uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
                 uid.JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14}  # fmt: skip
        change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
        change.SetInput(reader.GetImage())
        if not change.Change():
            pytest.skip("gdcm does not encode this")
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(packed)
        assert writer.Write()
        return Path(packed).read_bytes()


def read(data: bytes, frame: int = 0) -> Stored:
    found = ImageFile(BoundedFile(BytesIO(data), len(data))).read_frame(frame, 10**6)
    assert isinstance(found, Stored)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: uid.UID(syntax).name)
def test_values_are_those_written(syntax: str, kind: str) -> None:
    """Bit by bit, in every transfer syntax that something here encodes."""
    values = draw(kind)
    data = encode(make(values, kind), syntax)
    assert syntax.encode() in data
    np.testing.assert_array_equal(read(data).values, values)


@pytest.mark.parametrize("kind", ["u12", "s12"])
@pytest.mark.parametrize("syntax", SYNTAXES[:5], ids=lambda syntax: uid.UID(syntax).name)
def test_unused_bits_are_cleared(syntax: str, kind: str) -> None:
    """Overlays or garbage above BitsStored change nothing."""
    values = draw(kind)
    np.testing.assert_array_equal(read(encode(make(values, kind, garbage=True), syntax)).values, values)


def test_a_value_may_end_below_the_highest_bit() -> None:
    """HighBit 15 with 12 bits stored: the value lies in the upper bits."""
    values = draw("u12")
    item = make(values, "u12")
    item.HighBit, item.PixelData = 15, (values << 4 | 7).tobytes()
    np.testing.assert_array_equal(read(encode(item, uid.ExplicitVRLittleEndian)).values, values)


def test_padding_is_no_image() -> None:
    """PixelPaddingValue and its range are the least value; min and max are those of the rest."""
    values = draw("s16").clip(-100, 900)
    values[:, :3], values[:, 3:6] = -2000, -1990
    item = make(values, "s16")
    item.add_new(0x00280120, "SS", -2000)
    item.add_new(0x00280121, "SS", -1990)
    image = to_image(read(encode(item, uid.ExplicitVRLittleEndian)), "slice-min-max")
    rest = values[:, 6:].astype(float)
    expected = np.rint((rest - rest.min()) * 255 / (rest.max() - rest.min()))
    np.testing.assert_array_equal(image[:, 6:], expected)
    assert not image[:, :6].any()


@pytest.mark.parametrize(("slope", "meaning", "turned"), [
    (1.0, "MONOCHROME2", False), (2.5, "MONOCHROME2", False), (-2.5, "MONOCHROME2", True),
    (1.0, "MONOCHROME1", True), (-1.0, "MONOCHROME1", False),
])  # fmt: skip
def test_what_is_bright(slope: float, meaning: str, turned: bool) -> None:
    """A positive slope changes nothing, a negative one and MONOCHROME1 turn black and white, both nothing."""
    values = draw("u12")
    item = make(values, "u12")
    item.RescaleSlope, item.RescaleIntercept, item.PhotometricInterpretation = slope, -7.0, meaning
    image = to_image(read(encode(item, uid.ExplicitVRLittleEndian)), "slice-min-max")
    real = values.astype(float) * (-1 if turned else 1)
    np.testing.assert_array_equal(image, np.rint((real - real.min()) * 255 / (real.max() - real.min())))


def test_frames_have_slopes_of_their_own() -> None:
    """Enhanced MR: rescale of the frame's functional group, else of the shared one."""
    slices = list(cd.make_slices(cd.plan(20, cd.T1CE, 1, "t1ce")))
    item = cd.to_enhanced(slices)
    shared = cd.nest("RescaleSlope", 3.0)
    shared.RescaleIntercept = 1.0
    item.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [shared]
    own = cd.nest("RescaleSlope", -2.0)
    own.RescaleIntercept = 5.0
    item.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence = [own]
    data = encode(item, uid.ExplicitVRLittleEndian)
    size = 20 * 20
    for number, (slope, intercept) in enumerate([(3.0, 1.0), (-2.0, 5.0)]):
        found = read(data, number)
        assert (found.slope, found.intercept) == (slope, intercept)
        written = np.frombuffer(item.PixelData, "<u2")[number * size : (number + 1) * size].reshape(20, 20)
        np.testing.assert_array_equal(found.values, written)


def test_rules_for_levels() -> None:
    """Windows and percentiles clip, by hand; what is not finite is the least value; one value alone is 0."""
    values = np.array([[0, 10, 20, 30, np.nan]])
    stored = Stored(values, slope=2.0, intercept=-20.0)  # -20, 0, 20, 40
    assert to_image(stored, {"window": (10.0, 40.0)}).tolist() == [[0, 64, 191, 255, 0]]
    assert to_image(stored, {"percentiles": (0.0, 100.0)}).tolist() == [[0, 85, 170, 255, 0]]
    assert to_image(stored, "bit-depth").tolist() == [[0, 0, 20, 40, 0]]
    assert to_image(stored, "z-score").tolist() == [[0, 21845, 43690, 65535, 0]]
    assert not to_image(Stored(np.full((3, 3), 7)), "slice-min-max").any()


def test_dark_slices_are_flagged() -> None:
    """Below 5 and 30 % of the series' brightness, by hand; a slope counts, and the offset of signed values."""
    slice_ = np.linspace(0, 100, 101)[None]  # its 99th percentile is 99
    for share, flags in ((0.04, ("air",)), (0.06, ("faint",)), (0.29, ("faint",)), (0.31, ()), (2.0, ())):
        assert flag_brightness(Stored(slice_), 99 / share) == flags
        assert flag_brightness(Stored(slice_ - 1000, slope=2.0), 2 * 99 / share) == flags
    assert flag_brightness(Stored(slice_), None) == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda item: setattr(item, "BitsStored", 40), "damaged"),
        (lambda item: setattr(item, "Rows", 60000), "pixels"),
        (lambda item: setattr(item, "PixelData", bytes(100)), "damaged"),
        (lambda item: setattr(item, "PhotometricInterpretation", "PALETTE COLOR"), "neither grey"),
        (lambda item: setattr(item.file_meta, "TransferSyntaxUID", uid.UID("1.2.840.10008.1.2.4.100")), "4.100"),
        (lambda item: setattr(item.file_meta, "TransferSyntaxUID", uid.UID("9.9.DOE")), "transfer syntax unknown"),
    ],
)
def test_hostile_headers_are_one_error(tmp_path: Path, change: Any, why: str) -> None:
    """What cannot be decoded says why, under the slice's alias, and nothing of the file."""
    item = make(draw("u12"), "u12")
    item.PatientName = "DOE"
    change(item)
    if not item.file_meta.TransferSyntaxUID.startswith("1.2.840.10008.1.2.1"):
        item.PixelData = encapsulate([bytes(100)])
        item["PixelData"].is_undefined_length = True
    path = tmp_path / "DOE"
    item.save_as(path, implicit_vr=False, little_endian=True)
    with pytest.raises(ImageError, match=why) as error:
        SliceReader().read(path, "S1/0001", SliceSource("classic", "S1", 1), "slice-min-max", 10**6)
    assert "DOE" not in str(error.value) and error.value.what == "S1/0001"
