"""A model file is read before it is loaded: what could run code is named and refused, damage is one line."""

from __future__ import annotations

import fcntl
import inspect as signatures
import io
import json
import os
import pickle
import random
import signal
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from keras_nets import functional, layer, write_archive

from convert.source.load.archive import ConfigObject, find_kind, is_known, read_objects, refuse_unsafe
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
        (layer("IndexLookup", "evil", module="keras.src.layers", vocabulary="/etc/passwd"), ("'evil'", "reads files")),
        (layer("load_model", "evil", module="keras.models"), ("'evil'", "keras.models.load_model")),
        (layer("load_model", "evil", module="keras.src.saving"), ("'evil'", "load_model")),
        (layer("Switch", "evil", module="keras.src.ops.core"), ("'evil'", "keras.src.ops.core.Switch")),
        (layer("Map", "evil", module="keras.src.ops.core"), ("'evil'", "Map")),
        (layer("import_module", "evil", module="keras.src.ops.core"), ("'evil'", "import_module")),
        (layer("deserialize", "evil", module="keras.layers"), ("'evil'", "keras.layers.deserialize")),
        (layer("get", "evil", module="keras.activations"), ("'evil'", "keras.activations.get")),
        (layer("Thing", "evil", module="keras.src.backend.tensorflow.core"), ("'evil'", "backend")),
        (layer("Dense", "evil", module="keras.src.backend.common.global_state"), ("'evil'", "Dense")),
        (layer("Conv2D", "evil", activation=function("eval", "builtins")), ("'evil'", "builtins.eval")),
        (layer("Conv2D", "evil", activation=function("open", "builtins")), ("'evil'", "builtins.open")),
        (layer("Conv2D", "evil", activation=function("deserialize", "keras.activations")), ("'evil'", "deserialize")),
        (layer("Conv2D", "evil", activation=function("map", "keras.ops")), ("'evil'", "keras.ops.map")),
        (layer("MeanMetricWrapper", "evil", module="keras.metrics", fn="x"), ("'evil'", "MeanMetricWrapper")),
        (layer("GPTQConfig", "evil", module="keras.quantizers"), ("'evil'", "GPTQConfig")),
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


def write_entry(path: Path, name: str, data: bytes = b"", mode: int = 0) -> None:
    """Add an entry to an archive of Keras, with the mode of a Unix file."""
    write_archive(path, functional())
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name twice
        archive.writestr(entry, data)


def replace_name(path: Path, old: bytes, new: bytes) -> None:
    """Write an archive whose second config.json has another name of the same length."""
    write_entry(path, old.decode(), b"{}")
    path.write_bytes(path.read_bytes().replace(old, new))


def write_config(path: Path, encode: Callable[[str], bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", encode(json.dumps(functional())))
        archive.writestr("model.weights.h5", b"")


def write_text_config(path: Path, text: Any) -> None:
    import h5py

    with h5py.File(path, "w", locking=False) as file:
        file.attrs["model_config"] = text


def write_circle(path: Path) -> None:
    """Write a file with a group that holds itself ten times: a walk through it would never end."""
    import h5py

    write_h5(path, functional())
    with h5py.File(path, "a", locking=False) as file:
        for index in range(10):
            file["model_weights"][str(index)] = file["model_weights"]


TWICE = '{"class_name": "Functional", "class_name": "Lambda", "config": {}}'


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
    "link": (lambda p: write_entry(p, "assets", b"/etc/passwd", stat.S_IFLNK | 0o777), "is a link"),
    "link-weights": (lambda p: write_entry(p, "model.weights.json", b"/x", stat.S_IFLNK), "is a link"),
    "device": (lambda p: write_entry(p, "d", b"", stat.S_IFCHR), "is no file"),
    "folder-entry": (lambda p: write_entry(p, "assets/"), "which is not Keras'"),
    "other-entry": (lambda p: write_entry(p, "setup.py"), "which is not Keras'"),
    "shards": (lambda p: write_entry(p, "model_00001.weights.h5"), "shards"),
    "twice": (lambda p: write_entry(p, "config.json", b"{}"), "one name twice"),
    "twice-by-case": (lambda p: write_entry(p, "CONFIG.json", b"{}"), "one name twice"),
    "twice-by-nul": (lambda p: replace_name(p, b"config.jsonXY", b"config.json\0Y"), "one name twice"),
    "nul": (lambda p: replace_name(p, b"metadata.jsonXY", b"metadata.json\0Y"), "not Keras'"),
    "backslash": (lambda p: write_entry(p, "a\\config.json"), "not Keras'"),
    "utf-16": (lambda p: write_config(p, lambda text: text.encode("utf-16")), "damaged"),
    "utf-16-plain": (lambda p: write_config(p, lambda text: text.encode("utf-16-le")), "damaged"),
    "utf-32": (lambda p: write_config(p, lambda text: text.encode("utf-32")), "damaged"),
    "mark": (lambda p: write_config(p, lambda text: text.encode("utf-8-sig")), "BOM"),
    "latin": (lambda p: write_config(p, lambda text: text.replace("net", "n\xe9t").encode("latin-1")), "damaged"),
    "key-twice": (lambda p: write_archive(p, TWICE), "'class_name' twice"),
    "key-twice-inside": (lambda p: write_archive(p, '{"a": [{"b": {"c": 1, "c": 2}}]}'), "'c' twice"),
    "hdf5-key-twice": (lambda p: write_text_config(p, TWICE), "'class_name' twice"),
    "hdf5-number": (lambda p: write_text_config(p, 5), "not a text"),
    "hdf5-numbers": (lambda p: write_text_config(p, [1.0, 2.0]), "not a text"),
    "hdf5-no-text": (lambda p: write_text_config(p, b"\xff\xfe{}"), "damaged"),
    "hdf5-circle": (write_circle, "there twice"),
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


def write_small(path: Path) -> None:
    """Write a small model with real weights, compressed, so that a flipped bit meets zlib and HDF5 too."""
    import h5py

    config = functional(layer("Conv2D", "a", activation=function("relu", "builtins")), layer("ReLU", "b"))
    if path.suffix == ".h5":
        with h5py.File(path, "w", locking=False) as file:
            file.attrs["model_config"] = json.dumps(config)
            file.create_dataset("model_weights/a/kernel", data=list(range(64)), compression="gzip")
        return
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("layers/a/vars/0", data=list(range(64)), compression="gzip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", buffer.getvalue())


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return a damaged copy: bits flipped, a part cut, moved, repeated, zeroed, or set to 255."""
    changed = bytearray(data)
    start, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 64, 512))
    kind = rng.choice(("flip", "flips", "cut", "end", "zero", "ones", "move", "repeat", "random"))
    if kind == "flip":
        changed[start] ^= 1 << rng.randrange(8)
    elif kind == "flips":
        for _ in range(20):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del changed[start : start + length]
    elif kind == "end":
        del changed[start:]
    elif kind in ("zero", "ones", "random"):
        part = changed[start : start + length]
        fill = {"zero": bytes(len(part)), "ones": b"\xff" * len(part), "random": rng.randbytes(len(part))}[kind]
        changed[start : start + length] = fill
    else:
        part = changed[start : start + length]
        place = rng.randrange(len(data))
        changed[place : place + (length if kind == "move" else 0)] = part
    return bytes(changed)


def inspect_in_child(path: Path) -> str:
    """Return "read", "refused", what else came out, or that it took longer than ten seconds.

    In a process of its own, as in a conversion: HDF5 itself goes round in circles in some damaged files.
    """
    child = os.fork()
    if not child:
        signal.alarm(10)
        status = 2
        try:
            inspect(path)
            status = 0
        except EdgeSegError as error:
            status = 1 if "\n" not in str(error) and str(path) in str(error) else 3
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    words = {0: "read", 1: "refused", 2: "another exception", 3: "an unclear line", -signal.SIGALRM: "too long"}
    return words.get(status, f"status {status}")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_damaged_bytes_are_one_line(tmp_path: Path, suffix: str) -> None:
    """Of 200 damaged copies of a model each is read, or is refused with one line; no other exception comes out."""
    rng, path = random.Random(11), tmp_path / f"m{suffix}"
    write_small(path)
    inspect(path)
    whole, found = path.read_bytes(), Counter[str]()
    for index in range(200):
        path.write_bytes(mutate(whole, rng))
        found[inspect_in_child(path)] += 1
        assert found["another exception"] == found["an unclear line"] == 0, index
    assert found["read"] + found["refused"] + found["too long"] == 200, found
    assert found["refused"] > 30 and found["too long"] <= 4, found


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_damaged_configs_are_one_line(tmp_path: Path, suffix: str) -> None:
    """The same for a config in which one value is replaced by one of another type, in whatever place."""
    values: list[Any] = [
        None,
        0,
        -1,
        1e999,
        "",
        "x",
        [],
        {},
        [[]],
        [None],
        {"class_name": 5},
        {"config": 1},
        True,
        "a" * 9,
    ]
    config = functional(
        layer("InputLayer", "in", batch_input_shape=[None, 8, 8, 1]),
        layer("BatchNormalization", "b", axis=[3], dtype={"class_name": "Policy", "config": {"name": "float32"}}),
        {**layer("TFOpLambda", "op", function="math.add"), "inbound_nodes": [["in", 0, 0, {"y": 1.0}]]},
    )
    for change in list(list_changes(config, values)):
        path = tmp_path / f"m{suffix}"
        write_h5(path, change) if suffix == ".h5" else write_archive(path, change)
        try:
            inspect(path)
        except EdgeSegError as error:
            assert "\n" not in str(error) and str(path) in str(error)


def list_changes(node: Any, values: list[Any]) -> Iterator[Any]:
    """Yield copies of a structure with one place replaced by each of the values."""
    yield from values
    if isinstance(node, dict):
        for key, inner in node.items():
            yield {name: other for name, other in node.items() if name != key}
            for changed in list_changes(inner, values):
                yield {**node, key: changed}
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            for changed in list_changes(inner, values):
                yield [*node[:index], changed, *node[index + 1 :]]


# What an argument is called that takes code, a file, or a foreign object.
TAKEN = "fn func function callable branches body body_fun cond true_fn false_fn call_fn init_fn filepath path file"
TAKEN += " filename module vocabulary dataset tokenizer url origin f elements_fn handler hook callback"
FOLDERS = "activations constraints dtype_policies initializers layers losses metrics models ops optimizers quantizers"


def list_reachable() -> Iterator[tuple[str, str, Any]]:
    """Yield (name, module, thing) for all that lies in Keras' public folders and in the modules behind them."""
    import pkgutil

    names = ["keras", "keras.src", "builtins", "keras.utils", "keras.saving", "keras.src.backend", "keras.config"]
    for folder in (*FOLDERS.split(), "saving", "utils", "export", "legacy"):
        for root in (f"keras.{folder}", f"keras.src.{folder}"):
            try:
                module = import_module(root)
            except ImportError:
                continue
            found = pkgutil.walk_packages(getattr(module, "__path__", []), f"{root}.", onerror=lambda name: None)
            names += [root, *(one.name for one in found if not one.name.endswith("_test"))]
    for name in names:
        try:
            module = import_module(name)
        except Exception:  # of a back end that is not installed
            continue
        yield from ((key, name, thing) for key, thing in vars(module).items())


def test_every_name_that_passes_only_computes() -> None:
    """Of all names in all modules of Keras those pass that are layers, operations and their parts, without code in."""
    keras = pytest.importorskip("keras")
    parts = (
        keras.Layer, keras.Operation, keras.initializers.Initializer, keras.regularizers.Regularizer,
        keras.constraints.Constraint, keras.dtype_policies.DTypePolicy, keras.dtype_policies.DTypePolicyMap,
        keras.losses.Loss, keras.metrics.Metric, keras.optimizers.Optimizer, keras.quantizers.Quantizer,
        keras.optimizers.schedules.LearningRateSchedule, keras.quantizers.QuantizationConfig,
    )  # fmt: skip
    seen, passed, wrong = 0, 0, set()
    for name, module, thing in list_reachable():
        seen += 1
        as_class = is_known(ConfigObject(name, module, None, "x"))
        as_function = is_known(ConfigObject(name, module, None, "x", function=True))
        if not (as_class or as_function) or module.endswith(".legacy"):  # whose optimizers only raise an error
            continue
        passed += 1
        if as_class and not (as_function and signatures.isfunction(thing)):
            good = isinstance(thing, type) and issubclass(thing, parts) and not takes_code(getattr(thing, "call", None))
            good = good and (name in ("Wrapper", "Pipeline") or not takes_code(thing.__init__))
        else:
            good = signatures.isroutine(thing) or isinstance(thing, type)
            good = good and not takes_code(thing) and thing.__module__.startswith("keras.")
        wrong |= set() if good else {f"{module}.{name}"}
    assert not wrong
    assert seen > 5000 and passed > 500


def takes_code(function: Any) -> bool:
    """Return whether a function has an argument by one of the names in TAKEN."""
    if function is None:
        return False
    return bool(set(signatures.signature(function).parameters) & set(TAKEN.split()))


def test_all_layers_of_keras_are_listed_or_named() -> None:
    """Each layer that Keras exports passes, but for those that take functions, paths or vocabularies."""
    keras = pytest.importorskip("keras")
    found = {
        name for name, thing in vars(keras.layers).items() if isinstance(thing, type) and issubclass(thing, keras.Layer)
    }
    refused = {name for name in found if not is_known(ConfigObject(name, "keras.layers", None, "x"))}
    assert refused == {
        "FlaxLayer", "HashedCrossing", "Hashing", "IntegerLookup", "JaxLayer", "Lambda", "StringLookup", "TFSMLayer",
        "TextVectorization", "TorchModuleWrapper",
    }  # fmt: skip
