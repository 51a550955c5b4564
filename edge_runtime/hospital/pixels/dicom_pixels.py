"""What are the values of a DICOM image's frame? Decoded by pydicom with a fixed package for each transfer syntax."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag

from edge_runtime.hospital.headers.dicom import (
    MAX_FRAMES,
    PACKAGES,
    find_package,
    get_integer,
    get_item,
    get_items,
    get_number,
    get_text,
    parse,
)
from edge_runtime.hospital.headers.source import BoundedFile, RefusedError

from .levels import Stored

PLUGINS = {"pydicom": "pydicom", "openjpeg": "pylibjpeg", "jpeg_ls": "pyjpegls", "gdcm": "gdcm"}  # module: plugin
TAGS = [
    Tag(name)
    for name in (
        "SOPClassUID", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
        "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
        "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
        "FloatPixelData", "DoubleFloatPixelData",
    )
]  # fmt: skip


class ImageFile:
    """A DICOM file with its pixels, still encoded."""

    def __init__(self, file: BoundedFile) -> None:
        """Read a file. Raises: RefusedError, and what pydicom raises."""
        file.allow_pixels()
        parsed = parse(file, TAGS, whole=True)
        self.fields, self.syntax = parsed.fields, uid.UID(parsed.syntax)
        self.fields.file_meta = FileMetaDataset()
        self.fields.file_meta.TransferSyntaxUID = self.syntax
        if len(get_items(self.fields, "PerFrameFunctionalGroupsSequence")) > MAX_FRAMES:
            raise RefusedError("it has too many frames")

    def read_frame(self, number: int, max_pixels: int) -> Stored | npt.NDArray[np.uint8]:
        """Return a frame's values, of a colour image its (H, W, 3) pixels.

        Raises: RefusedError, MemoryError, and what the decoders raise.
        """
        rows, columns = get_integer(self.fields, "Rows") or 0, get_integer(self.fields, "Columns") or 0
        if not 0 < rows <= 65535 or not 0 < columns <= 65535 or rows * columns > max_pixels:
            raise RefusedError(f"{rows} x {columns} pixels")
        if package := find_package(self.syntax):
            why = "nothing here reads it" if package == "?" else f"it needs {package}"
            name = self.syntax if self.syntax in UID_dictionary else "unknown"  # else it may hold any text
            raise RefusedError(f"transfer syntax {name}: {why}")
        colour = (get_integer(self.fields, "SamplesPerPixel") or 1) == 3
        meaning = get_text(self.fields, "PhotometricInterpretation").upper()
        if not colour and meaning not in ("MONOCHROME1", "MONOCHROME2"):
            raise RefusedError("it is neither grey nor of three colours")
        plugin = PLUGINS[PACKAGES[self.syntax][0]] if self.syntax.is_encapsulated else ""  # whatever else is installed
        frames = get_integer(self.fields, "NumberOfFrames") or 1
        pixels, _ = get_decoder(self.syntax).as_array(
            self.fields,
            index=number if frames > 1 else 0,
            raw=not colour,
            decoding_plugin=plugin,
            correct_unused_bits=False,  # type: ignore[arg-type] # it knows no HighBit
        )
        if pixels.shape[:2] != (rows, columns):
            raise RefusedError("its pixels do not have the size that it names")
        if colour:
            return to_colour(pixels)
        return self.to_stored(pixels, number, meaning == "MONOCHROME1")

    def to_stored(self, pixels: npt.NDArray[Any], number: int, inverted: bool) -> Stored:
        """Return decoded pixels with what their values mean."""
        values = self.clear_bits(pixels) if pixels.dtype.kind in "iu" else pixels
        slope, intercept = self.find_rescale(number)
        return Stored(values, self.find_valid(values), slope, intercept, inverted)

    def clear_bits(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values of BitsStored bits, ending at HighBit, signed where PixelRepresentation says so.

        What lies in the other bits is no part of the value: overlays, or garbage.
        """
        size = pixels.dtype.itemsize * 8
        stored = get_integer(self.fields, "BitsStored") or size
        if not 1 <= stored <= size:
            raise RefusedError("it stores more bits than it has")
        high = get_integer(self.fields, "HighBit")
        native = not self.syntax.is_encapsulated or self.syntax == uid.RLELossless
        shift = min(size - stored, max(0, high + 1 - stored)) if high is not None and native else 0
        kind = pixels.dtype.newbyteorder("=")
        raw = pixels.astype(kind).view(f"u{pixels.dtype.itemsize}")
        raw = (raw << (size - stored - shift)) if size - stored - shift else raw
        signed = get_integer(self.fields, "PixelRepresentation") == 1
        return np.asarray(raw.view(f"{'i' if signed else 'u'}{pixels.dtype.itemsize}") >> (size - stored))

    def find_rescale(self, number: int) -> tuple[float, float]:
        """Return slope and intercept of a frame; (1, 0) where none is said."""
        shared = get_item(self.fields, "SharedFunctionalGroupsSequence")
        groups = get_items(self.fields, "PerFrameFunctionalGroupsSequence")
        places: list[Dataset | None] = [self.fields, get_item(shared, "PixelValueTransformationSequence")]
        if number < len(groups):
            places.append(get_item(groups[number], "PixelValueTransformationSequence"))
        slope, intercept = 1.0, 0.0
        for place in places:
            if place is not None:
                found = get_number(place, "RescaleSlope")
                slope = found if found else slope  # 0 would make all values one
                added = get_number(place, "RescaleIntercept")
                intercept = intercept if added is None else added
        return slope, intercept

    def find_valid(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
        """Return where a frame holds an image and no padding; None: everywhere."""
        low = self.get_padding("PixelPaddingValue")
        if low is None or values.dtype.kind not in "iu":
            return None
        high = self.get_padding("PixelPaddingRangeLimit")
        low, high = sorted((low, low if high is None else high))
        return np.asarray((values < low) | (values > high))

    def get_padding(self, name: str) -> int | None:
        """Return a padding value, read with the sign that pixels have: its VR may have been guessed wrong."""
        value = get_integer(self.fields, name)
        stored = get_integer(self.fields, "BitsAllocated") or 16
        signed = get_integer(self.fields, "PixelRepresentation") == 1
        if value is not None and signed and value >= 1 << (stored - 1):
            value -= 1 << stored
        elif value is not None and not signed and value < 0:
            value += 1 << stored
        return value


def to_colour(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return (H, W, 3) uint8. Raises: RefusedError for other colour images."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise RefusedError("a colour image of other than 8 bits")
    return np.ascontiguousarray(pixels)
