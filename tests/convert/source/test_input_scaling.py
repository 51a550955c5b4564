"""Which values a model takes is proved by its graph, told, shown by masks, or assumed aloud; never guessed in silence.

What is compared are the author's own masks: his model called on his own values, outside the kit.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from messages import make_request

from convert import convert_model
from convert.conversion import make_contract_template
from convert.source.load.keras_model import load_model
from convert.source.trace.input_scaling import InputScaling, choose_scaling
from convert.source.trace.traced_graph import trace_graph
from convert.stamp.contract_file import KEYS, read_settings
from edge_runtime import Session
from edge_runtime.errors import AuditError
from evidence.scores import find_iou

Build = Callable[[], Any]
SIDE = 32


def build(start: Callable[[Any], Any], channels: int = 1) -> Any:
    """Return a net on what `start` makes of its input."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    image = keras.Input((SIDE, SIDE, channels))
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="first")(start(image))
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x))


def list_proofs() -> dict[str, tuple[Callable[[Any], Any], tuple[float, float]]]:
    """Return preprocessings by name, each with the values that it is made for."""
    import keras
    from keras import layers

    rescale = layers.Rescaling
    inner = keras.Sequential([keras.Input((SIDE, SIDE, 1)), rescale(1 / 255), layers.Conv2D(4, 3, padding="same")])
    normal = layers.Normalization(axis=None)
    normal.adapt(np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 1)).astype(np.float32))
    eight, one = (0.0, 255.0), (0.0, 1.0)
    return {
        "second-user": (lambda x: layers.Concatenate()([layers.Conv2D(4, 3, padding="same")(rescale(1 / 255)(x)), x]),
                        eight),
        "resizing": (lambda x: rescale(1 / 255)(layers.Resizing(16, 16)(x)), eight),
        "padding": (lambda x: rescale(1 / 255)(layers.ZeroPadding2D(2)(x)), eight),
        "cropping": (lambda x: rescale(1 / 255)(layers.Cropping2D(2)(x)), eight),
        "repeated": (lambda x: rescale(1 / 127.5, -1)(layers.Concatenate()([x, x, x])), eight),
        "reshaped": (lambda x: rescale(1 / 255)(layers.Reshape((SIDE, SIDE, 1))(layers.Flatten()(x))), eight),
        "pooled": (lambda x: rescale(1 / 255)(layers.AveragePooling2D(2)(x)), eight),
        "upsampled": (lambda x: rescale(1 / 255)(layers.UpSampling2D()(x)), eight),
        "permuted": (lambda x: rescale(1 / 255)(layers.Permute((2, 1, 3))(x)), eight),
        "nested": (inner, eight),
        "adapted": (normal, eight),
        "by-channel": (lambda x: layers.Concatenate()([rescale(1 / 255)(x[..., :1])] * 2), eight),
        "128": (rescale(1 / 128, -1), eight),
        "inverted": (lambda x: 255 - x, eight),
        "to-255": (rescale(255.0), one),
        "centred": (rescale(2.0, -1.0), one),
        "from-centred": (rescale(127.5, 127.5), (-1.0, 1.0)),
        "16-bit": (rescale(1 / 65535), (0.0, 65535.0)),
        "clipped": (lambda x: rescale(1 / 255)(keras.ops.clip(x, 0, 200)), eight),
        "padded-to-aspect": (lambda x: rescale(1 / 255)(layers.Resizing(24, 48, pad_to_aspect_ratio=True)(x)), eight),
        "gate-behind": (lambda x: layers.Activation("hard_silu")(rescale(1 / 255)(x)), eight),
        "torch-mode": (lambda x: keras.applications.densenet.preprocess_input(layers.Concatenate()([x, x, x])), eight),
        "caffe-mode": (lambda x: keras.applications.vgg16.preprocess_input(layers.Concatenate()([x, x, x])), eight),
        "dropped-out": (lambda x: rescale(1 / 255)(layers.RandomFlip()(layers.Dropout(0.2)(x))), eight),
    }  # fmt: skip


PROOFS = ("second-user", "resizing", "padding", "cropping", "repeated", "reshaped", "pooled", "upsampled", "permuted",
          "nested", "adapted", "by-channel", "128", "inverted", "to-255", "centred", "from-centred",
          "16-bit", "clipped", "padded-to-aspect", "gate-behind", "torch-mode", "caffe-mode",
          "dropped-out")  # fmt: skip


def find(model: Any, tmp_path: Path, **options: Any) -> InputScaling:
    """Return the scaling of a saved model."""
    model.save(tmp_path / "net.keras")
    (tmp_path / "work").mkdir()
    loaded = load_model(tmp_path / "net.keras", tmp_path / "work")
    return choose_scaling(make_request(tmp_path / "net.keras", **options), loaded, trace_graph(loaded))


@pytest.mark.parametrize("name", PROOFS)
def test_preprocessing_is_found_on_any_road(tmp_path: Path, name: str) -> None:
    """Behind resizing, padding, repeating and the like, and beside other users, it proves which values are taken."""
    assert set(PROOFS) == set(list_proofs())
    start, (low, high) = list_proofs()[name]
    found = find(build(start), tmp_path)
    assert (found.source, found.conflict) == ("graph", "")
    assert (found.offset, 255 * np.asarray(found.scale) + found.offset) == (low, pytest.approx(high))


@pytest.mark.parametrize("kind", ["BatchNormalization", "LayerNormalization", "GroupNormalization", "nothing"])
def test_what_is_learned_proves_nothing(tmp_path: Path, kind: str) -> None:
    """A normalization by learned weights fits any values: 0…1 is assumed, and that is said."""
    from keras import layers

    def start(x: Any) -> Any:
        if kind == "nothing":
            return x
        layer = getattr(layers, kind)(**({"groups": 1} if kind == "GroupNormalization" else {}))
        x = layer(x)
        layer.set_weights([np.full(w.shape, 90.0 if "mean" in w.name else 2000.0) for w in layer.weights])
        return x

    found = find(build(start), tmp_path)
    assert (found.scale, found.offset, found.source, found.conflict) == (1 / 255, 0.0, "assumed", "")


@pytest.mark.parametrize("kind", ["gain", "log", "own-range", "batch-norm"])
def test_what_a_saved_model_learned_proves_nothing(tmp_path: Path, kind: str) -> None:
    """In a frozen graph a learned gain is a constant like any other, but no proof; nor is a small number added."""
    import keras
    from keras import layers, ops

    class Gain(layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.gain = self.add_weight(shape=(1,), initializer=keras.initializers.Constant(1.3))
            self.shift = self.add_weight(shape=(1,), initializer=keras.initializers.Constant(-0.4))

        def call(self, x: Any) -> Any:
            return x * self.gain + self.shift

    starts: dict[str, Callable[[Any], Any]] = {
        "gain": Gain(),
        "log": lambda x: ops.log(x + 1.0),
        "own-range": lambda x: (x - ops.min(x)) / (ops.max(x) + 1e-7),
        "batch-norm": layers.BatchNormalization(),
    }
    build(starts[kind]).export(tmp_path / "net", verbose=False)
    (tmp_path / "work").mkdir()
    loaded = load_model(tmp_path / "net", tmp_path / "work")
    found = choose_scaling(make_request(tmp_path / "net"), loaded, trace_graph(loaded))
    assert (found.scale, found.offset, found.source, found.conflict) == (1 / 255, 0.0, "assumed", "")


@pytest.mark.parametrize(
    ("start", "told", "words"),
    [
        ("two-roads", {}, "takes 0…255, .* takes 0…1"),
        ("unknown", {}, r"Rescaling layer 'rescaling\w*' computes input \* 0.013 \+ 3, which fits no known range"),
        ("raw", {"scale": 1 / 255}, "values from 0 to 1, but Rescaling layer .* takes 0…255"),
        ("raw", {"scale": 2 / 255, "offset": -1.0}, "values from -1 to 1, but"),
        ("raw", {"intensity": "z-score"}, "z-scores, but"),
        ("unknown", {"scale": 1.0}, ""),
        ("raw", {"scale": 1.0}, ""),
        ("raw", {"intensity": "slice-min-max"}, ""),
        ("plain", {"scale": 2 / 255, "offset": -1.0}, ""),
    ],
)
def test_contradictions_are_found(tmp_path: Path, start: str, told: dict[str, Any], words: str) -> None:
    """Two roads for different values, a constant that fits none, a setting that the graph refutes; nothing else."""
    from keras import layers

    starts: dict[str, Callable[[Any], Any]] = {
        "two-roads": lambda x: layers.Concatenate()([layers.Rescaling(1 / 255)(x), layers.Rescaling(2.0, -1)(x)]),
        "unknown": layers.Rescaling(0.013, 3),
        "raw": layers.Rescaling(1 / 255),
        "plain": lambda x: x,
    }
    conflict = find(build(starts[start]), tmp_path, **told).conflict
    assert re.search(words, conflict) if words else not conflict, conflict


def test_the_devices_masks_are_the_authors(tmp_path: Path) -> None:
    """A net with Rescaling behind Resizing and a second road: the device's masks are those of its own call on 0…255."""
    from keras import layers

    def start(x: Any) -> Any:
        scaled = layers.Rescaling(1 / 255)(layers.Resizing(SIDE, SIDE)(x))
        return layers.Concatenate()([layers.Conv2D(8, 3, padding="same", activation="relu")(scaled), x])

    model = build(start)
    mask = model.get_layer("mask")
    images = np.random.default_rng(1).integers(0, 256, (6, SIDE, SIDE)).astype(np.uint8)
    images = np.stack([cv2.GaussianBlur(image, (0, 0), 3) for image in images])
    logits = model.layers[-2].output
    import keras

    values = keras.Model(model.inputs, logits).predict(images[..., None].astype(np.float32), verbose=0)
    scores = values @ mask.get_weights()[0][0, 0]
    mask.set_weights([mask.get_weights()[0], -np.median(scores, keepdims=True).reshape(1)])  # half of all pixels
    truth = model.predict(images[..., None].astype(np.float32), verbose=0)[..., 0] > 0.5
    model.save(tmp_path / "net.keras")
    done = convert_model(tmp_path / "net.keras", "fp32", tmp_path / "net.tflite")
    assert (done.contract.input.scale_from, done.contract.format) == ("graph", "edge-seg/2")
    session = Session.load(tmp_path / "net.tflite")
    found = np.stack([session.segment(image).mask for image in images])
    counts = [np.count_nonzero(one) for one in (found & truth, found & ~truth, ~found & truth)]
    assert 0.3 < truth.mean() < 0.7
    assert find_iou(*counts) > 0.99


def draw_lesions(folder: Path, spread: float = 0.0, count: int = 12) -> None:
    """Draw images whose lesion is brighter than the rest, in masks too; spread: how much their brightness differs."""
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    rng = np.random.default_rng(7)
    for i in range(count):
        lesion = np.zeros((SIDE, SIDE), bool)
        y, x = rng.integers(4, SIDE - 12, 2)
        lesion[y : y + 8, x : x + 8] = True
        image = (60 + 100 * lesion + rng.normal(0, 6, lesion.shape)) * (1 + spread * rng.uniform(-1, 1))
        cv2.imwrite(str(folder / "images" / f"{i}.png"), np.clip(image, 0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / f"{i}.png"), lesion.astype(np.uint8) * 255)


def save_threshold(path: Path, at: float, steep: float, rescale: bool = False) -> None:
    """Save a net that marks what is above a value, by a learned convolution: nothing says which values it takes."""
    import keras
    from keras import layers

    image = keras.Input((SIDE, SIDE, 1))
    x = layers.Rescaling(1 / 255)(image) if rescale else image
    head = layers.Conv2D(1, 1, activation="sigmoid")
    model = keras.Model(image, head(x))
    head.set_weights([np.full((1, 1, 1, 1), steep), np.array([-steep * at])])
    model.save(path)


@pytest.mark.parametrize(
    ("name", "at", "steep", "spread", "scale", "offset", "images"),
    [
        ("−1…1", 110 / 127.5 - 1, 30.0, 0.0, 2 / 255, -1.0, "bit-depth"),
        ("0…255", 110.0, 0.3, 0.0, 1.0, 0.0, "bit-depth"),
        ("z-scores", 2.0, 20.0, 0.45, 1.0, 0.0, "z-score"),
        ("least to greatest", 0.55, 30.0, 0.45, 1 / 255, 0.0, "slice-min-max"),
    ],
)
def test_masks_show_which_values_are_taken(
    tmp_path: Path, name: str, at: float, steep: float, spread: float, scale: float, offset: float, images: str
) -> None:
    """Where the graph says nothing, the values on which the original finds the true lesions are taken, and named."""
    draw_lesions(tmp_path, spread)
    save_threshold(tmp_path / "net.keras", at, steep)
    said: list[str] = []
    folders = {"check": tmp_path / "images", "masks": tmp_path / "masks"}
    done = convert_model(tmp_path / "net.keras", "fp32", tmp_path / "net.tflite", **folders, say=said.append)
    spec = done.contract.input
    assert (spec.scale, spec.offset, spec.intensity.images) == (pytest.approx(scale), offset, images)
    assert spec.scale_from == "masks"
    (line,) = [text for text in said if text.startswith("input-scale")]
    assert name in line and f"scale = {spec.scale!r}, offset = {spec.offset!r}" in line
    session = Session.load(tmp_path / "net.tflite")
    for path in sorted((tmp_path / "images").iterdir()):
        truth = cv2.imread(str(tmp_path / "masks" / path.name), cv2.IMREAD_UNCHANGED) > 0
        mask = session.segment(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).mask
        assert np.count_nonzero(mask != truth) < 0.1 * np.count_nonzero(truth)


def test_masks_that_contradict_the_graph_or_the_user_are_exit_4(tmp_path: Path) -> None:
    """A graph for 0…255 around a net that was trained on 0…255: the masks say so, and only --allow converts it."""
    draw_lesions(tmp_path)
    save_threshold(tmp_path / "net.keras", 110.0, 0.3, rescale=True)
    (tmp_path / "net.contract.toml").write_text("scale = 1.0\n")
    folders = {"check": tmp_path / "images", "masks": tmp_path / "masks"}
    save_threshold(tmp_path / "told.keras", 110.0, 0.3)
    (tmp_path / "told.contract.toml").write_text(f"scale = {1 / 255}\n")
    with pytest.raises(
        AuditError, match="input-scale: the contract file says otherwise, but the masks show 0…255"
    ) as no:
        convert_model(tmp_path / "told.keras", "fp32", tmp_path / "told.tflite", **folders)
    assert no.value.exit_code == 4
    assert not (tmp_path / "told.tflite").exists()
    done = convert_model(
        tmp_path / "told.keras", "fp32", tmp_path / "told.tflite", **folders, allow=["input-scale"], markdown=True
    )
    assert done.contract.allowed == ("input-scale",)
    first, second = done.report["warnings"]
    assert first.startswith("the original model is no better than an empty mask: mean IoU 0.4")
    assert second.startswith("input-scale, allowed: the contract file says otherwise")
    page = (tmp_path / "told.md").read_text()
    assert page.index("no better than an empty mask") < page.index("of the float32 file")


def test_an_assumed_input_is_said_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, in the report, in the contract, in each run and its gallery; a told one is said nowhere."""
    from convert.__main__ import main as convert
    from edge_runtime.cli import main as run

    save_threshold(tmp_path / "net.keras", 0.4, 30.0)
    draw_lesions(tmp_path)
    assert convert([str(tmp_path / "net.keras"), "--recipe", "fp32"]) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "input-scale" in line]
    assert len(lines) == 1 and "--contract" in lines[0] and "--masks" in lines[0]
    assert out.startswith("warning") and "0…1 is assumed" in out
    report = json.loads((tmp_path / "net.fp32.json").read_text())
    assert (report["input"]["scale_from"], len(report["warnings"])) == ("assumed", 1)
    arguments = [str(tmp_path / "images"), "-o", str(tmp_path / "out"), "--quiet", "--model"]
    assert run([*arguments, str(tmp_path / "net.fp32.tflite")]) == 0
    _, err = capsys.readouterr()
    assert err.count("assumed") == len(err.splitlines()) == 1
    assert "was assumed when it was converted" in (tmp_path / "out" / "index.html").read_text()
    (tmp_path / "net.contract.toml").write_text(f"scale = {1 / 255}\noffset = 0\n")
    assert convert([str(tmp_path / "net.keras"), "--recipe", "fp32", "--force"]) == 0
    out, err = capsys.readouterr()
    assert "input-scale" not in err and not out.startswith("warning")
    assert run([*arguments, str(tmp_path / "net.fp32.tflite"), "--force"]) == 0
    assert capsys.readouterr().err == ""
    assert "was assumed" not in (tmp_path / "out" / "index.html").read_text()


def test_the_template_is_a_contract_file_that_can_be_used(tmp_path: Path) -> None:
    """Printed for any model, or for one with its labels and scaling; read again it changes nothing that was found."""
    import keras
    from keras import layers

    lines = make_contract_template(None).splitlines()
    examples = [line[2:] for line in lines if re.match(r"# \w+ = ", line)]
    assert {line.split()[0] for line in examples} >= {*KEYS} - {"colour", "threshold"}
    for line in examples:
        tomllib.loads(line)
    image = keras.Input((SIDE, SIDE, 1))
    x = layers.Conv2D(3, 1, activation="softmax")(layers.Rescaling(1 / 255)(image))
    keras.Model(image, x).save(tmp_path / "net.keras")
    (tmp_path / "net.contract.toml").write_text(make_contract_template(tmp_path / "net.keras"))
    settings = read_settings(tmp_path / "net.contract.toml")
    assert [label["name"] for label in settings.labels or ()] == ["background", "class 1", "class 2"]
    assert (settings.scale, settings.threshold, settings.id) == (None, 0.5, "net")
    assert "Rescaling layer 'rescaling" in (tmp_path / "net.contract.toml").read_text()
