"""A model file is read before it is loaded: what could run code is named and refused, damage is one line."""

from __future__ import annotations

import fcntl
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from keras_nets import functional, layer, write_archive

from convert.source.load.archive import find_kind, read_objects, refuse_unsafe
from edge_runtime.errors import EdgeSegError, ModelError, UnsafeModelError


def inspect(path: Path, **trust: Any) -> None:
    """Do what the worker does before it imports Keras."""
    refuse_unsafe(path, read_objects(path, find_kind(path)), **trust)


def nest(inner: Any) -> Any:
    return functional(layer("Conv2D", "ok"), layer("TimeDistributed", "wrap", layer=functional(inner)))


def function(name: str, module: str) -> dict[str, Any]:
    return {"class_name": "function", "config": name, "module": module, "registered_name": name}


BYTECODE = {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}}


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (layer("Lambda", "evil", function=BYTECODE), ("'evil'", "Lambda", "bytecode")),
        (layer("Conv2D", "evil", activation=BYTECODE), ("'evil'", "__lambda__")),
        (layer("Conv2D", "evil", kernel_initializer=layer("x", "y", module="os")), ("'y'", "os.x", "outside Keras")),
        (layer("TFSMLayer", "evil", filepath="/tmp/x"), ("'evil'", "TFSMLayer", "SavedModel")),
        (layer("TorchModuleWrapper", "evil"), ("'evil'", "unpickles")),
        (layer("system", "evil", module="os"), ("'evil'", "os.system", "--trust-custom os")),
        (layer("get_file", "evil", module="keras.utils"), ("'evil'", "keras.utils.get_file")),
        (layer("Thing", "evil", module="keras.src.utils.file_utils"), ("'evil'", "file_utils")),
        (layer("Thing", "evil", module="keras_evil.layers"), ("'evil'", "keras_evil")),
        (layer("Thing", "evil", module="keras.layers.__builtins__/x"), ("'evil'",)),
        (layer("Conv2D", "evil", activation=function("system", "os")), ("'evil'", "os.system", "function")),
        (layer("Conv2D", "evil", activation=function("get_file", "keras.utils")), ("'evil'", "keras.utils")),
        (layer("StringLookup", "evil", vocabulary="/etc/passwd"), ("'evil'", "reads files")),
    ],
)
def test_what_could_run_code_is_refused(tmp_path: Path, inner: Any, words: tuple[str, ...]) -> None:
    """A layer that could run code is named with its class, however deep it is nested."""
    path = write_archive(tmp_path / "m.keras", nest(inner))
    with pytest.raises(UnsafeModelError) as caught:
        inspect(path)
    assert all(word in str(caught.value) for word in words), caught.value
    assert caught.value.exit_code == 5


def test_the_same_holds_for_hdf5(tmp_path: Path) -> None:
    """A Lambda in an .h5 file is refused like one in a .keras archive."""
    path = write_h5(tmp_path / "m.h5", nest(layer("Lambda", "evil", module=None)))
    with pytest.raises(UnsafeModelError, match="'evil' is a Lambda"):
        inspect(path)


def test_a_registered_custom_class_is_named(tmp_path: Path) -> None:
    """A registered class that nobody provides is an error naming layer, class and the way out; trusted, it passes."""
    gate = layer("Gate", "skip_gate", module="mynets.layers", registered_name="mynets>Gate")
    path = write_archive(tmp_path / "m.keras", nest(gate))
    with pytest.raises(ModelError, match=r"'skip_gate'.*'mynets>Gate'.*--trust-custom MODULE"):
        inspect(path)
    inspect(path, trusted_module="mynets")
    inspect(path, trusted_module="elsewhere", trusted={"Gate": object})


def test_trust_does_not_cover_bytecode(tmp_path: Path) -> None:
    """--trust-custom vouches for a module, never for bytecode in the file."""
    path = write_archive(tmp_path / "m.keras", nest(layer("Lambda", "evil", function=BYTECODE)))
    with pytest.raises(UnsafeModelError):
        inspect(path, trusted_module="keras", trusted={"Lambda": object})


def test_keras_own_parts_pass(tmp_path: Path) -> None:
    """Keras' layers, operations, functions, policies and tensors are no reason to refuse."""
    parts = (
        layer("Conv2D", "a", activation=function("relu", "builtins"), dtype=layer("DTypePolicy", "p", module="keras")),
        layer("Mean", "b", module="keras.src.ops.numpy", registered_name="Mean"),
        layer("Conv2D", "c", kernel_initializer=layer("HeNormal", "h", module="keras.initializers")),
        {"class_name": "__keras_tensor__", "config": {"shape": [1], "dtype": "float32", "keras_history": []}},
    )
    config = functional(*parts)
    config["compile_config"] = {"loss": function("my_loss", "mynets")}  # never loaded
    path = write_archive(tmp_path / "m.keras", config)
    inspect(path)
    names = {part.name for part in read_objects(path, "keras")}
    assert {"Conv2D", "Mean", "HeNormal", "DTypePolicy", "relu"} <= names  # they were looked at
    assert "my_loss" not in names


def write_h5(path: Path, config: Any) -> Path:
    import json

    import h5py

    with h5py.File(path, "w", locking=False) as file:
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights")
    return path


def write_external(path: Path) -> None:
    import h5py

    write_h5(path, functional())
    with h5py.File(path, "a", locking=False) as file:
        file["model_weights/link"] = h5py.ExternalLink("/etc/other.h5", "/x")


def write_external_storage(path: Path) -> None:
    import h5py

    write_h5(path, functional())
    with h5py.File(path, "a", locking=False) as file:
        file.create_dataset("model_weights/w", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def write_weights_only(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", locking=False) as file:
        file.attrs["layer_names"] = ["a"]


def write_truncated(path: Path) -> None:
    write_archive(path, functional())
    path.write_bytes(path.read_bytes()[:-40])


def write_linked_archive(path: Path) -> None:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["w"] = h5py.ExternalLink("other.h5", "/x")
    write_archive(path, functional(), buffer.getvalue())


def write_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (200 << 20))


DAMAGED = {
    "text": (lambda p: p.write_text("hello"), "it is not a Keras model"),
    "empty": (lambda p: p.write_bytes(b""), "it is empty"),
    "tflite": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3"), "TFLite model already"),
    "truncated": (write_truncated, "damaged"),
    "no-config": (lambda p: write_archive(p, None), "no config.json"),
    "no-json": (lambda p: write_archive(p, "{"), "damaged"),
    "list": (lambda p: write_archive(p, "[]"), "not an object"),
    "deep": (lambda p: write_archive(p, "[" * 100_000), "nested too deep"),
    "traversal": (lambda p: write_archive(p, functional(), **{"../x": b""}), "outside itself"),
    "bomb": (write_bomb, "would unpack to"),
    "hdf5-cut": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "damaged"),
    "weights-only": (write_weights_only, "weights only"),
    "external-link": (write_external, "link to another file"),
    "external-storage": (write_external_storage, "data in another file"),
    "linked-archive": (write_linked_archive, "link to another file"),
    "folder": (lambda p: p.mkdir(), "no saved_model.pb"),
    "missing": (lambda p: None, "does not exist"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line(tmp_path: Path, name: str) -> None:
    """Whatever is wrong with a file, the error is one line that begins with its path, and exit code 1."""
    write, words = DAMAGED[name]
    path = tmp_path / "model"
    write(path)
    with pytest.raises(EdgeSegError) as caught:
        inspect(path)
    line = str(caught.value)
    assert words in line, line
    assert line.startswith(str(path))
    assert "\n" not in line
    assert caught.value.exit_code == 1


def test_a_lock_that_another_process_holds_does_not_matter(tmp_path: Path) -> None:
    """A model file is read whoever has locked it: a program that a thread starts holds a copy of a lock for a while."""
    path = write_h5(tmp_path / "m.h5", functional())
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        inspect(path)


@pytest.mark.parametrize("inside", [False, True])
def test_pickles_are_never_opened(tmp_path: Path, inside: bool) -> None:
    """A pickle, bare or in the archive, is refused as code."""
    path, data = tmp_path / "m.keras", pickle.dumps({"a": 1})
    if inside:
        write_archive(path, functional(), **{"state.pkl": data})
    else:
        path.write_bytes(data)
    with pytest.raises(UnsafeModelError, match="pickle"):
        inspect(path)
