"""The table: variants trained in rounds, measured as a user would, judged, and shown with the numbers measured."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")

from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import EdgeSegError, OutputError
from edge_runtime.models import DEFAULT
from reference.__main__ import main
from reference.data.folders import Slice
from reference.data.phantom import draw_folder
from reference.evaluation.slice_scores import rename_scores
from reference.paper import PAPER
from reference.paper_table import rounds, table, timing
from reference.paper_table.goals import find_uneven, judge_goals
from reference.paper_table.page import HEADS, format_number, list_notes, list_rows, to_html, to_markdown
from reference.paper_table.rounds import Plan, train_rounds
from reference.recipe import ATTENTIONS, Recipe
from reference.training.log import read_log

ROOT = Path(__file__).parents[3]
BENCHMARK = ROOT / "records" / "default-benchmark" / "result.json"


class FakeTraining:
    """Stands in for the child process: writes the log that `train` would; may be killed in its nth turn."""

    def __init__(self, killed: int = 0, scores: list[float] | None = None) -> None:
        self.turns: list[tuple[str, int]] = []
        self.killed, self.scores = killed, scores or []

    def __call__(self, module: str, *arguments: object, show: bool = False) -> tuple[int, str]:
        given = dict(zip(map(str, arguments), map(str, arguments[1:]), strict=False))
        name, goal, run = given["--attention"], int(given["--until"]), Path(given["-o"]).with_suffix(".run")
        if len(self.turns) + 1 == self.killed:
            self.killed = 0
            raise KeyboardInterrupt
        self.turns.append((name, goal))
        run.mkdir(parents=True, exist_ok=True)
        with (run / "log.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("epoch", "size", "val_mean_iou"))
            scores = self.scores or [0.5] * goal
            writer.writerows((i + 1, 224, score) for i, score in enumerate(scores[:goal]))
        return 0, ""


def plan_for(folder: Path, epochs: int, turn: int = 1, recipe: Recipe | None = None) -> Plan:
    return Plan(replace(recipe or Recipe(), epochs=epochs), ATTENTIONS, (folder / "data",), folder / "runs", turn)


def test_all_variants_have_equal_epochs_after_every_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed round is finished by the same command, the variant it lacked first, and nothing is trained twice."""
    fake = FakeTraining(killed=7)  # in the second round, after two of the four
    monkeypatch.setattr(rounds, "run_module", fake)
    plan = plan_for(tmp_path, epochs=5, turn=2)
    with pytest.raises(KeyboardInterrupt):
        train_rounds(plan, None, lambda text: None)
    assert train_rounds(plan, None, lambda text: None) is True
    assert fake.turns == [(name, goal) for goal in (2, 4, 5) for name in ATTENTIONS]
    assert {len(read_log(plan.runs / f"{name}.run")) for name in ATTENTIONS} == {5}


def test_no_round_is_begun_that_would_end_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --minutes one round is trained, no other fits, and all four have its epochs."""
    fake = FakeTraining()
    monkeypatch.setattr(rounds, "run_module", fake)
    clock = iter(range(0, 10_000, 40))  # seconds: every look at the clock costs 40
    monkeypatch.setattr(rounds.time, "monotonic", lambda: float(next(clock)))
    assert train_rounds(plan_for(tmp_path, epochs=3), 1.0, lambda text: None) is False
    assert fake.turns == [(name, 1) for name in ATTENTIONS]


def test_a_run_that_its_recipe_stopped_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven epochs without improvement end a run by the paper's recipe: it is not asked for more."""
    scores = [0.5, 0.6, *[0.55] * 7]
    fake = FakeTraining(scores=scores)
    monkeypatch.setattr(rounds, "run_module", fake)
    assert train_rounds(plan_for(tmp_path, epochs=50, turn=25, recipe=PAPER), None, lambda text: None) is True
    assert fake.turns == [(name, 25) for name in ATTENTIONS]


def test_a_failed_turn_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that fails is one line, and no other variant is trained on."""
    monkeypatch.setattr(rounds, "run_module", lambda *arguments, show: (2, ""))
    with pytest.raises(EdgeSegError, match="training none: it ended with exit 2"):
        train_rounds(plan_for(tmp_path, epochs=2), None, lambda text: None)


def make_facts(seed: int = 0, **scores: float) -> dict[str, Any]:
    """A table as it might be; cbam is not trained."""
    rng = np.random.default_rng(seed)

    def row(engine: str) -> dict[str, Any]:
        names = ("mean_iou", "lesion_iou", "dice", "false_alarms")
        figures = {name: float(rng.random()) for name in names} | {"hd95_px": float(rng.random() * 40)}
        figures |= {"bytes": int(rng.integers(1e7, 2e8)), "p50_ms": float(rng.random() * 300)}
        return figures | {"peak_rss_bytes": int(rng.integers(1e8, 1e9))}

    variants: dict[str, Any] = {"cbam": {"why": "not trained yet"}}
    for name in ("none", "ag", "se"):
        curve = [
            {"epoch": i, "size": 96 if i < 3 else 224, "loss": 1 / i, "val_mean_iou": 0.5 + i / 20} for i in (1, 2, 3)
        ]
        rows = {engine: row(engine) for engine in timing.ENGINES}
        variants[name] = {"epochs": 3, "curve": curve, "rows": rows, "timing": {"status": "valid", "reasons": []}}
    counts = {"slices": 10, "patients": 4, "kinds": {"glioma": 6, "none": 4}}
    return {
        "created": "2026-01-02T03:04:05+0000",
        "versions": {"edge-seg": "0.1.0", "keras": "3"},
        "machine": {"processor": "A & B <fast>", "cores": 2, "memory_bytes": 2**33, "machine": "m", "system": "s"},
        "threads": 2,
        "recipe": {"seed": 1, "epochs": 3, "small_epochs": 2, "small_size": 96, "schedule": "cosine", "rate": 1e-3}
        | {"batch": 16, "dice": 1.0, "augment": True},
        "start": None,
        "data": {"folders": ["t1"], "split": "patient", "test_slices_of_training_patients": 0}
        | dict.fromkeys(("training", "validation", "test"), counts),
        "variants": {name: variants[name] for name in ATTENTIONS},
        "figures": {},
        "beside": {"split": "slice", "variants": {"ag": {"mean_iou": 0.9876, "epochs": 3}}},
        "goals": [],
    }


def test_the_pages_show_the_numbers_of_the_json() -> None:
    """Each score, size, time and memory of table.json is in its row of both pages; untrained variants have a reason."""
    facts = make_facts()
    facts["goals"] = judge_goals(facts)
    rows = list_rows(facts)
    assert len(rows) == 3 * 3 + 1 and {len(row) for row in rows} == {len(HEADS)}
    shown = iter(rows)
    for name in ATTENTIONS:
        if name == "cbam":
            assert next(shown)[1] == "not trained yet"
            continue
        for figures in facts["variants"][name]["rows"].values():
            cells = dict(zip(HEADS, next(shown), strict=True))
            assert float(cells["mean IoU"]) == pytest.approx(figures["mean_iou"], abs=5e-5)
            assert float(cells["tumour IoU"]) == pytest.approx(figures["lesion_iou"], abs=5e-5)
            assert float(cells["mean Dice"]) == pytest.approx(figures["dice"], abs=5e-5)
            assert float(cells["HD95 px"]) == pytest.approx(figures["hd95_px"], abs=0.05)
            assert float(cells["MiB"]) * 2**20 == pytest.approx(figures["bytes"], abs=6000)
            assert float(cells["MB"]) * 1e6 == pytest.approx(figures["bytes"], abs=6000)
            assert float(cells["p50 ms"]) == pytest.approx(figures["p50_ms"], abs=0.05)
            assert float(cells["peak MB"]) * 1e6 == pytest.approx(figures["peak_rss_bytes"], abs=6e5)
    markdown, page = to_markdown(facts), to_html(facts, {"curves.png": b"png"})
    for row in rows:
        assert "| " + " | ".join(row) + " |" in markdown
        cells = "".join(f"<td[^>]*>{re.escape(html.escape(cell))}</td>" for cell in row)
        assert re.search(cells, page)
    assert "A &amp; B &lt;fast&gt;" in page and "<fast>" not in page
    assert "Still rising when the budget ended: Res-UNet, + AG, + SE (" in markdown
    apart = 0.9876 - facts["variants"]["ag"]["rows"]["keras-fp32"]["mean_iou"]
    assert f"| by slice | 0.9876 | 3 | {apart:+.4f} |" in markdown and f"{apart:+.4f}</td>" in page
    assert "0.8455" in markdown and "127.21" in markdown and "313.1" in markdown  # the paper's row of AG


def test_a_small_gain_keeps_its_sign() -> None:
    """A loss of -0.00007 is no loss of 0.00007; only what is rounded to nothing has no sign."""
    found = [format_number(value, ".5f") for value in (-0.00007, 0.00007, -0.000001, None)]
    assert found == ["-0.00007", "0.00007", "0.00000", "–"]
    assert [format_number(value, "+.4f") for value in (-0.02, 0.02)] == ["-0.0200", "+0.0200"]


def test_goals_are_met_or_missed_by_how_much_or_open() -> None:
    """Each verdict follows from the row's own numbers; an untrained variant's goals stay open."""
    facts = make_facts()
    for name, lost, saved, score in (
        ("none", 0.0003, 0.76, 0.8),
        ("ag", -0.001, 0.745, 0.85),
        ("se", 0.0005, 0.75, 0.8),
    ):
        figures = facts["variants"][name]["rows"]
        figures["keras-fp32"]["mean_iou"], figures["litert-drq"]["mean_iou"] = score, score - lost
        figures["litert-fp32"]["bytes"], figures["litert-drq"]["bytes"] = 100_000, round(100_000 * (1 - saved))
    found = {(goal["goal"], goal["variant"]): goal for goal in judge_goals(facts)}
    assert [goal["verdict"] for goal in found.values()] == [
        *("met", "met", "missed", "open"),
        *("met", "missed", "met", "open"),
        "met",
    ]
    assert found["DRQ costs less than 0.0004 mean IoU", "se"]["missed_by"] == pytest.approx(0.0001)
    assert found["DRQ is 75% smaller", "ag"]["missed_by"] == pytest.approx(0.005)
    facts["variants"]["ag"]["rows"]["keras-fp32"]["mean_iou"] = 0.8
    last = judge_goals(facts)[-1]
    assert (last["verdict"], last["missed_by"]) == ("missed", pytest.approx(0.0455))
    assert find_uneven(facts) == ""
    facts["variants"]["se"]["epochs"] = 2
    assert "se 2" in find_uneven(facts) and find_uneven(facts) in to_markdown(facts)


def test_speed_and_memory_are_the_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency, memory and validity are those of the benchmark's result; a failed one is reported with its reason."""

    def run(module: str, *arguments: object) -> tuple[int, str]:
        out = Path(str(arguments[arguments.index("-o") + 1]))
        out.mkdir()
        shutil.copy(BENCHMARK, out / "result.json")
        return 3, ""  # inconclusive: written all the same

    monkeypatch.setattr(timing, "run_module", run)
    result = json.loads(BENCHMARK.read_text())
    files = {engine: tmp_path / f"{engine}.keras" for engine in timing.ENGINES}
    found = timing.measure_speed(files, tmp_path, 2)
    assert found["validity"] == result["validity"]
    assert (
        timing.judge_timing(found | {"drq_sha256": read_contract(DEFAULT).model.sha256}, DEFAULT) == found["validity"]
    )
    assert "another layout" in timing.judge_timing(found | {"drq_sha256": "0"}, DEFAULT)["reasons"][-1]
    for engine, key in (("keras-fp32", "keras-fp32"), ("litert-fp32", "fp32-litert-2"), ("litert-drq", "drq-litert-2")):
        figures = result["subjects"][key]
        assert found["engines"][engine]["p50_ms"] == figures["latency"]["p50_ms"]
        assert found["engines"][engine]["peak_rss_bytes"] == figures["memory"]["peak_rss_bytes"]
    monkeypatch.setattr(timing, "run_module", lambda *arguments: (1, "edge-bench: error: no"))
    assert timing.measure_speed(files, tmp_path, 2) == {
        "why": "python -m benchmarks ended with exit 1 (edge-bench: error: no)"
    }


def command(drawn: Path, runs: Path) -> list[str]:
    text = f"-m reference table --data {drawn} -o {runs} --variants none --epochs 1 --width 0.125 --size 32"
    text += " --colour grey --batch 8 --rate 3e-3 --precision float32 --threads 1 --timing none"
    return [sys.executable, *text.split()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of one tiny variant, killed once its epoch was trained and then made by the same command."""
    folder = tmp_path_factory.mktemp("table")
    draw_folder(40, folder / "drawn", seed=7, size=64)
    runs = folder / "runs"
    process = subprocess.Popen(command(folder / "drawn", runs), cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 500
    while not (runs / "none.run" / "state.npz").is_file() and process.poll() is None:
        assert time.monotonic() < deadline, "no epoch was finished"
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(command(folder / "drawn", runs), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.split() == [str(runs / "table.md"), str(runs / "table.html")]
    return runs


def test_the_command_resumes_after_a_kill_and_reports_untrained_variants(made: Path) -> None:
    """A trained epoch is not trained again, untrained variants are reported, and all files are there."""
    facts = json.loads((made / "table.json").read_text())
    assert [row["epoch"] for row in facts["variants"]["none"]["curve"]] == [1]
    assert {facts["variants"][name]["why"] for name in ("ag", "se", "cbam")} == {"not trained yet"}
    assert facts["data"]["test"]["slices"] == 8 and facts["data"]["test_slices_of_training_patients"] == 0
    assert set(facts["figures"]["dice"]["none"]) == {"glioma", "meningioma", "pituitary"}
    for name in ("table.html", "curves.png", "figure-9.png", "figure-a2.png", "none.drq.tflite", "none.fp32.tflite"):
        assert (made / name).stat().st_size > 1000
    assert "not timed" in (made / "table.md").read_text()


def test_the_scores_are_those_of_evaluate(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m reference evaluate` on RUNS/test finds for each file the scores that stand in table.json."""
    facts = json.loads((made / "table.json").read_text())
    files = {"keras-fp32": "none.keras", "litert-fp32": "none.fp32.tflite", "litert-drq": "none.drq.tflite"}
    for engine, file in files.items():
        text = f"evaluate {made / file} --images {made / 'test/images'} --masks {made / 'test/masks'}"
        text += f" --labels {made / 'test/labels.csv'} --thresholds 0.5 --json"
        assert main(text.split()) == 0
        evaluated = json.loads(capsys.readouterr().out)["with_tumour_free"]  # the paper's mixture
        found, row = (
            {name: figures["value"] for name, figures in evaluated.items()},
            facts["variants"]["none"]["rows"][engine],
        )
        assert row["bytes"] == (made / file).stat().st_size
        for name in ("mean_iou", "lesion_iou", "dice", "hd95_px", "false_alarms"):
            assert row[name] == pytest.approx(found[name], abs=1e-6)


def test_drq_keeps_float_what_the_goal_asks_for(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DRQ's policy is the goal, on validation slices only; if nothing meets it, the file is accepted without."""
    facts = json.loads((made / "table.json").read_text())
    recipe = Recipe(test_share=0.2)
    validation = table.split_data(Plan(recipe, ("none",), (made.parent / "drawn",), made))[1]
    marked = {f"{item.patient.split('/')[0]}-{item.image.stem}" for item in validation if item.mask}
    assert {path.stem for path in (made / "check" / "images").iterdir()} == marked
    policy, page = facts["variants"]["none"]["policy"], (made / "table.md").read_text()
    assert policy["images"] == len(marked) and f"held on {len(marked)} validation slices" in page
    assert ("(not met)" in page) is not policy["met"]

    asked: list[tuple[object, ...]] = []

    refused = "--max-iou-drop"

    def run(module: str, *arguments: object) -> tuple[int, str]:
        asked.append(arguments)
        (tmp_path / "a.tflite").write_bytes(b"larger" if "--sure" in arguments else b"made")
        (tmp_path / "a.json").write_text('{"drill_down": {}}')
        return (6 if refused in arguments else 0), ""

    monkeypatch.setattr(table, "run_module", run)
    files = (tmp_path / "a.keras", tmp_path / "a.tflite", "drq", made / "check")
    found = table.convert(*files)
    assert found["policy"] == {"images": len(marked), "sure": False, "met": False, "kept": []} and len(asked) == 3
    assert [arguments.count("--sure") for arguments in asked] == [1, 0, 0]
    assert all(arguments[arguments.index("--max-iou-drop") + 1] == 0.0004 for arguments in asked[:2])
    refused = "nothing"
    for most, sure in ((6, True), (5, False)):  # the size of what is sure, and less
        found = table.convert(*files, most)
        assert (found["policy"]["sure"], found["policy"]["met"]) == (sure, True)
        assert found["bytes"] == (6 if sure else 4)


def test_few_slices_of_every_patient_are_checked_on(tmp_path: Path) -> None:
    """At most 128, with a lesion, and of many patients rather than many of one."""
    slices = [
        Slice(tmp_path / f"{i}.png", tmp_path / "mask" if i % 4 else None, "glioma", f"p{i // 10:03}")
        for i in range(600)
    ]
    found = table.pick_checked(slices)
    assert 64 <= len(found) <= 128 and all(item.mask for item in found)
    assert len({item.patient for item in found}) > 30
    assert table.pick_checked(slices[:8]) == [item for item in slices[:8] if item.mask]
    assert table.pick_checked(slices[:1]) == []


def test_another_test_set_is_refused(made: Path) -> None:
    """A folder of runs keeps its test set: with other slices it is refused in one line."""
    plan = Plan(Recipe(), ("none",), (), made)
    other = table.split_data(replace(plan, recipe=Recipe(test_share=0.2, seed=2), data=(made.parent / "drawn",)))
    with pytest.raises(OutputError, match="other slices"):
        table.write_slices(other[2], made / "test")


def test_the_committed_table_has_the_figures_of_its_json() -> None:
    """records/table: all four variants, trained equally long; page and verdicts are those of its table.json."""
    folder = ROOT / "records" / "table"
    facts = rename_scores(json.loads((folder / "table.json").read_text()))
    assert all(set(facts["variants"][name]["rows"]) == set(timing.ENGINES) for name in ATTENTIONS)
    assert find_uneven(facts) == ""
    assert judge_goals(facts) == facts["goals"]
    assert (folder / "table.md").read_text() == to_markdown(facts)
    start = next(text for text in list_notes(facts) if text.startswith("Epochs trained"))
    assert html.escape(start) in (folder / "table.html").read_text()


def test_the_committed_table_by_slice_was_trained_as_the_other() -> None:
    """records/table-by-slice: the recipe and the start's epochs are those of records/table, which stands beside it."""
    folder, other = ROOT / "records" / "table-by-slice", ROOT / "records" / "table" / "table.json"
    facts, theirs = (rename_scores(json.loads(path.read_text())) for path in (folder / "table.json", other))
    assert facts["recipe"]["split"] == "slice"
    changed = {"split": "patient", "weights": theirs["recipe"]["weights"]}  # the start is a net of its own split
    assert facts["recipe"] | changed == theirs["recipe"]
    assert facts["start"]["epochs"] == theirs["start"]["epochs"]
    assert facts["beside"] == table.read_beside(other)
    assert (folder / "table.md").read_text() == to_markdown(facts)
