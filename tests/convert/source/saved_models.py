"""SavedModels to attack: a good one that has each place where an operation can stand, and what is put there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def write_good(folder: Path) -> Path:
    """Write a small net with a function, a loop, a branch, a gradient of its own and an initializer's signature."""
    import tensorflow as tf

    @tf.custom_gradient
    def swish(x: Any) -> Any:
        def pull(upstream: Any) -> Any:
            return upstream * tf.sigmoid(x)

        return x * tf.sigmoid(x), pull

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(np.random.default_rng(5).normal(0, 0.3, (3, 3, 1, 1)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 1), tf.float32, name="image")])
        def serve(self, image: Any) -> Any:
            x = self.halve(tf.nn.conv2d(image, self.kernel, 1, "SAME"))
            x = tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, swish(x)), (0, x))[1]
            x = tf.cond(tf.reduce_sum(x) > 1e9, lambda: x * 2, lambda: x)
            return {"mask": tf.sigmoid(x)}

        @tf.function
        def halve(self, x: Any) -> Any:
            return x / 2

    net = Net()
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(net, str(folder), {"serving_default": net.serve}, options)
    return folder


def edit(folder: Path, change: Callable[[Any], None]) -> Path:
    """Change the protocol buffer of a SavedModel; return its folder."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(saved)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def find_function(meta: Any, part: str) -> Any:
    """Return the first function whose name has this part."""
    found = [one for one in meta.graph_def.library.function if part in one.signature.name]
    assert found, (part, [one.signature.name for one in meta.graph_def.library.function])
    return found[0]


def find_nodes(meta: Any, place: str) -> Any:
    """Return the nodes of one of PLACES."""
    return meta.graph_def.node if place == "main" else find_function(meta, PLACES[place]).node_def


PLACES = {
    "main": "",
    "function": "__inference_serve_",
    "inner": "__inference_halve_",
    "loop": "while_body",
    "branch": "cond_true",
    "gradient": "internal_grad_fn",
    "signature": "signature_wrapper",
    "saver": "traced_restore",
}
# One operation for each thing that none may do: write, delete, read, load, connect, print, call back, end, wait.
NAMES = """
Save SaveSlices WriteFile DebugNumericSummary DebugNanCount DebugIdentity DebugIdentityV2 DumpTensor WriteSummary
WriteGraphSummary CreateSummaryFileWriter CreateSummaryDbWriter SaveDatasetV2 DatasetToTFRecord DistributedSave
CalibrationStatisticsSaver StoreMinibatchStatisticsInFdo ImmutableConst Restore RestoreSlice LoadAndRemapMatrix
GenerateVocabRemapping ReadFile MatchingFiles MatchingFilesDataset WholeFileReaderV2 CSVDatasetV2 TextLineDataset
TFRecordDatasetV2 FixedLengthRecordDatasetV2 SqlDataset ExperimentalLMDBDataset LoadDataset RecordInput ImportEvent
InitializeTableFromTextFileV2 HashTableV2 LookupTableImportV2 DTensorRestoreV2 FileSystemSetConfiguration PyFunc
PyFuncStateless EagerPyFunc GeneratorDataset XlaCallModule XlaCustomCallV2 XlaHostCompute XlaLaunch RemoteCall RpcCall
RpcServerStart DataServiceDatasetV4 Send Recv TPUExecute CollectiveReduceV2 PrintV2 Abort SleepOp Barrier FIFOQueueV2
SymbolicGradient NoSuchOperation
"""
FORBIDDEN = NAMES.split()
