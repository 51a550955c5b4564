"""Files of Keras 2, and .h5 files of Keras 3: what their configs say differently, and what is refused in them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zoo
import zoo_blocks
import zoo_keras2
import zoo_layers

pytest.importorskip("tensorflow")

from convert.source.load.keras2.config import FUNCTIONS, OP, find_function, modernize, take_slice
from convert.source.load.keras_model import load_model
from edge_runtime.errors import EdgeSegError, ModelError, UnsafeModelError


def answer(path: Path, work: Path, x: Any) -> Any:
    """Return the first output of a model file."""
    work.mkdir()
    return np.asarray(load_model(path, work).call(x)[0])


def draw(*shape: int) -> Any:
    return np.random.default_rng(2).random((1, *shape), np.float32)


def test_a_config_of_keras_3_stays_as_it_is(tmp_path: Path) -> None:
    """Neither a .keras archive nor an .h5 file of today is touched."""
    import h5py

    model = zoo_layers.build_nested()
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        config = json.loads(archive.read("config.json"))
    assert modernize(config) == config
    with h5py.File(tmp_path / "m.h5", locking=False) as file:
        config = json.loads(file.attrs["model_config"])
    assert modernize(config) == config


@pytest.mark.parametrize(
    "build", [zoo_layers.build_nested, lambda: zoo_layers.build_chain(zoo_layers.try_convolutions)]
)
def test_an_aged_file_answers_as_the_model_did(tmp_path: Path, build: Callable[[], Any]) -> None:
    """Batch shapes, groups, axes in lists, nodes in lists, nested models: the same numbers, and the report says so."""
    model = build()
    zoo_keras2.write_keras2(model, tmp_path / "old.h5")
    x = draw(32, 32, 1)
    assert np.abs(answer(tmp_path / "old.h5", tmp_path / "work", x) - np.asarray(model(x))).max() < 1e-5
    assert "a model of Keras 2" in load_model(tmp_path / "old.h5", make(tmp_path / "again")).notes


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"class_name": "Policy", "config": {"name": "mixed_float16"}}, "mixed_float16"),
        (
            {"module": "tf_keras.src.engine.functional", "class_name": "Functional"},
            {"module": "keras.src.models.functional", "class_name": "Functional"},
        ),
        (
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 8, 8, 3]}},
            {"class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 3]}},
        ),
        (
            {
                "class_name": "DepthwiseConv2D",
                "config": {"groups": 1, "kernel_initializer": None, "kernel_size": [3, 3]},
            },
            {"class_name": "DepthwiseConv2D", "config": {"kernel_size": [3, 3]}},
        ),
        (  # what means something is left for Keras to refuse
            {"class_name": "Conv2DTranspose", "config": {"groups": 2}},
            {"class_name": "Conv2DTranspose", "config": {"groups": 2}},
        ),
        (
            {"class_name": "BatchNormalization", "config": {"axis": [3], "fused": True}},
            {"class_name": "BatchNormalization", "config": {"axis": 3}},
        ),
        ({"class_name": "LayerNormalization", "config": {"axis": [3]}},) * 2,
    ],
)
def test_each_rule_by_itself(old: Any, new: Any) -> None:
    """What was renamed, moved or dropped since, one by one."""
    assert modernize(old) == new
    assert modernize([{"a": old}]) == [{"a": new}]


def test_names_with_slashes_and_old_sequentials() -> None:
    """A slash is no part of a name any more, wherever the name stands; an old Sequential gets its input layer."""
    layers = [
        {"class_name": "InputLayer", "config": {"name": "in"}, "name": "in", "inbound_nodes": []},
        {"class_name": "ReLU", "config": {"name": "a/b"}, "name": "a/b", "inbound_nodes": [[["in", 0, 0, {}]]]},
    ]
    graph = {"class_name": "Functional", "config": {"layers": layers, "output_layers": [["a/b", 0, 0]]}}
    modern = modernize(graph)["config"]
    assert modern["layers"][1]["name"] == modern["layers"][1]["config"]["name"] == "a_b"
    assert modern["output_layers"] == [["a_b", 0, 0]]
    first = {"class_name": "Conv2D", "config": {"name": "c", "batch_input_shape": [None, 4, 4, 1]}}
    modern = modernize({"class_name": "Sequential", "config": {"layers": [first]}})["config"]["layers"]
    assert [layer["class_name"] for layer in modern] == ["InputLayer", "Conv2D"]
    assert modern[0]["config"]["batch_shape"] == [None, 4, 4, 1]
    assert "batch_input_shape" not in modern[1]["config"]


def old_op(function: str, name: str, nodes: Any, kind: str = "TFOpLambda") -> dict[str, Any]:
    config = {"name": name, "trainable": True, "dtype": "float32", "function": function}
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": nodes}


def write_ops(folder: Path, *ops: dict[str, Any]) -> tuple[Path, Any]:
    """Write an .h5 file of Keras 2 with TensorFlow's functions between two convolutions; return it and the first one.

    The last of `ops` feeds the last convolution, a mean over four channels.
    """
    import h5py
    import keras
    from keras import layers

    image = keras.Input((8, 8, 1), name="in")
    first = layers.Conv2D(4, 3, padding="same", name="first")
    last = layers.Conv2D(1, 1, name="last", kernel_initializer=keras.initializers.Constant(0.25))
    path = folder / "ops.h5"
    zoo_keras2.write_keras2(keras.Model(image, last(first(image))), path)
    with h5py.File(path, "r+", locking=False) as file:
        config = json.loads(file.attrs["model_config"])
        *others, end = config["config"]["layers"]
        end["inbound_nodes"] = [[[ops[-1]["name"], 0, 0, {}]]]
        config["config"]["layers"] = [*others, *ops, end]
        file.attrs["model_config"] = json.dumps(config)
    return path, first


def test_functions_of_tensorflow_become_layers(tmp_path: Path) -> None:
    """Arithmetic with numbers and tensors, lists of tensors, slices: as Keras 2 would have computed them."""
    every = {"start": None, "stop": None, "step": None}
    path, first = write_ops(
        tmp_path,
        old_op("math.multiply", "twice", [["first", 0, 0, {"y": 2.0, "name": None}]]),
        old_op("math.subtract", "from_one", [["_CONSTANT_VALUE", -1, 1.0, {"y": ["twice", 0, 0], "name": None}]]),
        old_op("concat", "joined", [[["twice", 0, 0, {"axis": -1}], ["from_one", 0, 0, {"axis": -1}]]]),
        old_op(
            "__operators__.getitem",
            "sliced",
            [["joined", 0, 0, {"slice_spec": [{"class_name": "__ellipsis__"}, {**every, "start": 4}]}]],
            "SlicingOpLambda",
        ),
    )
    x = draw(8, 8, 1)
    expected = 1 - 2 * np.asarray(first(x)).mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(answer(path, tmp_path / "work", x), expected, atol=1e-5)


@pytest.mark.parametrize(
    "function", ["io.read_file", "py_function", "numpy_function", "raw_ops.PyFunc", "saved_model.load"]
)
def test_functions_that_do_more_are_refused(tmp_path: Path, function: str) -> None:
    """A function that is not known to be harmless is refused like any code: exit 5, the layer's name, nothing run."""
    path, _ = write_ops(tmp_path, old_op(function, "evil", [["first", 0, 0, {}]]))
    with pytest.raises(UnsafeModelError, match="layer 'evil' is a TFOpLambda") as caught:
        load_model(path, make(tmp_path / "work"))
    assert caught.value.exit_code == 5


def test_our_own_stand_in_is_no_way_around(tmp_path: Path) -> None:
    """A file that names the stand-in layer itself gets no further than the list of functions."""
    path, _ = write_ops(tmp_path, {**old_op("io.read_file", "evil", [["first", 0, 0, {}]]), "class_name": OP})
    with pytest.raises(ModelError, match=r"tf.io.read_file is not one of those"):
        load_model(path, make(tmp_path / "work"))
    with pytest.raises(ValueError, match="harmless"):
        find_function("io.read_file")


def test_every_function_that_is_allowed_is_there() -> None:
    """The list names functions that TensorFlow has."""
    for name in FUNCTIONS:
        assert callable(find_function(name)), name
    x = np.arange(12).reshape(3, 4)
    assert (take_slice(x, ["...", {"start": None, "stop": None, "step": -1}]) == x[..., ::-1]).all()


@pytest.mark.parametrize("nodes", [[[]], [["first"]], [[["first", 0]]], [7], [["first", 0, 0, 3]], None])
def test_damaged_nodes_are_one_line(tmp_path: Path, nodes: Any) -> None:
    """Whatever stands in the place of a call, the error is a line and no traceback."""
    path, _ = write_ops(tmp_path, old_op("nn.relu", "odd", nodes))
    with pytest.raises(EdgeSegError) as caught:
        load_model(path, make(tmp_path / "work"))
    assert str(caught.value).startswith(str(path))


def test_operations_of_keras_3_come_back_from_h5(tmp_path: Path) -> None:
    """keras.ops in an .h5 file of Keras 3: its config has their arguments, but not where they come from."""
    model = zoo.build_unet((16, 16), filters=(4, 8), after=zoo_blocks.attend)
    model.save(tmp_path / "m.h5")
    x = draw(16, 16, 1)
    np.testing.assert_allclose(answer(tmp_path / "m.h5", tmp_path / "work", x), np.asarray(model(x)), atol=1e-5)


def test_an_operation_without_its_arguments_is_refused(tmp_path: Path) -> None:
    """A mean over unknown axes would be a guess: the layer is named, and the format that keeps them."""
    import h5py

    zoo.build_unet((16, 16), filters=(4, 8), after=zoo_blocks.attend).save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+", locking=False) as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "Mean":
                del layer["config"]["axis"]
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ModelError, match=r"layer 'mean\w*' is the operation 'Mean'.*save the model as .keras"):
        load_model(tmp_path / "m.h5", make(tmp_path / "work"))
