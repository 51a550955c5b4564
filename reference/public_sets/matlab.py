"""Reads one slice of Figshare 1512427: a MATLAB v7.3 file, which is HDF5 after a block of 512 bytes.

Only image, tumorMask, label and PID of `cjdata` are read, as plain data of this file. Links, external data and arrays
larger than any slice are refused before anything is read.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ImageError

LABELS = {1: "meningioma", 2: "glioma", 3: "pituitary"}
MAX_VALUES = 4096 * 4096  # of one array; the slices have 512 x 512
FIX = "download it again"
Values = npt.NDArray[Any]


def read_mat(data: bytes, name: str) -> tuple[Values, npt.NDArray[np.bool_], str, str]:
    """Return a slice's image (H, W) as stored, its mask (H, W), class and patient; `name` is for the messages.

    MATLAB stores columns first, so HDF5's arrays are transposed.
    Raises: ImageError.
    """
    if data.startswith(b"MATLAB 5.0"):
        raise ImageError(name, "a MATLAB 5 file, not 7.3", "save it with -v7.3, or use the files as published")
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            scan = get_member(file, "cjdata", h5py.Group)
            image, mask = (read_values(scan, part).T for part in ("image", "tumorMask"))
            kind = read_label(read_values(scan, "label"))
            patient = read_patient(scan)
    except ValueError as error:
        raise ImageError(name, str(error), FIX) from None
    except (OSError, RuntimeError, KeyError, TypeError, OverflowError, MemoryError) as error:
        why = "not a MATLAB 7.3 file" if b"\x89HDF\r\n" not in data[:4096] else "a damaged MATLAB 7.3 file"
        raise ImageError(name, f"{why} ({shorten(error)})", FIX) from None
    if image.ndim != 2 or min(image.shape) < 2:
        raise ImageError(name, f"cjdata/image has the shape {image.shape}, not that of an image", FIX)
    if mask.shape != image.shape:
        raise ImageError(name, f"cjdata/tumorMask is {mask.shape}, the image {image.shape}", FIX)
    inside = mask != 0
    if np.any(mask[inside] != mask.max()):
        raise ImageError(name, "cjdata/tumorMask has more than two values", FIX)
    return image, inside, kind, patient


def shorten(error: object) -> str:
    """Return a library's message in at most 120 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:117] + "..."


def get_member(group: Any, name: str, kind: Any) -> Any:
    """Return a group's member of this kind. Raises: ValueError if it is missing or a link."""
    import h5py

    link = group.get(name, getlink=True)
    if link is None:
        raise ValueError(f"{f'{group.name}/{name}'.lstrip('/')} is missing")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} is a link to another place")
    member = group[name]
    if not isinstance(member, kind):
        raise ValueError(f"{name} is not what it should be, a {kind.__name__.lower()}")
    return member


def read_values(scan: Any, name: str) -> Values:
    """Return an array of numbers of `scan`. Raises: ValueError if it is none, or larger than any slice."""
    import h5py

    data = get_member(scan, name, h5py.Dataset)
    if data.external or data.is_virtual:
        raise ValueError(f"cjdata/{name} keeps its data in another file")
    if data.dtype.kind not in "iufb":
        raise ValueError(f"cjdata/{name} holds {data.dtype}, not numbers")
    if data.shape is None or max(math.prod(data.shape), math.prod(data.chunks or (1,))) > MAX_VALUES:
        raise ValueError(f"cjdata/{name} has the shape {data.shape}")
    values: Values = data[()]
    if not np.isfinite(values).all():
        raise ValueError(f"cjdata/{name} holds NaN or infinity")
    return values


def read_label(values: Values) -> str:
    """Return the class. Raises: ValueError."""
    if values.size != 1 or values.item() not in LABELS:
        shown = f"{values.item():g}" if values.size == 1 else f"of shape {values.shape}"
        raise ValueError(f"cjdata/label is {shown}, not 1, 2 or 3")
    return LABELS[int(values.item())]


def read_patient(scan: Any) -> str:
    """Return the patient's name, a MATLAB string: one UTF-16 code a character. Raises: ValueError."""
    codes = read_values(scan, "PID")
    # MATLAB stores an empty string as its two sizes, with an attribute.
    empty = "MATLAB_empty" in scan["PID"].attrs or codes.size == 0
    if codes.size > 64 or (not empty and (codes.min() < 1 or codes.max() > 0xFFFF)):
        raise ValueError("cjdata/PID is not a name")
    patient = "" if empty else "".join(chr(int(code)) for code in codes.ravel()).strip()
    if not patient:
        raise ValueError("cjdata/PID is empty, so its patient is not known")
    if not patient.isprintable() or "/" in patient:
        raise ValueError("cjdata/PID is not a name")
    return patient
