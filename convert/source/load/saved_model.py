"""How is a SavedModel folder loaded, after its graph was searched for operations that do more than compute?

Loading alone runs a SavedModel's initializers, and tracing folds its constants. So all of it is read first, and what is
loaded is a copy in the work folder that holds what was checked and nothing else: the functions without the saver's, the
constants and the variables. Runs in the child process.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

from convert.source.loaded_model import LoadedModel, fix_shape
from edge_runtime.errors import ModelError, UnsafeModelError, near_miss

from .archive import first_line
from .known_ops import COMPUTING, SAVER, SAVER_FUNCTIONS

MAX_GRAPH_BYTES = 2 << 30  # of a protocol buffer
DEFAULT_SIGNATURE = "serving_default"
# Objects that hold values or functions. The others, assets and resources with initializers, stand for files and tables.
OBJECTS = ("user_object", "variable", "function", "bare_concrete_function", "constant", "captured_tensor")
REPLACE = "save the model without it"
AGAIN = "save it again"


def load_graph(path: Path, work: Path, size: tuple[int, ...] | None, signature: str | None = None) -> LoadedModel:
    """Return a SavedModel's signature as a LoadedModel; `work` is a folder for the copy that is loaded.

    signature: its name; by default "serving_default", or the only one.
    Raises:
        UnsafeModelError: its graph does more than compute; none of it was run.
        ModelError: damaged, no such signature, or not one image or volume in.
    """
    import tensorflow as tf

    copy = copy_checked(path, work / "source.saved_model")
    try:
        root = tf.saved_model.load(str(copy))
        signatures = dict(root.signatures)
    except Exception as error:  # TensorFlow raises many kinds for a damaged folder
        raise ModelError(str(path), f"TensorFlow cannot load it ({first_line(error)})", AGAIN) from error
    serve = choose_signature(path, signatures, signature)
    inputs, outputs = serve.structured_input_signature[1], serve.structured_outputs
    if len(inputs) != 1:
        why = f"it has {len(inputs)} inputs ({', '.join(inputs)})"
        raise ModelError(str(path), why, "save a model with one input, the image")
    (name, spec), names = next(iter(inputs.items())), tuple(outputs)
    if spec.dtype == tf.string:
        why = f"its input {name!r} is text or bytes (an encoded image?)"
        raise ModelError(str(path), why, "export a signature that takes float pixels" + list_others(signatures))
    sides = tuple(spec.shape) if spec.shape.rank is not None else ()

    def call(x: Any) -> list[Any]:
        given = serve(**{name: x})
        return [given[output] for output in names]

    weights = [tuple(variable.shape) for variable in getattr(serve, "variables", ())]
    return LoadedModel(
        name=path.name,
        kind="saved_model",
        call=call,
        root=root,
        shape=fix_shape(str(path), sides, size),
        dtype=spec.dtype.name,
        outputs=names,
        weights=sum(map(prod, weights)),
    )


def choose_signature(path: Path, signatures: dict[str, Any], name: str | None) -> Any:
    """Return the signature of that name, else the default one, else the only one. Raises: ModelError."""
    if not signatures:
        raise ModelError(str(path), "it has no signature to serve", "save it with model.export(...)")
    known = ", ".join(signatures)
    if name is not None and name not in signatures:
        why = f"it has no signature {name!r}, but {known}"
        raise ModelError(str(path), why, near_miss(name, signatures) or "take one of these")
    if name is None and DEFAULT_SIGNATURE not in signatures and len(signatures) > 1:
        raise ModelError(str(path), f"it has {len(signatures)} signatures ({known})", "choose one: --signature NAME")
    return signatures.get(name or DEFAULT_SIGNATURE) or next(iter(signatures.values()))


def list_others(signatures: dict[str, Any]) -> str:
    """Return which signatures there are, where there are several."""
    return f", or choose another with --signature: {', '.join(signatures)}" if len(signatures) > 1 else ""


def copy_checked(path: Path, target: Path) -> Path:
    """Return `target`, after copying into it what is loaded of the SavedModel folder, checked.

    Raises:
        UnsafeModelError, ModelError: as `load_graph`.
    """
    saved = read_graph(path)
    check_graph(path, saved)
    prune_graph(saved.meta_graphs[0])
    (target / "variables").mkdir(parents=True)
    (target / "saved_model.pb").write_bytes(saved.SerializeToString())
    for name in list_variables(path):
        with open_plain(path, path / "variables" / name) as old, (target / "variables" / name).open("xb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
    return target


def list_variables(path: Path) -> list[str]:
    """Return the names of the files with the variables; none where there is no such folder."""
    try:
        names = sorted(os.listdir(path / "variables"))  # noqa: PTH208
    except OSError:
        return []
    return [name for name in names if name.startswith("variables.")]


def open_plain(path: Path, file: Path) -> Any:
    """Return a file of the model, opened for reading. Raises: ModelError for a link or anything else that is no file.

    A link would make another file's bytes the model's weights.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        why = "is a link" if file.is_symlink() else f"cannot be read ({error.strerror})"
        raise ModelError(str(path), f"its {file.name} {why}", AGAIN) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ModelError(str(path), f"its {file.name} is no file", AGAIN)
    return os.fdopen(handle, "rb")


def read_graph(path: Path) -> Any:
    """Return the protocol buffer in saved_model.pb. Raises: ModelError."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    with open_plain(path, path / "saved_model.pb") as file:
        data = file.read(MAX_GRAPH_BYTES + 1)
    try:
        saved.ParseFromString(data)
    except Exception as error:  # protobuf raises different kinds in its implementations
        raise ModelError(str(path), "its saved_model.pb is damaged", AGAIN) from error
    saved.DiscardUnknownFields()
    if not saved.meta_graphs:
        raise ModelError(str(path), "its saved_model.pb holds no graph", AGAIN)
    return saved


def check_graph(path: Path, saved: Any) -> None:
    """Raise UnsafeModelError if any part of a SavedModel does more than compute."""
    for meta in saved.meta_graphs:
        check_nodes(path, meta)
        check_saver(path, meta)
        check_objects(path, meta)
    if len(saved.meta_graphs) > 1 or not saved.meta_graphs[0].HasField("object_graph_def"):
        why = "it is of TensorFlow 1: loading it would run operations of its own to restore its variables"
        raise UnsafeModelError(str(path), why, "load it with TensorFlow 2 where you trust it, and save it again")


def is_saver(name: str) -> bool:
    """Return whether a function is one of the two that TensorFlow writes to save and to restore variables."""
    return name.startswith(SAVER_FUNCTIONS)


def list_nodes(meta: Any) -> Iterator[tuple[str, Any]]:
    """Yield (function, node) for every node of a graph and of its functions; "" for the graph itself."""
    for node in meta.graph_def.node:
        yield "", node
    for function in meta.graph_def.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def check_nodes(path: Path, meta: Any) -> None:
    """Raise UnsafeModelError for an operation that is not known to compute, in whatever function it stands.

    Branches, loop bodies, initializers and gradients are functions of the same library, so that all are searched.
    """
    for function, node in list_nodes(meta):
        if node.op in COMPUTING or (node.op in SAVER and is_saver(function)):
            continue
        where = f"function {function!r}" if function else "main graph"
        why = f"node {node.name!r} in its {where} is a {node.op}, which is not known to only compute"
        raise UnsafeModelError(str(path), why, REPLACE)


def check_saver(path: Path, meta: Any) -> None:
    """Raise UnsafeModelError if anything but the graph's own saver uses the saver's functions."""
    own = {name.split(":")[0] for name in (meta.saver_def.save_tensor_name, meta.saver_def.restore_op_name)}
    for function, node in list_nodes(meta):
        called = [name for name in list_called(node.attr.values()) if is_saver(name)]
        if called and not is_saver(function) and (function or node.name not in own):
            where = f"function {function!r}" if function else "main graph"
            why = f"node {node.name!r} in its {where} calls {called[0]!r}, which reads or writes files"
            raise UnsafeModelError(str(path), why, REPLACE)
    library = meta.graph_def.library
    names = [name for function in library.function for name in list_called(function.attr.values())]
    names += [name for one in library.gradient for name in (one.function_name, one.gradient_func)]
    names += list(meta.object_graph_def.concrete_functions)
    if found := [name for name in names if is_saver(name)]:
        raise UnsafeModelError(str(path), f"it calls {found[0]!r}, which reads or writes files", REPLACE)


def list_called(values: Iterable[Any]) -> Iterator[str]:
    """Yield the functions that some attributes name, also in their own attributes."""
    for value in values:
        for called in (*([value.func] if value.HasField("func") else ()), *value.list.func):
            yield called.name
            yield from list_called(called.attr.values())


def check_objects(path: Path, meta: Any) -> None:
    """Raise UnsafeModelError for an object that stands for a file or a table, or that has a saver of its own."""
    if meta.asset_file_def:
        why = f"it reads the file {meta.asset_file_def[0].filename!r}"
        raise UnsafeModelError(str(path), why, "save the model without tables and vocabularies")
    for index, node in enumerate(meta.object_graph_def.nodes):
        kind = node.WhichOneof("kind") or "user_object"
        if kind not in OBJECTS:
            why = f"its object {index} is of the kind {kind!r}, which opens a file or a table when it is loaded"
            raise UnsafeModelError(str(path), why, "save the model without tables and vocabularies")
        if node.registered_saver or node.saveable_objects:
            raise UnsafeModelError(str(path), f"its object {index} has functions of its own to restore it", REPLACE)


def prune_graph(meta: Any) -> None:
    """Leave in a checked graph what is loaded: constants, functions and objects, without savers and settings."""
    graph = meta.graph_def
    constants = [node for node in graph.node if node.op == "Const"]
    functions = [function for function in graph.library.function if not is_saver(function.signature.name)]
    for nodes in (constants, *(function.node_def for function in functions)):
        for node in nodes:
            for key in ("config", "config_proto"):  # of a session: which rewriters and executors take part
                if key in node.attr:
                    node.attr[key].s = b""
    replace_all(graph.node, constants)
    replace_all(graph.library.function, functions)
    for field in ("saver_def", "collection_def", "signature_def"):
        meta.ClearField(field)
    meta.meta_info_def.ClearField("stripped_op_list")


def replace_all(field: Any, kept: list[Any]) -> None:
    """Replace a repeated field's messages by some of them."""
    copies = [type(one).FromString(one.SerializeToString()) for one in kept]
    del field[:]
    field.extend(copies)
