"""The models of the field: each becomes one static file that answers as Keras does, and runs in the device's session.

Conversion happens in this process and without measuring, so that many nets are affordable; test_convert_models has the
whole way. The full-size families are measured by tools/families.py.
"""

from __future__ import annotations

import csv
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zoo
import zoo_keras2
import zoo_layers
import zoo_odd
from messages import make_request

from convert import convert_model
from convert.__main__ import main as edge_convert
from convert.flatbuffer.edit import name_apart, unpack
from convert.flatbuffer.upsampling import choose_forms
from convert.quantize.recipes import RECIPES
from convert.quantize.weights import plan_weights, quantize_weights
from convert.search.race import rewrite_forms
from convert.source.answers import draw_images
from convert.source.load.keras_model import load_model
from convert.source.process import SourceFacts
from convert.source.process_main import convert_here
from convert.source.trace.input_scaling import choose_scaling
from convert.source.trace.traced_graph import trace_graph
from convert.stamp.contract_file import Settings, build_contract, read_settings
from convert.verify.audit import audit_model
from edge_runtime.cli import main as edge_seg
from edge_runtime.contract.tail import stamp_contract
from edge_runtime.errors import ModelError
from edge_runtime.inference.session import Result, Session

FLOAT, QUANTIZED = 1e-3, 0.05  # largest difference of a float file from Keras; mean difference of a quantized one


@dataclass(frozen=True)
class Frozen:
    """A model after its conversion in this process."""

    facts: SourceFacts
    work: Path
    session: Session  # of the float32 file
    quantized: Session  # of the dynamic-range file for tflite-runtime
    findings: tuple[str, ...]  # of the latter's audit

    def reference(self, what: str, index: int) -> Any:
        with np.load(self.work / "checks.npz") as arrays:
            return arrays[f"{what}{index}"]


def freeze(path: Path, work: Path, settings: Settings | None = None, **options: Any) -> Frozen:
    """Convert a model file to float32 and to dynamic range for tflite-runtime, both stamped."""
    settings = settings or Settings()
    given = {key: getattr(settings, key) for key in ("activation", "scale", "offset", "mask")}
    classes = settings.classes.get("output") if isinstance(settings.classes, dict) else settings.classes
    given |= {"labelled": settings.labels is not None, "classes": None if isinstance(classes, list) else classes}
    work.mkdir()
    facts = convert_here(work, make_request(path, **given | options))
    original = name_apart((work / "fp32.tflite").read_bytes())
    graph, added = rewrite_forms(original, choose_forms(unpack(original), "depth-to-space", 10**9))
    small = quantize_weights(graph, plan_weights(graph, "int8"), per_tensor_dense=True)
    (work / "drq.tflite").write_bytes(small)
    recipe, weights = RECIPES["drq"], sum(added.values())
    audit = audit_model(work / "drq.tflite", len(original), facts, recipe, "tflite-runtime", added_weights=weights)
    contract = replace(build_contract(facts, settings, path, "0" * 64), recipe="drq")
    sessions = []
    for name, data in (("fp32", original), ("drq", small)):
        stamped = work / f"{name}.stamped.tflite"
        stamped.write_bytes(stamp_contract(data, contract))
        sessions.append(Session.load(stamped, "auto", 2))
    return Frozen(facts, work, sessions[0], sessions[1], tuple(finding.name for finding in audit.findings))


def save(build: Callable[[], Any], folder: Path, suffix: str = ".keras") -> Path:
    path = folder / f"net{suffix}"
    if suffix == ".h5":
        zoo_keras2.write_keras2(build(), path)
    else:
        build().save(path)
    return path


def agree(frozen: Frozen) -> None:
    """Hold both files to Keras on the drawn images, through the session, and the audit to silence."""
    sides = frozen.facts.input_shape[1:]
    depth = sides[0] if len(sides) == 4 else None
    softmax = frozen.facts.activation == "softmax"
    off = []
    for i, image in enumerate(draw_images(*sides[-3:], depth)):
        expected = frozen.reference("output", i)[0]
        wanted = 1 - expected[..., 0] if softmax else expected.max(axis=-1)
        result = frozen.session.segment(image)
        if result.probability.shape == wanted.shape:  # a mask of the input's own size: nothing was resized
            assert np.abs(result.probability - wanted).max() < FLOAT, i
        off.append(np.abs(frozen.quantized.engine.infer(frozen.reference("input", i))[0] - expected).mean())
        check_class(frozen, i, result)
    assert np.mean(off) < QUANTIZED
    assert not set(frozen.findings) - {"float-weights", "size"}  # nets this small may weigh anything


def check_class(frozen: Frozen, index: int, result: Result) -> None:
    if frozen.facts.classes is None:
        assert result.class_name is None
        return
    said = frozen.reference("classes", index)[0]
    names = frozen.session.contract.classes.labels  # type: ignore[union-attr]
    assert result.class_name == names[int(said.argmax())]
    assert result.class_probability == pytest.approx(said.max(), abs=FLOAT)


@pytest.mark.parametrize("name", [name for name, family in zoo.FAMILIES.items() if family.small])
def test_a_family_answers_as_keras_does(tmp_path: Path, name: str) -> None:
    """The float file equals Keras, the quantized one is close, runs in tflite-runtime, and the session runs both."""
    family = zoo.FAMILIES[name]
    assert family.small
    path = save(family.small, tmp_path, family.suffix)
    (tmp_path / "net.contract.toml").write_text(family.contract)
    settings = read_settings(tmp_path / "net.contract.toml")
    agree(freeze(path, tmp_path / "work", settings))


@pytest.mark.parametrize("name", zoo_layers.FEATURES)
def test_layers_and_policies_answer_as_keras_do(tmp_path: Path, name: str) -> None:
    """So do nets of many kinds of layers, of operations, nested ones, and those of other types than float32."""
    agree(freeze(save(zoo_layers.FEATURES[name], tmp_path), tmp_path / "work"))


def test_the_whole_way_of_a_mask_and_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the model file to results.csv: the command's own conversion, two outputs, the class in its columns."""
    path = save(lambda: zoo.build_two_headed((64, 64), (8, 16), kinds=3), tmp_path)
    (tmp_path / "net.contract.toml").write_text('classes = ["none", "glioma", "cyst"]\n')
    done = convert_model(path, keep_float=0, upsample="keep", allow=["slower"])
    assert done.contract.classes
    assert done.contract.classes.labels == ("none", "glioma", "cyst")
    assert any("'head_mask' is the mask" in note for note in done.report["notes"])
    (tmp_path / "in").mkdir()
    for i, image in enumerate(draw_images(64, 64, 1)[2:4]):
        write_png(tmp_path / "in" / f"{i}.png", image)
    assert edge_seg([str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(done.path)]) == 0
    table = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    for row in rows:
        assert row["class"] in ("none", "glioma", "cyst")
        assert 1 / 3 <= float(row["class_probability"]) <= 1
        assert row["class"] in table
    assert "class_probability" in (tmp_path / "out" / "index.html").read_text()


def test_the_whole_way_of_a_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A 3-D net converts at the size asked for; the session takes its volumes, the folder command says who does."""
    path = save(lambda: zoo.build_volume_unet((None, None, None), (8, 16)), tmp_path)
    for size, words in ((None, "depth is open"), ((16, 16), "--depth DEPTH")):
        with pytest.raises(ModelError, match=words):
            freeze(path, tmp_path / f"not-{size}", input_size=size)
    out = tmp_path / "net.tflite"
    arguments = ["--input-size", "16", "32", "--depth", "4", "--recipe", "fp32", "--allow", "slower", "-o", str(out)]
    assert edge_convert([*arguments, str(path)]) == 0
    result = Session.load(out).segment(np.zeros((4, 20, 24), np.uint8))
    assert result.mask.shape == result.probability.shape == (4, 20, 24)
    (tmp_path / "in").mkdir()
    write_png(tmp_path / "in" / "a.png", np.zeros((20, 24), np.uint8))
    assert edge_seg([str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(out)]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "volumes of 4 slices" in line
    assert not (tmp_path / "out").exists()


def write_png(path: Path, image: Any) -> None:
    done, data = cv2.imencode(".png", image)
    assert done
    path.write_bytes(data.tobytes())


@pytest.mark.parametrize("name", zoo_odd.REFUSED)
def test_what_cannot_be_converted_says_why(tmp_path: Path, name: str) -> None:
    """One line that names the layer, the outputs or the shape, and what to do."""
    build, words = zoo_odd.REFUSED[name]
    path = save(build, tmp_path)
    with pytest.raises(ModelError) as caught:
        freeze(path, tmp_path / "work")
    line = str(caught.value)
    assert words in line, line
    assert line.startswith(f"{path}: ")
    assert caught.value.fix
    assert len(line) < 600


def test_a_word_in_the_contract_file_decides(tmp_path: Path) -> None:
    """mask and classes name outputs, false leaves the classes out, activation makes logits a mask; typos are named."""
    path = save(lambda: zoo_odd.build_heads(["sigmoid", "linear"], kinds=2), tmp_path)
    chosen = {"mask": "head_1", "activation": "sigmoid", "classes": {"output": "kind_1"}}
    frozen = freeze(path, tmp_path / "work", Settings(**chosen))  # type: ignore[arg-type]
    agree(frozen)
    notes = " ".join(frozen.facts.notes)
    assert "'head_1' is the mask" in notes
    assert "left out: 'head_0' (1, 16, 16, 1), 'kind_0' (1, 3)" in notes
    assert "sigmoid appended" in notes
    for change, words in (
        ({"mask": "head_2"}, "no output 'head_2' to be the mask; did you mean 'head_1'?"),
        ({"mask": "kind_0"}, "none of its outputs is a mask"),
        ({"classes": {"output": "kind_2"}}, "'kind_2' to be the classes; did you mean 'kind_1'?"),
        ({"activation": "softmax"}, "a softmax over one channel"),
    ):
        with pytest.raises(ModelError) as caught:
            freeze(path, tmp_path / words[:9], Settings(**{**chosen, **change}))  # type: ignore[arg-type]
        assert words in str(caught.value)
    alone = freeze(path, tmp_path / "alone", Settings(mask="head_0", classes=False))
    assert alone.facts.classes is None
    assert alone.session.engine.class_shape is None


@pytest.mark.parametrize(("name", "scale", "words"), zoo_odd.SCALES)
def test_the_models_own_scaling_is_found(tmp_path: Path, name: str, scale: float, words: str) -> None:
    """Whatever a graph begins with, the contract's scale is for what it eats: 0...255 or 0...1."""
    (tmp_path / "work").mkdir()
    path = save(lambda: zoo_odd.build_scaled(name), tmp_path)
    loaded = load_model(path, tmp_path / "work")
    found = choose_scaling(make_request(path), loaded, trace_graph(loaded))
    assert (found.scale, found.offset, found.conflict) == (pytest.approx(scale), 0.0, "")
    assert found.source == ("assumed" if name == "nothing" else "graph")
    assert re.search(words, found.why), found.why


def test_a_saved_model_with_two_outputs_and_its_own_scaling(tmp_path: Path) -> None:
    """A SavedModel folder has no layers left; outputs, activation and scaling are read from its graph."""
    build = zoo.build_two_headed((32, 32), (8, 16), first=zoo_odd.start_raw)
    build.export(tmp_path / "saved", verbose=False)
    frozen = freeze(tmp_path / "saved", tmp_path / "work")
    agree(frozen)
    assert frozen.facts.classes is not None and frozen.facts.classes.shape == (1, 4)
    assert frozen.facts.scale == 1.0


def test_a_subclassed_model_of_a_trusted_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered model without a functional graph, its outputs in a dictionary, converts once it was called."""
    (tmp_path / "their_nets.py").write_text(zoo_odd.SUBCLASSED)
    monkeypatch.syspath_prepend(tmp_path)
    net = importlib.import_module("their_nets").Net()
    net.save(tmp_path / "never-called.keras")
    with pytest.raises(ModelError, match=r"shape is unknown.*call the model once"):
        freeze(tmp_path / "never-called.keras", tmp_path / "no", trust="their_nets")
    net(np.zeros((1, 32, 32, 1), np.float32))
    net.save(tmp_path / "net.keras")
    frozen = freeze(tmp_path / "net.keras", tmp_path / "work", trust="their_nets")
    agree(frozen)
    assert frozen.facts.classes is not None and frozen.facts.classes.name == "kind"


@pytest.mark.parametrize("name", zoo_odd.FLAT)
def test_a_map_written_as_a_list_of_pixels_is_a_map(tmp_path: Path, name: str) -> None:
    """(1, h w, K), (1, h, w) and (1, h w) are read as (1, h, w, K), where only one size fits; the report says so."""
    frozen = freeze(save(zoo_odd.FLAT[name], tmp_path), tmp_path / "work")
    agree(frozen)
    assert frozen.facts.output_shape[:3] in ((1, 16, 24), (1, 32, 48))
    assert any("is read as a map" in note for note in frozen.facts.notes)


def test_an_answer_by_chance_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that draws random numbers in inference is named: no two outputs would agree."""
    (tmp_path / "noisy_nets.py").write_text(zoo_odd.NOISY)
    monkeypatch.syspath_prepend(tmp_path)
    path = save(importlib.import_module("noisy_nets").build, tmp_path)
    with pytest.raises(ModelError, match="layer 'my_noise' draws random numbers"):
        freeze(path, tmp_path / "work", trust="noisy_nets")
