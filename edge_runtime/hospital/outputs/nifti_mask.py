"""How is a series' mask written as NIfTI, with the source's own geometry and nothing of its texts?"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from edge_runtime.hospital.headers.source import BoundedFile, RefusedError, Source, find_nifti, open_zip, read_start

from .request import OutputSlice, SeriesRequest

OWN_TEXT = b"edge-seg mask (research)"
NEW_HEADER: Any = Nifti1Header  # untyped
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def copy_header(file: BoundedFile) -> Any:
    """Return a NIfTI file's header for a mask: its geometry, without its texts, which may name a patient."""
    head = read_start(file)
    version = find_nifti(head)
    if version is None:
        raise RefusedError("no NIfTI file any more")
    kind: Any = Nifti1Header if version == 1 else Nifti2Header
    fields = kind(head[: 348 if version == 1 else 540], check=False)
    if fields.endianness != "<":
        fields = fields.as_byteswapped("<")
    for name in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
        if name in fields.keys():  # noqa: SIM118 - a header is no dictionary
            fields[name] = b""
    fields["descrip"] = OWN_TEXT
    return fields


def to_file(fields: Any, planes: Iterable[bytes]) -> bytes:
    """Return the bytes of a .nii.gz of a mask, the same each time: the archive names no file and no time.

    planes: the voxels of one z after the other, x running fastest; never all of them in memory.
    """
    fields.set_data_dtype(np.uint8)
    fields["scl_slope"], fields["scl_inter"], fields["cal_max"], fields["cal_min"] = 1, 0, 0, 0
    head = 352 if len(fields.binaryblock) == 348 else 544
    fields["vox_offset"], fields["magic"] = head, b"n+1" if head == 352 else b"n+2\0\r\n\x1a\n"
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # gzip's frame, without a name
    parts = [packer.compress(fields.binaryblock + bytes(4)), *map(packer.compress, planes), packer.flush()]
    return b"".join(parts)


def make_affine(slices: tuple[OutputSlice, ...]) -> npt.NDArray[np.float64]:
    """Return the affine (4, 4) from (column, row, slice) to mm in NIfTI's axes, from the slices' positions.

    The third column is the way from the first to the last slice by the number of steps, so that a sheared stack stays
    sheared. Raises: RefusedError where slices do not say where they lie, or not in even steps on one line.
    """
    first, last = slices[0], slices[-1]
    if first.position is None or last.position is None or first.orientation is None or first.spacing is None:
        raise RefusedError("its slices do not say where they lie")
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * first.spacing[1]
    affine[:3, 1] = np.array(first.orientation[3:]) * first.spacing[0]
    affine[:3, 3] = first.position
    if len(slices) == 1:
        affine[:3, 2] = np.cross(first.orientation[:3], first.orientation[3:])
    else:
        affine[:3, 2] = (np.array(last.position) - np.array(first.position)) / (len(slices) - 1)
    step = float(np.linalg.norm(affine[:3, 2]))
    for number, item in enumerate(slices):
        expected = affine[:3, 3] + number * affine[:3, 2]
        if item.position is None or np.abs(expected - item.position).max() > max(0.01, 0.02 * step):
            raise RefusedError("its slices are not evenly spaced: a volume of them would be wrong")
    result: npt.NDArray[np.float64] = LPS_TO_RAS @ affine
    return result


def make_volume_of_slices(request: SeriesRequest, read_mask: Any) -> bytes:
    """Return the .nii.gz of a DICOM series' masks: axes are column, row, slice. Raises: RefusedError."""
    if request.gapped:
        raise RefusedError("slices are missing: a volume of the others would be wrong")
    affine = make_affine(request.slices)
    rows, columns = read_mask(request.slices[0]).shape
    fields: Any = NEW_HEADER()
    fields.set_data_shape((columns, rows, len(request.slices)))
    fields.set_qform(affine, code=1)
    fields.set_sform(affine, code=1)
    fields.set_xyzt_units("mm")
    fields["descrip"] = OWN_TEXT
    return to_file(fields, (read_mask(item).tobytes() for item in request.slices))


def make_volume_like(request: SeriesRequest, read_mask: Any) -> bytes:
    """Return the .nii.gz of a NIfTI volume's masks, with its own header. Raises: RefusedError, OSError."""
    first = request.slices[0]
    path = Path(first.path)
    if first.entry is None:
        with Source(path).open() as file:
            fields = copy_header(file)
    else:
        with open_zip(path) as archive:
            found = next(item for item in archive.infolist() if item.header_offset == first.entry)
            with Source(path, archive, found).open() as file:
                fields = copy_header(file)
    shape = (*map(int, fields.get_data_shape()[:3]), 1, 1)[:3]
    if all(item.axis == 2 for item in request.slices):
        by_number, empty = {item.frame: item for item in request.slices}, bytes(shape[0] * shape[1])
        ordered = (by_number.get(number) for number in range(shape[2]))
        return to_file(fields, (read_mask(item).tobytes() if item else empty for item in ordered))
    volume = np.zeros(shape, np.uint8)
    for item in request.slices:
        place: list[Any] = [slice(None)] * 3
        place[item.axis] = item.frame
        volume[tuple(place)] = read_mask(item).T
    return to_file(fields, (volume[:, :, number].tobytes(order="F") for number in range(shape[2])))
