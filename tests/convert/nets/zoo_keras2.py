"""Files as Keras 2 wrote them, made with Keras 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_keras2(model: Any, path: Path) -> None:
    """Write a functional model as Keras 2.15 would have: an .h5 file with that version's config."""
    import h5py

    model.save(path)
    with h5py.File(path, "r+", locking=False) as file:
        config = age(json.loads(file.attrs["model_config"]))
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"


def age(node: Any) -> Any:
    """Return a config of Keras 3 in Keras 2's words."""
    if isinstance(node, list):
        return [age(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    if node.get("class_name") == "DTypePolicy":
        return node["config"]["name"]
    if node.get("class_name") == "__keras_tensor__":
        return [*node["config"]["keras_history"], {}]
    node = {key: age(value) for key, value in node.items()}
    name, config = node.get("class_name"), node.get("config")
    if "inbound_nodes" in node:
        args = [call["args"] for call in node["inbound_nodes"]]
        node["inbound_nodes"] = [call[0] if isinstance(call[0][0], list) else call for call in args]
    if name == "InputLayer" and "batch_shape" in config:
        config["batch_input_shape"] = config.pop("batch_shape")
    if name == "BatchNormalization":
        config["axis"] = [3]
        config = {key: value for key, value in config.items() if not key.startswith(("renorm", "synchronized"))}
    if name in ("Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D"):
        config["groups"] = 1
    if name in ("DepthwiseConv2D", "SeparableConv2D"):
        config |= {"kernel_initializer": None, "kernel_regularizer": None, "kernel_constraint": None}
    return {**node, "config": config} if config is not None else node
