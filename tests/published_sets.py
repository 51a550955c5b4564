"""Writes drawn slices in the layouts of the published data sets: Figshare's MATLAB files, Kaggle's folders."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from reference.data.phantom import Phantom, draw_phantom

SIZE = 80
CODES = {"meningioma": 1, "glioma": 2, "pituitary": 3}
KINDS = tuple(CODES)


def draw(number: int, kind: str | None = None, size: int | tuple[int, int] = SIZE) -> Phantom:
    """Slice `number`, of the three tumours in turn."""
    return draw_phantom(np.random.default_rng([11, number]), kind or KINDS[number % 3], size)


def to_stored(phantom: Phantom) -> np.ndarray:
    """A slice as a scanner stores it: int16 of no round range."""
    return phantom.image.astype(np.int16) * 13 - 7


def write_mat(
    phantom: Phantom, patient: str = "100360", change: Callable[[Any, h5py.Group], None] = lambda file, scan: None
) -> bytes:
    """The bytes of a MATLAB v7.3 file: HDF5, columns first, behind 512 bytes of which MATLAB fills the first 128."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        scan = file.create_group("cjdata")
        scan.create_dataset("image", data=to_stored(phantom).T, chunks=True, compression="gzip")
        scan["tumorMask"] = phantom.mask.astype(np.uint8).T
        scan["tumorBorder"] = np.zeros((1, 40))
        scan["label"] = np.array([[float(CODES.get(phantom.kind, 1))]])
        scan["PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)
        for name in scan:
            scan[name].attrs["MATLAB_class"] = np.bytes_({"PID": "char", "tumorMask": "uint8"}.get(name, "double"))
        change(file, scan)
    head = b"MATLAB 7.3 MAT-file, Platform: PCWIN64, Created on: Sun Mar 01 2015 HDF5 schema 1.00 .".ljust(124)
    data = head + b"\x00\x02IM"
    return data.ljust(512, b"\x00") + buffer.getvalue()[512:]


def write_figshare(folder: Path, numbers: Sequence[int], patients: Callable[[int], str]) -> None:
    """N.mat of drawn slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number}.mat").write_bytes(write_mat(draw(number), patients(number)))


def zip_files(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The bytes of a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def encode(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    ok, data = cv2.imencode(suffix, pixels)
    assert ok
    return data.tobytes()


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(pixels, path.suffix))


def write_segmentation(folder: Path, numbers: Sequence[int]) -> None:
    """images/N.png and masks/N.png of drawn slices."""
    for number in numbers:
        phantom = draw(number)
        save(folder / "images" / f"{number}.png", phantom.image)
        save(folder / "masks" / f"{number}.png", phantom.mask.astype(np.uint8) * 255)


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, f"{path} cannot be read"
    return picture
