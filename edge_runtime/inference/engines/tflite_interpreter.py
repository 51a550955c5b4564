"""How is a TFLite Interpreter run, which LiteRT and tflite-runtime share?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EngineError, ModelError


class InterpreterEngine:
    """A TFLite Interpreter as an Engine."""

    def __init__(self, name: str, version: str, threads: int, interpreter: Any, path: str) -> None:
        self.name, self.version, self.threads = name, version, threads
        self._interpreter = interpreter
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) not in (1, 2):
            why = f"it has {len(inputs)} inputs and {len(outputs)} outputs, not one input, a mask and perhaps classes"
            raise ModelError(path, why, "convert the model again")
        self._input, self._outputs = inputs[0], outputs  # in the order of the graph, which is the contract's
        self.input_shape = tuple(int(side) for side in self._input["shape"])
        self.input_dtype = np.dtype(self._input["dtype"]).name
        self.output_shape = tuple(int(side) for side in outputs[0]["shape"])
        self.output_dtype = np.dtype(outputs[0]["dtype"]).name
        self.class_shape = tuple(int(side) for side in outputs[1]["shape"]) if len(outputs) > 1 else None

    def infer(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the mask (1, h, w, K) or (1, D, h, w, K), dequantized to float32.

        Raises: EngineError if the interpreter fails.
        """
        return self._run(tensor, self._outputs[:1])[0]

    def infer_both(self, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the mask and the classes (1, N), dequantized to float32.

        Raises: EngineError if the interpreter fails.
        """
        mask, classes = self._run(tensor, self._outputs)
        return mask, classes

    def _run(self, tensor: npt.NDArray[Any], outputs: Sequence[Any]) -> list[npt.NDArray[np.float32]]:
        """Return copies of some outputs, which the interpreter's next run does not change."""
        try:
            self._interpreter.set_tensor(self._input["index"], tensor)
            self._interpreter.invoke()
            found = [self._interpreter.get_tensor(output["index"]) for output in outputs]
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"engine {self.name}", f"inference failed ({error})", "try another --engine") from None
        return [to_float(values, *output["quantization"]) for values, output in zip(found, outputs, strict=True)]


def to_float(values: npt.NDArray[Any], scale: float, zero: int) -> npt.NDArray[np.float32]:
    """Return quantized values dequantized; a scale of zero means that they are float."""
    return np.asarray((values.astype(np.float32) - zero) * np.float32(scale) if scale else values, np.float32)


def make_interpreter(kind: Any, name: str, path: str, threads: int) -> Any:
    """Return a ready Interpreter of class `kind`.

    The path, not the bytes: the interpreter maps the file, and its weights need no second copy in memory.
    Raises: ModelError if it refuses the model.
    """
    try:
        interpreter = kind(model_path=path, num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(path, f"{name} refuses it ({error})", "convert it again for this engine") from None
    return interpreter
