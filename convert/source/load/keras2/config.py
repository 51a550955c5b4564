"""How is the config of a Keras 2 model file rewritten for Keras 3?

Keras 3 reads the weights of .h5 and .keras files of Keras 2, but not all configs: its layers no longer take some
arguments, names have no slashes, modules moved, and TensorFlow functions are no layers. Nothing is guessed: what is not
listed here stays as it is.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .layers import OLD_LAYERS

OP = "EdgeSegOp"  # stands for Keras 2's TFOpLambda and SlicingOpLambda
LAMBDA_LAYERS = ("TFOpLambda", "SlicingOpLambda")
MODULES = {
    "keras.src.engine.functional": "keras.src.models.functional",
    "keras.engine.functional": "keras.src.models.functional",
    "keras.src.engine.sequential": "keras.src.models.sequential",
    "keras.engine.sequential": "keras.src.models.sequential",
    "keras.mixed_precision": "keras",
    "keras.layers.experimental": "keras.layers",
    "keras.layers.experimental.preprocessing": "keras.layers",
}
# Arguments that Keras 2 wrote though the layer does not use them: {class: {argument: values without effect; None: any}}
KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
UNUSED: dict[str, dict[str, tuple[Any, ...] | None]] = {
    **{name: {"groups": (1,), **dict.fromkeys(KERNEL)} for name in ("DepthwiseConv2D", "DepthwiseConv1D")},
    **{name: {"groups": (1,), **dict.fromkeys(KERNEL)} for name in ("SeparableConv2D", "SeparableConv1D")},
    **{name: {"groups": (1,)} for name in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")},
    "BatchNormalization": {"virtual_batch_size": (None,), "fused": None, "adjustment": (None,)},
    # The shapes follow from the inputs; the masking differs only where everything is masked.
    "MultiHeadAttention": dict.fromkeys(("query_shape", "key_shape", "value_shape", "softmax_robust_masking")),
    "Softmax": {"robust_masking": None},
}
RECURRENT = ("RNN", "SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
RANDOM = ("Brightness", "Contrast", "Crop", "Flip", "Rotation", "Translation", "Zoom", "Height", "Width")
UNUSED |= {name: {"time_major": (False,)} for name in RECURRENT}  # True is refused: keras_model.refuse_arguments
UNUSED |= {f"Random{name}": {"rng_type": None} for name in RANDOM}  # which random numbers are drawn in training
UNUSED |= {f"Random{name}": dict.fromkeys(("rng_type", "factor", "interpolation", "seed")) for name in RANDOM[-2:]}
UNUSED |= {f"SpatialDropout{n}D": dict.fromkeys(("noise_shape", "trainable")) for n in (1, 2, 3)}
TRAINING = [f"{what}_{kind}" for what in ("kernel", "bias") for kind in ("initializer", "regularizer", "constraint")]
UNUSED |= {f"LocallyConnected{n}D": dict.fromkeys((*TRAINING, "activity_regularizer")) for n in (1, 2)}
# TensorFlow's functions that a model may call: arithmetic and shapes, nothing that accesses files or runs code.
MATH = "add subtract multiply divide truediv divide_no_nan multiply_no_nan pow square sqrt rsqrt abs negative exp log"
MATH += " log1p expm1 maximum minimum reduce_mean reduce_max reduce_min reduce_sum reduce_prod reduce_std"
MATH += (
    " reduce_variance reduce_logsumexp reduce_any reduce_all reduce_euclidean_norm sigmoid log_sigmoid tanh softplus"
)
MATH += " add_n squared_difference l2_normalize greater greater_equal less less_equal equal not_equal logical_and"
MATH += (
    " logical_or logical_not logical_xor floordiv floormod mod floor ceil round rint sign reciprocal erf sin cos tan"
)
MATH += " sinh cosh asin acos atan atan2 argmax argmin cumsum cumprod is_nan is_finite accumulate_n"
NN = "relu relu6 leaky_relu crelu sigmoid softmax log_softmax elu selu silu swish gelu tanh softplus softsign bias_add"
NN += " avg_pool2d max_pool2d avg_pool max_pool depth_to_space space_to_depth l2_normalize moments batch_normalization"
NN += " local_response_normalization lrn convolution conv2d conv2d_transpose depthwise_conv2d"
PLAIN = "concat reshape transpose squeeze expand_dims tile stack unstack split cast clip_by_value pad identity reverse"
PLAIN += " where ones_like zeros_like shape rank size image.resize linalg.matmul linalg.l2_normalize linalg.normalize"
PLAIN += (
    " linalg.norm norm nn.silu stop_gradient ensure_shape broadcast_to repeat roll gather slice strided_slice einsum"
)
PLAIN += " tensordot clip_by_norm __operators__.add image.central_crop image.crop_to_bounding_box"
PLAIN += " image.pad_to_bounding_box image.resize_with_crop_or_pad image.resize_with_pad image.flip_left_right"
PLAIN += " image.flip_up_down image.rot90 image.transpose image.rgb_to_grayscale image.grayscale_to_rgb"
PLAIN += " image.per_image_standardization image.adjust_brightness image.adjust_contrast image.sobel_edges"
PLAIN += " image.convert_image_dtype compat.v1.floor_div compat.v1.gather compat.v1.where compat.v1.reduce_mean"
PLAIN += " compat.v1.reduce_max"
PLAIN += " compat.v1.pad compat.v1.transpose compat.v1.squeeze compat.v1.shape compat.v1.image.resize_images"
PLAIN += " compat.v1.image.resize_bilinear compat.v1.image.resize_nearest_neighbor compat.v1.nn.avg_pool"
PLAIN += " compat.v1.nn.max_pool compat.v1.nn.depth_to_space compat.v1.concat compat.v1.expand_dims"
FUNCTIONS = {f"math.{name}" for name in MATH.split()} | {f"nn.{name}" for name in NN.split()} | set(PLAIN.split())
GETITEM = "__operators__.getitem"


def modernize(node: Any) -> Any:
    """Return a config, or any part of one, as Keras 3 would have written it; a config of Keras 3 unchanged."""
    if isinstance(node, list):
        return [modernize(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    if node.get("class_name") in ("Policy", "PolicyV1") and isinstance(node.get("config"), dict):
        return node["config"].get("name", "float32")  # a dtype policy, which Keras 3 takes by name
    node = {key: modernize(value) for key, value in node.items()}
    if isinstance(node.get("module"), str):
        module = re.sub(r"^tf_keras\b", "keras", node["module"])
        node["module"] = MODULES.get(module, module)
    name, config = node.get("class_name"), node.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        return node
    if name in OLD_LAYERS and str(node.get("module")).startswith("keras."):
        node |= {"module": None, "registered_name": name}  # not in Keras 3: layers.py has it
    if isinstance(config.get("layers"), list):
        return {**node, "config": modernize_graph(config)}
    return {**node, "config": modernize_layer(name, config)}


def modernize_layer(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return one layer's arguments as Keras 3 takes them."""
    unused = UNUSED.get(name, {})
    kept = {key: value for key, value in config.items() if not is_unused(unused, key, value)}
    if name == "InputLayer" and "batch_input_shape" in kept:
        kept["batch_shape"] = kept.pop("batch_input_shape")
    axis = kept.get("axis")
    if name in ("BatchNormalization", "SyncBatchNormalization") and isinstance(axis, list) and len(axis) == 1:
        kept["axis"] = axis[0]
    return kept


def is_unused(unused: dict[str, tuple[Any, ...] | None], key: str, value: Any) -> bool:
    """Return whether an argument has no effect and can be left out."""
    return key in unused and (unused[key] is None or value in (unused[key] or ()))


def modernize_graph(config: dict[str, Any]) -> dict[str, Any]:
    """Return a model's config with names that Keras 3 accepts, and TensorFlow's functions as layers of class OP."""
    layers = [layer for layer in config["layers"] if isinstance(layer, dict)]
    names = [layer.get("name") or (layer.get("config") or {}).get("name") for layer in layers]
    config = {**config, "layers": [drop_input_shape(layer) for layer in add_input_layer(config["layers"])]}
    slashed = {name: name.replace("/", "_") for name in names if isinstance(name, str) and "/" in name}
    config = replace_names(config, slashed) if slashed else config
    layers = config["layers"]
    from_one = find_late([layer for layer in layers if isinstance(layer, dict)], config.get("output_layers"))
    layers = [{**it, "inbound_nodes": count_back(it["inbound_nodes"], from_one)} if "inbound_nodes" in it else it
              for it in layers] if from_one else layers  # fmt: skip
    config = {**config, "layers": [to_op(layer) for layer in layers]}
    if "output_layers" in config:  # here Keras 3 corrects the count for functional models, not for sequential ones
        config["output_layers"] = count_back(config["output_layers"], from_one & find_sequential(layers))
    return config


def find_late(layers: list[dict[str, Any]], outputs: Any) -> set[str]:
    """Return the nested models whose calls are counted from 1, as Keras 2 did where it counted their creation."""
    inner = {
        str(layer.get("name")): len(layer.get("inbound_nodes", []))
        for layer in layers
        if isinstance((layer.get("config") or {}).get("layers"), list)
    }
    found = [reference for layer in layers for reference in list_references(layer.get("inbound_nodes"))]
    found += list_references(outputs) if any(list_references(layer.get("inbound_nodes")) for layer in layers) else []
    return {name for name, calls in inner.items() if any(one[0] == name and one[1] >= calls > 0 for one in found)}


def find_sequential(layers: list[Any]) -> set[str]:
    """Return the names of the nested sequential models."""
    return {str(layer.get("name")) for layer in layers if layer.get("class_name") == "Sequential"}


def is_reference(node: Any) -> bool:
    """Return whether this is Keras 2's [layer, call, tensor] or [layer, call, tensor, arguments]."""
    return isinstance(node, list) and len(node) in (3, 4) and isinstance(node[0], str) and isinstance(node[1], int)


def list_references(node: Any) -> list[list[Any]]:
    """Return all references in a layer's inbound nodes; none in those of Keras 3, which are objects."""
    if is_reference(node):
        return [node, *(list_references(list(node[3].values())) if len(node) == 4 else [])]
    return [one for inner in node for one in list_references(inner)] if isinstance(node, list) else []


def count_back(node: Any, names: set[Any]) -> Any:
    """Return inbound nodes with the call numbers of some layers reduced by one."""
    if isinstance(node, dict):
        return {key: count_back(value, names) for key, value in node.items()}
    if not isinstance(node, list):
        return node
    node = [count_back(inner, names) for inner in node]
    return [node[0], node[1] - 1, *node[2:]] if is_reference(node) and node[0] in names else node


def add_input_layer(layers: list[Any]) -> list[Any]:
    """Return a Sequential's layers with an input layer, which old files gave as arguments of the first layer."""
    first = layers[0] if layers and isinstance(layers[0], dict) else {}
    shape = (first.get("config") or {}).get("batch_input_shape")
    if shape is None or first.get("class_name") == "InputLayer" or "inbound_nodes" in first:
        return layers
    name = f"{first['config'].get('name', 'first')}_input"
    config = {"batch_shape": shape, "dtype": first["config"].get("dtype", "float32"), "name": name}
    modern = {"module": "keras.layers", "registered_name": None} if "module" in first else {}
    return [{**modern, "class_name": "InputLayer", "config": config}, *layers]


def drop_input_shape(layer: Any) -> Any:
    """Return a layer without its inputs' shapes, which follow from the graph."""
    if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
        return layer
    if list_references(layer.get("inbound_nodes")):  # called as in Keras 2, whose shapes do not tell inputs by name
        layer = {key: value for key, value in layer.items() if key != "build_config"}
    kept = {key: value for key, value in layer["config"].items() if key != "batch_input_shape"}
    return {**layer, "config": kept}


def replace_names(node: Any, names: dict[str, str]) -> Any:
    """Return a config with every text that is one of the names replaced by its new name."""
    if isinstance(node, dict):
        return {key: replace_names(value, names) for key, value in node.items()}
    if isinstance(node, list):
        return [replace_names(inner, names) for inner in node]
    return names.get(node, node) if isinstance(node, str) else node


def to_op(layer: Any) -> Any:
    """Return a TFOpLambda or SlicingOpLambda as a layer of class OP; any other layer as it is."""
    if not isinstance(layer, dict):
        return layer
    if layer.get("class_name") not in LAMBDA_LAYERS:
        return name_arguments(layer)
    config = layer["config"]
    if config["function"] not in FUNCTIONS | {GETITEM}:
        return layer  # refuse_unsafe reports it by its name
    kept = {"name": config["name"], "function": config["function"], "dtype": config.get("dtype", "float32")}
    nodes = [to_arguments(node) for node in layer.get("inbound_nodes", [])]
    modern = {"class_name": OP, "config": kept, "name": layer.get("name", config["name"]), "inbound_nodes": nodes}
    return {**modern, "module": None, "registered_name": OP} if "module" in layer else modern


def name_arguments(layer: dict[str, Any]) -> dict[str, Any]:
    """Return a layer whose calls with tensors by name are as Keras 3 writes them; in lists it overlooks these."""
    nodes, recurrent = layer.get("inbound_nodes") or [], layer.get("class_name") in (*RECURRENT, "Bidirectional")
    if not list_references(nodes) or not (recurrent or any(list_named_tensors(node) for node in nodes)):
        return layer
    calls = []
    for node in nodes:
        call = to_arguments(node)
        if isinstance(first := call["args"][0], list) and (recurrent or len(first) == 1):
            call["args"] = first[:1]
            call["kwargs"] |= {"initial_state": first[1:]} if len(first) > 1 else {}
        calls.append(call)
    return {**layer, "inbound_nodes": calls}


def list_named_tensors(node: Any) -> list[list[Any]]:
    """Return the references among the keyword arguments of a call as Keras 2 wrote it."""
    first: Any = node[0] if isinstance(node, list) and node else None
    first = node if is_reference(node) else first
    return list_references(list(first[3].values())) if is_reference(first) and len(first) == 4 else []


def to_arguments(node: list[Any]) -> dict[str, Any]:
    """Return one call of a function, [layer, node, tensor, kwargs] or a list of these, as Keras 3 writes it."""
    several = isinstance(node[0], list)
    first = [to_tensor(one[:3]) for one in node] if several else to_tensor(node[:3])
    given = node[0][3] if several else node[3]
    kwargs = {key: to_tensor(value) for key, value in given.items() if key != "name"}
    if not several and node[0] == "_CONSTANT_VALUE":  # Keras 3 takes only tensors as the first argument
        key = next(key for key, value in kwargs.items() if isinstance(value, dict))
        return {"args": [kwargs.pop(key)], "kwargs": {**kwargs, "constant": first, "argument": key}}
    return {"args": [first], "kwargs": kwargs}


def to_tensor(value: Any) -> Any:
    """Return [layer, node, tensor] as Keras 3's reference to a tensor; anything else unchanged."""
    if isinstance(value, dict):
        return "..." if value.get("class_name") == "__ellipsis__" else value
    if not isinstance(value, list) or len(value) != 3 or not isinstance(value[0], str):
        return [to_tensor(one) for one in value] if isinstance(value, list) else value
    if value[0] == "_CONSTANT_VALUE":
        return value[2]
    history = {"shape": [None], "dtype": "float32", "keras_history": value}
    return {"class_name": "__keras_tensor__", "config": history}


def add_operation_modules(node: Any) -> Any:
    """Return a config of a Keras 3 .h5 file, which has no modules, with the modules of keras.ops' operations.

    Only of operations whose arguments are all in the config: older files have none, and defaults would be a guess.
    """
    if isinstance(node, list):
        return [add_operation_modules(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    node = evade_loader({key: add_operation_modules(value) for key, value in node.items()})
    if "module" in node or "inbound_nodes" not in node or not isinstance(node.get("config"), dict):
        return node
    module = find_operation(str(node.get("class_name")), node["config"])
    return {**node, "module": module, "registered_name": node["class_name"]} if module else node


def evade_loader(node: dict[str, Any]) -> dict[str, Any]:
    """Return a layer of an .h5 file so that two faults of Keras 3's loader of such files do not change it.

    It leaves out an axis that is a list of several or of none, in silence; layers with a module have another loader.
    And it takes the text "dot", a default, for the function keras.layers.dot.
    Source: keras 3.15, legacy/saving/saving_utils.py.
    """
    import keras

    name, config = str(node.get("class_name")), node.get("config")
    if not isinstance(config, dict) or "module" in node:
        return node
    if name == "Attention":
        return {**node, "config": {key: it for key, it in config.items() if (key, it) != ("score_mode", "dot")}}
    if not isinstance(config.get("axis"), list) or len(config["axis"]) == 1:
        return node
    if not hasattr(keras.layers, name):  # a trusted class
        return {**node, "module": None, "registered_name": name}
    kept = {key: it for key, it in config.items() if not key.endswith(("_initializer", "_regularizer", "_constraint"))}
    return {**node, "config": kept, "module": "keras.layers", "registered_name": None}


def find_operation(name: str, config: dict[str, Any]) -> str:
    """Return the module of an operation's class; "" for a layer, or where an argument is not in the config."""
    import keras
    from keras.src.ops import image, linalg, math, nn, numpy

    if hasattr(keras.layers, name) or hasattr(keras.models, name):
        return ""
    for module in (numpy, math, nn, image, linalg):
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, keras.Operation):
            wanted = [key for key in inspect.signature(found).parameters if key != "name"]
            return module.__name__ if all(key in config for key in wanted) else ""
    return ""


def write_modern(path: Path, kind: str, config: dict[str, Any], target: Path) -> None:
    """Write a copy of a .keras or .h5 file with another config.

    Its entries have the first date that ZIP can write: a clock that was never set is before it.
    """
    if kind == "keras":
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
            for entry in old.infolist():
                data = json.dumps(config).encode() if entry.filename == "config.json" else old.read(entry)
                new.writestr(zipfile.ZipInfo(entry.filename, (1980, 1, 1, 0, 0, 0)), data)
        return
    import h5py  # type: ignore[import-untyped,unused-ignore]

    shutil.copyfile(path, target)
    with h5py.File(target, "r+", locking=False) as file:  # a copy of our own: see archive.read_h5
        file.attrs["model_config"] = json.dumps(config)


def make_op() -> Any:
    """Return the layer class that calls a function of TensorFlow."""
    import keras
    import tensorflow as tf

    class EdgeSegOp(keras.layers.Layer):  # type: ignore[misc]
        """Calls one of FUNCTIONS, or returns a slice."""

        def __init__(self, function: str, **options: Any) -> None:
            super().__init__(**options)
            self.function = function
            self.apply = find_function(function)

        def call(self, first: Any, constant: Any = None, argument: str = "", **given: Any) -> Any:
            if constant is not None:  # TensorFlow's operators take the type of the tensor, wherever it stands
                constant = tf.convert_to_tensor(constant, first.dtype)
                return self.apply(constant, **{argument: first, **given})
            return self.apply(first, **given)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "function": self.function}

    return EdgeSegOp


def find_function(name: str) -> Callable[..., Any]:
    """Return one of the FUNCTIONS of TensorFlow by name. Raises: ValueError if it is none of them."""
    import tensorflow as tf

    if name == GETITEM:
        return take_slice
    if name not in FUNCTIONS:
        raise ValueError(f"the function tf.{name} is not one of those that are known to be harmless")
    found: Any = tf
    for part in name.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def take_slice(x: Any, slice_spec: Any) -> Any:
    """Return x[...] for a slice as Keras 2 wrote it: {start, stop, step}, numbers, None, "..."."""
    items = slice_spec if isinstance(slice_spec, (list, tuple)) else [slice_spec]
    found = [slice(i["start"], i["stop"], i["step"]) if isinstance(i, dict) else i for i in items]
    return x[tuple(... if isinstance(i, str) else i for i in found)]
