"""Which candidates a command line gives, and what each absent one lacks; all converters are simulated."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import make_contract

from benchmarks.subjects import candidates, peers
from benchmarks.subjects.candidates import Candidate, Grid, describe_file, is_tflite, list_candidates
from benchmarks.subjects.peers import (
    BASELINES,
    NO_CALIBRATION,
    PEERS,
    PeerBuild,
    choose_peers,
    find_python,
    list_peer_files,
    make_peer,
)
from edge_runtime.contract.tail import stamp_contract
from edge_runtime.errors import ContractError, ModelError

GRID = Grid(("litert",), (1, 2), {"litert": sys.executable})


def stamp(path: Path, recipe: str, content: bytes = b"", source: str = "0" * 64, threshold: float = 0.5) -> Path:
    """A stamped file of the least bytes that pass for a TFLite model; source: hash of what it was made of."""
    from dataclasses import replace

    contract = make_contract(8)
    contract = replace(
        contract,
        recipe=recipe,
        source=replace(contract.source, sha256=source),
        threshold=replace(contract.threshold, value=threshold),
    )
    path.write_bytes(stamp_contract(b"\0\0\0\0TFL3" + content, contract))
    return path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replaces convert and the other converters, and records their calls."""
    calls: list[list[str]] = []

    def run_command(command: list[str], work: Path, python: str = "") -> tuple[int, str]:
        calls.append(command)
        out = Path(command[3])
        if command[0] == "convert":
            stamp(out, command[5], b"tuned" if "--target" in command else command[5].encode())
            out.with_suffix(".json").write_text(json.dumps({"notes": ["sigmoid appended to the graph"]}))
        else:
            out.write_bytes(b"made")
        return 0, ""

    monkeypatch.setattr(candidates, "run_command", run_command)
    monkeypatch.setattr(peers, "run_command", run_command)
    return calls


@pytest.fixture
def keras(tmp_path: Path) -> Path:
    path = tmp_path / "net.h5"  # a .keras under another name: content decides
    path.write_bytes(b"PK\x03\x04 and so on")
    return path


def test_a_trained_model_becomes_subject_and_baseline(tmp_path: Path, keras: Path, commands: list[list[str]]) -> None:
    """Converted twice as a user would; DRQ and FP32 on every thread count; Keras gets a path with its right suffix."""
    found, (source,) = list_candidates([keras], GRID, tmp_path, lambda text: None)
    assert [(one.key, one.role) for one in found] == [
        ("drq-litert-1", "subject"),
        ("drq-litert-2", "subject"),
        ("fp32-litert-1", "baseline"),
        ("fp32-litert-2", "baseline"),
    ]
    assert found[1].name == "edge-seg DRQ on LiteRT, 2 threads" and found[0].file == "net.drq.tflite"
    assert [command[0] for command in commands] == ["convert", "convert"]
    assert source.path.suffix == ".keras" and source.append == "sigmoid"


def test_a_tflite_is_measured_as_it_is(tmp_path: Path, commands: list[list[str]]) -> None:
    """Alone it is the subject; beside others an FP32 file is a baseline, in whatever order. None is converted."""
    drq, fp32 = stamp(tmp_path / "m.drq.tflite", "drq"), stamp(tmp_path / "m.fp32.tflite", "fp32", b"4")
    found, sources = list_candidates([fp32], GRID, tmp_path, lambda text: None)
    assert {one.role for one in found} == {"subject"} and not sources
    for given in ([drq, fp32], [fp32, drq]):
        found, _ = list_candidates(given, GRID, tmp_path, lambda text: None)
        assert [(one.recipe, one.role) for one in found[1:3]] == [("drq", "subject"), ("fp32", "baseline")]
    other = stamp(tmp_path / "n.fp32.tflite", "fp32", b"5")
    found, _ = list_candidates([fp32, other], GRID, tmp_path, lambda text: None)
    assert [(one.file, one.role) for one in found[1:3]] == [("m.fp32.tflite", "subject"), ("n.fp32.tflite", "baseline")]
    assert not commands


def test_a_file_made_of_the_trained_model_is_not_made_again(
    tmp_path: Path, keras: Path, commands: list[list[str]]
) -> None:
    """Given beside it, with its report, it is what is measured, and its threshold is FP32's too.

    Another model's file, or one without a report, is measured beside what is made of the model.
    """
    drq = stamp(tmp_path / "mine.drq.tflite", "drq", b"mine", hashlib.sha256(keras.read_bytes()).hexdigest(), 0.8)
    list_candidates([keras, drq], GRID, tmp_path, lambda text: None)
    assert len(commands) == 2  # without a report
    digest = hashlib.sha256(drq.read_bytes()).hexdigest()
    about = {"model": {"sha256": digest}, "notes": ["softmax appended to the graph"]}
    drq.with_suffix(".json").write_text(json.dumps(about))
    (tmp_path / "again").mkdir()
    found, (source,) = list_candidates([keras, drq], GRID, tmp_path / "again", lambda text: None)
    assert [command[5] for command in commands[2:]] == ["fp32"]
    assert [(one.recipe, one.role) for one in found[1:3]] == [("drq", "subject"), ("fp32", "baseline")]
    assert source.drq == drq and found[0].path == drq and source.append == "softmax" and len(found) == 4
    assert {one.contract.threshold.value for one in found} == {0.8}
    (tmp_path / "other").mkdir()
    keras.write_bytes(b"PK\x03\x04 and other weights")
    found, _ = list_candidates([keras, drq], GRID, tmp_path / "other", lambda text: None)
    assert [command[5] for command in commands[3:]] == ["drq", "fp32"] and len(found) == 6


def test_models_of_one_recipe_get_different_keys(tmp_path: Path) -> None:
    """By their files' names; the same bytes are measured once."""
    first, second = stamp(tmp_path / "First Net.tflite", "drq", b"1"), stamp(tmp_path / "b.drq.tflite", "drq", b"2")
    again = stamp(tmp_path / "again.tflite", "drq", b"1")
    found, _ = list_candidates([first, second, again], GRID, tmp_path, lambda text: None)
    assert [one.key for one in found] == [
        "first-net-drq-litert-1",
        "first-net-drq-litert-2",
        "b-drq-litert-1",
        "b-drq-litert-2",
    ]
    assert all(re.fullmatch("[a-z0-9-]+", one.key) for one in found)
    assert found[0].name.startswith("First Net: edge-seg DRQ")


def test_what_is_no_model_is_refused_before_any_conversion(
    tmp_path: Path, keras: Path, commands: list[list[str]]
) -> None:
    """A missing file, a .tflite without a contract."""
    (tmp_path / "bare.tflite").write_bytes(b"\0\0\0\0TFL3")
    for bad, error, words in (
        ("none.tflite", ModelError, "does not exist"),
        ("bare.tflite", ContractError, "no contract"),
    ):
        with pytest.raises(error, match=words):
            list_candidates([keras, tmp_path / bad], GRID, tmp_path, lambda text: None)
    assert not commands


def test_the_error_message_of_convert_is_quoted(tmp_path: Path, keras: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its prefix and the path twice."""
    last = f"edge-convert: error: {keras}: layer 'x' holds Python bytecode; nothing of it was run"
    monkeypatch.setattr(candidates, "run_command", lambda command, work: (5, last))
    with pytest.raises(ModelError) as caught:
        list_candidates([keras], GRID, tmp_path, lambda text: None)
    assert str(caught.value) == (
        f"{keras}: edge-convert refuses it: layer 'x' holds Python bytecode; nothing of it was run"
    )


def make_build(tmp_path: Path, files: dict[str, Path], **more: Any) -> PeerBuild:
    fields: dict[str, Any] = {
        "files": files, "file": "net.keras", "contract": make_contract(8), "append": "sigmoid", "threads": 2,
        "pythons": {}, "trust": "", "tensors": tmp_path / "t.npy", "calibration": None, "work": tmp_path,
        "notify": lambda text: None,
    }  # fmt: skip
    return PeerBuild(**fields | more)


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """All packages are installed."""
    monkeypatch.setattr(peers, "has_module", lambda python, module: True)


def make_all(build: PeerBuild, chosen: Sequence[tuple[Any, str]]) -> dict[str, Candidate]:
    return {one.key: one for one in (make_peer(peer, role, build) for peer, role in chosen)}


def test_every_peer_is_made_from_the_same_weights(
    tmp_path: Path, keras: Path, commands: list[list[str]], everything: None
) -> None:
    """Nine peers and two baselines, each with its file; an activation that a file lacks is recorded."""
    found, (source,) = list_candidates([keras], GRID, tmp_path, lambda text: None)
    build = make_build(tmp_path, list_peer_files(source, found[0]), calibration=tmp_path / "c.npy")
    made = make_all(build, choose_peers(True, source, ["litert"]))
    assert sorted(made) == [
        "keras-fp32", "onnxruntime-fp32", "onnxruntime-int8", "openvino-drq", "openvino-fp32", "stock-drq-litert-2",
        "stock-fp16-litert-2", "stock-fp32-litert-2", "stock-int8-litert-2", "tflite-runtime-drq",
        "tflite-runtime-fp32",
    ]  # fmt: skip
    assert not any(one.why_not for one in made.values())
    assert made["keras-fp32"].role == made["stock-drq-litert-2"].role == "baseline"
    assert made["keras-fp32"].path == source.path and made["keras-fp32"].file == "net.keras"
    lacking = {key for key, one in made.items() if one.append == "sigmoid"}
    assert lacking == {key for key in made if not key.startswith(("openvino", "tflite-runtime"))}
    kinds = [command[1] for command in commands if command[0] == "benchmarks.subjects.stock_converters"]
    assert kinds.count("onnx-fp32") == 1, "one .onnx serves both"
    int8 = next(command for command in commands if command[1] == "stock-int8")
    assert int8[4] == str(tmp_path / "c.npy")
    assert next(command for command in commands if "--target" in command)[-1] == "tflite-runtime"


def test_peers_that_are_absent_name_their_package(
    tmp_path: Path, keras: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how to get it; nothing is made for them."""
    monkeypatch.setattr(peers, "has_module", lambda python, module: module in ("ai_edge_litert", "tensorflow", "keras"))
    _, (source,) = list_candidates([keras], GRID, tmp_path, lambda text: None)
    commands.clear()
    build = make_build(tmp_path, {"trained": source.path, "drq": source.drq, "fp32": source.fp32})
    made = make_all(build, choose_peers(True, source, ["litert"]))
    absent = {key: one.why_not for key, one in made.items() if one.why_not}
    for key, package in (
        ("openvino-fp32", "openvino"),
        ("openvino-drq", "openvino"),
        ("onnxruntime-fp32", "onnxruntime"),
        ("onnxruntime-int8", "onnxruntime"),
        ("tflite-runtime-drq", "tflite-runtime"),
        ("tflite-runtime-fp32", "tflite-runtime"),
    ):
        assert f"{package} is not installed: pip install {package}" in absent.pop(key)
    assert absent == {"stock-int8-litert-2": NO_CALIBRATION}
    assert [command[1] for command in commands] == ["stock-drq", "stock-fp32", "stock-fp16"]


def test_a_lone_tflite_has_the_peers_that_can_read_it(tmp_path: Path, everything: None) -> None:
    """The others say that they need the trained model."""
    (subject, *_), _ = list_candidates([stamp(tmp_path / "m.tflite", "drq")], GRID, tmp_path, lambda text: None)
    made = make_all(make_build(tmp_path, list_peer_files(None, subject)), choose_peers(True, None, ["litert"]))
    assert [key for key, one in made.items() if not one.why_not] == ["openvino-drq"]
    assert all("trained model" in one.why_not for one in made.values() if one.why_not)
    assert not choose_peers(False, None, ["litert"])


def test_a_converter_that_fails_is_a_failed_peer(
    tmp_path: Path, keras: Path, commands: list[list[str]], everything: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an absent one, and no end of the run."""
    _, (source,) = list_candidates([keras], GRID, tmp_path, lambda text: None)
    monkeypatch.setattr(peers, "run_command", lambda *args: (1, "ValueError: unsupported"))
    made = make_peer(PEERS[0], "peer", make_build(tmp_path, list_peer_files(source, None)))  # type: ignore[arg-type]
    assert made.failed and "ValueError: unsupported" in made.why_not


def test_engines_that_are_measured_anyway_are_no_peers() -> None:
    """Nothing twice."""
    keys = [peer.key for peer, _ in choose_peers(True, None, ["litert", "openvino"])]
    assert not [key for key in keys if key.startswith("openvino")] and "onnxruntime-fp32" in keys
    assert len({peer.key for peer in (*BASELINES, *PEERS)}) == len(BASELINES) + len(PEERS)


def test_an_interpreter_is_found_in_the_order_given(tmp_path: Path) -> None:
    """The peer's own, then the common one, then this one; one without the package is passed over."""
    assert find_python("litert", {})[0] == sys.executable
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\ncase "$2" in *openvino*) exit 0;; esac\nexit 1\n')
    fake.chmod(0o755)
    assert find_python("openvino", {"": str(fake)}) == (str(fake), "")
    assert find_python("openvino", {"openvino": str(fake), "": "/nowhere"}) == (str(fake), "")
    assert find_python("litert", {"litert": str(fake)})[0] == sys.executable


def test_a_folder_is_hashed_with_its_names(tmp_path: Path) -> None:
    """A SavedModel's files by name and bytes."""
    (tmp_path / "m/variables").mkdir(parents=True)
    (tmp_path / "m/saved_model.pb").write_bytes(b"12")
    (tmp_path / "m/variables/data").write_bytes(b"345")
    first = describe_file(tmp_path / "m", "m")
    (tmp_path / "m/variables/data").rename(tmp_path / "m/variables/date")
    assert first["bytes"] == 5 and describe_file(tmp_path / "m", "m")["sha256"] != first["sha256"]
    assert is_tflite(tmp_path / "m") is False
