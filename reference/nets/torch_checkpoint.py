"""Reads tensors by name from a PyTorch checkpoint of either layout, without PyTorch and without running its pickle."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

MAGIC = 0x1950A86A20F9469CFC6C  # starts a file of torch.save before 1.6; a newer one is a ZIP
DTYPES = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16,
    "LongStorage": np.int64, "IntStorage": np.int32, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip


class Storage:
    """A flat array that tensors are views of; in the old layout all storages follow after the names."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = np.dtype(dtype).newbyteorder("<"), count
        self.values: npt.NDArray[Any] = np.empty(0, self.dtype)


class View:
    """A tensor as stored: its storage, offset, shape and strides, in elements."""

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


class GlobalName(str):
    """The name of a class or function in the file; it is never looked up."""


def read_pickle(file: BinaryIO, storages: dict[str, Storage]) -> Any:
    """Return the object in one pickle of a checkpoint, read opcode by opcode; nothing that it names is imported.

    Storages that it refers to are added to `storages`. Raises: ValueError for an opcode that weights do not need.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def pop_marked() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name]())
        elif name == "GLOBAL":
            stack.append(GlobalName(argument))
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "TUPLE":
            stack.append(tuple(pop_marked()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "SETITEM", "APPENDS", "SETITEMS"):
            count = 1 + (name == "SETITEM")
            items = pop_marked() if name.endswith("S") else [stack.pop() for _ in range(count)][::-1]
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
            else:
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            stack.append(get_storage(stack.pop(), storages))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(build_object(function, arguments))
        elif name == "BUILD":
            stack.pop()  # the attributes of a dictionary: its version
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"it has the opcode {name}, which weights do not need")
    return stack.pop()


VALUES = {
    "BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING",
    "SHORT_BINSTRING",
}  # fmt: skip
CONSTANTS: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "NONE": lambda: None, "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}  # fmt: skip


def get_storage(pid: Any, storages: dict[str, Storage]) -> Storage:
    """Return the storage that a persistent id refers to. Raises: ValueError if it refers to anything else."""
    kind, dtype, key, _device, count = pid[:5]
    if kind != "storage" or dtype.removeprefix("torch ") not in DTYPES:
        raise ValueError(f"it refers to {kind!r} of {dtype!r}")
    return storages.setdefault(str(key), Storage(DTYPES[dtype.removeprefix("torch ")], int(count)))


def build_object(function: Any, arguments: tuple[Any, ...]) -> Any:
    """Return a tensor's view or a dictionary. Raises: ValueError for any other call in the file."""
    if function == GlobalName("torch._utils _rebuild_tensor_v2"):
        return View(*arguments)
    if function == GlobalName("collections OrderedDict"):
        return dict(*arguments)
    raise ValueError(f"it calls {function!r}, which weights do not need")


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return a checkpoint's tensors by name. Raises: ValueError, or another reading error, if it is none."""
    views = read_zip(path) if zipfile.is_zipfile(path) else read_legacy(path)
    return {name: view.read() for name, view in views.items() if isinstance(view, View)}


def read_zip(path: Path) -> dict[str, Any]:
    """Return the names of a file of torch.save since 1.6: data.pkl, and a file for each storage."""
    storages: dict[str, Storage] = {}
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        names: dict[str, Any] = read_pickle(BytesIO(archive.read(pickled)), storages)
        for key, storage in storages.items():
            data = archive.read(pickled.replace("data.pkl", f"data/{key}"))
            storage.values = np.frombuffer(data, storage.dtype)
    return names


def read_legacy(path: Path) -> dict[str, Any]:
    """Return the names of an older file: magic number, version, machine, names, keys, then each key's storage."""
    storages: dict[str, Storage] = {}
    with path.open("rb") as file:
        if read_pickle(file, storages) != MAGIC:
            raise ValueError("it is no PyTorch checkpoint")
        for _ in range(2):
            read_pickle(file, storages)
        names: dict[str, Any] = read_pickle(file, storages)
        for key in read_pickle(file, storages):
            storage = storages[str(key)]
            count = int.from_bytes(file.read(8), "little")
            if count != storage.count:
                raise ValueError(f"storage {key} has {count} elements instead of {storage.count}")
            storage.values = np.frombuffer(file.read(count * storage.dtype.itemsize), storage.dtype)
    return names
