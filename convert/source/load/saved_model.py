"""How is a SavedModel folder loaded, after its graph was searched for ops that call Python or access files?

Runs in the child process.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from convert.source.loaded_model import LoadedModel, fix_shape
from edge_runtime.errors import ModelError, UnsafeModelError

from .archive import first_line

# Ops that call Python, or read or write files that the graph names.
UNSAFE_OPS = {
    *("PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles", "PrintV2", "Print"),
    *("WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "ReaderReadV2", "ReaderRead"),
    *("TFRecordReader", "TFRecordReaderV2", "FixedLengthRecordReaderV2", "IdentityReaderV2", "LMDBReader"),
    *("TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDatasetV2", "CSVDataset"),
    *("LoadDataset", "SaveDataset", "SnapshotDataset", "SnapshotDatasetV2", "CacheDataset", "CacheDatasetV2"),
    *("InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "FileSystemSetConfiguration", "DebugIdentityV2"),
    *("CreateSummaryFileWriter", "CreateSummaryDbWriter", "ImportEvent", "DumpOp", "DebugIdentity", "RpcCall", "Rpc"),
}


def load_graph(path: Path, size: tuple[int, ...] | None) -> LoadedModel:
    """Return the SavedModel's serving signature as a LoadedModel.

    Raises:
        UnsafeModelError: its graph calls Python or accesses files.
        ModelError: damaged, or not one image or volume in.
    """
    import tensorflow as tf

    refuse_unsafe_ops(path)
    try:
        root = tf.saved_model.load(str(path))
        signatures = dict(root.signatures)
    except Exception as error:  # TensorFlow raises many kinds for a damaged folder
        raise ModelError(str(path), f"TensorFlow cannot load it ({first_line(error)})", "save it again") from error
    serve = signatures.get("serving_default") or next(iter(signatures.values()), None)
    if serve is None:
        raise ModelError(str(path), "it has no signature to serve", "save it with model.export(...)")
    inputs, outputs = serve.structured_input_signature[1], serve.structured_outputs
    if len(inputs) != 1:
        why = f"it has {len(inputs)} inputs ({', '.join(inputs)})"
        raise ModelError(str(path), why, "save a model with one input, the image")
    (name, spec), names = next(iter(inputs.items())), tuple(outputs)
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


def refuse_unsafe_ops(path: Path) -> None:
    """Raise UnsafeModelError if the graph in saved_model.pb calls Python or accesses files."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        raise ModelError(str(path), "its saved_model.pb is damaged", "save it again") from error
    if not saved.meta_graphs:
        raise ModelError(str(path), "its saved_model.pb holds no graph", "save it again")
    for meta in saved.meta_graphs:
        functions = meta.graph_def.library.function
        for nodes in (meta.graph_def.node, *(function.node_def for function in functions)):
            for node in nodes:
                if node.op in UNSAFE_OPS:
                    why = f"its graph's node {node.name!r} is a {node.op}, which runs Python or touches files"
                    raise UnsafeModelError(str(path), why, "save the model without it")
