"""Full-integer files: right to a few steps, in one piece under the delegate, mixed on demand, the same bytes always."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from graphs import Array, Drawing, count_pieces, kinds_of, open_file, run

from convert.flatbuffer.edit import shape_of
from convert.quantize.activation_ranges import (
    BINS,
    KEPT_SHARES,
    LEVELS,
    Range,
    RangeHistogram,
    choose_range,
    measure_error,
    measure_ranges,
)
from convert.quantize.full_integer import find_input_bounds, quantize_integer, read_input_scaling
from convert.verify.weight_proof import prove_weights
from edge_runtime.contract.fields import InputSpec
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.inference.preprocess import to_tensor

SHAPE = (1, 12, 12, 8)
Middle = Callable[[Drawing, int], int]


def draw_inputs(count: int = 12, shape: tuple[int, ...] = SHAPE) -> list[Array]:
    rng = np.random.default_rng(5)
    return [rng.uniform(0, 1, shape).astype(np.float32) for _ in range(count)]


def sandwich(middle: Middle) -> bytes:
    """Return a file of a convolution, an operation, and another convolution."""
    drawing = Drawing(SHAPE)
    x = middle(drawing, drawing.convolve(drawing.image, 8))
    shape = shape_of(drawing.model, x)
    if len(shape) != 4:
        flat = (1, 1, 1, int(np.prod(shape)))
        x = drawing.apply("RESHAPE", [x, drawing.constant(list(flat))], flat)
    return drawing.finish(drawing.convolve(x, 4, name="last"))


def same(kind: str, **options: Any) -> Middle:
    return lambda d, x: d.apply(kind, [x], shape_of(d.model, x), **options)


def pair(kind: str, channels: int = 8) -> Middle:
    return lambda d, x: d.apply(kind, [x, d.convolve(d.image, channels)], SHAPE)


def depthwise(d: Drawing, x: int) -> int:
    weights = [d.constant(d.rng.normal(size=(1, 3, 3, 8)) * 0.3), d.constant(d.rng.normal(size=8))]
    options = {"strideH": 1, "strideW": 1, "depthMultiplier": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    return d.apply("DEPTHWISE_CONV_2D", [x, *weights], SHAPE, **options)


def dense(d: Drawing, x: int) -> int:
    weights = d.constant(d.rng.normal(size=(6, 8)) * np.logspace(-2, 1, 6)[:, None])  # filters of very unequal size
    return d.apply("FULLY_CONNECTED", [x, weights, d.constant(d.rng.normal(size=6))], (1, 12, 12, 6), keepNumDims=True)


def transposed(d: Drawing, x: int) -> int:
    weights = [d.constant(d.rng.normal(size=(4, 3, 3, 8)) * 0.2), x, d.constant(d.rng.normal(size=4))]
    return d.apply("TRANSPOSE_CONV", [d.constant([1, 24, 24, 4]), *weights], (1, 24, 24, 4), strideH=2, strideW=2)


def move(kind: str, shape: tuple[int, ...], *constants: Any, **options: Any) -> Middle:
    return lambda d, x: d.apply(kind, [x, *(d.constant(values) for values in constants)], shape, **options)


POOL = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2, "padding": 1}
INTEGER: dict[str, Middle] = {
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": dense,
    "TRANSPOSE_CONV": transposed,
    "ADD": pair("ADD"),
    "SUB": pair("SUB"),
    "MUL": pair("MUL"),
    "MUL gate": pair("MUL", 1),
    "MUL constant": lambda d, x: d.apply("MUL", [x, d.constant(d.rng.uniform(0.2, 2, 8))], SHAPE),
    "MUL square": lambda d, x: d.apply("MUL", [x, x], SHAPE),
    "LEAKY_RELU": same("LEAKY_RELU", alpha=0.1),
    "ELU": same("ELU"),
    "LOGISTIC": same("LOGISTIC"),
    "TANH": same("TANH"),
    "MEAN": move("MEAN", (1, 8), [1, 2]),
    "MEAN channels": move("MEAN", (1, 12, 12, 1), [3], keepDims=True),
    "REDUCE_MAX": move("REDUCE_MAX", (1, 12, 12, 1), [3], keepDims=True),
    "SUM": move("SUM", (1, 1, 1, 8), [1, 2], keepDims=True),
    "MAX_POOL_2D": lambda d, x: d.apply("MAX_POOL_2D", [x], (1, 6, 6, 8), **POOL),
    "CONCATENATION": lambda d, x: d.apply("CONCATENATION", [x, d.convolve(d.image, 8)], (1, 12, 12, 16), axis=3),
    "CONCATENATION constant": move("CONCATENATION", (1, 12, 12, 9), np.full((1, 12, 12, 1), 3.0), axis=3),
    "PAD": move("PAD", (1, 14, 14, 8), [[0, 0], [1, 1], [1, 1], [0, 0]]),
    "RESHAPE": move("RESHAPE", (1, 144, 1, 8), [1, 144, 1, 8]),
    "TRANSPOSE": move("TRANSPOSE", SHAPE, [0, 2, 1, 3]),
    "DEPTH_TO_SPACE": lambda d, x: d.apply("DEPTH_TO_SPACE", [x], (1, 24, 24, 2), blockSize=2),
    "SPACE_TO_DEPTH": lambda d, x: d.apply("SPACE_TO_DEPTH", [x], (1, 6, 6, 32), blockSize=2),
    "RESIZE_BILINEAR": move("RESIZE_BILINEAR", (1, 24, 24, 8), [24, 24], halfPixelCenters=True),
    "SLICE": move("SLICE", (1, 8, 8, 8), [0, 1, 1, 0], [1, 8, 8, 8]),
}
# What moves numbers without the delegate does so as integers too: there are four times fewer bytes.
OUTSIDE: dict[str, Middle] = {
    "RESIZE_NEAREST_NEIGHBOR": move("RESIZE_NEAREST_NEIGHBOR", (1, 24, 24, 8), [24, 24], halfPixelCenters=True),
    "TILE": move("TILE", (1, 12, 24, 8), [1, 1, 2, 1]),
    "GATHER": move("GATHER", (1, 12, 12, 2), [1, 3], axis=3),
    "MIRROR_PAD": move("MIRROR_PAD", (1, 14, 14, 8), [[0, 0], [1, 1], [1, 1], [0, 0]]),
}
ISLANDS: dict[str, Middle] = {
    "SOFTMAX": same("SOFTMAX", beta=1.0),
    "HARD_SWISH": same("HARD_SWISH"),
    "GELU": same("GELU"),
    "AVERAGE_POOL_2D": lambda d, x: d.apply("AVERAGE_POOL_2D", [x], (1, 6, 6, 8), **POOL),
    "MAXIMUM": pair("MAXIMUM"),
}


def check_close(result: bytes, original: bytes, x: Array) -> None:
    """Two or three steps of 256 on average, and at the ends of a range what was cut off there."""
    expected = run(original, x)
    error = np.abs(run(result, x) - expected) / np.ptp(expected)
    assert error.mean() < 0.01 and error.max() < 0.08, (error.mean(), error.max())


@pytest.mark.parametrize("kind", [*INTEGER, *OUTSIDE])
def test_an_operation_computes_on_integers(kind: str) -> None:
    """Between two layers it is int8, breaks no partition that was whole in float, and errs by a few steps at most."""
    original = sandwich({**INTEGER, **OUTSIDE}[kind])
    result = quantize_integer(original, draw_inputs())
    assert "FLOAT32" not in {kind.split()[1].upper() for kind in kinds_of(result)[:-1]}
    assert count_pieces(result) == (2 if kind in OUTSIDE else 1) == count_pieces(original)
    for x in draw_inputs(3):
        check_close(result, original, x)


@pytest.mark.parametrize("kind", ISLANDS)
def test_what_int8_kernels_do_badly_stays_float(kind: str) -> None:
    """It stands between a DEQUANTIZE and a QUANTIZE, which keeps the partition whole."""
    original = sandwich(ISLANDS[kind])
    result = quantize_integer(original, draw_inputs())
    assert f"{kind} float32" in kinds_of(result)
    assert count_pieces(result) == 1
    check_close(result, original, draw_inputs(1)[0])


@pytest.mark.parametrize("kind", ["RELU", "RELU6"])
def test_a_relu_is_written_as_the_quantize_that_clamps(kind: str) -> None:
    """Its int8 kernel lies outside the delegate; integers that end at 0 do the same."""
    original = sandwich(same(kind))
    result = quantize_integer(original, draw_inputs())
    assert kinds_of(result) == ["QUANTIZE int8", "CONV_2D int8", "QUANTIZE int8", "CONV_2D int8", "DEQUANTIZE float32"]
    assert count_pieces(result) == 1
    check_close(result, original, draw_inputs(1)[0])


def test_a_layer_is_what_integer_arithmetic_says() -> None:
    """A 3 x 3 convolution gives, number for number, what the equations give when worked out by hand."""
    drawing = Drawing((1, 6, 5, 3))
    result = quantize_integer(
        drawing.finish(drawing.convolve(drawing.image, 4, 3, relu=True)), draw_inputs(8, (1, 6, 5, 3)), io="int8"
    )
    interpreter = open_file(result)
    details = {d["name"]: d for d in interpreter.get_tensor_details()}
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    q = np.random.default_rng(0).integers(-128, 128, (1, 6, 5, 3)).astype(np.int8)
    interpreter.set_tensor(given["index"], q)
    interpreter.invoke()
    weights, bias = details["conv0/kernel"], details["conv0/bias"]
    w, b = interpreter.get_tensor(weights["index"]), interpreter.get_tensor(bias["index"])
    scale, zero = given["quantization"]
    wide = np.pad(q[0].astype(np.int64) - zero, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((6, 5, 4))
    for i, j, f in np.ndindex(6, 5, 4):
        total = int((wide[i : i + 3, j : j + 3] * w[f]).sum()) + int(b[f])
        out[i, j, f] = total * scale * weights["quantization_parameters"]["scales"][f] / made["quantization"][0]
    expected = np.clip(np.rint(out) + made["quantization"][1], -128, 127)
    assert made["quantization"][1] == -128  # after a ReLU
    np.testing.assert_allclose(interpreter.get_tensor(made["index"])[0], expected, atol=1)
    assert (interpreter.get_tensor(made["index"])[0] != expected).mean() < 0.02  # ties of the kernels' fixed point


def build_net() -> bytes:
    """Return a small U-Net: convolutions, LeakyReLU, a gate, a skip, depth-to-space, sigmoid."""
    d = Drawing((1, 16, 16, 1))
    a = d.apply("LEAKY_RELU", [d.convolve(d.image, 8, 3, name="first")], (1, 16, 16, 8), alpha=0.1)
    b = d.apply("MAX_POOL_2D", [a], (1, 8, 8, 8), **POOL)
    c = d.convolve(b, 32, 3, relu=True, name="deep")
    up = d.apply("DEPTH_TO_SPACE", [c], (1, 16, 16, 8), blockSize=2)
    gate = d.apply("LOGISTIC", [d.convolve(a, 1, name="gate")], (1, 16, 16, 1))
    skip = d.apply("MUL", [a, gate], (1, 16, 16, 8))
    both = d.apply("CONCATENATION", [up, skip], (1, 16, 16, 16), axis=3)
    logits = d.convolve(d.convolve(both, 8, 3, relu=True, name="join"), 1, name="mask")
    return d.finish(d.apply("LOGISTIC", [logits], (1, 16, 16, 1), name="probability"))


NET_SHAPE = (1, 16, 16, 1)


def test_a_net_is_int8_but_for_its_probability() -> None:
    """With float32 in and out only the last sigmoid is float; with int8 it is not either, and has its 256 steps."""
    original, inputs = build_net(), draw_inputs(12, NET_SHAPE)
    soft, hard = quantize_integer(original, inputs), quantize_integer(original, inputs, io="int8")
    assert kinds_of(soft)[0] == "QUANTIZE int8"
    assert kinds_of(soft)[-2:] == ["DEQUANTIZE float32", "LOGISTIC float32"]
    assert sum(kind.endswith("float32") for kind in kinds_of(soft)) == 2
    assert all(kind.endswith("int8") for kind in kinds_of(hard))
    assert open_file(hard).get_output_details()[0]["quantization"] == (1 / 256, -128)
    for result in (soft, hard):
        assert count_pieces(result) == 1
        assert np.abs(run(result, inputs[0]) - run(original, inputs[0])).max() < 0.03
        names = {d["name"] for d in open_file(result).get_input_details()}
        assert names == {"image"}


@pytest.mark.parametrize("name", ["deep/kernel", "deep"])
def test_a_layer_can_be_kept_float(name: str) -> None:
    """Named by its weights or by its result, a layer stays float32 and the others stay int8."""
    original, inputs = build_net(), draw_inputs(12, NET_SHAPE)
    result = quantize_integer(original, inputs, keep_float=[name])
    kinds = kinds_of(result)
    assert kinds.count("CONV_2D float32") == 1 and kinds.count("CONV_2D int8") == 4
    proofs = {proof.name: proof for proof in prove_weights(result, original)}
    assert proofs["deep/kernel"].dtype == "float32"
    assert all(proof.holds for proof in proofs.values())


def test_a_kind_of_operation_can_be_kept_float() -> None:
    """All operations of a kind stay float32 where their kind is named."""
    kinds = kinds_of(quantize_integer(build_net(), draw_inputs(4, NET_SHAPE), keep_float=["LEAKY_RELU", "MUL"]))
    assert "LEAKY_RELU float32" in kinds and "MUL float32" in kinds and "CONCATENATION int8" in kinds


def test_a_shared_tensor_is_not_stretched_for_a_concatenation() -> None:
    """What only a concatenation takes gets its steps; what others take keeps its own and is requantized for it."""
    d = Drawing(SHAPE)
    small = d.convolve(d.image, 8, name="small")
    large = d.apply("MUL", [d.convolve(d.image, 8), d.constant(np.full(8, 100.0))], SHAPE, "large")
    both = d.apply("CONCATENATION", [small, large], (1, 12, 12, 16), "both", axis=3)
    original = d.finish(d.convolve(d.convolve(both, 4), 4), d.convolve(small, 4, name="alone"))
    result = quantize_integer(original, draw_inputs())
    steps = {d["name"]: d["quantization"] for d in open_file(result).get_tensor_details()}
    assert steps["large"] == steps["both"] == steps["small/requantized"]
    assert steps["small"][0] < steps["both"][0] / 10
    assert kinds_of(result).count("QUANTIZE int8") == 2
    assert count_pieces(result) == 1


def test_scales_too_far_apart_for_the_kernels_leave_an_operation_float() -> None:
    """A sum of 1 and 1e-5 is beyond XNNPACK's int8 sum: it stays float, in one piece, and right."""
    d = Drawing(SHAPE)
    tiny = d.apply("MUL", [d.convolve(d.image, 8), d.constant(np.full(8, 1e-5))], SHAPE, "tiny")
    total = d.apply("ADD", [d.convolve(d.image, 8), tiny], SHAPE, "total")
    original = d.finish(d.convolve(total, 4, name="last"))
    result = quantize_integer(original, draw_inputs())
    assert "ADD float32" in kinds_of(result)
    assert count_pieces(result) == 1
    check_close(result, original, draw_inputs(1)[0])


def test_a_filter_of_all_but_nothing_does_no_harm() -> None:
    """Weights of 1e-20 beside a bias of 1 would need a bias beyond int32: the scale gives way, and the proof agrees."""
    d = Drawing(SHAPE)
    kernel = d.rng.normal(size=(4, 1, 1, 8)) * np.array([1, 1e-20, 0, 1])[:, None, None, None]
    weights = [d.constant(kernel, "odd/kernel"), d.constant([1.0, 1.0, -2.0, 0.5])]
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    odd = d.apply("CONV_2D", [d.image, *weights], (1, 12, 12, 4), "odd", **options)
    original = d.finish(d.convolve(odd, 4))
    result = quantize_integer(original, draw_inputs())
    check_close(result, original, draw_inputs(1)[0])
    assert count_pieces(result) == 1
    assert all(proof.holds for proof in prove_weights(result, original))


def test_weights_that_two_layers_share_stay_one() -> None:
    """A layer used twice keeps one int8 tensor, with a bias of its own at each place."""
    d = Drawing(SHAPE)
    kernel, bias = d.constant(d.rng.normal(size=(8, 1, 1, 8)) * 0.5, "twice/kernel"), d.constant(np.ones(8))
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    x = d.image
    for i in range(2):
        x = d.apply("CONV_2D", [x, kernel, bias], SHAPE, f"twice{i}", **options)
    original = d.finish(x)
    result = quantize_integer(original, draw_inputs())
    assert len([d for d in open_file(result).get_tensor_details() if d["name"].startswith("twice/kernel")]) == 1
    check_close(result, original, draw_inputs(1)[0])


def test_several_outputs_are_all_given() -> None:
    """A mask computed in float, features computed in integers: both come out, in order, in either form."""
    d = Drawing(SHAPE)
    features = d.convolve(d.image, 8, name="features")
    mask = d.apply("SOFTMAX", [d.convolve(features, 3)], (1, 12, 12, 3), "mask", beta=1.0)
    original = d.finish(mask, features)
    for io in ("float32", "int8"):
        outputs = open_file(quantize_integer(original, draw_inputs(), io=io)).get_output_details()
        assert [output["dtype"].__name__ for output in outputs] == [io] * 2
        assert [tuple(output["shape"]) for output in outputs] == [(1, 12, 12, 3), SHAPE]


@pytest.mark.parametrize(("scale", "offset"), [(1 / 255, 0.0), (1.0, 0.0), (1 / 127.5, -1.0), (0.02, 0.3)])
def test_an_int8_input_is_fed_by_the_contract(scale: float, offset: float) -> None:
    """With the file's own scale and offset `to_tensor` makes the integers that stand for what the float model eats."""
    d = Drawing((1, 9, 7, 1))
    original = d.finish(d.convolve(d.image, 2, 3))
    image = np.arange(63, dtype=np.uint8).reshape(9, 7) * 4
    floats = to_tensor(image, 9, 7, scale=scale, offset=offset)
    spec = InputSpec((1, 9, 7, 1), "float32", "grey", "stretch-area", scale, offset)
    result = quantize_integer(original, [floats * 0.8], io="int8", bounds=find_input_bounds(spec))
    dtype, own_scale, own_offset = read_input_scaling(result, scale, offset)
    integers = to_tensor(image, 9, 7, scale=own_scale, offset=own_offset, dtype=dtype)
    assert integers.dtype == np.int8
    step, zero = open_file(result).get_input_details()[0]["quantization"]
    np.testing.assert_allclose((integers - float(zero)) * step, floats, atol=0.51 * step)
    if offset == 0:
        assert (own_scale, own_offset) == (1.0, -128.0)
        np.testing.assert_array_equal(integers[0, :, :, 0].astype(int) + 128, image)  # not a bit of an image is lost
    assert read_input_scaling(original, scale, offset) == ("float32", scale, offset)


def test_the_same_bytes_in_two_processes() -> None:
    """Nothing but the file and the images decides on the bytes."""
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_full_integer as t; print(t.digest_net())"
    here = Path(__file__).parent
    places = [str(here), str(here.parents[2]), str(here.parents[0] / "nets")]
    printed = subprocess.run([sys.executable, "-c", code, *places], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == digest_net()


def digest_net() -> str:
    return hashlib.sha256(quantize_integer(build_net(), draw_inputs(6, NET_SHAPE))).hexdigest()


def test_what_cannot_be_is_said_in_one_line() -> None:
    """No layer with an int8 kernel, an unknown type, no images, a number that is none: each has its sentence."""
    d = Drawing(SHAPE)
    nothing = d.finish(d.apply("SOFTMAX", [d.image], SHAPE, beta=1.0))
    with pytest.raises(ModelError, match=r"recipe int8: no layer .*SOFTMAX"):
        quantize_integer(nothing, draw_inputs(2))
    with pytest.raises(UsageError, match="'int16'"):
        quantize_integer(build_net(), draw_inputs(2, NET_SHAPE), io="int16")
    with pytest.raises(ModelError, match="no images"):
        quantize_integer(build_net(), [])
    broken = draw_inputs(1, NET_SHAPE)
    broken[0][0, 3, 3, 0] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        quantize_integer(build_net(), broken)
    d = Drawing(NET_SHAPE)
    d.graph.tensors[d.image].type = 3  # UINT8
    cast = d.apply("CAST", [d.image], NET_SHAPE)
    eats_bytes = d.finish(d.convolve(cast, 2))
    images = [np.full(NET_SHAPE, 200, np.uint8)]
    assert "CONV_2D int8" in kinds_of(quantize_integer(eats_bytes, images))
    with pytest.raises(UsageError, match="no float32"):
        quantize_integer(eats_bytes, images, io="int8")


def test_black_images_do_no_harm() -> None:
    """A tensor that is zero on every image has steps all the same."""
    result = quantize_integer(build_net(), [np.zeros(NET_SHAPE, np.float32)])
    assert np.isfinite(run(result, np.zeros(NET_SHAPE, np.float32))).all()


# --- ranges ------------------------------------------------------------------------------------------------------


def tally(*images: Array) -> RangeHistogram:
    made = RangeHistogram(0.0, 0.0, np.zeros(BINS))
    for image in images:
        made.add(image, image)
    return made


def test_a_range_is_the_best_of_all() -> None:
    """It loses no more than 3 % above the best of all pairs of ends, tried one by one."""
    rng = np.random.default_rng(2)
    seen = tally(*(rng.standard_t(3, 5000).astype(np.float32) * scale for scale in (1, 1, 2)))
    found = choose_range(seen)
    used = np.flatnonzero(seen.bins)
    values = np.array([np.uint32((b << 19) | (1 << 18)).view(np.float32) for b in used], np.float64)
    grid = [(seen.low * a, seen.high * b) for a in KEPT_SHARES for b in KEPT_SHARES]
    best = min(measure_error(values, seen.bins[used], low, high) for low, high in grid)
    assert measure_error(values, seen.bins[used], found.low, found.high) <= 1.03 * best
    assert seen.low < found.low and found.high < seen.high  # heavy tails are worth cutting


def test_a_rare_lesion_keeps_its_range_and_a_bright_image_does_not_take_all() -> None:
    """One image in twenty with large logits is not cut off; one a thousand times brighter does not stretch the rest."""
    rng = np.random.default_rng(3)
    healthy = [rng.uniform(-8, -4, 4000).astype(np.float32) for _ in range(19)]
    lesion = rng.uniform(-8, -4, 4000).astype(np.float32)
    lesion[:200] = rng.uniform(2, 6, 200)
    assert choose_range(tally(*healthy, lesion)).high > 4.5
    plain = [rng.normal(size=4000).astype(np.float32) for _ in range(19)]
    assert choose_range(tally(*plain, plain[0] * 1000)).high < 300


def test_measured_ranges_hold_what_was_seen() -> None:
    """The ranges of a file lie within the extremes that numpy finds, and every computed tensor has one."""
    d = Drawing(SHAPE)
    original = d.finish(d.apply("LEAKY_RELU", [d.convolve(d.image, 8, name="conv")], SHAPE, "leaky", alpha=0.1))
    inputs = draw_inputs()
    ranges = measure_ranges(original, inputs)
    assert set(ranges) == {"image", "conv", "leaky"}
    outputs = np.concatenate([run(original, x) for x in inputs])
    assert outputs.min() <= ranges["leaky"].low < 0 < ranges["leaky"].high <= outputs.max()
    assert ranges["leaky"].width > 0.5 * np.ptp(outputs)
    assert ranges["image"].low == 0
    assert Range(-1, 2).join(Range(0, 3)) == Range(-1, 3)
    assert LEVELS == 255
