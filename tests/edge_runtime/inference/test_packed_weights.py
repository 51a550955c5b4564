"""The packed weights of large models: mapped at the second start, never used when damaged, never blocking a run."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("ai_edge_litert.compiled_model")

from edge_runtime.contract.tail import split_tail
from edge_runtime.inference.engines import litert, packed_weights
from edge_runtime.inference.engines.compiled_model import CompiledEngine
from edge_runtime.inference.engines.registry import load_engine
from edge_runtime.inference.engines.tflite_interpreter import InterpreterEngine
from edge_runtime.models import DEFAULT


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_weights, "MIN_MODEL_BYTES", 0)


def infer(engine: Any) -> npt.NDArray[np.float32]:
    tensor = np.random.default_rng(3).random(engine.input_shape, np.float32)
    found: npt.NDArray[np.float32] = engine.infer(tensor)
    return found


@pytest.fixture(scope="module")
def expected() -> npt.NDArray[np.float32]:
    """The output of the Interpreter, which has no such cache."""
    return infer(InterpreterEngine("litert", "", 1, make_plain(), str(DEFAULT)))


def make_plain() -> Any:
    interpreter = litert.Interpreter(model_path=str(DEFAULT), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def test_a_second_start_maps_what_the_first_one_packed(
    cache: Path, expected: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both give the Interpreter's output; one file is kept, and nothing is packed again."""
    first = load_engine("litert", DEFAULT, 1)
    assert isinstance(first, CompiledEngine) and first.name == "litert"
    assert (infer(first) == expected).all()
    (kept,) = (cache / "weights").iterdir()
    monkeypatch.setattr(packed_weights, "pack_weights", None)
    assert (infer(load_engine("litert", DEFAULT, 1)) == expected).all()
    assert list((cache / "weights").iterdir()) == [kept]


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "another's"])
def test_damaged_weights_are_packed_again(cache: Path, expected: npt.NDArray[np.float32], damage: str) -> None:
    """A flipped byte would give other masks without an error, so damaged files are not used."""
    load_engine("litert", DEFAULT, 1)
    (kept,) = (cache / "weights").iterdir()
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 0x40
    kept.write_bytes({"flipped": data, "cut": data[:-100], "empty": b"", "another's": bytes(5000)}[damage])
    assert (infer(load_engine("litert", DEFAULT, 1)) == expected).all()
    (again,) = (cache / "weights").iterdir()
    assert packed_weights.hash_file(again) in again.name


def test_another_model_version_processor_or_thread_has_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the packed weights depend on is in the key."""
    other = tmp_path / "other.tflite"
    other.write_bytes(split_tail(DEFAULT.read_bytes())[0])
    keys = [packed_weights.make_key(path, n, release) for path, n, release in ((DEFAULT, 1, "2"), (DEFAULT, 2, "2"))]
    keys += [packed_weights.make_key(other, 1, "2"), packed_weights.make_key(DEFAULT, 1, "3")]
    monkeypatch.setattr("edge_runtime.system.machine.identify_cpu", lambda: "another")
    keys.append(packed_weights.make_key(DEFAULT, 1, "2"))
    assert len(set(keys)) == len(keys)


def test_without_a_cache_the_interpreter_runs(
    tmp_path: Path, expected: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the folder should be, or no home at all: the same masks."""
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    engine = load_engine("litert", DEFAULT, 1)
    assert not isinstance(engine, CompiledEngine)
    assert (infer(engine) == expected).all()


def test_a_full_disk_breaks_nothing(cache: Path, expected: npt.NDArray[np.float32]) -> None:
    """LiteRT aborts where it cannot write; that happens in a child, and what it began is removed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        engine = load_engine("litert", DEFAULT, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not isinstance(engine, CompiledEngine)
    assert (infer(engine) == expected).all()
    assert list((cache / "weights").iterdir()) == []


def test_a_disk_with_little_room_is_left_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is packed where little would be left free."""
    usage = shutil.disk_usage(cache.parents[1])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=packed_weights.MIN_FREE_BYTES))
    assert packed_weights.find_weights(DEFAULT, 1, "2") is None


def test_small_models_are_not_worth_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model leaves no cache behind."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    assert not isinstance(load_engine("litert", DEFAULT, 1), CompiledEngine)
    assert not cache.exists()


def test_a_compiled_model_that_fails_leaves_it_to_the_interpreter(
    cache: Path, expected: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises, the Interpreter runs the model."""
    monkeypatch.setattr("edge_runtime.inference.engines.compiled_model.find_output_indices", lambda *_: [][0])
    engine = load_engine("litert", DEFAULT, 1)
    assert not isinstance(engine, CompiledEngine)
    assert (infer(engine) == expected).all()


def test_old_weights_are_removed(cache: Path) -> None:
    """Of many models, the last few used are kept; unfinished ones go after a day."""
    folder = packed_weights.make_cache_folder("weights")
    for k in range(packed_weights.MAX_KEPT + 3):
        (folder / f"{k:016}-0").touch()
    (folder / "unfinished-now").mkdir()
    packed_weights.remove_old_entries(folder, packed_weights.MAX_KEPT)
    assert len([path for path in folder.iterdir() if path.is_file()]) == packed_weights.MAX_KEPT
    assert (folder / "unfinished-now").is_dir()
