"""What does a NIfTI file's header say? Read by nibabel, in the child process alone."""

from __future__ import annotations

import math
from typing import Any

from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from .header import Digests, Frame, Header, Vector
from .source import BoundedFile, RefusedError, find_nifti, is_packed, read_start
from .words import OWN, find_words

MAX_SIDE = 32_767
MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units: unknown, metre, millimetre, micrometre
SAME_MM = 0.1  # how far the header's two ways to say where a voxel lies may differ
LABEL_INTENT = 1002
GREY = "iuf"  # NumPy's kinds of number of one value a voxel


def read_header(file: BoundedFile, name: str, digest: Digests) -> Header | None:
    """Return a NIfTI file's header, a series of its own; None for what is no NIfTI file.

    name: of the file, in which words are sought, since the header has none.
    Raises: RefusedError, and what nibabel raises.
    """
    head = read_start(file)
    version = find_nifti(head)
    if version is None:
        return None
    make: Any = Nifti1Header if version == 1 else Nifti2Header
    fields = make(head[: 348 if version == 1 else 540], check=False)
    shape = [int(side) for side in fields["dim"][1 : 1 + max(0, min(7, int(fields["dim"][0])))]]
    shape += [1] * (3 - len(shape))
    if not 1 <= int(fields["dim"][0]) <= 7 or not all(0 < side <= MAX_SIDE for side in shape):
        raise RefusedError("sizes that cannot be")
    kind = fields.get_data_dtype()
    stored = math.prod(shape) * kind.itemsize
    frames, marks = list_slices(fields, shape)
    marks += ["colour"] if kind.kind not in GREY else []
    marks += ["map"] if int(fields["intent_code"]) == LABEL_INTENT else []
    marks += ["own-result"] if bytes(fields["descrip"]).startswith(OWN.encode()) else []
    marks += ["4-d"] if math.prod(shape[3:]) > 1 else []
    identity = digest(name + head.hex())
    return Header(
        form="nifti",
        study=identity,
        series=identity,
        instance=identity,
        modality="MR",
        rows=shape[1],
        columns=shape[0],
        marks=tuple(sorted(set(marks))),
        words=find_words([name.removesuffix(".gz").removesuffix(".nii")]),
        damaged=not is_packed(file) and file.size < find_offset(fields) + stored,
        frames=frames,
    )


def find_offset(fields: Any) -> float:
    """Return where the voxels begin: behind the header, wherever else it says."""
    offset = float(fields["vox_offset"])
    return offset if offset >= len(fields.binaryblock) else len(fields.binaryblock) + 4


def list_slices(fields: Any, shape: list[int]) -> tuple[tuple[Frame, ...], list[str]]:
    """Return the slices of the last axis, and marks: "no-mm" where neither form places them, "qform" if they differ."""
    marks: list[str] = []
    sform, s_code = fields.get_sform(coded=True)
    qform, q_code = fields.get_qform(coded=True)
    if not s_code and not q_code:
        return tuple(Frame() for _ in range(shape[2])), ["no-mm"]
    if s_code and q_code and float(abs(sform - qform)[:3].max()) > SAME_MM:
        marks.append("qform")
    affine = sform if s_code else qform
    scale = MM.get(int(fields["xyzt_units"]) & 7, 1.0)
    signs = (-scale, -scale, scale)  # NIfTI's axes point right, anterior, superior; DICOM's left, posterior, superior
    axes = [tuple(float(affine[row][axis]) * signs[row] for row in range(3)) for axis in range(4)]
    steps = [math.hypot(*axis) for axis in axes[:3]]
    if not all(0 < step < 1e6 for step in steps) or not all(map(math.isfinite, axes[3])):
        return tuple(Frame() for _ in range(shape[2])), ["no-mm"]
    along = (*(value / steps[0] for value in axes[0]), *(value / steps[1] for value in axes[1]))

    def place(number: int) -> Vector:
        return tuple(start + number * step for start, step in zip(axes[3], axes[2], strict=True))

    return tuple(Frame(place(k), along, (steps[1], steps[0]), steps[2]) for k in range(shape[2])), marks
