"""The golden vectors: they hold here, every mutated stage is caught and named, and other decoders' roundings pass."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.checks.golden_vectors import from_json, pick_indices, to_json
from edge_runtime.checks.selftest import run_selftest
from edge_runtime.cli import main
from edge_runtime.contract.fields import Threshold
from edge_runtime.contract.tail import read_contract, read_golden, split_tail, stamp_contract
from edge_runtime.errors import ContractError
from edge_runtime.images import read
from edge_runtime.inference import postprocess, preprocess
from edge_runtime.models import DEFAULT

Patch = pytest.MonkeyPatch
FLATBUFFER = split_tail(DEFAULT.read_bytes())[0]


def stamp(path: Path, flatbuffer: bytes = FLATBUFFER, golden: bytes | None = None, **changes: Any) -> Path:
    """Write the embedded model with other bytes or fields under its own golden vectors, as a careful forger would."""
    contract = dataclasses.replace(read_contract(DEFAULT), **changes)
    path.write_bytes(stamp_contract(flatbuffer, contract, read_golden(DEFAULT) if golden is None else golden))
    return path


def diverged(path: Path | None = None) -> tuple[str, str] | None:
    """Return the stage and the case that diverged, None if none did."""
    first = run_selftest(path, threads=1).diverged
    return first and (first.stage, first.case)


def test_the_embedded_model_passes() -> None:
    """All stages of two lossless images, and those of a JPEG that its decoder's roundings allow to be judged."""
    report = run_selftest(None, threads=1)
    assert report.diverged is None
    stages = {name: [step.stage for step in report.steps if step.case == name] for name in ("grey.png", "colour.jpg")}
    assert stages["grey.png"] == ["decode", "preprocess", "infer", "postprocess"]
    assert stages["colour.jpg"] == ["decode", "preprocess"]


def test_the_vectors_are_worth_something() -> None:
    """A grey, a 16-bit colour and a JPEG image; outputs with lesion and without; labels of both kinds; under 60 kB."""
    text = read_golden(DEFAULT)
    assert text is not None and len(text) < 60_000
    cases = from_json(text)
    assert [case.name for case in cases] == ["grey.png", "colour-16-bit.png", "colour.jpg"]
    assert to_json(cases) == text
    for case in cases[:2]:
        assert case.infer is not None and case.postprocess is not None
        assert min(case.infer[0].values) < 0.1 < 0.9 < max(case.infer[0].values)
        labels = case.postprocess["labels"]
        assert labels.count(0) > 20 and labels.count(1) > 20 and labels.count(-1) < 20
    decoded = [read.decode_image(case.file, case.name) for case in cases]
    assert [(image.ndim, image.dtype.name) for image in decoded] == [(2, "uint8"), (3, "uint16"), (3, "uint8")]


def swap_channels(patch: Patch) -> None:
    right = read.to_rgb
    patch.setattr(read, "to_rgb", lambda pixels: right(pixels)[..., ::-1] if right(pixels).ndim == 3 else right(pixels))


def shift_decoder(levels: int, flags: str = "") -> Callable[[Patch], None]:
    def mutate(patch: Patch) -> None:
        right = cv2.imdecode

        def decode(data: Any, how: int) -> Any:
            pixels = right(data, how)
            noise = np.random.default_rng(1).choice([-levels, levels] if flags == "either" else [levels], pixels.shape)
            jpeg = bytes(data[:2]) == b"\xff\xd8"
            return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8) if jpeg else pixels

        patch.setattr(cv2, "imdecode", decode)

    return mutate


def drop_depth(patch: Patch) -> None:
    right = cv2.imdecode
    patch.setattr(cv2, "imdecode", lambda data, how: (right(data, how) // 16).astype(np.uint8))


def resize_nearest(image: Any, height: int, width: int, whole: bool = False) -> Any:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)


def resize_linear(image: Any, height: int, width: int, whole: bool = False) -> Any:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def scale_not(patch: Patch) -> None:
    right = preprocess.to_values
    patch.setattr(preprocess, "to_values", lambda pixels, scale, offset, dtype: right(pixels, 1.0, offset, dtype))


MUTATIONS: dict[str, tuple[Callable[[Patch], None], tuple[str, str]]] = {
    "BGR for RGB": (swap_channels, ("decode", "colour-16-bit.png")),
    "a decoder that is off": (shift_decoder(2), ("decode", "colour.jpg")),
    "a decoder that scatters": (shift_decoder(6, "either"), ("decode", "colour.jpg")),
    "16 bit cut to 8": (drop_depth, ("decode", "grey.png")),
    "nearest for area": (
        lambda patch: patch.setattr(preprocess, "resize_area", resize_nearest),
        ("preprocess", "grey.png"),
    ),
    "linear for area": (
        lambda patch: patch.setattr(preprocess, "resize_area", resize_linear),
        ("preprocess", "grey.png"),
    ),
    "no scaling": (scale_not, ("preprocess", "grey.png")),
    "luma the wrong way round": (
        lambda patch: patch.setattr(preprocess, "LUMA", preprocess.LUMA[::-1]),
        ("preprocess", "colour-16-bit.png"),
    ),
    "16 bit on another scale": (
        lambda patch: patch.setattr(preprocess, "full_scale", lambda image: float(np.iinfo(image.dtype).max)),
        ("preprocess", "colour-16-bit.png"),
    ),
    "the map enlarged by nearest": (
        lambda patch: patch.setattr(postprocess, "resize_area", resize_nearest),
        ("postprocess", "grey.png"),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_stage_is_caught_and_named(monkeypatch: Patch, name: str) -> None:
    """The earliest stage that is not what it was, and the image that shows it."""
    mutate, expected = MUTATIONS[name]
    mutate(monkeypatch)
    assert diverged() == expected


def test_another_threshold_is_caught(tmp_path: Path) -> None:
    """A contract forged well, with a threshold of its own, fails at the last stage."""
    forged = stamp(tmp_path / "m.tflite", threshold=Threshold(0.5, "a forger"))
    assert diverged(forged) == ("postprocess", "grey.png")


def test_another_scale_in_the_contract_is_caught(tmp_path: Path) -> None:
    """So does one with another scale, where the tensor is made."""
    spec = dataclasses.replace(read_contract(DEFAULT).input, scale=1 / 256)
    assert diverged(stamp(tmp_path / "m.tflite", input=spec)) == ("preprocess", "grey.png")


def find_weights() -> tuple[int, int]:
    """Return where the int8 weights of one layer lie, the last of 14400: a vector of that length, 16-byte aligned."""
    found = FLATBUFFER.rindex((14400).to_bytes(4, "little")) + 4
    assert found % 4 == 0 and np.abs(np.frombuffer(FLATBUFFER[found : found + 14400], np.int8)).max() == 127
    return found, found + 14400


def test_corrupted_weights_are_caught(tmp_path: Path) -> None:
    """A layer of the wrong sign fails the file's SHA-256; stamped anew, it fails at the net's output."""
    start, end = find_weights()
    harmed = FLATBUFFER[:start] + (-np.frombuffer(FLATBUFFER[start:end], np.int8)).tobytes() + FLATBUFFER[end:]
    path = tmp_path / "harmed.tflite"
    path.write_bytes(harmed + DEFAULT.read_bytes()[len(FLATBUFFER) :])
    assert diverged(path) == ("load", "")
    assert diverged(stamp(tmp_path / "forged.tflite", harmed)) == ("infer", "grey.png")


def test_a_decoder_may_round_otherwise(monkeypatch: Patch) -> None:
    """One level up or down at every pixel of a JPEG is what its standard allows, and no divergence."""
    shift_decoder(1, "either")(monkeypatch)
    assert diverged() is None


def test_another_processor_may_round_otherwise(monkeypatch: Patch) -> None:
    """An output off as an ARM processor's was, 0.11 at most and 0.0002 in the mean, passes; a shifted one does not."""
    from edge_runtime.checks import golden_vectors

    right, rng = golden_vectors.run_model, np.random.default_rng(2)

    def drift(session: Any, tensor: Any) -> Any:
        (output,) = right(session, tensor)
        edge = rng.random(output.shape) < 0.002
        return [np.clip(output + edge * rng.uniform(-0.11, 0.11, output.shape), 0, 1).astype(np.float32)]

    monkeypatch.setattr("edge_runtime.checks.selftest.run_model", drift)
    assert diverged() is None
    monkeypatch.setattr("edge_runtime.checks.selftest.run_model", lambda *given: [np.roll(right(*given)[0], 4, axis=1)])
    assert diverged() == ("infer", "grey.png")
    monkeypatch.setattr("edge_runtime.checks.selftest.run_model", lambda *given: [right(*given)[0] * np.float32("nan")])
    assert diverged() == ("infer", "grey.png")


def test_vectors_of_the_first_format_are_read(tmp_path: Path) -> None:
    """A file converted when an output had 256 values is tested by these; 256 in the present format are too few."""
    fields = json.loads(read_golden(DEFAULT) or b"")
    for case in fields["cases"]:
        for output in case["infer"] or []:
            output["values"] = output["values"][:256]
    with pytest.raises(ContractError, match="256 values of an array"):
        run_selftest(stamp(tmp_path / "short.tflite", golden=json.dumps(fields).encode()), threads=1)
    fields["format"] = "edge-seg-golden/1"
    old = json.dumps(fields).encode()
    assert diverged(stamp(tmp_path / "old.tflite", golden=old)) is None
    fields["cases"][0]["infer"][0]["values"][7] = 0.9
    assert diverged(stamp(tmp_path / "off.tflite", golden=json.dumps(fields).encode())) == ("infer", "grey.png")


def test_indices_are_spread() -> None:
    """No index twice in a large array, every index of a small one, and rows and columns alike are met."""
    indices = pick_indices(192 * 192)
    assert len(set(indices.tolist())) == 256
    assert len(set((indices % 192).tolist())) > 120 and len(set((indices // 192).tolist())) > 120
    assert sorted(set(pick_indices(7).tolist())) == list(range(7))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 and a page, or JSON; 1 and one line that names the stage; 1 and what to do where there are no vectors."""
    assert main(["--selftest", "--threads", "1"]) == 0
    assert "decode ok · preprocess ok · infer ok · postprocess ok" in capsys.readouterr().out
    forged = stamp(tmp_path / "m.tflite", threshold=Threshold(0.5, "a forger"))
    assert main(["--selftest", "--json", "--model", str(forged)]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["diverged"]["stage"] == "postprocess"
    assert "the stage postprocess diverged on grey.png" in shown.err and shown.err.count("\n") == 1
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(stamp_contract(FLATBUFFER, read_contract(DEFAULT)))
    assert main(["--selftest", "--model", str(bare)]) == 1
    assert "it has no golden vectors to test with; convert it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"\xff",
        b'{"format":"edge-seg-golden/3","cases":[]}',
        b'{"format":"edge-seg-golden/2","cases":[{}]}',
        b'{"format":"edge-seg-golden/2","cases":[{"name":"a"}]}',
        b'{"format":"edge-seg-golden/1","cases":1}',
    ],
)
def test_malformed_vectors_are_one_line(tmp_path: Path, text: bytes) -> None:
    """Whatever golden.json holds, it is a ContractError."""
    with pytest.raises(ContractError):
        run_selftest(stamp(tmp_path / "m.tflite", golden=text), threads=1)


def spoil(change: Callable[[Any], None]) -> bytes:
    """Return the embedded model's golden.json with its first case changed."""
    fields = json.loads(read_golden(DEFAULT) or b"")
    change(fields["cases"][0])
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda case: case.update(file="!"),
        lambda case: case.update(decode={"sha256": "a"}),
        lambda case: case.update(decode=None),
        lambda case: case["preprocess"].update(values=[1.0]),
        lambda case: case["preprocess"].update(values=["a"] * 256),
        lambda case: case["preprocess"].update(shape=None),
        lambda case: case["infer"][0].update(largest=None),
        lambda case: case["postprocess"].update(labels=[1]),
        lambda case: case["postprocess"].update(labels=[[]] * 256),
        lambda case: case.update(extra=1),
    ],
)
def test_each_wrong_field_of_a_case_is_one_line(tmp_path: Path, change: Callable[[Any], None]) -> None:
    """Wrong numbers, types and counts are a ContractError, never a traceback in the middle of a test."""
    with pytest.raises(ContractError, match="malformed"):
        run_selftest(stamp(tmp_path / "m.tflite", golden=spoil(change)), threads=1)


def test_a_file_that_is_no_image_fails_at_decode(tmp_path: Path) -> None:
    """What the golden vectors hold is read as strictly as any image."""
    path = stamp(tmp_path / "m.tflite", golden=spoil(lambda case: case.update(file="AAAA")))
    assert diverged(path) == ("decode", "grey.png")
