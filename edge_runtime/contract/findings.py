"""What does each finding of a conversion's audit mean, which a contract may list as allowed?"""

from __future__ import annotations

INPUT_SCALE = "input-scale"
FINDINGS = {
    INPUT_SCALE: "contradictions in which values the model's input takes",
    "variables": "weights left outside the file (VAR_HANDLE, READ_VARIABLE): its outputs would be NaN",
    "dynamic-shape": "a shape known only at run time: no delegate supports it, and quantized kernels are slow",
    "custom-op": "an operation that plain TFLite runtimes do not have",
    "control-flow": "more than one subgraph",
    "size": "a file size that does not fit the number of weights",
    "float-weights": "quantization was asked for and a large weight tensor is still float",
    "not-finite": "an output that is no finite number",
    "not-probability": "an output outside [0, 1]",
    "unfaithful": "outputs far from the original model's",
    "runtime-2.14": "an operation that tflite-runtime 2.14 does not take",
    "runtime-version": "an operation in a version that LiteRT 2.3 does not have",
    "arithmetic": "weights that are not what the equations make of the float32 file's",
    "slower": "the result is not faster than the model's own static float32 file",
}
