"""Files that Keras 2 wrote, of each of its layers, answer as Keras 2 does: tf_keras made both, in its own process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from freezing import freeze, list_kinds, run

pytest.importorskip("tensorflow")
pytest.importorskip("tf_keras")

from convert.source.load.keras2.config import UNUSED, modernize
from convert.source.load.keras2.layers import OLD_LAYERS
from convert.source.load.keras_model import load_model
from edge_runtime.errors import ModelError

MAKER = Path(__file__).parent / "make_keras2_files.py"
CASES = re.findall(r'^    "(\w+)":', MAKER.read_text(), re.MULTILINE)
REFUSED = {"time_major"}
TRUSTED = {"registered"}  # test_load_model has them
OLD = {"activations", "local_2d", "local_2d_same", "local_2d_strides", "local_1d", "random_size", "norms"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras2")
    subprocess.run([sys.executable, MAKER, folder], check=True, capture_output=True)
    return folder


def read_answer(folder: Path, name: str) -> tuple[Any, Any]:
    """Return a case's input and what Keras 2 made of it."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED | TRUSTED])
def test_a_file_answers_as_keras_2_did(files: Path, tmp_path: Path, name: str, suffix: str) -> None:
    """Each layer, argument, operator and function, in both kinds of file, as a graph that can be converted."""
    import tensorflow as tf

    x, expected = read_answer(files, name)
    loaded = load_model(files / f"{name}.{suffix}", tmp_path)
    assert np.ptp(expected) > 1e-3  # constant answers would agree with anything
    np.testing.assert_allclose(np.asarray(tf.function(loaded.call)(x)[0]), expected, atol=1e-5)
    assert "a model of Keras 2" in loaded.notes


@pytest.mark.parametrize("name", sorted(OLD))
def test_layers_that_keras_3_does_not_have_convert(files: Path, tmp_path: Path, name: str) -> None:
    """Their flatbuffers answer as Keras 2 did, and keep no table of indices: the weights are sorted beforehand."""
    x, expected = read_answer(files, name)
    flatbuffer = freeze(load_model(files / f"{name}.keras", tmp_path).root)
    np.testing.assert_allclose(run(flatbuffer, x), expected, atol=1e-5)
    assert not {"GATHER", "GATHER_ND", "CUSTOM"} & set(list_kinds(flatbuffer))


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_would_compute_something_else_is_refused(files: Path, tmp_path: Path, name: str, suffix: str) -> None:
    """An argument that Keras 3 does not have and that changes the answer is named, not left out."""
    with pytest.raises(ModelError, match=r"layer 'lstm\w*' has time_major=True"):
        load_model(files / f"{name}.{suffix}", tmp_path)


def test_what_keras_3_writes_is_no_argument_of_keras_2() -> None:
    """No argument that is left out of a file of Keras 2 is one that Keras 3 writes with that value."""
    import keras

    given: dict[str, Any] = {"RNN": {"cell": keras.layers.LSTMCell(2)}, "RandomContrast": {"factor": 0.1}}
    given |= {f"Conv{n}DTranspose": {"filters": 2, "kernel_size": 3} for n in (1, 2, 3)}
    given |= {f"SeparableConv{n}D": {"filters": 2, "kernel_size": 3} for n in (1, 2)}
    given |= {f"DepthwiseConv{n}D": {"kernel_size": 3} for n in (1, 2)}
    given |= {f"ConvLSTM{n}D": {"filters": 2, "kernel_size": 3} for n in (1, 2, 3)}
    given |= {name: {"units": 2} for name in ("SimpleRNN", "LSTM", "GRU")}
    given |= {"MultiHeadAttention": {"num_heads": 1, "key_dim": 2}, "RandomCrop": {"height": 2, "width": 2}}
    given |= {f"Random{name}": {"factor": 0.1} for name in ("Brightness", "Rotation")}
    given |= {"RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1}, "RandomZoom": {"height_factor": 0.1}}
    for name in UNUSED:
        if name not in OLD_LAYERS:
            layer = getattr(keras.layers, name)(**given.get(name, {"rate": 0.1} if "Dropout" in name else {}))
            config = keras.saving.serialize_keras_object(layer)
            assert modernize(config) == config, name


def test_every_layer_of_keras_2_for_images_has_a_case() -> None:
    """Whatever layer classes tf_keras has, a file with each was made, but for those that take no images or run code."""
    left = {"AbstractRNNCell", "CategoryEncoding", "DenseFeatures", "Discretization", "Embedding", "HashedCrossing"}
    left |= {"Hashing", "InputLayer", "InputSpec", "IntegerLookup", "Lambda", "Layer", "StringLookup"}
    left |= {"TextVectorization", "Wrapper"}
    left |= {"SpectralNormalization"}  # tf_keras 2.21 cannot build it
    script = "import tf_keras; L = tf_keras.layers; print(*{getattr(L, n).__name__ for n in dir(L)"
    script += " if isinstance(getattr(L, n), type)})"
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    written = set(re.findall(r"layers\.(?:experimental\.)?(\w+)\(", MAKER.read_text()))
    assert set(said.split()) - left - written == set()
