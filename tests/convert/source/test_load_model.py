"""What is loaded whatever its names are, what training left in it or how it is dated; and what is one line instead."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from freezing import run
from messages import make_request

pytest.importorskip("tensorflow")

from convert.source.load.keras_model import end_if_stuck, load_model
from convert.source.process import to_json
from convert.source.process_main import convert_here, main
from edge_runtime.errors import ModelError

MAKER = Path(__file__).parent / "make_keras2_files.py"
NORMALIZATION = """
import keras
from keras import ops

DECORATOR
class InstanceNormalization(keras.layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(name="gamma", shape=(shape[-1],), initializer="ones")

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        mean, variance = ops.moments(x, [1, 2], keepdims=True)
        return (x - mean) / ops.sqrt(variance + 1e-3) * self.gamma
"""
DECORATORS = {
    "registered": '@keras.saving.register_keras_serializable(package="Addons")',
    "of_another_package": '@keras.saving.register_keras_serializable(package="Other")',
    "plain": "",
}


def answer(path: Path, work: Path, x: Any, trust: str = "") -> Any:
    """Return the first output of a model file."""
    work.mkdir()
    return np.asarray(load_model(path, work, None, trust).call(x)[0])


def draw(*shape: int) -> Any:
    return np.random.default_rng(2).random((1, *shape), np.float32)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of files of Keras 2 whose layers are registered as Addons>InstanceNormalization."""
    pytest.importorskip("tf_keras")
    folder = tmp_path_factory.mktemp("registered")
    subprocess.run([sys.executable, MAKER, folder, "registered"], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("kind", DECORATORS)
def test_trust_binds_registered_names(
    registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, suffix: str
) -> None:
    """A class that a file names with its package is the trusted module's of that name, however that registers it."""
    import keras

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("keras.src.saving.object_registration.GLOBAL_CUSTOM_OBJECTS", {})
    module = f"own_layers_{kind}_{suffix}"
    (tmp_path / f"{module}.py").write_text(NORMALIZATION.replace("DECORATOR", DECORATORS[kind]))
    with np.load(registered / "registered.npz") as arrays:
        x, expected = arrays["x"], arrays["y"]
    path = registered / f"registered.{suffix}"
    with pytest.raises(ModelError, match=r"'Addons>InstanceNormalization'; name the module"):
        answer(path, tmp_path / "untrusted", x)
    np.testing.assert_allclose(answer(path, tmp_path / "work", x, module), expected, atol=1e-5)
    assert "Addons>InstanceNormalization" not in keras.saving.get_custom_objects() or kind == "registered"


def test_trust_binds_what_the_module_imports(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that only imports others which register their classes is enough."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("keras.src.saving.object_registration.GLOBAL_CUSTOM_OBJECTS", {})
    (tmp_path / "registering.py").write_text(NORMALIZATION.replace("DECORATOR", DECORATORS["registered"]))
    (tmp_path / "importing.py").write_text("import registering\n")
    with np.load(registered / "registered.npz") as arrays:
        x, expected = arrays["x"], arrays["y"]
    found = answer(registered / "registered.keras", tmp_path / "work", x, "importing")
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_losses_and_metrics_are_never_needed(tmp_path: Path, suffix: str) -> None:
    """Models in models, each compiled with a loss and a metric that no module has any more, load without them."""
    import keras

    def own_loss(true: Any, said: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(true - said))

    class OwnMetric(keras.metrics.Mean):  # type: ignore[misc]
        pass

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 3, padding="same")])
    for _ in range(3):
        model.compile(loss=own_loss, metrics=[OwnMetric(), own_loss], optimizer="sgd")
        image = keras.Input((8, 8, 1))
        model = keras.Model(image, keras.layers.Add()([model(image), image]))
    model.compile(loss={"add": own_loss}, metrics=[own_loss])
    model.save(tmp_path / f"m.{suffix}")
    x = draw(8, 8, 1)
    path = tmp_path / f"m.{suffix}"
    np.testing.assert_allclose(answer(path, tmp_path / "work", x), np.asarray(model(x)), atol=1e-6)


@pytest.mark.parametrize("where", ["model", "layers", "nested"])
@pytest.mark.parametrize("name", ["my net", "a>b", "_net", "脑"])
def test_any_name_will_do(tmp_path: Path, name: str, where: str) -> None:
    """Names of models, layers and nested models that are no names in a graph: the flatbuffer answers as the model."""
    import keras
    from keras import layers

    image = keras.Input((8, 8, 1))
    named = where != "model"
    y = layers.Conv2D(2, 3, padding="same", name=name if named else None)(image)
    if where == "nested":
        y = keras.Sequential([layers.BatchNormalization(name=name), layers.ReLU(name=f"{name} 2")], name=name + "n")(y)
    y = layers.Conv2D(1, 1, activation="sigmoid", name=f"{name} mask" if named else None)(y)
    model = keras.Model(image, y, name="net" if where == "layers" else name)
    model.save(tmp_path / "m.keras")
    (tmp_path / "work").mkdir()
    facts = convert_here(tmp_path / "work", make_request(tmp_path / "m.keras"))
    x = draw(8, 8, 1)
    found = run((tmp_path / "work" / "fp32.tflite").read_bytes(), x)
    np.testing.assert_allclose(found, np.asarray(model(x)), atol=1e-6)
    assert facts.name == model.name
    (tmp_path / "again").mkdir()
    assert load_model(tmp_path / "m.keras", tmp_path / "again").outputs == (model.layers[-1].name,)


def test_a_clock_before_1980(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of Keras 2 loads where the clock was never set and its file has no date."""
    pytest.importorskip("tf_keras")
    subprocess.run([sys.executable, MAKER, tmp_path, "lstm"], check=True, capture_output=True)
    os.utime(tmp_path / "lstm.keras", (0, 0))
    with np.load(tmp_path / "lstm.npz") as arrays:
        x, expected = arrays["x"], arrays["y"]
    path = tmp_path / "lstm.keras"
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(0))
    np.testing.assert_allclose(answer(path, tmp_path / "work", x), expected, atol=1e-5)


def build_open_unet(merge: Callable[[list[Any]], Any], levels: int, nested: bool = False) -> Any:
    """Return a U-Net of open size, whose sides must be multiples of 2**levels."""
    import keras
    from keras import layers

    image = keras.Input((None, None, 1))
    y, skips = image, []
    for _ in range(levels):
        skips.append(layers.Conv2D(4, 3, padding="same")(y))
        y = layers.MaxPooling2D(2)(skips[-1])
    for skip in reversed(skips):
        y = layers.Conv2D(4, 3, padding="same")(merge([layers.UpSampling2D(2)(y), skip]))
    model = keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(y))
    return keras.Sequential([keras.Input((None, None, 1)), model]) if nested else model


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("levels", [2, 4])
@pytest.mark.parametrize("kind", ["Concatenate", "Add"])
def test_a_size_that_does_not_fit(tmp_path: Path, kind: str, levels: int, nested: bool) -> None:
    """The layer, the two shapes that do not fit, the smallest step whose multiples do, and the nearest of them."""
    import keras

    model = build_open_unet(lambda pair: getattr(keras.layers, kind)()(pair), levels, nested)
    model.save(tmp_path / "m.keras")
    (tmp_path / "work").mkdir()
    with pytest.raises(ModelError) as caught:
        convert_here(tmp_path / "work", make_request(tmp_path / "m.keras", input_size=(65, 50)))
    said, step = str(caught.value), 2**levels
    nearest = [min(range(step, 200, step), key=lambda n, side=side: abs(n - side)) for side in (65, 50)]
    assert re.search(rf"an input of 65 x 50 \(layer '\w+' \({kind}\) got \(1, \d+, \d+, 4\) and \(1, \d+", said), said
    assert f"multiples of {step} fit: say --input-size {nearest[0]} {nearest[1]}" in said
    assert "\n" not in said
    assert "\x1b" not in said
    assert model(np.zeros((1, *nearest, 1), np.float32)).shape == (1, *nearest, 1)


def test_whatever_is_raised_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer's own exception, at loading or at tracing, is one line without a traceback."""
    import keras

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
    model.save(tmp_path / "m.keras")
    for place, target in (
        ("tracing", "keras.layers.Conv2D.call"),
        ("export", "convert.source.process_main.export_graph"),
    ):

        def fail(*_: Any, **__: Any) -> None:
            raise TypeError("one\n  two\n")

        work = tmp_path / place
        work.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(target, fail)
            (work / "request.json").write_text(to_json(make_request(tmp_path / "m.keras")))
            assert main(str(work)) == 0
        said = json.loads((work / "result.json").read_text())["error"]
        assert "one" in said["why"]
        assert "\n" not in said["why"]
        assert said["kind"] == "ModelError"


def test_a_reader_that_never_comes_back_ends_its_process() -> None:
    """A library's loop that holds Python's lock ends with SIGALRM at the limit; what ends in time is not disturbed."""
    pid = os.fork()
    if not pid:
        with end_if_stuck(60):
            pass
        with end_if_stuck(0.2):
            ctypes.PyDLL(None).sleep(30)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGALRM
