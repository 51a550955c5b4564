"""What does a DICOM file's header say? Read by pydicom, in the child process alone."""

from __future__ import annotations

import datetime
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from importlib.util import find_spec
from io import BytesIO
from typing import Any

from pydicom import config, uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import Tag

from .header import Digests, Frame, Header, Timing, Vector
from .source import MAX_HEADER, MAX_INFLATED, BoundedFile, RefusedError
from .words import MODALITIES, OWN, find_marks, find_words, names_agent

config.settings.reading_validation_mode = config.IGNORE  # its warnings quote values
PIXELS = 0x7FE00008  # the first tag of pixel data, of three
MAX_FRAMES = 10_000
MAX_ITEMS = 200_000  # of one sequence and those in it: 20 for each frame
ITEM = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # how one begins, in either byte order
NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
# What reads the pixels of a transfer syntax: the module that is imported, and its package.
PACKAGES: dict[str, tuple[str, str]] = {
    **dict.fromkeys((*NATIVE, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless), ("pydicom", "pydicom")),
    **dict.fromkeys((uid.JPEG2000Lossless, uid.JPEG2000, "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202",
                     "1.2.840.10008.1.2.4.203"), ("openjpeg", "pylibjpeg-openjpeg")),
    **dict.fromkeys((uid.JPEGLSLossless, uid.JPEGLSNearLossless), ("jpeg_ls", "pyjpegls")),
    **dict.fromkeys((uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit),
                    ("gdcm", "python-gdcm")),
}  # fmt: skip
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
TEXTS = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName", "AcquisitionContrast")
PLAIN = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "Modality", "ImageType", "Manufacturer", "ContentLabel", *TEXTS, "ScanningSequence",
    "ContrastBolusAgent", "ContrastBolusAgentSequence", "ContributingEquipmentSequence", "InstanceNumber",
    "AcquisitionNumber", "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime",
    "ContentDate", "ContentTime", "RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "AngioFlag",
    "EchoPlanarPulseSequence", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "TemporalPositionIdentifier", "DiffusionBValue", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated",
    "PhotometricInterpretation", "NumberOfFrames", "BurnedInAnnotation", "LossyImageCompression",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "VolumeBasedCalculationTechnique",
)  # fmt: skip
TAGS = [Tag(name) for name in PLAIN]


class Parsed:
    """A data set up to its pixel data: `ends` is where that begins, None where there is none."""

    def __init__(self, fields: Dataset, syntax: str, ends: int | None, left: int) -> None:
        self.fields, self.syntax, self.ends, self.left = fields, syntax, ends, left


def read_header(file: BoundedFile, digest: Digests) -> Header | None:
    """Return a DICOM file's header; None for what is no DICOM object. Raises: RefusedError, and what pydicom raises."""
    parsed = parse(file, TAGS)
    fields = parsed.fields
    if not get_text(fields, "SOPClassUID"):
        return None
    kind = str(uid.UID(get_text(fields, "SOPClassUID")).name)
    is_image = "Image Storage" in kind or (parsed.ends is not None and kind == get_text(fields, "SOPClassUID"))
    modality = get_text(fields, "Modality").upper()
    marks = set(find_own(fields))
    shared = Header(
        form="other",
        study=digest(get_text(fields, "StudyInstanceUID")),
        series=digest(get_text(fields, "SeriesInstanceUID")),
        reference_frame=digest(get_text(fields, "FrameOfReferenceUID")),
        instance=digest(get_text(fields, "SOPInstanceUID")),
        modality=modality if modality in MODALITIES else "other",
        number=get_integer(fields, "InstanceNumber"),
    )
    if not is_image:
        marks |= {"not-image"}
        return Header(**{**vars(shared), "marks": tuple(sorted(marks))})
    return describe_image(parsed, shared, marks, digest)


def describe_image(parsed: Parsed, shared: Header, marks: set[str], digest: Digests) -> Header:
    """Return the header of an image."""
    fields = parsed.fields
    frames = list_frames(fields, digest)
    rows, columns = get_integer(fields, "Rows") or 0, get_integer(fields, "Columns") or 0
    count = get_integer(fields, "NumberOfFrames") or 1
    timing = read_timing(fields)
    return Header(
        **{
            **vars(shared),
            "form": "multi-frame" if "PerFrameFunctionalGroupsSequence" in fields or count > 1 else "classic",
            "rows": rows,
            "columns": columns,
            "marks": tuple(sorted(marks | set(find_image_marks(fields)) | set(frames[0].marks if frames else ()))),
            "words": find_words(get_text(fields, name) for name in TEXTS),
            "timing": timing,
            "agent": find_agent(fields),
            "acquisition": get_integer(fields, "AcquisitionNumber"),
            "seconds": find_seconds(fields),
            "package": find_package(parsed.syntax),
            "damaged": is_damaged(parsed, rows, columns, count),
            "frames": tuple(frames),
        }
    )


def parse(file: BoundedFile, tags: list[Any] | None, whole: bool = False) -> Parsed:
    """Return a file's data set up to its pixel data, or whole. tags: those that are kept, None for all.

    Raises: RefusedError, and what pydicom raises.
    """
    file.seek(0)
    start = 132 if file.read(132)[128:] == b"DICM" else 0
    file.seek(start)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)  # type: ignore[arg-type]
    syntax = get_text(meta, "TransferSyntaxUID")
    place = file.tell()
    head = file.read(6)
    file.seek(place)
    source: Any = file
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        source = BytesIO(inflate(file, min(file.most, MAX_INFLATED)))
    big = syntax == uid.ExplicitVRBigEndian or (not syntax and head[:1] == b"\0")
    implicit = syntax == uid.ImplicitVRLittleEndian or (not syntax and not head[4:6].isalpha())
    ends: int | None = None

    def stop(tag: int, *_: object) -> bool:
        nonlocal ends
        if tag < PIXELS or whole:
            return False
        ends = source.tell() if tag >> 16 == 0x7FE0 else None
        return True

    fields = read_dataset(source, implicit, not big, stop_when=stop, specific_tags=tags)
    size = len(source.getbuffer()) if isinstance(source, BytesIO) else file.size
    syntax = syntax or (NATIVE[2] if big else NATIVE[0] if implicit else NATIVE[1]) if whole else syntax
    return Parsed(fields, syntax, ends, size - ends if ends is not None else 0)


def inflate(file: BoundedFile, most: int) -> bytes:
    """Return what is deflated from here on, whole; it may be a bomb. Raises: RefusedError beyond `most` bytes."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = bytearray()
    while chunk := file.read(1 << 20):
        try:
            data += inflater.decompress(chunk, most + 1 - len(data))
        except zlib.error:
            raise RefusedError("damaged deflated data") from None
        if len(data) > most:
            raise RefusedError("it inflates to too much")
    return bytes(data)


def hash_pixels(file: BoundedFile) -> str:
    """Return the digest of a file's encoded pixel data, to tell copies.

    Raises: RefusedError, and what pydicom raises.
    """
    parsed = parse(file, [Tag("SOPClassUID")])
    state = blake2b(digest_size=16)
    deflated = parsed.syntax == uid.DeflatedExplicitVRLittleEndian
    file.file.seek(0 if deflated else parsed.ends or 0)
    left = MAX_HEADER * 8
    while left > 0 and (chunk := file.file.read(1 << 20)):
        state.update(chunk)
        left -= len(chunk)
    return state.hexdigest()


# ---------------------------------------------------------------- values


def get(fields: Dataset, name: str) -> Any:
    """Return a value; None where it is missing, empty or cannot be read."""
    try:
        value = fields.get(name)
        return None if value is None or value == "" else value
    except RefusedError:
        raise
    except Exception:  # a value that its VR does not allow raises what its parser does
        return None


def get_text(fields: Dataset, name: str) -> str:
    """Return a value as text; "" for none."""
    value = get(fields, name)
    if value is None or isinstance(value, Dataset | bytes):
        return ""
    return str(value).strip(" \0")


def get_texts(fields: Dataset, name: str) -> list[str]:
    """Return the values of a code or text."""
    value = get(fields, name)
    if value is None or isinstance(value, bytes):
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value] if isinstance(value, Iterable) else []


def get_numbers(fields: Dataset, name: str, count: int) -> Vector | None:
    """Return `count` finite numbers; None for anything else."""
    value = get(fields, name)
    try:
        numbers = tuple(float(item) for item in ([value] if isinstance(value, int | float) else value))
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == count and all(abs(number) < 1e9 for number in numbers) else None


def get_number(fields: Dataset, name: str) -> float | None:
    """Return a finite number, or None; of several, such as many echo times, none."""
    numbers = get_numbers(fields, name, 1)
    return numbers[0] if numbers else None


def get_integer(fields: Dataset, name: str) -> int | None:
    """Return a whole number, or None."""
    number = get_number(fields, name)
    return int(number) if number is not None else None


def get_items(fields: Dataset | None, name: str) -> list[Dataset]:
    """Return a sequence's items. Raises: RefusedError if they are too many to be made objects of."""
    if fields is None:
        return []
    raw = fields.get_item(Tag(name)) if name in fields else None
    if isinstance(data := getattr(raw, "value", None), bytes) and max(map(data.count, ITEM)) > MAX_ITEMS:
        raise RefusedError("too many items")
    value = get(fields, name)
    try:
        return [item for item in value if isinstance(item, Dataset)] if value is not None else []
    except TypeError:
        return []


def get_item(fields: Dataset | None, name: str) -> Dataset | None:
    """Return a sequence's first item."""
    items = get_items(fields, name)
    return items[0] if items else None


# ---------------------------------------------------------------- what they mean


def list_frames(fields: Dataset, digest: Digests) -> list[Frame]:
    """Return an image's frames; of a multi-frame image, from its functional groups. Raises: RefusedError."""
    types = get_texts(fields, "ImageType")
    groups = get_items(fields, "PerFrameFunctionalGroupsSequence")
    if len(groups) > MAX_FRAMES:
        raise RefusedError("too many frames")
    if not groups:
        frame = Frame(
            position=get_numbers(fields, "ImagePositionPatient", 3),
            orientation=get_numbers(fields, "ImageOrientationPatient", 6),
            spacing=to_spacing(get_numbers(fields, "PixelSpacing", 2)),
            thickness=get_number(fields, "SliceThickness"),
            echo_ms=get_number(fields, "EchoTime"),
            temporal=get_integer(fields, "TemporalPositionIdentifier"),
            b_value=get_number(fields, "DiffusionBValue"),
            kind=digest("\\".join(types)),
            marks=find_marks(types),
        )
        count = max(1, min(get_integer(fields, "NumberOfFrames") or 1, MAX_FRAMES))
        return [frame] * count  # without functional groups, all lie in one place
    shared = get_item(fields, "SharedFunctionalGroupsSequence")
    return [describe_frame(group, shared, types, digest) for group in groups]


def describe_frame(group: Dataset, shared: Dataset | None, types: list[str], digest: Digests) -> Frame:
    """Return one frame of a multi-frame image."""

    def find(macro: str) -> Dataset:
        return get_item(group, macro) or get_item(shared, macro) or Dataset()

    measures, diffusion = find("PixelMeasuresSequence"), find("MRDiffusionSequence")
    kinds = get_texts(find("MRImageFrameTypeSequence"), "FrameType") or types
    return Frame(
        position=get_numbers(find("PlanePositionSequence"), "ImagePositionPatient", 3),
        orientation=get_numbers(find("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        spacing=to_spacing(get_numbers(measures, "PixelSpacing", 2)),
        thickness=get_number(measures, "SliceThickness"),
        echo_ms=get_number(find("MREchoSequence"), "EffectiveEchoTime"),
        temporal=get_integer(find("FrameContentSequence"), "TemporalPositionIndex"),
        b_value=get_number(diffusion, "DiffusionBValue"),
        kind=digest("\\".join(kinds)),
        marks=find_marks(kinds),
    )


def to_spacing(spacing: Vector | None) -> Vector | None:
    """Return a pixel's spacing if it is one."""
    return spacing if spacing and min(spacing) > 0 else None


def read_timing(fields: Dataset) -> Timing:
    """Return what tells the sequence, of a classic image or of a multi-frame image's first frame."""
    shared = get_item(fields, "SharedFunctionalGroupsSequence")
    first = get_item(fields, "PerFrameFunctionalGroupsSequence")

    def find(macro: str) -> Dataset:
        return get_item(first, macro) or get_item(shared, macro) or Dataset()

    timing, modifier = find("MRTimingAndRelatedParametersSequence"), find("MRModifierSequence")
    inversions = get(modifier, "InversionTimes")
    inversion = get_number(fields, "InversionTime")
    if inversion is None and inversions is not None:
        inversion = get_number(modifier, "InversionTimes")
    if (repetition := get_number(fields, "RepetitionTime")) is None:
        repetition = get_number(timing, "RepetitionTime")
    if (echo := get_number(fields, "EchoTime")) is None:
        echo = get_number(find("MREchoSequence"), "EffectiveEchoTime")
    if (flip := get_number(fields, "FlipAngle")) is None:
        flip = get_number(timing, "FlipAngle")
    known = ("SE", "IR", "GR", "EP", "RM")
    scanning = tuple(code for code in get_texts(fields, "ScanningSequence") if code in known)
    return Timing(repetition, echo, inversion, flip, scanning)


def find_own(fields: Dataset) -> Iterator[str]:
    """Yield the mark of what this program wrote, which it must not segment again."""
    texts = [get_text(fields, name) for name in ("SeriesDescription", "Manufacturer", "ContentLabel")]
    texts += [get_text(item, "Manufacturer") for item in get_items(fields, "ContributingEquipmentSequence")]
    if any(text.lower().replace("_", "-").startswith(OWN) for text in texts):
        yield "own-result"


def find_image_marks(fields: Dataset) -> Iterator[str]:
    """Yield what rules an image out beside its type."""
    if get_text(fields, "SOPClassUID").startswith(SECONDARY_CAPTURE):
        yield "screenshot"
    if (get_integer(fields, "SamplesPerPixel") or 1) > 1 or "PALETTE" in get_text(fields, "PhotometricInterpretation"):
        yield "colour"
    if get_text(fields, "BurnedInAnnotation").upper() == "YES":
        yield "burned-in"
    if get_text(fields, "AngioFlag").upper() == "Y":
        yield "angio"
    if get_text(fields, "EchoPlanarPulseSequence").upper() == "YES" or "EP" in get_texts(fields, "ScanningSequence"):
        yield "epi"
    if get_text(fields, "LossyImageCompression") == "01":
        yield "lossy"
    if get_text(fields, "VolumeBasedCalculationTechnique").upper() in ("MAX_IP", "MIN_IP"):
        yield "projection"
    yield from find_marks(get_texts(fields, "ImageType"))


def find_agent(fields: Dataset) -> bool:
    """Tell whether a contrast agent is named; the field is often empty or left over, so others are asked too."""
    return names_agent(get_text(fields, "ContrastBolusAgent")) or bool(get_items(fields, "ContrastBolusAgentSequence"))


def find_seconds(fields: Dataset) -> float | None:
    """Return when the image was acquired, in seconds on a clock of its own; None where that is not said."""
    text = get_text(fields, "AcquisitionDateTime")
    for kind in ("Acquisition", "Series", "Content"):
        if not text and (clock := get_text(fields, f"{kind}Time")):
            text = (get_text(fields, f"{kind}Date") or "20000101") + clock
    with suppress(ValueError, OverflowError):
        moment = datetime.datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=datetime.UTC)
        return moment.timestamp() + (float(f"0{text[14:21]}") if text[14:15] == "." else 0.0)
    return None


def find_package(syntax: str) -> str:
    """Return the package that a transfer syntax needs and that is missing; "?" where none reads it, "" for none."""
    if not syntax:
        return ""
    module, package = PACKAGES.get(syntax, ("", "?"))
    return package if not module or find_spec(module) is None else ""


def is_damaged(parsed: Parsed, rows: int, columns: int, count: int) -> bool:
    """Tell whether an image lacks pixels: none at all, no size, or fewer bytes than the size means."""
    if parsed.ends is None or not 0 < rows <= 65535 or not 0 < columns <= 65535 or count < 1:
        return True
    fields = parsed.fields
    bits = (get_integer(fields, "BitsAllocated") or 16) * (get_integer(fields, "SamplesPerPixel") or 1)
    if parsed.syntax in (*NATIVE, "", uid.DeflatedExplicitVRLittleEndian):
        return parsed.left < math.ceil(rows * columns * bits / 8) * count
    return parsed.left < 16


def list_directory(file: BoundedFile, digest: Digests) -> Iterator[tuple[str, str]]:
    """Yield (digest of the series, file's parts joined by /) of a DICOMDIR. Raises: what pydicom raises."""
    records = parse(file, [Tag("DirectoryRecordSequence"), Tag("SOPClassUID")]).fields
    series = ""
    for record in get_items(records, "DirectoryRecordSequence"):
        kind = get_text(record, "DirectoryRecordType").upper()
        series = digest(get_text(record, "SeriesInstanceUID")) if kind == "SERIES" else series
        if parts := get_texts(record, "ReferencedFileID"):
            yield series, "/".join(parts)
