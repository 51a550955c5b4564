"""How is a .tflite file run by OpenVINO on the CPU, often the fastest on Intel's? Needs the extra openvino."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from edge_runtime.errors import EngineError, ModelError
from edge_runtime.system.machine import find_features, read_cores
from edge_runtime.system.versions import find_version


class OpenVinoEngine:
    """A compiled OpenVINO model as an Engine."""

    name = "openvino"

    def __init__(self, release: str, threads: int, compiled: Any, path: str) -> None:
        self.version, self.threads = release, threads
        inputs, outputs = compiled.inputs, compiled.outputs
        if len(inputs) != 1 or len(outputs) not in (1, 2):
            why = f"it has {len(inputs)} inputs and {len(outputs)} outputs, not one input, a mask and perhaps classes"
            raise ModelError(path, why, "convert the model again")
        if any(output.element_type != openvino.Type.f32 for output in outputs):
            raise ModelError(path, "its output is not float, and openvino does not report its scale", "use litert")
        self._compiled, self._request = compiled, compiled.create_infer_request()
        self.input_shape = tuple(int(side) for side in inputs[0].shape)
        self.input_dtype = np.dtype(inputs[0].element_type.to_dtype()).name
        self.output_shape = tuple(int(side) for side in outputs[0].shape)
        self.output_dtype = "float32"
        self.class_shape = tuple(int(side) for side in outputs[1].shape) if len(outputs) > 1 else None

    def infer(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the mask. Raises: EngineError if OpenVINO fails."""
        return self._run(tensor, 1)[0]

    def infer_both(self, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the mask and the classes. Raises: EngineError if OpenVINO fails."""
        mask, classes = self._run(tensor, 2)
        return mask, classes

    def _run(self, tensor: npt.NDArray[Any], count: int) -> list[npt.NDArray[np.float32]]:
        """Return copies of the first outputs, which the next run does not change."""
        if tensor.shape != self.input_shape or tensor.dtype.name != self.input_dtype:
            why = f"it takes {self.input_dtype} {self.input_shape}, not {tensor.dtype} {tensor.shape}"
            raise EngineError("engine openvino", why, "check the contract")
        try:
            self._request.infer([np.ascontiguousarray(tensor)])
            return [np.array(self._request.get_output_tensor(k).data, np.float32) for k in range(count)]
        except RuntimeError as error:
            raise EngineError("engine openvino", f"inference failed ({error})", "try another --engine") from None


def load(path: Path, threads: int) -> OpenVinoEngine:
    """Load a model. Raises: ModelError if OpenVINO refuses it."""
    core = openvino.Core()
    try:
        compiled = core.compile_model(
            core.read_model(str(path)), "CPU", make_config(threads, find_features(read_cores()))
        )
        return OpenVinoEngine(find_version("openvino") or "unknown", threads, compiled, str(path))
    except RuntimeError as error:
        raise ModelError(str(path), f"openvino refuses it ({error})", "use another --engine") from None


def make_config(threads: int, flags: frozenset[str]) -> dict[str, Any]:
    """Return how OpenVINO is to compile: for one image at a time, in bf16 only where tiles make it fast (AMX).

    Integer files stay integer either way: their quantization is in the graph, and VNNI is used where it is.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if "amx_bf16" in flags else "f32",
    }
