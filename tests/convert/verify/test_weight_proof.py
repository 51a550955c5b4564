"""The proof of the weights: it holds for every recipe's file, and no broken file passes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from graphs import Drawing
from messages import make_facts

from convert.flatbuffer.edit import Model, pack, read_constant, unpack
from convert.quantize.full_integer import quantize_integer
from convert.quantize.recipes import RECIPES
from convert.quantize.weights import quantize_weights
from convert.verify.audit import audit_model
from convert.verify.weight_proof import Proof, find_unproven, prove_weights
from edge_runtime.errors import ModelError

SHAPE = (1, 8, 8, 6)
LAYERS = ("conv/kernel", "depthwise/kernel", "raise/kernel", "dense/kernel")


@pytest.fixture(scope="module")
def original() -> bytes:
    """A float32 file with a layer of each kind."""
    d = Drawing(SHAPE)
    x = d.convolve(d.image, 6, 3, name="conv")
    weights = [d.constant(d.rng.normal(size=(1, 3, 3, 6)), "depthwise/kernel"), d.constant(np.zeros(6))]
    options = {"strideH": 1, "strideW": 1, "depthMultiplier": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    x = d.apply("DEPTHWISE_CONV_2D", [x, *weights], SHAPE, "depthwise", **options)
    kernel = d.constant(d.rng.normal(size=(5, 3, 3, 6)), "raise/kernel")
    inputs = [d.constant([1, 16, 16, 5]), kernel, x, d.constant(np.zeros(5))]
    x = d.apply("TRANSPOSE_CONV", inputs, (1, 16, 16, 5), "raise", strideH=2, strideW=2)
    kernel = d.constant(d.rng.normal(size=(4, 5)), "dense/kernel")
    return d.finish(
        d.apply("FULLY_CONNECTED", [x, kernel, d.constant(np.zeros(4))], (1, 16, 16, 4), "dense", keepNumDims=True)
    )


def make(original: bytes, kind: str) -> bytes:
    if kind == "integer":
        rng = np.random.default_rng(0)
        return quantize_integer(original, [rng.uniform(size=SHAPE).astype(np.float32) for _ in range(4)])
    return quantize_weights(original, dict.fromkeys(LAYERS, kind))


@pytest.mark.parametrize("kind", ["int8", "weight-only", "integer"])
def test_the_equations_hold_in_every_integer_recipe(original: bytes, kind: str) -> None:
    """Each tensor: a scale for each filter, integers in [-127, 127] with 127 reached, half a step at most between."""
    proofs = prove_weights(make(original, kind), original)
    assert [proof.name for proof in proofs] == list(LAYERS)
    for proof in proofs:
        assert proof.holds and proof.dtype == "int8" and not proof.why
        assert proof.scales == {"conv": 6, "depthwise": 6, "raise": 5, "dense": 4}[proof.name.split("/")[0]]
        assert max(-proof.least, proof.most) == 127
        assert 0.4 < proof.largest_error <= 0.5001
    assert find_unproven(proofs) == ""


def test_the_equations_are_those_worked_out_by_hand(original: bytes) -> None:
    """Scales and integers in the file are max |w| / 127 and round(w / s), filter by filter."""
    model, floats = unpack(make(original, "int8")), unpack(original)
    for name in LAYERS:
        tensor, integers = find(model, name)
        _, weights = find(floats, name)
        axis = 3 if name.startswith("depthwise") else 0
        for i, (w, q) in enumerate(zip(np.moveaxis(weights, axis, 0), np.moveaxis(integers, axis, 0), strict=True)):
            scale = max(abs(float(value)) for value in w.reshape(-1)) / 127
            assert tensor.quantization.scale[i] == pytest.approx(scale, rel=1e-6)
            assert [round(float(value) / scale) for value in w.reshape(-1)] == q.reshape(-1).tolist()


def test_float_weights_are_proven_too(original: bytes) -> None:
    """Left float they are the original's, as 16-bit floats its rounding; with the reason that was given."""
    result = quantize_weights(original, {"conv/kernel": "int8", "raise/kernel": "float16"})
    proofs = {
        proof.name.split("/")[0]: proof
        for proof in prove_weights(result, original, reasons={"dense/kernel": "measured slower"})
    }
    assert [proofs[name].dtype for name in ("conv", "depthwise", "raise", "dense")] == [
        "int8", "float32", "float16", "float32",
    ]  # fmt: skip
    assert all(proof.holds for proof in proofs.values())
    assert proofs["dense"].why == "measured slower"


def find(model: Model, name: str) -> tuple[Any, Any]:
    for place, tensor in enumerate(model.subgraphs[0].tensors):
        if tensor.name.decode() == name:
            return tensor, read_constant(model, place)
    raise AssertionError(name)


def spoil(data: bytes, name: str, change: Callable[[Any, Any], Any]) -> bytes:
    """Return the file after change(tensor, integers), which gives the integers to store."""
    model = unpack(data)
    tensor, integers = find(model, name)
    changed = change(tensor, integers.copy())
    model.buffers[tensor.buffer].data = np.frombuffer(np.ascontiguousarray(changed).tobytes(), np.uint8)
    return pack(model)


def stretch(tensor: Any, integers: Any) -> Any:
    tensor.quantization.scale[2] *= 1.01
    return integers


def shrink_all(tensor: Any, integers: Any) -> Any:
    tensor.quantization.scale *= 2  # coarser by half, in scale and integers alike: each within half a step
    return np.rint(integers / 2).astype(np.int8)


def reach_128(tensor: Any, integers: Any) -> Any:
    integers.reshape(-1)[np.argmin(integers)] = -128
    return integers


def move_one(tensor: Any, integers: Any) -> Any:
    integers.reshape(-1)[np.argmin(np.abs(integers))] += 2
    return integers


def merge_scales(tensor: Any, integers: Any) -> Any:
    tensor.quantization.scale, tensor.quantization.zeroPoint = tensor.quantization.scale[:1], np.zeros(1, np.int64)
    return integers


def turn_axis(tensor: Any, integers: Any) -> Any:
    tensor.quantization.quantizedDimension = 3
    return integers


def shift_zero(tensor: Any, integers: Any) -> Any:
    tensor.quantization.zeroPoint = tensor.quantization.zeroPoint + 1
    return integers


@pytest.mark.parametrize("kind", ["int8", "integer"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (stretch, r"filter 2: scale .* but max \|w\| / 127 is"),
        (shrink_all, r"filter 0: scale"),
        (reach_128, "an integer of -128, below -127"),
        (move_one, "steps from its weight"),
        (merge_scales, "1 scales for 6 filters"),
        (turn_axis, "along dimension 3, its filters along 0"),
        (shift_zero, "a zero point that is not 0"),
    ],
)
def test_no_broken_tensor_passes(original: bytes, kind: str, change: Callable[[Any, Any], Any], words: str) -> None:
    """One scale off, all scales off, a -128, one integer off, one scale for all, the wrong axis: each is named."""
    proofs = prove_weights(spoil(make(original, kind), "conv/kernel", change), original)
    assert [proof.holds for proof in proofs] == [False, True, True, True]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(proofs[0].why)
    assert find_unproven(proofs).startswith("CONV_2D weights 'conv/kernel': ")


def test_one_scale_for_a_dense_layer_is_right_where_it_was_asked_for(original: bytes) -> None:
    """Runtimes up to 2.14 want it so; unasked it is a finding."""
    result = quantize_weights(original, {"dense/kernel": "int8"}, per_tensor_dense=True)
    assert all(proof.holds for proof in prove_weights(result, original, whole=["FULLY_CONNECTED"]))
    assert "1 scales for 4 filters" in find_unproven(prove_weights(result, original))


def test_weights_of_another_model_are_found(original: bytes) -> None:
    """Names and shapes alone prove nothing, and a tensor without a counterpart is no proof either."""
    other = unpack(original)
    for name in LAYERS:
        tensor, values = find(other, name)
        other.buffers[tensor.buffer].data = np.frombuffer((values[::-1] * 1.5).tobytes(), np.uint8)
    assert not any(proof.holds for proof in prove_weights(make(original, "int8"), pack(other)))
    assert not any(proof.holds for proof in prove_weights(original, pack(other)))
    renamed = unpack(original)
    find(renamed, "conv/kernel")[0].name = b"elsewhere"
    (first, *others) = prove_weights(make(original, "int8"), pack(renamed))
    assert "no tensor of that name" in first.why and all(proof.holds for proof in others)


def test_a_filter_of_zeros_holds(original: bytes) -> None:
    """A filter that is all zeros has no largest weight; any scale does."""
    zeros = spoil(
        original,
        "conv/kernel",
        lambda tensor, values: values * np.array([1, 0, 1, 1, 1, 1])[:, None, None, None].astype(np.float32),
    )
    for kind in ("int8", "integer"):
        assert find_unproven(prove_weights(make(zeros, kind), zeros)) == ""


def test_a_proof_is_of_tflite_files(original: bytes) -> None:
    """Rubbish is an error, and a Proof can be written down as it is."""
    with pytest.raises(ModelError):
        prove_weights(b"\0" * 64, original)
    proof = Proof("a", "CONV_2D", (1, 1, 1, 1), "int8", 1, -127, 127, 0.5, True)
    assert find_unproven([proof]) == ""


def test_the_audit_reports_what_does_not_hold(original: bytes, tmp_path: Path) -> None:
    """A file that fails the proof, or needs versions that its runtime lacks, is a finding that names the operation."""
    good = make(original, "int8")
    path = tmp_path / "m.tflite"
    facts = make_facts()

    def find(data: bytes, target: str) -> dict[str, str]:
        path.write_bytes(data)
        audit = audit_model(path, 10**6, facts, RECIPES["drq"], target, (), original)
        assert len(audit.proofs) == 4
        return {finding.name: finding.where for finding in audit.findings if finding.name != "float-weights"}

    assert find(good, "litert") == {}
    assert (
        "CONV_2D weights 'conv/kernel': an integer of -128"
        in find(spoil(good, "conv/kernel", reach_128), "litert")["arithmetic"]
    )
    old = quantize_weights(original, {"dense/kernel": "int8"})
    found = find(old, "tflite-runtime")
    assert found["runtime-2.14"].startswith("FULLY_CONNECTED at 'dense', version 12; tflite-runtime 2.14 has up to 10")
    assert "1 scales" not in found.get("arithmetic", "")
    assert "runtime-version" not in find(old, "litert")
