"""How does a model file become a function that can be traced? Runs in the child process, after the archive was read.

For every format it is one function from (1, H, W, C), or (1, D, H, W, C), to the list of the model's outputs, with
float32 arithmetic.
"""

from __future__ import annotations

import importlib
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from convert.source.loaded_model import LoadedModel
from convert.source.work_folder import FULL
from edge_runtime.errors import ModelError, UsageError

from .archive import (
    PLAIN,
    ConfigObject,
    drop_training,
    explain_unknown,
    find_kind,
    first_line,
    list_objects,
    modernize_config,
    read_copy,
    refuse_unsafe,
)
from .describe_keras import describe_keras, walk_layers
from .keras2.config import OP, add_operation_modules, make_op, write_modern
from .keras2.layers import OLD_LAYERS, make_old_layers
from .keras2.meaning import is_keras2, keep_meaning, restore_functions
from .keras2.weights import assign_by_name
from .known_classes import WITHOUT_MODULE
from .saved_model import load_graph

READ_LIMIT_S = 120.0  # for the configuration of a model and the names of its weights
NOT_FLOAT32 = ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")


def load_model(
    path: Path, work: Path, size: tuple[int, ...] | None = None, trust: str = "", signature: str | None = None
) -> LoadedModel:
    """Return the model at `path`, after checking that it cannot run code; `work` is a folder for a copy of it.

    Raises:
        ModelError: not a model, damaged, or not one image or volume in.
        UnsafeModelError: it could run code; none was run.
    """
    kind = find_kind(path)
    if kind == "saved_model":
        return load_graph(path, work, size, signature)
    if signature is not None:
        raise UsageError(
            f"--signature {signature}", f"{path} is no SavedModel: only those have signatures", "leave it out"
        )
    copy = work / f"copy.{kind}"
    written, config = read_own_copy(path, copy, kind)
    modern = modernize_config(path, config)
    old = is_keras2(copy, kind, config, modern)
    modern = keep_meaning(path, modern) if old else modern
    objects = list_objects(path, modern)
    trusted = {} if not trust else read_trusted(trust)
    refuse_unsafe(path, objects, trust, trusted)
    parsed = add_operation_modules(modern) if kind == "h5" else modern
    refuse_unsafe(path, list_objects(path, parsed), trust, trusted)
    check_legacy(path, list_objects(path, parsed), trusted)
    refuse_arguments(path, parsed)
    source = work / f"source.{kind}"  # Keras judges by the suffix, find_kind by the content
    if parsed == written:
        copy.rename(source)
    else:
        write_modern(copy, kind, parsed, source)
    with register_classes(trusted, objects):
        model = to_float32(load_keras(path, source), path)
    notes = restore_functions(walk_layers(model)) if old else []
    loaded = describe_keras(path, kind, model, size)
    return replace(loaded, keras2=True, notes=(*loaded.notes, "a model of Keras 2", *notes)) if old else loaded


@contextmanager
def end_if_stuck(seconds: float) -> Iterator[None]:
    """End this process by SIGALRM where a block takes longer: in some damaged files HDF5 itself never comes back."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def read_own_copy(path: Path, copy: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copy a model file to where nobody else writes, so that what is checked is what is loaded.

    Return the copy's config as it was written, and without losses and metrics. Raises: ModelError, UnsafeModelError.
    """
    try:
        shutil.copyfile(path, copy)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise ModelError(str(path), f"it cannot be read ({error.strerror})") from error
    with end_if_stuck(READ_LIMIT_S):
        written = read_copy(path, copy, kind)
    return written, drop_training(path, written)


def read_trusted(module: str) -> dict[str, Any]:
    """Import the module that the user trusts; return its classes and functions, and those it registers, by name."""
    import keras

    try:
        found = importlib.import_module(module)
    except Exception as error:  # the user's code may raise any kind
        raise UsageError(f"--trust-custom {module}", f"it cannot be imported ({first_line(error)})") from error
    own = {name: thing for name, thing in vars(found).items() if callable(thing) and not name.startswith("__")}
    registered = {name.rsplit(">", 1)[-1]: thing for name, thing in keras.saving.get_custom_objects().items()}
    return {**registered, **own}


@contextmanager
def register_classes(trusted: dict[str, Any], objects: Sequence[ConfigObject] = ()) -> Iterator[None]:
    """Register the trusted classes with Keras, under their own names and those that the file has for them.

    A file says 'package>Name' where the class was registered when it was saved; the module need not register it.
    """
    import keras

    own = {name: thing for name, thing in trusted.items() if not getattr(thing, "__module__", "").startswith("keras.")}
    named = {name for item in objects for name in (item.registered, item.name) if name and ">" in name}
    known = keras.saving.get_custom_objects()
    named = {name for name in named - set(known) if name.rsplit(">", 1)[-1] in own}
    own |= {name: own[name.rsplit(">", 1)[-1]] for name in named}
    with keras.saving.custom_object_scope({**make_old_layers(), **own, OP: make_op()}):
        yield


def check_legacy(path: Path, objects: list[ConfigObject], trusted: dict[str, Any]) -> None:
    """Raise ModelError for an unknown class in a file without modules (HDF5), which Keras reports in many lines."""
    import keras

    known = WITHOUT_MODULE | PLAIN | {*OLD_LAYERS}
    for item in objects:
        if item.module is None and not item.function and item.name not in known and item.short_name not in trusted:
            if hasattr(keras.ops, to_snake_case(item.name)):
                why = f"layer {item.layer!r} is the operation {item.name!r}, which an .h5 file cannot bring back"
                raise ModelError(str(path), why, "save the model as .keras")
            raise explain_unknown(path, item)


def refuse_arguments(path: Path, node: Any) -> None:
    """Raise ModelError for an argument of Keras 2 that changes what a layer computes and that Keras 3 does not have."""
    if isinstance(node, list):
        for inner in node:
            refuse_arguments(path, inner)
    if not isinstance(node, dict):
        return
    if node.get("time_major") is True:
        why = f"layer {node.get('name')!r} has time_major=True, (steps, batch, features), which Keras 3 has not"
        raise ModelError(str(path), why, "build it with time_major=False, (batch, steps, features), and these weights")
    for inner in node.values():
        refuse_arguments(path, inner)


def to_snake_case(name: str) -> str:
    """Return 'expand_dims' for 'ExpandDims'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def load_keras(path: Path, source: Path) -> Any:
    """Return the Keras model. Raises: ModelError with Keras' error in one line."""
    import keras

    try:
        with assign_by_name(path):
            return keras.saving.load_model(source, compile=False, safe_mode=True)
    except ModelError:
        raise
    except Exception as error:  # Keras raises whatever its layers raise; the file is at fault, not this package
        raise ModelError(str(path), f"Keras cannot load it ({find_reason(error)})", "save the model again") from error


def find_reason(error: BaseException) -> str:
    """Return the root cause in a chain of errors, and the layer that was being read."""
    chain = [error]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None and deeper not in chain:
        chain.append(deeper)
    texts = [str(one) for one in chain]
    named = [found for text in texts if (found := re.search(r"class '(\w+)' using config=\{'name': '([^']+)'", text))]
    where = f"layer {named[-1][2]!r}, a {named[-1][1]}: " if named else ""
    return where + find_line(chain[-1])


def find_line(error: BaseException) -> str:
    """Return what an error of TensorFlow or Keras says: no source lines before it, no nodes behind it, no emphasis."""
    text = str(error)
    if emphasized := re.search(r"\x1b\[1m(.+?)\x1b\[0m", text, re.DOTALL):  # Keras' word for a layer's exception
        text = emphasized[1]
    elif text.startswith("in user code"):  # TensorFlow's for one in a traced function
        kinds = re.findall(r"^ *(\w+(?:Error|Exception): .+)$", text, re.MULTILINE)
        text = kinds[-1] if kinds else type(error).__name__
    return first_line(text or type(error).__name__).partition(" for '{{node")[0]


def to_float32(model: Any, path: Path) -> Any:
    """Return the model under the float32 policy, with the same weights; other types cannot be converted."""
    import keras
    import numpy as np

    policies = sorted({name for layer in walk_layers(model) if (name := name_policy(layer))})
    if not policies:
        return model
    try:
        rebuilt = keras.saving.deserialize_keras_object(replace_float_types(keras.saving.serialize_keras_object(model)))
        if not rebuilt.built:  # a subclassed model has weights only after this
            rebuilt.build_from_config(model.get_build_config())
        rebuilt.set_weights([np.asarray(weight).astype(np.float32) for weight in model.get_weights()])
    except Exception as error:
        raise ModelError(str(path), f"it cannot be rebuilt in float32 ({first_line(error)})") from error
    rebuilt.rebuilt_from = "a 16-bit policy" if any("16" in policy for policy in policies) else ", ".join(policies)
    return rebuilt


def name_policy(layer: Any) -> str:
    """Return the name of a layer's policy if it computes or keeps its weights in anything but float32; else ""."""
    policy = getattr(layer, "dtype_policy", None)
    types = getattr(policy, "compute_dtype", ""), getattr(policy, "variable_dtype", "")
    return str(policy.name) if policy is not None and set(types) & set(NOT_FLOAT32) else ""


def replace_float_types(config: Any) -> Any:
    """Return a serialized model with every other floating type and policy replaced by float32."""
    if isinstance(config, dict):
        if config.get("class_name") in ("DTypePolicy", "FloatDTypePolicy"):
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {
            k: "float32" if k == "dtype" and is_other_float(v) else replace_float_types(v) for k, v in config.items()
        }
    return [replace_float_types(item) for item in config] if isinstance(config, (list, tuple)) else config


def is_other_float(value: Any) -> bool:
    """Return whether a config value names a floating type, or a policy, that is not float32."""
    return isinstance(value, str) and value in NOT_FLOAT32
