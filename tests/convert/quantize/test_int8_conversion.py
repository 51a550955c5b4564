"""The int8 recipe through the command: calibrated, proven, stamped, and run by the device's own session."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_nets import build_unet, spread

from convert import convert_model
from convert.__main__ import main
from edge_runtime.contract.tail import read_contract
from edge_runtime.images import read_image
from edge_runtime.images.write import encode_png
from edge_runtime.inference.session import Session
from reference.data.phantom import KINDS, draw_phantom


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.keras, 12 slices to calibrate with and 4 others to check on."""
    folder = tmp_path_factory.mktemp("int8")
    spread(build_unet((48, 64), channels=1, filters=(8, 16))).save(folder / "net.keras")
    for name, count, seed in (("calibrate", 12, 0), ("check", 4, 100)):
        (folder / name).mkdir()
        for i in range(count):
            image = draw_phantom(np.random.default_rng(seed + i), KINDS[i % 4], (64, 64)).image
            (folder / name / f"{i}.png").write_bytes(encode_png(image))
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, Any]:
    """The net as int8 files with either type of input and output."""
    options: dict[str, Any] = {"calibrate": folder / "calibrate", "allow": ["slower"]}
    options |= {"upsample": "depth-to-space", "keep_float": 0}  # nothing to measure
    return {
        io: convert_model(folder / "net.keras", "int8", folder / f"{io}.tflite", int8_io=io, **options)
        for io in ("float32", "int8")
    }


@pytest.mark.parametrize("io", ["float32", "int8"])
def test_the_contract_of_an_int8_file(folder: Path, files: dict[str, Any], io: str) -> None:
    """Contract, report and graph agree on types, calibration and proof, and the outputs are Keras' to a few steps."""
    done = files[io]
    contract = read_contract(done.path, verify=True)
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "calibrate").iterdir())
    assert contract.calibration is not None
    assert contract.calibration.count == 12
    assert contract.calibration.sha256 == hashlib.sha256("".join(f"{d}\n" for d in digests).encode()).hexdigest()
    assert contract.input.dtype == contract.output.dtype == io
    assert (contract.input.scale, contract.input.offset) == ((1.0, -128.0) if io == "int8" else (1 / 255, 0.0))
    report = json.loads(done.report_path.read_text())
    assert report["recipe"] == "int8" and report["calibration"]["count"] == 12
    assert any("only 12 images" in note for note in report["notes"])
    assert {weight["dtype"] for weight in report["audit"]["weights"]} == {"INT8"}
    assert [proof["holds"] for proof in report["audit"]["proofs"]] == [True] * 8
    assert "int8 weight tensors" in done.table and "12 images, SHA-256" in done.table
    assert done.checks.mean_difference < 0.02


def test_the_session_runs_either(folder: Path, files: dict[str, Any]) -> None:
    """Fed by its contract alone, the int8 input says what the float32 one says; both give probabilities."""
    soft, hard = (Session.load(files[io].path) for io in ("float32", "int8"))
    for path in sorted((folder / "check").iterdir()):
        one, other = (session.segment(read_image(path)).probability for session in (soft, hard))
        assert one.shape == other.shape == (64, 64)
        assert np.abs(one - other).mean() < 0.01


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "int8"], "recipe int8: it needs images to set its activations' ranges; --calibrate DIR with 100"),
        (["--recipe", "int8", "--calibrate", "nowhere"], "--calibrate nowhere: no such folder"),
        (["--calibrate", "calibrate"], "--calibrate: the recipe drq has nothing to do with it"),
        (["--int8-io", "int8"], "--int8-io int8: the recipe drq has nothing to do with it"),
        (["--recipe", "int8", "--int8-io", "int4"], "invalid choice: 'int4'"),
        (["--recipe", "int8", "--calibrate", "check", "--check", "check"], "0.png: the model was calibrated with it"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    folder: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any work, in one line, exit 2: no images, images for nothing, images that would judge themselves."""
    monkeypatch.chdir(folder)
    assert main(["net.keras", "-o", "never.tflite", *options]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("edge-convert: error: ") and words in last
    assert not Path("never.tflite").exists()
