"""How much of the engine's speed a folder run keeps: measured in turns, and said with its settings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import throughput
from benchmarks.__main__ import main
from edge_runtime.errors import EdgeSegError


def test_the_command_measures_both(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every setting has a figure a round of the engine alone and of the run, and the table says what was kept."""
    monkeypatch.setattr(throughput, "count_cores", lambda: 1)
    out = tmp_path / "throughput.json"
    assert main(["throughput", "--images", str(folder), "--count", "5", "--rounds", "1", "-o", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["images"], result["source"]) == (5, 3)
    assert result["outputs"] == ["masks", "overlays", "gallery"]
    assert list(result["engine"]) == list(result["run"]) == ["1 x 1"]
    (alone,), (whole,) = result["engine"]["1 x 1"], result["run"]["1 x 1"]
    assert result["ratio"] == pytest.approx(whole / alone)
    assert f"kept of the engine's speed: {whole / alone:.2f}" in capsys.readouterr().out


def test_the_best_settings_are_compared(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The run's best setting is held against the engine's best, whichever they are, round by round."""
    alone = {(1, 1): 10.0, (1, 2): 15.0, (2, 1): 20.0}
    whole = {(1, 1): 8.0, (1, 2): 16.0, (2, 1): 12.0}
    order: list[Any] = []

    def run_alone(model: object, engine: str, setting: throughput.Setting, files: object) -> float:
        order.append(setting)
        return alone[setting]

    monkeypatch.setattr(throughput, "count_cores", lambda: 2)
    monkeypatch.setattr(throughput, "run_engine_apart", run_alone)
    monkeypatch.setattr(throughput, "run_folder", lambda model, engine, setting, *_: whole[setting])
    result = throughput.measure_throughput(None, folder, 4, 2, "litert", True, lambda text: None)
    assert (result["engine_best"], result["run_best"], result["ratio"]) == ("2 x 1", "1 x 2", 0.8)
    assert order == [*sorted(alone), *sorted(alone, reverse=True)]
    assert "0.80 (0.80 to 0.80 in 2 rounds; run at 1 x 2, engine at 2 x 1)" in throughput.to_table(result)


def test_several_workers_are_added_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of the engine alone together reach what each of them counted; one that fails is an error."""
    monkeypatch.setattr(throughput, "read_line", count_lines := LineCounter(throughput.read_line))
    found = throughput.run_engine_apart(None, "litert", (2, 1), sorted(folder.glob("*.png"))[:1])
    assert count_lines.lines[:2] == ["ready\n", "ready\n"]
    assert found == sum(float(line) for line in count_lines.lines[2:]) and len(count_lines.lines) == 4
    with pytest.raises(EdgeSegError, match="exit status 1"):
        throughput.run_engine_apart(None, "litert", (1, 1), [folder / "none.png"])


class LineCounter:
    """Calls through, and keeps what came back."""

    def __init__(self, read: Callable[[subprocess.Popen[str]], str]) -> None:
        self.read, self.lines = read, list[str]()

    def __call__(self, process: subprocess.Popen[str]) -> str:
        self.lines.append(self.read(process))
        return self.lines[-1]


def test_a_folder_without_images_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to measure on is said before anything is started."""
    for place in (tmp_path, tmp_path / "none"):
        assert main(["throughput", "--images", str(place)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
