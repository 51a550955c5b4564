"""Which classes and functions does a model file name, and could one of them run code? Read without loading the model.

Keras 3 archives (.keras) and HDF5 files (.h5) name classes and functions, and a loader that looks them up may import
modules or unmarshal bytecode. So every name is read first, and only Keras' own classes and functions are accepted.
"""

from __future__ import annotations

import io
import json
import re
import stat
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError, ModelError, UnsafeModelError

from .keras2.config import OP, modernize
from .known_classes import is_known_class, is_known_function

MAX_CONFIG_BYTES = 64 << 20
MAX_WEIGHTS_BYTES = 16 << 30
MAX_ENTRIES = 10_000
MAX_RATIO = 1000  # deflate's limit is 1032; weights never come near
FORMATS = "give a .keras archive, a whole-model .h5 file or a SavedModel folder"

# Classes of Keras that run code from the file, or load or read other files that the config names.
UNSAFE_CLASSES = {
    "Lambda": "holds Python bytecode",
    "__lambda__": "holds Python bytecode",
    "TFSMLayer": "loads another SavedModel",
    "TorchModuleWrapper": "unpickles a PyTorch module",
    "FlaxLayer": "calls foreign functions",
    "JaxLayer": "calls foreign functions",
    "StringLookup": "reads files named in the model",
    "IntegerLookup": "reads files named in the model",
    "TextVectorization": "reads files named in the model",
    "IndexLookup": "reads files named in the model",
    "__typespec__": "names a class outside Keras",
    "TFOpLambda": "calls a function of TensorFlow that is not known to be harmless",
    "SlicingOpLambda": "calls a function of TensorFlow that is not known to be harmless",
}
PLAIN = {OP, "__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__"}
ENTRIES = re.compile(r"metadata\.json|config\.json|model\.weights\.h5")  # what Keras writes into an archive


@dataclass(frozen=True)
class ConfigObject:
    """One class or function that a config names, and the layer that it belongs to."""

    name: str
    module: str | None
    registered: str | None
    layer: str
    function: bool = False

    @property
    def short_name(self) -> str:
        """The class's name without its package: 'Gate' for one registered as 'unet>Gate'."""
        return (self.registered or self.name).rsplit(">", 1)[-1]


def find_kind(path: Path) -> str:
    """Return "keras", "h5" or "saved_model", by the file's content, not by its name.

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


def read_objects(path: Path, kind: str) -> list[ConfigObject]:
    """Return every class and function that a .keras or .h5 file names, those of Keras 2 as in Keras 3.

    Raises:
        ModelError: truncated, damaged, oversized, weights only, or with links to other files.
        UnsafeModelError: a pickle is in the archive.
    """
    return list_objects(path, modernize_config(path, drop_training(path, read_config(path, kind))))


def read_config(path: Path, kind: str) -> dict[str, Any]:
    """Return the config of a .keras or .h5 file, after checking the whole file; raises as `read_objects` does."""
    return read_copy(path, path, kind)


def read_copy(path: Path, copy: Path, kind: str) -> dict[str, Any]:
    """Return the config of a copy of the model at `path`, which errors name."""
    try:
        config = dict(read_archive(path, copy) if kind == "keras" else read_h5(path, copy))
    except EdgeSegError:
        raise
    except RecursionError:
        raise explain_depth(path) from None
    except Exception as error:  # zlib, struct, h5py: what a damaged file makes a library raise has no end
        raise ModelError(str(path), f"it is damaged or no model ({first_line(error)})", FORMATS) from error
    config.pop("compile_config", None)  # losses and metrics, which are never loaded
    return config


def drop_training(path: Path, node: Any) -> Any:
    """Return a config without the losses and metrics of the models in it. Raises: ModelError if it is too deep."""
    try:
        if isinstance(node, list):
            return [drop_training(path, inner) for inner in node]
        if not isinstance(node, dict):
            return node
        compiled = "class_name" in node and "config" in node
        kept = {key: inner for key, inner in node.items() if not (compiled and key == "compile_config")}
        return {key: drop_training(path, inner) for key, inner in kept.items()}
    except RecursionError:
        raise explain_depth(path) from None


def modernize_config(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return a config as Keras 3 would have written it. Raises: ModelError if it is damaged."""
    try:
        modern: dict[str, Any] = modernize(config)
    except RecursionError:
        raise explain_depth(path) from None
    except Exception as error:  # a text where a list should be, and all else that a config can hold
        raise ModelError(str(path), f"its config is damaged ({first_line(error)})", FORMATS) from error
    return modern


def list_objects(path: Path, config: dict[str, Any]) -> list[ConfigObject]:
    """Return every class and function that a config names."""
    try:
        return list(walk_config(config, "model"))
    except RecursionError:
        raise explain_depth(path) from None


def explain_depth(path: Path) -> ModelError:
    """Return the error for a config of more levels than Python can walk."""
    return ModelError(str(path), "its config is nested too deep")


def first_line(error: object) -> str:
    """Return the first line of an error's text, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def read_archive(path: Path, copy: Path) -> Any:
    """Return the config of a .keras archive after checking its entries and weights."""
    with zipfile.ZipFile(copy) as archive:
        entries = archive.infolist()
        names = {entry.filename for entry in entries}
        if len(entries) > MAX_ENTRIES or len({fold_name(entry) for entry in entries}) != len(entries):
            raise ValueError("too many entries, or one name twice")
        for entry in entries:
            check_entry(path, entry)
        if "config.json" not in names:
            raise ModelError(str(path), "the archive holds no config.json, so it is not a Keras model", FORMATS)
        texts = {name: read_json(archive.read(name)) for name in sorted(names) if name.endswith(".json")}
        if "model.weights.h5" not in names:
            raise ModelError(str(path), "the archive holds no weights", "save the whole model: model.save(...)")
        check_links(io.BytesIO(archive.read("model.weights.h5")), f"{path}/model.weights.h5")
    if not all(isinstance(text, dict) for text in texts.values()):
        raise ValueError("config.json is not an object")
    return texts["config.json"]


def fold_name(entry: zipfile.ZipInfo) -> str:
    """Return an entry's name as the most careless of file systems reads it."""
    return entry.orig_filename.split("\0")[0].replace("\\", "/").casefold()


def read_json(data: bytes | str) -> Any:
    """Return the value of a JSON text in UTF-8, which has no key twice: readers disagree on which one counts.

    Raises: ValueError.
    """
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    return json.loads(text, object_pairs_hook=to_unique)


def to_unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its keys and values. Raises: ValueError for a key twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    """Raise an error for a pickle, a path outside the archive, or a size that no model has."""
    name = entry.filename
    if name.endswith((".pkl", ".pickle", ".joblib", ".pt", ".npy", ".npz")):
        raise UnsafeModelError(str(path), f"the archive holds {name!r}, which may be a pickle", FORMATS)
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        raise ModelError(str(path), f"the archive holds {name!r}, a name outside itself")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        what = "a link" if stat.S_ISLNK(mode) else "no file"
        raise ModelError(str(path), f"the archive's entry {name!r} is {what}", "save the model again")
    if name != entry.orig_filename or not ENTRIES.fullmatch(name):
        shards = "its weights in shards" if ".weights" in name else f"{entry.orig_filename!r}, which is not Keras'"
        raise ModelError(str(path), f"the archive holds {shards}", "save the model again: model.save('model.keras')")
    limit = MAX_WEIGHTS_BYTES if name.endswith(".h5") else MAX_CONFIG_BYTES
    if entry.file_size > limit or entry.file_size > MAX_RATIO * max(entry.compress_size, 1 << 16):
        raise ModelError(str(path), f"{name!r} would unpack to {entry.file_size} bytes")


def read_h5(path: Path, copy: Path) -> Any:
    """Return the config of a whole-model HDF5 file after checking its links.

    Without HDF5's lock: nothing writes to the file, some network mounts have no locks, and a program that another
    thread starts holds a copy of a lock until it runs, so that the file cannot be opened again at once.
    """
    import h5py  # type: ignore[import-untyped,unused-ignore]

    check_links(copy, str(path))
    with h5py.File(copy, "r", locking=False) as archive:
        config = archive.attrs.get("model_config")
        if config is None:
            why = (
                "it holds weights only, not the model" if "layer_names" in archive.attrs or len(archive) else "is empty"
            )
            raise ModelError(str(path), why, "save the whole model: model.save('model.keras')")
        if not isinstance(config, (bytes, str)):
            raise ValueError("model_config is not a text")
        config = read_json(config)
    if not isinstance(config, dict):
        raise ValueError("model_config is not an object")
    return config


def check_links(file: Any, name: str) -> None:
    """Raise ModelError for an HDF5 file that refers to others: external links, external storage, virtual datasets."""
    import h5py  # type: ignore[import-untyped,unused-ignore]

    seen: set[int] = set()

    def visit(group: Any, depth: int) -> None:
        if depth > 50:
            raise ModelError(name, "its groups are nested too deep")
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # a group in itself, ten times, would take for ever
            raise ModelError(name, "one of its groups is there twice", "save the model again")
        seen.add(address)
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

    with h5py.File(file, "r", locking=False) as archive:
        visit(archive, 0)


def walk_config(node: Any, layer: str) -> Iterator[ConfigObject]:
    """Yield every class and function named in a config, with nested models, wrappers and legacy spellings."""
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
        yield read_object(node, layer)
    for inner in node.values():
        yield from walk_config(inner, layer)


def read_object(node: dict[str, Any], layer: str) -> ConfigObject:
    """Return the class or function that one {"class_name": ...} entry names."""
    function = node["class_name"] == "function"
    name = node.get("config") if function else node["class_name"]
    module, registered = node.get("module"), node.get("registered_name")
    return ConfigObject(
        str(name), None if module is None else str(module), registered and str(registered), layer, function
    )


def is_known(item: ConfigObject) -> bool:
    """Return whether a class or function is one of Keras' own that are known to compute."""
    if item.registered and ">" in item.registered:
        return False
    if item.module is None:
        return ">" not in item.name  # legacy HDF5 has no modules; keras_model.py looks the class up in the list
    return (is_known_function if item.function else is_known_class)(item.name, item.module)


def refuse_unsafe(
    path: Path, objects: Collection[ConfigObject], trusted_module: str = "", trusted: Collection[str] = ()
) -> None:
    """Raise an error for a class or function that could run code, unless the user's trusted module defines it.

    Raises:
        UnsafeModelError: a layer with its own code, or a class outside Keras.
        ModelError: a registered custom class that is not provided.
    """
    for item in objects:
        if item.short_name in UNSAFE_CLASSES or item.name in UNSAFE_CLASSES:
            name = item.name if item.name in UNSAFE_CLASSES else item.short_name
            fix = "replace it by built-in layers, or by a registered layer class and --trust-custom MODULE"
            raise UnsafeModelError(str(path), f"layer {item.layer!r} is a {name}, which {UNSAFE_CLASSES[name]}", fix)
        if item.name in PLAIN or is_known(item):
            continue
        if trusted_module and (item.short_name in trusted or is_inside(item.module, trusted_module)):
            continue
        kind = "function" if item.function else "class"
        if ">" in (item.registered or item.name):
            raise explain_unknown(path, item, kind)
        where = f"{item.module}.{item.name}"
        if item.module is not None and is_inside(item.module, "keras"):
            why = f"layer {item.layer!r} names {where}, a {kind} of Keras that is not known to only compute"
            raise UnsafeModelError(str(path), why, "replace it by built-in layers")
        fix = f"if you trust that code, --trust-custom {(item.module or 'MODULE').split('.')[0]}"
        raise UnsafeModelError(str(path), f"layer {item.layer!r} names {where}, a {kind} outside Keras", fix)


def explain_unknown(path: Path, item: ConfigObject, kind: str = "class") -> ModelError:
    """Return the error for a custom class or function that is not provided."""
    why = f"layer {item.layer!r} is of the unknown custom {kind} {item.registered or item.name!r}"
    return ModelError(str(path), why, "name the module that defines it: --trust-custom MODULE")


def is_inside(module: str | None, outer: str) -> bool:
    """Return whether `module` is `outer` or is in it."""
    return module is not None and (module == outer or module.startswith(outer + "."))
