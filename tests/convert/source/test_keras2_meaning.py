"""Files of tf-keras compute what tf-keras computed: each layer, each weight, and the reference itself.

tf-keras makes the files and their outputs in a process of its own (tf_keras_cases.py).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras_cases
from freezing import freeze, run
from messages import make_facts, make_request

pytest.importorskip("tensorflow")
pytest.importorskip("tf_keras")

from convert import convert_model
from convert.source import reference, reference_main
from convert.source.answers import FOLDER, name_output, read_drawn_outputs
from convert.source.load.keras_model import load_model
from convert.source.process import run_source_process
from convert.source.reference import TOLERANCE, ReferenceQuestion, ask_reference, measure_difference
from edge_runtime.errors import ModelError, UnsafeModelError

SUFFIXES = ("h5", "keras")
# The rows of keras2/meaning.py's table; each is also among CASES.
CHANGED = [name for name in tf_keras_cases.CASES if "hard" in name or name in ("conv_lstm", "conv_lstm_both")]
CHANGED += ["random_crop", "softmax_axes", "layer_normalization_axes", "normalization_scalar"]
TFLITE = ["activation_hard_sigmoid", "lstm_hard", "gru_hard", "random_crop", "softmax_axes", "normalization_scalar"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tf_keras")
    subprocess.run([sys.executable, tf_keras_cases.__file__, folder], check=True, capture_output=True)
    return folder


def read_answer(files: Path, name: str) -> tuple[Any, Any]:
    """Return a case's input and tf-keras' output."""
    with np.load(files / f"{name}.npz", allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


def compare(files: Path, name: str, path: Path, work: Path) -> float:
    """Return how far the loaded model's output is from tf-keras'."""
    x, y = read_answer(files, name)
    return measure_difference(np.asarray(load_model(path, work).call(x)[0]), y)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", [*tf_keras_cases.CASES, "hard_inside"])
def test_every_layer_computes_what_it_did(files: Path, tmp_path: Path, name: str, suffix: str) -> None:
    """Arguments, defaults and activations: whatever they mean today, the numbers are tf-keras'."""
    assert compare(files, name, files / f"{name}.{suffix}", tmp_path) < 5e-6


@pytest.mark.parametrize("name", CHANGED)
def test_what_changed_would_be_seen(files: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what keeps the meaning, each of these is another function, or none: the test above is no formality."""
    from convert.source.load import keras_model
    from convert.source.load.keras2 import config as keras2

    monkeypatch.setattr(keras_model, "restore_functions", lambda layers: [])
    monkeypatch.setattr(keras_model, "keep_meaning", lambda path, config: config)
    monkeypatch.setattr(keras2, "evade_loader", lambda node: node)
    try:
        found = compare(files, name, files / f"{name}.h5", tmp_path)
    except ModelError:
        return
    assert found > 10 * TOLERANCE


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", tf_keras_cases.REFUSED)
def test_what_has_no_equal_is_refused(files: Path, tmp_path: Path, name: str, suffix: str) -> None:
    """The layer and what it does are named."""
    with pytest.raises(ModelError, match=rf"layer 'resizing\w*' resizes by '{name.split('_')[1]}'"):
        load_model(files / f"{name}.{suffix}", tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", tf_keras_cases.NESTED)
def test_weights_stay_in_their_layers(files: Path, tmp_path: Path, name: str, suffix: str) -> None:
    """Nested models, frozen in whole or in part before they were saved: every value is where tf-keras had it."""
    assert compare(files, name, files / f"{name}.{suffix}", tmp_path) < 5e-6


@pytest.mark.parametrize("name", [*TFLITE, *tf_keras_cases.NESTED, "hard_inside"])
def test_the_flatbuffer_is_tf_keras_too(files: Path, tmp_path: Path, name: str) -> None:
    """LiteRT's own output of the converted graph against tf-keras': no loader is on both sides."""
    x, y = read_answer(files, name)
    assert measure_difference(run(freeze(load_model(files / f"{name}.h5", tmp_path).root), x), y) < 1e-5


def rename_weights(path: Path, layer: str, rename: Callable[[str], str]) -> Path:
    """Rename the datasets of a layer's group in an .h5 file, in their order."""
    import h5py

    with h5py.File(path, "r+", locking=False) as file:
        group = file["model_weights"][layer]
        names = [str(name) for name in group.attrs["weight_names"]]
        values = {name: group[name][()] for name in names}
        for key in list(group):
            del group[key]
        for name in names:
            group[rename(name)] = values[name]
        group.attrs["weight_names"] = [rename(name) for name in names]
    return path


def test_numbers_from_a_graph_are_no_part_of_a_name(files: Path, tmp_path: Path) -> None:
    """TensorFlow 1 numbered the scopes of a model built twice: back_c0_1 holds the weights of back_c0."""
    name = "nested_last_unfrozen"
    path = Path(shutil.copy(files / f"{name}.h5", tmp_path))
    rename_weights(path, "back", lambda one: one.replace("/", "_1/", 1))
    assert compare(files, name, path, tmp_path) < 5e-6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "back_c1/kernel",
            "back_cX/kernel",
            r"no weights in its file are those of 'back/back_c1/kernel' \(3, 3, 3, 3\)",
        ),
        ("back_b1/gamma", "back_b1/gimme", r"no weights in its file are those of 'back/back_b1/gamma' \(3,\)"),
    ],
)
def test_a_variable_without_a_name_is_named(files: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    """Nothing is guessed by position or shape."""
    path = Path(shutil.copy(files / "nested_frozen.h5", tmp_path))
    rename_weights(path, "back", lambda one: one.replace(old, new))
    with pytest.raises(ModelError, match=message):
        load_model(path, tmp_path)


def test_a_dataset_too_many_is_named(files: Path, tmp_path: Path) -> None:
    """What the file has and the model has not is no detail: something of the model was not understood."""
    import h5py

    path = Path(shutil.copy(files / "nested_frozen.h5", tmp_path))
    with h5py.File(path, "r+", locking=False) as file:
        group = file["model_weights"]["head"]
        group["head/gain:0"] = np.ones(1, np.float32)
        group.attrs["weight_names"] = [*group.attrs["weight_names"], "head/gain:0"]
    with pytest.raises(ModelError, match="its file has weights 'head/gain', which the model has not"):
        load_model(path, tmp_path)


def test_h5_files_of_keras_3_are_read_by_name_too(tmp_path: Path) -> None:
    """Keras 3's own .h5 files, whose names are paths without numbers."""
    import keras

    model = tf_keras_cases.NESTED["nested_last_unfrozen_alike"](keras)
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(0, 0.5, one.shape) for one in model.get_weights()])
    model.save(tmp_path / "own.h5")
    x = rng.random((1, 12, 12, 3), np.float32)
    found = load_model(tmp_path / "own.h5", tmp_path)
    assert measure_difference(np.asarray(found.call(x)[0]), np.asarray(model(x))) < 5e-6
    assert not found.keras2


@pytest.mark.parametrize("name", ["nested_last_unfrozen_alike.h5", "hard_inside.keras"])
def test_the_reference_is_tf_keras(files: Path, tmp_path: Path, name: str) -> None:
    """A whole conversion: the report names tf-keras, and the file on LiteRT gives what tf-keras gave."""
    shutil.copy(files / name, tmp_path)
    done = convert_model(tmp_path / name, recipe="fp32", markdown=True, allow=("slower",))
    assert done.report["reference"].startswith("tf-keras 2.")
    assert any("gives the same outputs as Keras 3" in note for note in done.report["notes"])
    assert "the outputs of tf-keras 2" in done.table
    assert "the outputs of tf-keras 2" in done.report_path.with_suffix(".md").read_text()
    x, y = read_answer(files, name.split(".")[0])
    assert measure_difference(run(done.path.read_bytes(), x), y) < 1e-5


def test_the_outputs_are_those_of_tf_keras(files: Path, tmp_path: Path) -> None:
    """Of a model with a list of pixels, classes, and outputs by name; for drawn images and those to check on."""
    import cv2

    image = np.random.default_rng(5).integers(0, 256, (12, 12, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    request = make_request(files / "outputs.h5", images=(str(tmp_path / "a.png"),), labelled=True)
    facts = run_source_process(tmp_path, request)
    assert facts.reference.startswith("Keras 3")
    ours, ours_image = read_drawn_outputs(tmp_path), np.load(name_output(tmp_path / FOLDER, 0))
    asked = ask_reference(tmp_path, request, facts)
    assert asked.reference.startswith("tf-keras 2")
    theirs = read_drawn_outputs(tmp_path)
    assert theirs.masks[3].shape == (1, 12, 12, 2)
    assert theirs.classes[3].shape == (1, 3)
    for a, b in zip((*ours.masks, *ours.classes), (*theirs.masks, *theirs.classes), strict=True):
        assert 0 <= measure_difference(a, b) < 5e-6
    assert measure_difference(ours_image, np.load(name_output(tmp_path / FOLDER, 0))) < 5e-6


@pytest.mark.parametrize("name", tf_keras_cases.KINDS)
def test_the_reference_computes_in_float32(files: Path, tmp_path: Path, name: str) -> None:
    """Of a model of 16 bits, as its conversion does; and it takes the bytes that the model takes."""
    request = make_request(files / f"{name}.h5")
    facts = ask_reference(tmp_path, request, run_source_process(tmp_path, request))
    assert facts.reference.startswith("tf-keras 2")
    assert facts.input_dtype == ("uint8" if name == "bytes" else "float32")


def test_disagreement_is_an_error_and_nothing_is_written(files: Path, tmp_path: Path) -> None:
    """Names and order that contradict: tf-keras goes by the order, so both cannot be right."""
    path = Path(shutil.copy(files / "nested_frozen.h5", tmp_path))
    swap = {"back_c1": "back_c2", "back_c2": "back_c1"}
    rename_weights(path, "back", lambda name: "/".join(swap.get(part, part) for part in name.split("/")))
    with pytest.raises(ModelError, match=r"Keras 3\S+ makes another function of it than tf-keras 2\S+: outputs differ"):
        convert_model(path, recipe="fp32")
    assert [one.name for one in tmp_path.iterdir()] == ["nested_frozen.h5"]


GATE = """
{imports}
@keras.utils.register_keras_serializable("net")
class Gate(keras.layers.Layer):
    def call(self, x):
        return 1 - x
"""
MAKE = """
import numpy, tf_keras as keras
{gate}
image = keras.Input((8, 8, 1))
x = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(image)
keras.Model(image, Gate()(x)).save("gated.h5")
"""


@pytest.mark.parametrize(
    ("imports", "reference", "note"),
    [
        ("from tensorflow import keras", "tf-keras 2", "gives the same outputs"),
        ("import keras", "Keras 3", "gates imports Keras 3, so its classes are none of tf-keras"),
    ],
)
def test_trusted_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imports: str, reference: str, note: str
) -> None:
    """A module of tf.keras is asked in tf-keras; one of Keras 3 alone cannot be, and the report says so."""
    make = MAKE.format(gate=GATE.format(imports=""))
    subprocess.run([sys.executable, "-c", make], check=True, capture_output=True, cwd=tmp_path)
    modules, work = tmp_path / "modules", tmp_path / "work"
    for folder in (modules, work):
        folder.mkdir()
    (modules / "gates.py").write_text(GATE.format(imports=imports))
    monkeypatch.syspath_prepend(str(modules))
    request = make_request(tmp_path / "gated.h5", trust="gates")
    facts = ask_reference(work, request, run_source_process(work, request))
    assert facts.reference.startswith(reference)
    assert note in facts.notes[-1]


def test_the_reference_reads_nothing_that_could_run_code(files: Path, tmp_path: Path) -> None:
    """Also alone, without the search before it, tf-keras is not given a file with bytecode."""
    import h5py

    path = Path(shutil.copy(files / "bytes.h5", tmp_path))
    with h5py.File(path, "r+", locking=False) as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1] |= {"class_name": "Lambda"}
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(UnsafeModelError, match="holds Python bytecode"):
        reference_main.load(path, tmp_path, "", {})


def test_without_tf_keras_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not installed: Keras 3 is the reference, in plain words. So it is where the process dies."""
    question = ReferenceQuestion(("mask",), 0, False, None, "", "Keras 3.9.0")
    facts = make_facts(reference="Keras 3.9.0")
    monkeypatch.setattr(reference_main, "find_spec", lambda name: None)
    answered = reference_main.answer(tmp_path, make_request(tmp_path / "m.h5"), facts, question)
    reference.write_question(tmp_path, question)
    (tmp_path / reference.ANSWER).write_text(json.dumps(vars(answered)))
    (tmp_path / "reference_noise.txt").write_text("")
    monkeypatch.setattr(reference, "run_child", lambda *_: "")
    found = ask_reference(tmp_path, make_request(tmp_path / "m.h5"), facts)
    note = "a file of Keras 2 whose reference is Keras 3.9.0, which loaded it: "
    assert found.notes == (f"{note}tf-keras is not installed (pip install '.[convert]')",)
    assert found.reference == "Keras 3.9.0"
    (tmp_path / reference.ANSWER).unlink()
    monkeypatch.setattr(reference, "run_child", lambda *_: "it ended with signal 9")
    assert ask_reference(tmp_path, make_request(tmp_path / "m.h5"), facts).notes == (f"{note}it ended with signal 9",)


def test_no_other_reference_is_asked_for_a_file_of_keras_3(tmp_path: Path) -> None:
    """Without a question, the facts stay as they are."""
    facts = replace(make_facts(), reference="Keras 3.15.1")
    assert ask_reference(tmp_path, make_request(tmp_path / "m.keras"), facts) is facts


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.2),
        ([0.25, 0.5], [0.25, 0.25], 0.25),
        ([np.nan, 0.5], [np.nan, 0.5], 0.0),
        ([np.nan, 0.5], [0.5, 0.5], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
        ([np.inf], [np.inf], 0.0),
    ],
)
def test_difference(a: list[float], b: list[float], expected: float) -> None:
    """By the size of large outputs; what is no number has to be none in both."""
    assert measure_difference(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx(expected)
