"""What a model file is made of, read without loading it; what could run code is refused here.

Keras 3 archives (.keras) and HDF5 files (.h5) name classes and functions, and a loader that looks them up may import
modules or unmarshal bytecode. So every name is read first, and only Keras' own building blocks pass.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ModelError, UnsafeModelError

from .legacy import OP, modernize

MAX_CONFIG_BYTES = 64 << 20
MAX_WEIGHTS_BYTES = 16 << 30
MAX_ENTRIES = 10_000
MAX_RATIO = 1000  # deflate's limit is 1032; weights never come near
FORMATS = "give a .keras archive, a whole-model .h5 file or a SavedModel folder"

# Classes of Keras itself that run foreign code, call foreign files or read files named in the config.
CODE = {
    "Lambda": "holds Python bytecode",
    "__lambda__": "holds Python bytecode",
    "TFSMLayer": "loads another SavedModel",
    "TorchModuleWrapper": "unpickles a PyTorch module",
    "FlaxLayer": "calls foreign functions",
    "JaxLayer": "calls foreign functions",
    "StringLookup": "reads files named in the model",
    "IntegerLookup": "reads files named in the model",
    "TextVectorization": "reads files named in the model",
    "__typespec__": "names a class outside Keras",
    "TFOpLambda": "calls a function of TensorFlow that is not known to be harmless",
    "SlicingOpLambda": "calls a function of TensorFlow that is not known to be harmless",
}
PLAIN = {OP, "__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__"}
ROOMS = "layers|initializers|regularizers|constraints|activations|losses|metrics|optimizers|dtype_policies|quantizers"
CLASS_MODULES = re.compile(rf"keras\.(src\.)?({ROOMS}|models|ops|engine|src\.engine)(\.\w+)*")
FUNCTION_MODULES = re.compile(r"builtins|keras\.(src\.)?(activations|initializers|losses|metrics|ops)(\.\w+)*")
TOP_CLASSES = {"DTypePolicy", "FloatDTypePolicy", "DTypePolicyMap", "Model", "Sequential", "Functional"}


@dataclass(frozen=True)
class Part:
    """One class or function that a model names, and the layer it stands in."""

    name: str
    module: str | None
    registered: str | None
    layer: str
    function: bool = False

    @property
    def short(self) -> str:
        """The class's own name: 'Gate' for one registered as 'unet>Gate'."""
        return (self.registered or self.name).rsplit(">", 1)[-1]


def find_kind(path: Path) -> str:
    """Return "keras", "h5" or "saved_model", judged by content rather than by name.

    Raises:
        ModelError: there is nothing, or something else, at `path`.
        UnsafeModelError: it is a pickle.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "saved_model"
        raise ModelError(str(path), "the folder holds no saved_model.pb", FORMATS)
    if not path.is_file():
        raise ModelError(str(path), "it is not a file" if path.exists() else "it does not exist", FORMATS)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ModelError(str(path), f"it cannot be read ({error.strerror})") from error
    if head[:2] == b"PK":
        return "keras"
    if head == b"\x89HDF\r\n\x1a\n":
        return "h5"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise UnsafeModelError(str(path), "it is a Python pickle, and unpickling runs code", FORMATS)
    if head[4:8] == b"TFL3":
        raise ModelError(str(path), "it is a TFLite model already", FORMATS)
    raise ModelError(str(path), "it is empty" if not head else "it is not a Keras model", FORMATS)


def read_parts(path: Path, kind: str) -> list[Part]:
    """Return every class and function that a .keras or .h5 file names, Keras 2's in Keras 3's words.

    Raises:
        ModelError: truncated, damaged, oversized, weights only, or with links to other files.
        UnsafeModelError: a pickle lies in the archive.
    """
    return list_parts(path, modernize_config(path, read_config(path, kind)))


def read_config(path: Path, kind: str) -> dict[str, Any]:
    """Return the config of a .keras or .h5 file, after checking all of the file; raises as `read_parts` does."""
    try:
        config = dict(read_archive(path) if kind == "keras" else read_h5(path, path))
    except RecursionError:
        raise too_deep(path) from None
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ModelError(str(path), f"it is damaged or no model ({first_line(error)})", FORMATS) from error
    config.pop("compile_config", None)  # losses and metrics: never loaded
    return config


def modernize_config(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return a config as Keras 3 would have written it; ModelError if it is no such thing."""
    try:
        modern: dict[str, Any] = modernize(config)
    except RecursionError:
        raise too_deep(path) from None
    except (KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
        raise ModelError(str(path), f"its config is damaged ({first_line(error)})", FORMATS) from error
    return modern


def list_parts(path: Path, config: dict[str, Any]) -> list[Part]:
    """Return every class and function that a config names."""
    try:
        return list(walk_config(config, "model"))
    except RecursionError:
        raise too_deep(path) from None


def too_deep(path: Path) -> ModelError:
    """Return the error for a config that no model has."""
    return ModelError(str(path), "its config is nested too deep")


def first_line(error: object) -> str:
    """Return the first line of an error's text, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def read_archive(path: Path) -> Any:
    """Return the config of a .keras archive after checking its entries and weights."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = {entry.filename for entry in entries}
        if len(entries) > MAX_ENTRIES or len(names) != len(entries):
            raise ValueError("too many entries, or one name twice")
        for entry in entries:
            check_entry(path, entry)
        if "config.json" not in names:
            raise ModelError(str(path), "the archive holds no config.json, so it is not a Keras model", FORMATS)
        config = json.loads(archive.read("config.json"))
        for entry in entries:
            if entry.filename.endswith(".h5"):
                check_links(io.BytesIO(archive.read(entry)), f"{path}/{entry.filename}")
        if not any(name.endswith((".weights.h5", ".weights.json")) for name in names):
            raise ModelError(str(path), "the archive holds no weights", "save the whole model: model.save(...)")
    if not isinstance(config, dict):
        raise ValueError("config.json is not an object")
    return config


def check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse pickles, names that leave the archive, and sizes that no model has."""
    name = entry.filename
    if name.endswith((".pkl", ".pickle", ".joblib", ".pt", ".npy", ".npz")):
        raise UnsafeModelError(str(path), f"the archive holds {name!r}, which may be a pickle", FORMATS)
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        raise ModelError(str(path), f"the archive holds {name!r}, a name outside itself")
    most = MAX_WEIGHTS_BYTES if name.endswith(".h5") else MAX_CONFIG_BYTES
    if entry.file_size > most or entry.file_size > MAX_RATIO * max(entry.compress_size, 1 << 16):
        raise ModelError(str(path), f"{name!r} would unpack to {entry.file_size} bytes")


def read_h5(path: Path, file: Any) -> Any:
    """Return the config of a whole-model HDF5 file after checking its links."""
    import h5py  # type: ignore[import-untyped,unused-ignore]

    check_links(file, str(path))
    with h5py.File(file, "r") as archive:
        config = archive.attrs.get("model_config")
        if config is None:
            why = (
                "it holds weights only, not the model" if "layer_names" in archive.attrs or len(archive) else "is empty"
            )
            raise ModelError(str(path), why, "save the whole model: model.save('model.keras')")
        config = json.loads(config)
    if not isinstance(config, dict):
        raise ValueError("model_config is not an object")
    return config


def check_links(file: Any, name: str) -> None:
    """Refuse an HDF5 file that reaches into other files: external links, external storage, virtual datasets."""
    import h5py  # type: ignore[import-untyped,unused-ignore]

    def visit(group: Any, depth: int) -> None:
        if depth > 50:
            raise ModelError(name, "its groups are nested too deep")
        for key in group:
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ModelError(name, f"{key!r} is a link to another file, {link.filename!r}", "save the model again")
            if isinstance(link, h5py.SoftLink):
                raise ModelError(name, f"{key!r} is a soft link, which Keras never writes", "save the model again")
            item = group[key]
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise ModelError(name, f"{key!r} keeps its data in another file", "save the model again")
            elif isinstance(item, h5py.Group):
                visit(item, depth + 1)

    with h5py.File(file, "r") as archive:
        visit(archive, 0)


def walk_config(node: Any, layer: str) -> Iterator[Part]:
    """Yield every part named in a config, nested models, wrappers and legacy spellings included."""
    if isinstance(node, list):
        for inner in node:
            yield from walk_config(inner, layer)
    if not isinstance(node, dict):
        return
    config = node.get("config")
    if "class_name" in node:
        if isinstance(config, dict) and isinstance(config.get("name"), str):
            layer = config["name"]
        elif isinstance(node.get("name"), str):
            layer = node["name"]
        yield read_part(node, layer)
    for inner in node.values():
        yield from walk_config(inner, layer)


def read_part(node: dict[str, Any], layer: str) -> Part:
    """Return the part that one {"class_name": ...} object names."""
    function = node["class_name"] == "function"
    name = node.get("config") if function else node["class_name"]
    module, registered = node.get("module"), node.get("registered_name")
    return Part(str(name), None if module is None else str(module), registered and str(registered), layer, function)


def is_known(part: Part) -> bool:
    """Tell whether a part is a building block of Keras, as far as its module can say."""
    if part.registered and ">" in part.registered:
        return False
    if part.module is None:
        return ">" not in part.name  # legacy HDF5 has no modules; load.py looks the class up in Keras itself
    if part.function:
        return FUNCTION_MODULES.fullmatch(part.module) is not None
    if part.module == "keras":
        return part.name in TOP_CLASSES
    return CLASS_MODULES.fullmatch(part.module) is not None


def refuse_unsafe(path: Path, parts: Collection[Part], trusted_module: str = "", trusted: Collection[str] = ()) -> None:
    """Refuse what could run code; let pass what the user's trusted module defines.

    Raises:
        UnsafeModelError: a layer with code of its own, or a class outside Keras.
        ModelError: a registered custom class that nobody provides.
    """
    for part in parts:
        if part.short in CODE or part.name in CODE:
            name = part.name if part.name in CODE else part.short
            fix = "replace it by built-in layers, or by a registered layer class and --trust-custom MODULE"
            raise UnsafeModelError(str(path), f"layer {part.layer!r} is a {name}, which {CODE[name]}", fix)
        if part.name in PLAIN or is_known(part):
            continue
        if trusted_module and (part.short in trusted or inside(part.module, trusted_module)):
            continue
        kind = "function" if part.function else "class"
        if ">" in (part.registered or part.name):
            raise unknown_part(path, part, kind)
        where = f"{part.module}.{part.name}"
        fix = f"if you trust that code, --trust-custom {(part.module or 'MODULE').split('.')[0]}"
        raise UnsafeModelError(str(path), f"layer {part.layer!r} names {where}, a {kind} outside Keras", fix)


def unknown_part(path: Path, part: Part, kind: str = "class") -> ModelError:
    """Return the error for a custom class or function that nobody provides."""
    why = f"layer {part.layer!r} is of the unknown custom {kind} {part.registered or part.name!r}"
    return ModelError(str(path), why, "name the module that defines it: --trust-custom MODULE")


def inside(module: str | None, outer: str) -> bool:
    """Tell whether `module` is `outer` or lies in it."""
    return module is not None and (module == outer or module.startswith(outer + "."))
