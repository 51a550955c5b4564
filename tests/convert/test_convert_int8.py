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
from edge_runtime.contract import read_contract, split_tail
from edge_runtime.images import encode_png, read_image
from edge_runtime.session import Session
from reference.phantom import KINDS, draw_phantom


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.keras, 12 slices to calibrate with and 4 others to check on."""
    folder = tmp_path_factory.mktemp("int8")
    spread(build_unet((48, 64), channels=1, filters=(8, 16))).save(folder / "net.keras")
    for name, count, seed in (("calibrate", 12, 0), ("check", 4, 100)):
        (folder / name).mkdir()
        for i in range(count):
            image = draw_phantom(np.random.default_rng(seed + i), KINDS[i % 4], (64, 64)).image
            (folder / name / f"{i}.png").write_bytes(encode_png(image))
    return folder


def convert(place: Path, **options: Any) -> Any:
    return convert_model(place / "net.keras", calibrate=place / "calibrate", allow=["slower"], force=True, **options)


@pytest.mark.parametrize("io", ["float32", "int8"])
def test_an_int8_file_says_what_it_is_and_runs(place: Path, io: str) -> None:
    """Contract, report and graph agree; the session segments as the float32 file does, fed by the contract alone."""
    done = convert(place, recipe="int8", int8_io=io)
    contract = read_contract(done.path, verify=True)
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in (place / "calibrate").iterdir())
    assert contract.calibration is not None
    assert contract.calibration.count == 12
    assert contract.calibration.sha256 == hashlib.sha256("".join(f"{d}\n" for d in digests).encode()).hexdigest()
    assert contract.input.dtype == contract.output.dtype == io
    assert (contract.input.scale, contract.input.offset) == ((1.0, -128.0) if io == "int8" else (1 / 255, 0.0))
    report = json.loads(done.report_path.read_text())
    assert report["recipe"] == "int8" and report["calibration"]["count"] == 12
    assert any("only 12 images" in note for note in report["notes"])
    assert {weight["dtype"] for weight in report["audit"]["weights"]} == {"INT8"}
    assert all(proof["holds"] for proof in report["audit"]["proofs"]) and len(report["audit"]["proofs"]) >= 9
    assert "int8 weight tensors" in done.table and "12 images, SHA-256" in done.table
    session, plain = Session.load(done.path), Session.load(convert_fp32(place))
    for path in sorted((place / "check").iterdir()):
        found, expected = (one.segment(read_image(path)).probability for one in (session, plain))
        assert np.abs(found - expected).mean() < 0.02


def convert_fp32(place: Path) -> Path:
    out = place / "fp32.tflite"
    if not out.exists():
        convert_model(place / "net.keras", "fp32", out, allow=["slower"])
    return out


def test_the_same_images_give_the_same_bytes(place: Path) -> None:
    """Twice the same; other images, another file."""
    first, again = (split_tail(convert(place, recipe="int8").path.read_bytes())[0] for _ in range(2))
    assert first == again
    options = {"calibrate": place / "check", "allow": ["slower"], "force": True}
    other = convert_model(place / "net.keras", "int8", **options)  # type: ignore[arg-type]
    assert split_tail(other.path.read_bytes())[0] != first


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
    place: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any work, in one line, exit 2: no images, images for nothing, images that would judge themselves."""
    monkeypatch.chdir(place)
    assert main(["net.keras", "-o", "never.tflite", *options]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("edge-convert: error: ") and words in last
    assert not Path("never.tflite").exists()
