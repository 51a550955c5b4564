"""What is loaded whatever its names are, what training left in it or how it is dated; and what is one line instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from convert.source.load.keras_model import load_model
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
