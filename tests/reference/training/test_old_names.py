"""Runs and records of earlier versions, whose scores had other names, are read and resumed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from reference.evaluation.slice_scores import rename_scores
from reference.training.log import read_log, write_log

RECORDS = Path(__file__).parents[3] / "records"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of the run that the embedded model is from, its log as it was written."""
    shutil.copy(RECORDS / "default-model" / "log.csv", tmp_path)
    assert "val_binary_io_u" in (tmp_path / "log.csv").read_text().splitlines()[0]
    return tmp_path


def test_a_log_is_read_with_the_names_of_today(run: Path) -> None:
    """Each epoch's values are those of the file."""
    with (run / "log.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    found = read_log(run)
    assert len(found) == len(written) > 1
    for row, before in zip(found, written, strict=True):
        assert row["val_mean_iou"] == before["val_binary_io_u"] and row["val_lesion_iou"] == before["val_tumour_iou"]
        assert {name: row[name] for name in ("epoch", "size", "loss", "val_dice")} == {
            name: before[name] for name in ("epoch", "size", "loss", "val_dice")
        }


def test_a_resumed_run_goes_on_with_its_log(run: Path) -> None:
    """The next epoch is added below those that are there, all under the names of today, and the curve is drawn."""
    before = read_log(run)
    epoch = dict.fromkeys(before[0], 0.5) | {"epoch": len(before) + 1.0}
    write_log(run, epoch)
    after = read_log(run)
    assert after[:-1] == before and after[-1]["val_mean_iou"] == "0.5"
    assert "binary_io_u" not in (run / "log.csv").read_text() and (run / "curve.png").is_file()


@pytest.mark.parametrize("name", ["ablation.json", "default-model/evaluation.json", "table/table.json"])
def test_a_record_has_the_names_of_today(name: str) -> None:
    """Nothing but the names changes: put back, the file is what it was."""
    text = (RECORDS / name).read_text()
    renamed = json.dumps(rename_scores(json.loads(text)))
    assert "binary_io_u" not in renamed and "tumour_iou" not in renamed
    back = renamed.replace('mean_iou":', 'binary_io_u":').replace('lesion_iou":', 'tumour_iou":')
    assert json.loads(back) == json.loads(text)


def test_an_ablation_of_an_earlier_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it measured is not measured again, and its table is made of it."""
    pytest.importorskip("keras")
    from reference.recipe import Recipe
    from reference.training import ablation

    written = json.loads((RECORDS / "ablation.json").read_text())
    shutil.copy(RECORDS / "ablation.json", tmp_path)
    monkeypatch.setattr(ablation, "split_folders", lambda recipe, folders: [[None] * n for n in written["slices"]])
    monkeypatch.setattr(ablation, "measure_choice", lambda *arguments: pytest.fail("it was measured again"))
    base = Recipe(**written["recipe"])
    facts = ablation.ablate(base, [Path(written["data"][0])], tmp_path, 1, "without Dice", lambda text: None)
    ours, other = (written["runs"][f"{name}, seed 1"] for name in ("ours", "without Dice in the loss"))
    assert facts["runs"]["ours, seed 1"]["mean_iou"] == ours["binary_io_u"]
    line = next(line for line in ablation.to_markdown(facts).splitlines() if "without Dice" in line)
    assert f"{other['binary_io_u'] - ours['binary_io_u']:+.3f}" in line
