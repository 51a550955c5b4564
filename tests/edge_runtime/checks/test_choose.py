"""The choice of an engine: measured in child processes that may crash, kept in the cache, and never blocking a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime import Session
from edge_runtime.checks import choose, trial, trial_main
from edge_runtime.checks.choose import choose_fastest
from edge_runtime.cli import main
from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import EngineError
from edge_runtime.inference import engine_verdict
from edge_runtime.inference.engine_verdict import EngineTrial, EngineVerdict, load_best
from edge_runtime.inference.engines.registry import ENGINES
from edge_runtime.models import DEFAULT
from edge_runtime.system import machine

SHA256 = read_contract(DEFAULT).model.sha256
SIDE = read_contract(DEFAULT).input.shape[1]
# Engines that are none: what each does where a real one would run the model.
PLANTED = {
    "good": f"def load(path, threads): return FakeEngine(lambda x: (x > 0.5) * 0.9, {SIDE}, 1)",
    "alike": f"def load(path, threads): return FakeEngine(lambda x: (x > 0.5) * 0.9 + 0.001, {SIDE}, 1)",
    "wrong": f"def load(path, threads): return FakeEngine(lambda x: (x > 0.2) * 0.9, {SIDE}, 1)",
    "faint": f"def load(path, threads): return FakeEngine(lambda x: (x > 0.5) * 0.9 + 0.05, {SIDE}, 1)",
    "nan": f"def load(path, threads): return FakeEngine(lambda x: x * np.nan, {SIDE}, 1)",
    "crash": "def load(path, threads): os.abort()",
    "hang": "def load(path, threads): time.sleep(600)",
    "torn": "raise SystemError('half an update')",
    "moody": "def load(path, threads): raise RuntimeError('an error that is no EdgeSegError')",
    "later": f"""
def load(path, threads):
    if os.environ.get("DRIVER_GONE"):
        raise EngineError("engine later", "the driver is gone", "bring it back")
    return FakeEngine(lambda x: (x > 0.5) * 0.9, {SIDE}, 1)
""",
}
HEAD = (
    "import os, time\nimport numpy as np\nfrom edge_runtime.errors import EngineError\nfrom fakes import FakeEngine\n"
)
Plant = Callable[..., None]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Plant:
    """A function that leaves these engines alone in the world, in this order, on two cores."""
    package = tmp_path / "planted_engines"
    package.mkdir()
    for name, body in PLANTED.items():
        (package / f"{name}.py").write_text(HEAD + body + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    folders = [str(tmp_path), str(Path(__file__).parents[2]), str(Path(__file__).parents[3])]
    monkeypatch.setenv("PYTHONPATH", ":".join(folders))
    monkeypatch.setattr(trial, "MEASURED_S", 0.0)
    for module in (choose, engine_verdict):
        monkeypatch.setattr(module, "count_cores", lambda: 2)

    def plant(*names: str) -> None:
        for name in list(ENGINES):
            monkeypatch.delitem(ENGINES, name)
        for name in names:
            monkeypatch.setitem(ENGINES, name, (f"planted_engines.{name}", f"{name}-package"))

    return plant


def find_reasons(verdict: EngineVerdict) -> dict[str, str]:
    return {found.engine: found.why_not for found in verdict.table if found.why_not}


def test_engines_that_misbehave_are_out_with_the_reason(plant: Plant) -> None:
    """Crashing, NaN, other masks, other probabilities, any exception: each is a reason, none is a failure."""
    plant("good", "alike", "crash", "nan", "wrong", "faint", "moody", "torn")
    verdict = choose.measure_engines(DEFAULT, SHA256)
    assert verdict.engine in ("good", "alike")
    reasons = find_reasons(verdict)
    assert reasons["crash"].startswith("it crashed")
    assert "not finite" in reasons["nan"]
    assert "agree with the reference's on" in reasons["wrong"]
    assert "probabilities are" in reasons["faint"]
    assert reasons["moody"].startswith("it crashed")
    assert not {"good", "alike", "torn"} & set(reasons)  # what does not import is not installed
    assert {(found.threads, found.workers) for found in verdict.table if found.engine == "alike"} == {(2, 1), (1, 2)}


def test_an_engine_that_hangs_is_out(plant: Plant) -> None:
    """It is given up after the limit."""
    plant("hang")
    found, masks = trial.try_engine(DEFAULT, EngineTrial("hang", 1, 1), limit_s=1)
    assert found.why_not == "it did not answer within 1 s" and masks is None


def test_an_engine_over_the_memory_budget_is_out(plant: Plant) -> None:
    """However fast: half of the free memory is all that an engine may take."""
    plant("good", "alike")
    verdict = choose.measure_engines(DEFAULT, SHA256, free=2_000_000)
    assert set(find_reasons(verdict)) == {"good", "alike"}
    assert "more than half of the free memory, 1 MB" in find_reasons(verdict)["good"]
    assert (verdict.engine, verdict.threads, verdict.workers) == ("good", 2, 1)


def test_the_first_engine_that_fails_leaves_no_reference(plant: Plant) -> None:
    """Without masks to compare with no engine passes, and the run reports the error itself."""
    plant("nan", "good")
    verdict = choose.measure_engines(DEFAULT, SHA256)
    assert verdict.engine == "nan" and len(verdict.table) == 1
    assert verdict.why is not None and "not finite" in verdict.why


def test_workers_measure_at_the_same_time(plant: Plant) -> None:
    """Two workers are two processes: what they reach is added up, and so is their memory."""
    plant("good")
    (one, _), (two, masks) = (trial.try_engine(DEFAULT, EngineTrial("good", 1, count)) for count in (1, 2))
    assert not one.why_not and not two.why_not and masks is not None
    assert two.peak_rss_bytes > 1.5 * one.peak_rss_bytes
    assert two.images_per_second > 0


SLOW, QUICK = EngineTrial("a", 2, 1, 10.0, 100, 1.0), EngineTrial("b", 1, 2, 12.0, 100, 1.0)


def test_one_engine_takes_as_many_workers_as_are_faster() -> None:
    """Its masks are the same with any: the 10 % that another engine must be faster by are not needed."""
    assert choose_fastest([SLOW, replace(SLOW, threads=1, workers=2, images_per_second=10.1)], None).workers == 2
    assert choose_fastest([SLOW, replace(SLOW, threads=1, workers=2, images_per_second=9.9)], None).workers == 1


@pytest.mark.parametrize(
    ("second", "budget", "winner"),
    [
        (QUICK, None, "b"),
        (QUICK, 100, "b"),
        (replace(QUICK, images_per_second=10.9), None, "a"),  # within the noise
        (replace(QUICK, peak_rss_bytes=101), 100, "a"),
        (replace(QUICK, why_not="it is wrong"), None, "a"),
    ],
)
def test_the_fastest_that_is_right_and_fits_wins(second: EngineTrial, budget: int | None, winner: str) -> None:
    """Clearly faster, within the budget, and not out."""
    verdict = choose_fastest([SLOW, second], budget)
    assert verdict.engine == winner
    assert (verdict.threads, verdict.workers) == ((2, 1) if winner == "a" else (1, 2))
    assert verdict.why


def test_a_verdict_is_kept_for_this_model_and_machine(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing is measured; another model, machine or version is measured anew."""
    plant("good", "alike")
    verdict = choose.measure_engines(DEFAULT, SHA256)
    assert engine_verdict.read_verdict(SHA256) == verdict
    monkeypatch.setattr(choose, "try_engine", None)
    assert choose.choose(DEFAULT, SHA256, 10_000) == verdict
    assert engine_verdict.read_verdict("0" * 64) is None
    monkeypatch.setattr(engine_verdict, "find_version", lambda name: "99")
    assert engine_verdict.read_verdict(SHA256) is None
    monkeypatch.undo()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"engine": "good"}', "null", "\0", '{"table": 7}'])
def test_a_damaged_verdict_is_none(plant: Plant, cache: Path, text: str) -> None:
    """What cannot be read is measured anew, and so is one that names an engine or a number that cannot be."""
    plant("good")
    engine_verdict.keep_verdict(SHA256, EngineVerdict("good", 1, 2, "why"))
    (kept,) = (cache / "engines").iterdir()
    kept.write_text(text)
    assert engine_verdict.read_verdict(SHA256) is None
    for change in ({"engine": "gone"}, {"threads": 0}, {"workers": "2"}, {"workers": 10**9}):
        kept.write_text(json.dumps({**asdict(EngineVerdict("good", 1, 2, "why")), **change}))
        assert engine_verdict.read_verdict(SHA256) is None


def test_few_images_do_not_wait(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a hundred images nothing is measured, nor with one engine on one core; from there on, once."""
    plant("good", "alike")
    monkeypatch.setattr(choose, "try_engine", None)
    verdict = choose.choose(DEFAULT, SHA256, choose.MIN_IMAGES - 1)
    assert (verdict.engine, verdict.threads, verdict.workers, verdict.table) == ("auto", 2, 1, ())
    with pytest.raises(TypeError):
        choose.choose(DEFAULT, SHA256, choose.MIN_IMAGES)
    plant("good")
    for module in (choose, engine_verdict):
        monkeypatch.setattr(module, "count_cores", lambda: 1)
    assert choose.choose(DEFAULT, SHA256, choose.MIN_IMAGES).threads == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"threads": 3}, (3, 1)), ({"workers": 2}, (1, 2)), ({"threads": 3, "workers": 4}, (3, 4)), ({}, (7, 5))],
)
def test_what_is_given_is_kept(plant: Plant, given: dict[str, int], expected: tuple[int, int]) -> None:
    """Threads and workers of one's own stand; the cores are shared out among workers without threads."""
    plant("good")
    engine_verdict.keep_verdict(SHA256, EngineVerdict("good", 7, 5, "kept"))
    verdict = choose.choose(DEFAULT, SHA256, 5, **given)  # type: ignore[arg-type]
    assert (verdict.threads, verdict.workers) == expected


def test_few_images_have_few_workers(plant: Plant) -> None:
    """No process is started for an image that is not there; the cores go to those that are."""
    plant("good")
    engine_verdict.keep_verdict(SHA256, EngineVerdict("good", 1, 2, "kept"))
    found = [choose.choose(DEFAULT, SHA256, count) for count in (1, 2, 3, 0)]  # 0: a service, which waits for more
    assert [(verdict.threads, verdict.workers) for verdict in found] == [(2, 1), (1, 2), (1, 2), (1, 2)]
    assert choose.choose(DEFAULT, SHA256, 1, engine="alike").why is None


def test_the_next_best_stands_in() -> None:
    """An engine that was chosen and fails at load gives way to the next fastest that passed, with the reason."""
    table = (SLOW, QUICK, EngineTrial("c", 1, 1, 11.0), EngineTrial("d", 1, 1, 50.0, why_not="wrong"))

    def load(name: str, threads: int) -> str:
        if name in ("b", "c"):
            raise EngineError(f"engine {name}", "the driver is gone", "bring it back")
        return name

    loaded, verdict = load_best(EngineVerdict("b", 1, 2, "the fastest", table), load)
    assert loaded == verdict.engine == "a"
    assert verdict.why == "the next best, since c failed: engine c: the driver is gone; bring it back"
    with pytest.raises(EngineError):  # another does not replace one that was named
        load_best(EngineVerdict("b", 1, 2, None, table), load)


def test_the_drawn_images_have_something_to_find() -> None:
    """On the embedded model at least one has a lesion and one has none: empty masks would agree with anything."""
    session = Session.load(threads=1)
    found = [session.segment(image).mask.any() for image in trial_main.draw_images(session.contract)]
    assert any(found) and not all(found)


def read_engine(out: Path) -> dict[str, object]:
    facts = json.loads((out / "run.json").read_text())
    return {**facts["engine"], "threads": facts["threads"], "workers": facts["workers"]}


def test_a_run_takes_the_kept_verdict_and_survives_its_engine(
    plant: Plant, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """run.json holds the engine given and the one used, why, and the threads and workers."""
    plant("good", "later")
    why = "the fastest here"
    engine_verdict.keep_verdict(
        SHA256, EngineVerdict("later", 1, 2, why, (EngineTrial("good", 2, 1, 5.0), EngineTrial("later", 1, 2, 9.0)))
    )
    assert main([str(folder), "-o", str(tmp_path / "out"), "--quiet", "--no-isolation"]) == 0
    expected = {"asked": "auto", "used": "fake", "reason": why, "threads": 1, "workers": 2}
    assert read_engine(tmp_path / "out") == expected
    assert Session.load().engine.name == "fake"
    monkeypatch.setenv("DRIVER_GONE", "1")
    assert main([str(folder), "-o", str(tmp_path / "again"), "--quiet", "--no-isolation"]) == 0
    reason = read_engine(tmp_path / "again")["reason"]
    assert reason == "the next best, since later failed: engine later: the driver is gone; bring it back"
    assert Session.load().engine.name == "fake"


def test_retune_measures_and_info_shows(
    plant: Plant, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    """--info reports that nothing was measured, --retune measures, --info then shows the table; a run can --retune."""
    plant("good", "crash")
    assert main(["--info"]) == 0
    assert "not measured here; edge-seg --retune" in capsys.readouterr().out
    assert main(["--retune"]) == 0
    shown = capsys.readouterr().out
    assert "tried      good 1 x 2 threads" in shown and "crash 1 x 2 threads: out: it crashed" in shown
    assert main(["--info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"]["engine"] == "good"
    (kept,) = (cache / "engines").iterdir()
    kept.unlink()
    assert main([str(folder), "-o", str(tmp_path / "out"), "--retune", "--quiet", "--no-isolation"]) == 0
    assert kept.exists()


def test_without_a_cache_a_verdict_is_made_and_not_kept(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home measures each time, and no run fails for it."""
    plant("good")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert choose.measure_engines(DEFAULT, SHA256).engine == "good"
    assert engine_verdict.read_verdict(SHA256) is None


def test_the_working_directory_is_not_searched_for_modules(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A json.py among the images is data."""
    plant("good")
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "json.py").write_text("import os; os.abort()")
    monkeypatch.chdir(tmp_path / "cwd")
    found, masks = trial.try_engine(DEFAULT, EngineTrial("good", 1, 1))
    assert found.why_not == "" and masks is not None


def test_volumes_are_drawn_for_models_of_volumes() -> None:
    """With as many slices as the contract's depth."""
    from fakes import make_contract

    images: list[npt.NDArray[np.uint8]] = trial_main.draw_images(make_contract(depth=5))
    assert {image.shape[0] for image in images} == {5}


def test_the_free_memory_is_told() -> None:
    """In bytes, where it is known; the processor's name and features are text."""
    free = machine.read_free_memory()
    assert free is None or 0 < free < 1 << 50
    assert machine.identify_cpu()
    assert all(" " not in flag for flag in machine.find_features(machine.read_cores()))
