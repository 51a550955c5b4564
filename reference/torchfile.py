"""Tensors by name from a PyTorch checkpoint, old layout or new, without PyTorch and without running what is in it."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

MAGIC = 0x1950A86A20F9469CFC6C  # begins a file of torch.save before 1.6; a newer one is a ZIP
DTYPES = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16,
    "LongStorage": np.int64, "IntStorage": np.int32, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip


class Storage:
    """A run of numbers that tensors are views of; in the old layout they follow after all names."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = np.dtype(dtype).newbyteorder("<"), count
        self.values: npt.NDArray[Any] = np.empty(0, self.dtype)


class View:
    """A tensor as the file has it: a storage, where it begins there, its shape and its strides, in elements."""

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def read(self) -> npt.NDArray[Any]:
        """Return the tensor. Raises: ValueError if it reaches beyond its storage."""
        if 0 in self.shape:
            return np.empty(self.shape, self.storage.dtype)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.shape, *self.strides)) < 0 or last >= len(self.storage.values):
            raise ValueError("a tensor reaches beyond its storage")
        bytes_apart = [step * self.storage.dtype.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(self.storage.values[self.offset :], self.shape, bytes_apart)
        return np.array(view)


class Reader(pickle.Unpickler):
    """An unpickler that knows tensors and dictionaries, and refuses any other name."""

    def __init__(self, file: BinaryIO, storages: dict[str, Storage]) -> None:
        super().__init__(file)
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of the file. Raises: UnpicklingError for one that is not of a tensor."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return View
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no weights need")

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that the file refers to."""
        kind, dtype, key, _device, count = pid[:5]
        if kind != "storage":
            raise pickle.UnpicklingError(f"it refers to {kind!r}")
        return self.storages.setdefault(str(key), Storage(dtype, int(count)))


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return a checkpoint's tensors by name. Raises: ValueError, UnpicklingError and their like if it is none."""
    views = read_zip(path) if zipfile.is_zipfile(path) else read_legacy(path)
    return {name: view.read() for name, view in views.items() if isinstance(view, View)}


def read_zip(path: Path) -> dict[str, Any]:
    """Return the names of a file of torch.save since 1.6: data.pkl, and a file for each storage."""
    storages: dict[str, Storage] = {}
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        names: dict[str, Any] = Reader(BytesIO(archive.read(pickled)), storages).load()
        for key, storage in storages.items():
            data = archive.read(pickled.replace("data.pkl", f"data/{key}"))
            storage.values = np.frombuffer(data, storage.dtype)
    return names


def read_legacy(path: Path) -> dict[str, Any]:
    """Return the names of an older file: magic number, version, machine, names, keys, then each key's storage."""
    storages: dict[str, Storage] = {}
    with path.open("rb") as file:
        if Reader(file, storages).load() != MAGIC:
            raise ValueError("it is no PyTorch checkpoint")
        for _ in range(2):
            Reader(file, storages).load()
        names: dict[str, Any] = Reader(file, storages).load()
        for key in Reader(file, storages).load():
            storage = storages[str(key)]
            count = int.from_bytes(file.read(8), "little")
            if count != storage.count:
                raise ValueError(f"storage {key} has {count} elements instead of {storage.count}")
            storage.values = np.frombuffer(file.read(count * storage.dtype.itemsize), storage.dtype)
    return names
