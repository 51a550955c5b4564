"""LiteRT's CompiledModel, which unlike its Interpreter reaches GPUs and maps packed weights."""

from __future__ import annotations

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

from ..errors import EngineError, ModelError
from .interpreter import InterpreterEngine, to_float
from .weights import FLAGS

NOWHERE = "/nonexistent"


class CompiledEngine(InterpreterEngine):
    """A CompiledModel as an Engine; shapes, types and scales come from an Interpreter that never runs."""

    def __init__(self, name: str, version: str, threads: int, path: str, weights: str = "", gpu: bool = False) -> None:
        super().__init__(name, version, threads, read_details(name, path), path)
        self._interpreter = None  # its memory is given back before the model asks for more
        self._model = model = compile_model(path, threads, weights, gpu)
        self._inputs, self._buffers = model.create_input_buffers(0), model.create_output_buffers(0)
        self._places = find_places(model, self._outputs)

    def _run(self, tensor: npt.NDArray[Any], outputs: Sequence[Any]) -> list[npt.NDArray[np.float32]]:
        """Return some outputs, which the next run does not change."""
        if tensor.shape != self.input_shape or tensor.dtype.name != self.input_dtype:
            why = f"it takes {self.input_dtype} {self.input_shape}, not {tensor.dtype} {tensor.shape}"
            raise EngineError(f"engine {self.name}", why, "check the contract")
        found = []
        try:
            self._inputs[0].write(tensor)
            self._model.run_by_index(0, self._inputs, self._buffers)
            for place, output in zip(self._places, outputs, strict=False):
                values = self._buffers[place].read(int(np.prod(output["shape"])), np.dtype(output["dtype"]))
                found.append(to_float(values.reshape(output["shape"]), *output["quantization"]))
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"engine {self.name}", f"inference failed ({error})", "try another --engine") from None
        return found


def read_details(name: str, path: str) -> Any:
    """Return an Interpreter to be asked about a model, not run. Raises: ModelError if LiteRT cannot read the file."""
    try:
        return Interpreter(model_path=path)
    except (RuntimeError, ValueError) as error:
        raise ModelError(path, f"{name} refuses it ({error})", "convert it again") from None


def find_places(model: Any, outputs: Sequence[Any]) -> list[int]:
    """Return which of the signature's outputs each of the graph's is: a contract goes by the graph's order.

    Raises: ModelError if the file has no such signature.
    """
    signatures = model.get_signature_list()
    key = next(iter(signatures), None)
    details = model.get_output_tensor_details(key) if key is not None else {}
    places = {details[name]["index"]: k for k, name in enumerate(signatures[key]["outputs"])} if details else {}
    try:
        return [places[int(output["index"])] for output in outputs]
    except KeyError:
        raise ModelError("model", "its signature does not name its outputs", "convert it again") from None


def compile_model(path: str, threads: int, weights: str = "", gpu: bool = False) -> Any:
    """Return a CompiledModel; `weights`: a file that holds the packed weights, or will.

    Raises: RuntimeError and others of LiteRT's.
    """
    # The vendors' plugins, which LiteRT would look for and load, are for accelerators that no engine here is.
    home = str(Path(ai_edge_litert.__file__).parent)
    places = EnvironmentOptions(runtime_path=home, compiler_plugin_path=NOWHERE, dispatch_library_path=NOWHERE)
    cpu = CpuOptions(num_threads=threads, xnnpack_flags=FLAGS, xnnpack_weight_cache_path=weights)
    # On GPUs sums in half precision give NaN in squeeze-and-excite blocks: LiteRT#9249.
    accelerators = HardwareAccelerator.GPU | HardwareAccelerator.CPU if gpu else HardwareAccelerator.CPU
    options = Options(accelerators, cpu_options=cpu, gpu_options=GpuOptions(enforce_f32=True) if gpu else None)
    return CompiledModel.from_file(path, environment=Environment.create(options=places), options=options)
