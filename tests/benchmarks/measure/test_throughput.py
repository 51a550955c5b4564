"""How much of the engine's speed a folder run keeps: measured in turns, and printed with its settings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from benchmarks.__main__ import main
from benchmarks.measure import throughput
from edge_runtime.checks import trial
from edge_runtime.errors import EdgeSegError
from edge_runtime.images.read import read_image
from edge_runtime.inference.session import Session
from edge_runtime.models import DEFAULT


def test_the_command_measures_both(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every setting has a figure a round of the engine alone and of the run, and the table shows what was kept."""
    monkeypatch.setattr(throughput, "count_cores", lambda: 1)
    out = tmp_path / "throughput.json"
    assert main(["throughput", "--images", str(folder), "--count", "5", "--rounds", "1", "-o", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["images"], result["source"]) == (5, 3)
    assert result["outputs"] == ["masks", "overlays", "gallery"]
    assert list(result["engine"]) == list(result["run"]) == ["1 x 1"]
    (alone,), (whole,) = result["engine"]["1 x 1"], result["run"]["1 x 1"]
    assert result["ratio"] == pytest.approx(whole / alone)
    printed = capsys.readouterr().out
    assert f"kept of the engine's speed: {whole / alone:.2f}" in printed
    (floor,), (loop,) = result["floor"], result["loop"]
    assert floor == pytest.approx(1000 / sum(ms for (ms,) in result["steps"].values()))
    assert (result["of_floor"], result["of_loop"]) == ([whole / floor], [whole / loop])
    assert f"floor: {floor:.1f}" in printed and f"loop written by hand: {loop:.1f}" in printed


def test_the_best_settings_are_compared(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The run's best setting is compared with the engine's best, round by round."""
    alone = {(1, 1): 10.0, (1, 2): 15.0, (2, 1): 20.0}
    whole = {(1, 1): 8.0, (1, 2): 16.0, (2, 1): 12.0}
    order: list[Any] = []

    def run_alone(model: object, engine: str, setting: throughput.Setting, files: object) -> float:
        order.append(setting)
        return alone[setting]

    monkeypatch.setattr(throughput, "count_cores", lambda: 2)
    monkeypatch.setattr(throughput, "measure_engine", run_alone)
    monkeypatch.setattr(throughput, "run_folder", lambda model, engine, setting, *_: whole[setting])
    monkeypatch.setattr(throughput, "measure_steps", lambda *_: {"decode": 10.0, "infer": 90.0})
    monkeypatch.setattr(throughput, "run_loop", lambda *_: 32.0)
    result = throughput.measure_throughput(None, folder, 4, 2, "litert", True, lambda text: None)
    assert (result["engine_best"], result["run_best"], result["ratio"]) == ("2 x 1", "1 x 2", 0.8)
    assert order == [*sorted(alone), *sorted(alone, reverse=True)]
    assert (result["floor"], result["of_floor"], result["of_loop"]) == ([20.0] * 2, [0.8] * 2, [0.5] * 2)
    assert "0.80 (0.80 to 0.80), in 2 rounds; run at 1 x 2, engine at 2 x 1" in throughput.render_table(result)


def test_the_loop_makes_the_masks_of_the_run(folder: Path, tmp_path: Path) -> None:
    """What is compared does the same work: its masks of 8-bit images are the session's but for a rim."""
    (folder / "c.tif").unlink()  # of 12 bits, which the loop takes for a dark image
    throughput.run_loop(DEFAULT, 1, folder, tmp_path / "out")
    session = Session.load(engine="litert", threads=1)
    for path in sorted(folder.iterdir()):
        mask = cv2.imread(str(tmp_path / "out" / "masks" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert ((mask > 0) == session.segment(read_image(path)).mask).mean() > 0.99
        assert (tmp_path / "out" / "overlays" / f"{path.stem}.jpg").is_file()


def test_several_workers_are_added_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of the engine alone together reach what each of them counted; one that fails is an error."""
    monkeypatch.setattr(trial, "read_message", kept := MessageKeeper(trial.read_message))
    found = throughput.measure_engine(None, "litert", (2, 1), sorted(folder.glob("*.png"))[:1])
    assert kept.messages[:2] == [{"ready": True}, {"ready": True}]
    assert found == sum(message["images_per_second"] for message in kept.messages[2:]) and len(kept.messages) == 4
    with pytest.raises(EdgeSegError, match="exit status 1"):
        throughput.measure_engine(None, "litert", (1, 1), [folder / "none.png"])


class MessageKeeper:
    """Calls the original, and records what it returns."""

    def __init__(self, check: Callable[[subprocess.Popen[bytes], float], dict[str, Any]]) -> None:
        self.check, self.messages = check, list[dict[str, Any]]()

    def __call__(self, process: subprocess.Popen[bytes], end: float) -> dict[str, Any]:
        self.messages.append(self.check(process, end))
        return self.messages[-1]


def test_a_folder_without_images_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without images is refused before anything is started."""
    for place in (tmp_path, tmp_path / "none"):
        assert main(["throughput", "--images", str(place)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
