"""What LiteRT and tflite-runtime share: the TFLite Interpreter, one input, one output."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, ModelError


class InterpreterEngine:
    """A TFLite Interpreter as an Engine."""

    def __init__(self, name: str, version: str, threads: int, interpreter: Any, path: str) -> None:
        self.name, self.version, self.threads = name, version, threads
        self._interpreter = interpreter
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            why = f"it has {len(inputs)} inputs and {len(outputs)} outputs, a segmentation model has one of each"
            raise ModelError(path, why, "convert the model again")
        self._input, self._output = inputs[0], outputs[0]
        self.input_shape = tuple(int(side) for side in self._input["shape"])
        self.input_dtype = np.dtype(self._input["dtype"]).name
        self.output_shape = tuple(int(side) for side in self._output["shape"])
        self.output_dtype = np.dtype(self._output["dtype"]).name

    def infer(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the output (1, h, w, K), dequantized to float32.

        Raises: EngineError if the interpreter fails.
        """
        try:
            self._interpreter.set_tensor(self._input["index"], tensor)
            self._interpreter.invoke()
            output = self._interpreter.get_tensor(self._output["index"])
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"engine {self.name}", f"inference failed ({error})", "try another --engine") from None
        scale, zero = self._output["quantization"]
        if scale:  # a zero scale: the output is float
            output = (output.astype(np.float32) - zero) * np.float32(scale)
        return np.asarray(output, np.float32)


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
