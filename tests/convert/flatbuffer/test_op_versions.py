"""Operation versions: what TensorFlow's own converter stamps, and what each runtime says it has."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from graphs import Drawing, run

from convert.flatbuffer.edit import kind_of, name_of, pack, unpack, value_of, version_of
from convert.flatbuffer.op_versions import (
    NEW,
    NEWEST,
    OLD,
    RUNTIMES,
    find_required_version,
    find_unsupported,
    runtime_of,
    set_versions,
)
from convert.quantize.full_integer import quantize_integer
from edge_runtime.system.quiet import silence_stderr

SHAPE = (1, 16, 16, 8)
# tflite-runtime 2.14.0 lives in an environment of its own, since it needs an old NumPy; .ci/run makes this one.
LEGACY = Path(os.environ.get("EDGE_SEG_LEGACY", Path(__file__).parents[3] / ".venv" / "legacy" / "bin" / "python"))


def make_layers(x: Any, w: Callable[..., Any]) -> list[Any]:
    import tensorflow as tf

    y = tf.nn.bias_add(tf.nn.conv2d(x, w(3, 3, 8, 8), 1, "SAME"), w(8))
    return [
        tf.nn.depthwise_conv2d(y, w(3, 3, 8, 1), [1, 1, 1, 1], "SAME"),
        tf.nn.conv2d_transpose(y, w(3, 3, 4, 8), [1, 32, 32, 4], 2),
        tf.matmul(tf.reshape(y, [256, 8]), w(8, 6)) + w(6),
        tf.nn.max_pool2d(y, 2, 2, "SAME"),
        tf.nn.avg_pool2d(y, 2, 2, "SAME"),
        tf.image.resize(y, [32, 32]),
        tf.concat([y, x], 3),
        tf.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]]),
        tf.reduce_mean(y, [1, 2]),
        tf.nn.sigmoid(y),
        tf.nn.leaky_relu(y, 0.1),
        tf.nn.depth_to_space(y, 2),
        y + x,
        y * x,
        y - x,
        tf.transpose(y, [0, 2, 1, 3]),
        tf.nn.softmax(y),
        tf.tanh(y),
    ]


def make_variants(x: Any, w: Callable[..., Any]) -> list[Any]:
    import tensorflow as tf

    return [
        tf.nn.conv2d(x, w(3, 3, 8, 8), 1, "SAME", dilations=2),
        tf.nn.depthwise_conv2d(x, w(3, 3, 8, 1), [1, 1, 1, 1], "SAME", dilations=[2, 2]),
        tf.nn.bias_add(tf.nn.conv2d_transpose(x, w(3, 3, 4, 8), [1, 32, 32, 4], 2), w(4)),
        tf.matmul(tf.reshape(x, [256, 8]), w(8, 6)),
        tf.image.resize(x, [32, 32], "nearest"),
        tf.reduce_max(x, 3),
        tf.reduce_sum(x, [1, 2]),
        tf.nn.space_to_depth(x, 2),
        x[:, 1:9],
        tf.slice(x, [0, 1, 1, 0], [1, 8, 8, 8]),
        tf.split(x, 2, 3)[0] * 2.0,
        tf.maximum(x, x * w(8)),
        tf.nn.relu6(x),
        tf.nn.elu(x),
        tf.tile(x, [1, 2, 1, 1]),
        tf.gather(x, [1, 3], axis=3),
        x / (tf.abs(w(8)) + 1.0),
        tf.math.rsqrt(tf.abs(x) + 1.0),
        tf.math.squared_difference(x, x[:, :, :, :1]),
        tf.exp(x),
        tf.nn.gelu(x),
    ]


def make_rarities(x: Any, w: Callable[..., Any]) -> list[Any]:
    import tensorflow as tf

    y, z = tf.reshape(x, [1, 4, 4, 16, 8]), tf.reshape(x, [1, 256, 8])
    return [
        tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d_transpose(x, w(3, 3, 4, 8), [1, 32, 32, 4], 2), w(4))),
        tf.transpose(y, [0, 2, 1, 3, 4]),
        tf.matmul(z, z, transpose_b=True),
        tf.pad(y, [[0, 0], [1, 1], [0, 0], [0, 0], [0, 0]]),
        tf.nn.conv3d(y, w(3, 3, 3, 8, 4), [1, 1, 1, 1, 1], "SAME"),
        y * w(1, 1, 1, 1, 8),
        y - w(1, 1, 1, 1, 8),
        tf.maximum(y, w(1, 4, 1, 1, 8)),
        y / (tf.abs(w(1, 4, 1, 1, 8)) + 1),
        y[:, 1:3],
        tf.nn.conv2d(x, w(3, 3, 4, 8), 1, "SAME"),  # two groups
        tf.where(x > 0, x, x * 2.0),
        tf.cast(tf.argmax(x, 3), tf.float32),
        tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]]),
        tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"),
        tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-1.0),
        tf.cast(tf.cast(x, tf.int32), tf.float32),
        tf.matmul(x, w(8, 6)) + w(6),
        x * tf.nn.relu6(x + 3) / 6,
    ]


def convert(make: Callable[..., list[Any]], recipe: str) -> bytes:
    """Return what TensorFlow's converter makes of a function's graph."""
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return tf.constant(rng.normal(size=shape).astype(np.float32))

    function = tf.function(lambda x: make(x, weights), input_signature=[tf.TensorSpec(SHAPE)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT] if recipe != "fp32" else []
    if recipe == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if recipe.startswith("int8"):
        converter.representative_dataset = lambda: ([rng.normal(size=SHAPE).astype(np.float32)] for _ in range(2))
    if recipe == "int8 whole dense":
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return bytes(converter.convert())


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "drq", "int8", "int8 whole dense"])
@pytest.mark.parametrize("make", [make_layers, make_variants, make_rarities])
@pytest.mark.filterwarnings("ignore")
def test_the_rules_are_tensorflows(make: Callable[..., list[Any]], recipe: str) -> None:
    """For every operation of three zoos, the version that we compute is the one that TensorFlow stamped."""
    pytest.importorskip("tensorflow")
    model = unpack(convert(make, recipe))
    needed: dict[str, int] = {}  # TensorFlow stamps all operations of one kind with the highest
    for op in model.subgraphs[0].operators:
        kind = kind_of(model, op)
        needed[kind] = max(needed.get(kind, 0), find_required_version(model, op))
    stamped = {
        name_of("BuiltinOperator", max(code.builtinCode, code.deprecatedBuiltinCode)): code.version
        for code in model.operatorCodes
    }
    assert needed == stamped
    assert len(stamped) >= 18


def write_code(kind: str, version: int) -> bytes:
    """Return a file with that operation code and no operation: a runtime looks the code up all the same."""
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    code.builtinCode = value_of("BuiltinOperator", kind)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
    tensor = schema.TensorT()
    tensor.shape, tensor.name = [1], b"x"
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    import flatbuffers

    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def list_codes(runtime: str) -> dict[tuple[str, int], bool]:
    """Return {(operation, version): whether the runtime should have it}: the newest and the one after."""
    found = {}
    for kind, newest in RUNTIMES[runtime].items():
        found |= {(kind, newest + 1): False} | ({(kind, newest): True} if newest else {})
    return found | {(kind, 1): True for kind in ("RESHAPE", "CONV_3D", "CONV_3D_TRANSPOSE", "HARD_SWISH", "POW")}


def test_litert_has_the_versions_of_the_table() -> None:
    """LiteRT loads the newest version of each operation in the table, and refuses the one after."""
    from importlib.metadata import version

    if not version("ai-edge-litert").startswith("2.3"):
        pytest.skip("the table is of LiteRT 2.3")
    for (kind, number), there in list_codes(NEW).items():
        loaded = True
        try:
            with silence_stderr():
                Interpreter(model_content=write_code(kind, number))
        except ValueError:
            loaded = False
        assert loaded == there, f"{kind} version {number}"


ASK = """
import json, sys
from pathlib import Path
from tflite_runtime.interpreter import Interpreter
answers = {}
for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    try:
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        answers[path.stem] = True
    except (ValueError, RuntimeError):
        answers[path.stem] = False
print(json.dumps(answers))
"""


def ask_legacy(folder: Path, files: dict[str, bytes]) -> dict[str, bool]:
    """Return which files tflite-runtime 2.14 loads."""
    if not LEGACY.is_file():
        pytest.skip(f"no tflite-runtime 2.14: {LEGACY} is missing")
    for name, data in files.items():
        (folder / f"{name}.tflite").write_bytes(data)
    done = subprocess.run([LEGACY, "-c", ASK, str(folder)], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def test_tflite_runtime_has_the_versions_of_the_table(tmp_path: Path) -> None:
    """tflite-runtime 2.14.0 loads the newest version of each operation in the table, and refuses the one after."""
    codes = list_codes(OLD)
    answers = ask_legacy(tmp_path, {f"{kind}.{number}": write_code(kind, number) for kind, number in codes})
    assert answers == {f"{kind}.{number}": there for (kind, number), there in codes.items()}


def build_mixed() -> bytes:
    """Return a full-integer file with a float island, a dense layer and an int8 concatenation."""
    d = Drawing(SHAPE)
    x = d.apply("SOFTMAX", [d.convolve(d.image, 8)], SHAPE, beta=1.0)
    both = d.apply("CONCATENATION", [d.convolve(x, 8), d.convolve(x, 8)], (1, 16, 16, 16), axis=3)
    weights = [d.constant(d.rng.normal(size=(4, 16)), "dense"), d.constant(np.zeros(4))]
    original = d.finish(d.apply("FULLY_CONNECTED", [both, *weights], (1, 16, 16, 4), "last", keepNumDims=True))
    rng = np.random.default_rng(0)
    return quantize_integer(original, [rng.uniform(size=SHAPE).astype(np.float32) for _ in range(3)])


def test_stamping_mends_a_file_whose_versions_were_lost(tmp_path: Path) -> None:
    """A file with every version 1, as ai-edge-quantizer writes them, gets each operation's own back, bytes and all."""
    good = build_mixed()
    lost = unpack(good)
    for code in lost.operatorCodes:
        code.version = 1
    bare = pack(lost)
    mended = unpack(bare)
    set_versions(mended)
    assert pack(mended) == good
    versions = {kind_of(mended, op): version_of(mended, op) for op in unpack(good).subgraphs[0].operators}
    assert versions["CONV_2D"] == 3 and versions["FULLY_CONNECTED"] == 5 and versions["SOFTMAX"] == 1
    assert versions["DEQUANTIZE"] == 2 and versions["CONCATENATION"] == 2
    x = np.full(SHAPE, 0.5, np.float32)
    np.testing.assert_array_equal(run(pack(mended), x), run(good, x))
    assert ask_legacy(tmp_path, {"good": good})["good"]


def test_a_misfit_is_named_with_what_the_runtime_has() -> None:
    """A version beyond a runtime's own is found, whether it was stamped or is only needed, and said in words."""
    good = build_mixed()
    assert find_unsupported(good, OLD) == find_unsupported(good, NEW) == ()
    model = unpack(good)
    dense = next(op for op in model.subgraphs[0].operators if kind_of(model, op) == "FULLY_CONNECTED")
    model.operatorCodes[dense.opcodeIndex].version = 12
    (found,) = find_unsupported(pack(model), OLD)
    assert (found.operation, str(found)) == ("FULLY_CONNECTED", "version 12; tflite-runtime 2.14 has up to 10")
    assert not find_unsupported(pack(model), NEW)
    convolution = next(op for op in model.subgraphs[0].operators if kind_of(model, op) == "CONV_2D")
    model.operatorCodes[convolution.opcodeIndex].version = 8
    assert [misfit.newest for misfit in find_unsupported(pack(model), OLD)] == [7, 7, 7, 10]
    assert runtime_of("tflite-runtime") == OLD and runtime_of("litert") == NEW
    assert all(old <= new for old, new in NEWEST.values())
