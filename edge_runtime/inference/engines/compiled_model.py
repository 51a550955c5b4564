"""How is LiteRT's CompiledModel used, which unlike its Interpreter runs on GPUs and maps packed weights?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
import numpy.typing as npt
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment, EnvironmentOptions
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.options import CpuOptions, GpuOptions, Options

from edge_runtime.errors import EngineError, ModelError

from .packed_weights import FLAGS
from .tflite_interpreter import InterpreterEngine, to_float

NO_FOLDER = "/nonexistent"


class CompiledEngine(InterpreterEngine):
    """A CompiledModel as an Engine; shapes, types and scales come from an Interpreter that never runs."""

    def __init__(self, name: str, version: str, threads: int, path: str, weights: str = "", gpu: bool = False) -> None:
        super().__init__(name, version, threads, read_details(name, path), path)
        self._interpreter = None  # its memory is freed before the model needs more
        self._model = model = compile_model(path, threads, weights, gpu)
        self._inputs, self._buffers = model.create_input_buffers(0), model.create_output_buffers(0)
        self._indices = find_output_indices(model, self._outputs)

    def _run(self, tensor: npt.NDArray[Any], outputs: Sequence[Any]) -> list[npt.NDArray[np.float32]]:
        """Return some outputs, which the next run does not change."""
        if tensor.shape != self.input_shape or tensor.dtype.name != self.input_dtype:
            why = f"it takes {self.input_dtype} {self.input_shape}, not {tensor.dtype} {tensor.shape}"
            raise EngineError(f"engine {self.name}", why, "check the contract")
        found = []
        try:
            self._inputs[0].write(tensor)
            self._model.run_by_index(0, self._inputs, self._buffers)
            for index, output in zip(self._indices, outputs, strict=False):
                values = self._buffers[index].read(int(np.prod(output["shape"])), np.dtype(output["dtype"]))
                found.append(to_float(values.reshape(output["shape"]), *output["quantization"]))
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"engine {self.name}", f"inference failed ({error})", "try another --engine") from None
        return found


def read_details(name: str, path: str) -> Any:
    """Return an Interpreter for a model's details, not to be run. Raises: ModelError if LiteRT cannot read the file."""
    try:
        return Interpreter(model_path=path)
    except (RuntimeError, ValueError) as error:
        raise ModelError(path, f"{name} refuses it ({error})", "convert it again") from None


def find_output_indices(model: Any, outputs: Sequence[Any]) -> list[int]:
    """Return the index in the signature of each of the graph's outputs: a contract has the graph's order.

    Raises: ModelError if the file has no such signature.
    """
    signatures = model.get_signature_list()
    key = next(iter(signatures), None)
    details = model.get_output_tensor_details(key) if key is not None else {}
    indices = {details[name]["index"]: k for k, name in enumerate(signatures[key]["outputs"])} if details else {}
    try:
        return [indices[int(output["index"])] for output in outputs]
    except KeyError:
        raise ModelError("model", "its signature does not name its outputs", "convert it again") from None


def compile_model(path: str, threads: int, weights: str = "", gpu: bool = False) -> Any:
    """Return a CompiledModel; `weights`: a file that holds the packed weights, or will.

    Raises: RuntimeError and others of LiteRT's.
    """
    # The vendors' plugins, which LiteRT would search for and load, are for accelerators that no engine here uses.
    home = str(Path(ai_edge_litert.__file__).parent)
    folders = EnvironmentOptions(runtime_path=home, compiler_plugin_path=NO_FOLDER, dispatch_library_path=NO_FOLDER)
    cpu = CpuOptions(num_threads=threads, xnnpack_flags=FLAGS, xnnpack_weight_cache_path=weights)
    # On GPUs sums in half precision give NaN in squeeze-and-excite blocks: LiteRT#9249.
    accelerators = HardwareAccelerator.GPU | HardwareAccelerator.CPU if gpu else HardwareAccelerator.CPU
    options = Options(accelerators, cpu_options=cpu, gpu_options=GpuOptions(enforce_f32=True) if gpu else None)
    return CompiledModel.from_file(path, environment=Environment.create(options=folders), options=options)


def main(model: str, made: str, threads: str) -> None:
    """Pack the weights of `model` into the file `made`."""
    compile_model(model, int(threads), made)


if __name__ == "__main__":
    main(*sys.argv[1:])
