"""Which of a model's outputs is the mask, which one classifies the whole image, and how each is activated.

Read from the traced graph: a layer's name says little, the last operations say all. Runs in the child process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_runtime.contract import near_miss
from edge_runtime.errors import ModelError

from .graph import Graph, count_kernels, find_layer, find_range, skip_moving, walk_back
from .loaded import Call, Loaded, say_shape

# Ops whose result is no probability, unless its range says otherwise.
LINEAR = {"BiasAdd", "AddV2", "Add", "Sub", "Mul", "RealDiv", "Conv2D", "Conv2DBackpropInput", "MatMul", "Relu"}
LINEAR |= {"BatchMatMulV2", "Relu6", "LeakyRelu", "Elu", "Selu", "Tanh", "FusedBatchNormV3", "Softplus", "LogSoftmax"}
LINEAR |= {"ConcatV2", "Conv3D", "Conv3DBackpropInputV2", "AddN", "Einsum"}
SLACK = 1e-5
IN_FILE = "in the --contract file"


@dataclass(frozen=True)
class Output:
    """One output: its name, its static shape (1, ...), how it is activated, and the operation that told."""

    name: str
    place: int  # among the model's outputs
    shape: tuple[int, ...]
    activation: str  # "sigmoid" | "softmax" | "linear" (logits) | "unknown"
    told: str
    flattened: tuple[int, ...] | None = None  # its own shape, where it is a map written as a list of pixels

    @property
    def flat(self) -> bool:
        """Whether it says one thing of the whole image: (1, N), or (1, 1, 1, N)."""
        return len(self.shape) >= 2 and all(side == 1 for side in self.shape[:-1])

    def __str__(self) -> str:
        return f"{self.name!r} {say_shape(self.shape)} {self.activation}"


@dataclass(frozen=True)
class Chosen:
    """What is converted: `call` gives the mask or, where there are classes, the pair (mask, classes)."""

    call: Call
    run: Call  # the same, already traced
    shape: tuple[int, ...]  # of the mask: (1, h, w, K) or (1, D, h, w, K)
    activation: str
    classes: Mapping[str, Any] | None  # {"shape": [1, N], "activation": ..., "name": ...}
    kernels: int  # numbers in the matrices and filters that these outputs need
    notes: tuple[str, ...]

    def give_mask(self, x: Any) -> Any:
        """Return the mask alone."""
        given = self.run(x)
        return given[0] if isinstance(given, tuple) else given


def choose_outputs(what: str, loaded: Loaded, graph: Graph, wishes: Mapping[str, Any]) -> Chosen:
    """Return the outputs to convert, an activation appended where the user asked for one; `graph` is the model's.

    wishes: mask (an output's name), classes (False, or {"output": name}), activation, labels (whether they are told).
    Raises:
        ModelError: no mask or several, logits without a word from the user, or a word that contradicts the model.
    """
    refuse_chance(what, graph, [str(layer.name) for layer in loaded.layers])
    outputs = read_outputs(loaded, graph)
    mask = choose_mask(what, loaded, outputs, wishes.get("mask"))
    activation, appended = choose_activation(what, mask, wishes.get("activation"), bool(wishes.get("labels")))
    others = [output for output in outputs if output is not mask]
    classes = choose_classes(what, others, wishes.get("classes"))
    left = [f"{output.name!r} {say_shape(output.shape)}" for output in others if output is not classes]
    notes = [f"of {len(outputs)} outputs, {mask.name!r} is the mask"] if len(outputs) > 1 else []
    if mask.flattened:
        notes.append(f"its output {say_shape(mask.flattened)} is read as a map {say_shape(mask.shape)}")
    notes += [f"outputs left out: {', '.join(left)}"] if left else []
    notes += [f"{activation} appended to the graph"] if appended else []
    append = activation if appended else ""
    return Chosen(
        call=pick_outputs(loaded.call, mask, classes, append),
        run=pick_outputs(graph.run, mask, classes, append),
        shape=mask.shape,
        activation=activation,
        classes=None if classes is None else describe_classes(classes),
        kernels=count_kernels(graph, [output.place for output in (mask, classes) if output is not None]),
        notes=tuple(notes),
    )


def refuse_chance(what: str, graph: Graph, layers: Sequence[str]) -> None:
    """Refuse a model that draws random numbers when it answers, such as one with dropout at work."""
    for operation in walk_back(graph, range(len(graph.outputs))):
        if operation.type.startswith(("Random", "StatelessRandom", "Multinomial", "StatelessMultinomial")):
            found = find_layer(operation.name, layers)
            where = f"layer {found!r}" if found else f"operation {operation.name!r}"
            why = f"{where} draws random numbers in every answer (training=True?)"
            raise ModelError(what, why, "save it with that layer called as in inference")


def describe_classes(classes: Output) -> dict[str, Any]:
    """Return what the contract needs to know of the classes' output."""
    return {"shape": [1, classes.shape[-1]], "activation": classes.activation, "name": classes.name}


def pick_outputs(call: Call, mask: Output, classes: Output | None, append: str) -> Call:
    """Return a call that gives the mask, or the mask and the classes (1, N)."""
    import tensorflow as tf

    apply = {"": tf.identity, "sigmoid": tf.nn.sigmoid, "softmax": tf.nn.softmax}[append]

    def picked(x: Any) -> Any:
        given = call(x)
        found = tf.reshape(given[mask.place], mask.shape) if mask.flattened else given[mask.place]
        found = apply(found) if append else found
        return found if classes is None else (found, tf.reshape(given[classes.place], (1, -1)))

    return picked


def read_outputs(loaded: Loaded, graph: Graph) -> list[Output]:
    """Return the model's outputs at its static shape."""
    shapes = [tuple(tensor.shape.as_list()) if tensor.shape.rank is not None else () for tensor in graph.outputs]
    if any(not shape or None in shape for shape in shapes):  # some operations do not say before they run
        import tensorflow as tf

        shapes = [tuple(given.shape) for given in graph.run(tf.zeros((1, *loaded.shape), loaded.dtype))]
    found = []
    for place, (name, tensor, shape) in enumerate(zip(loaded.outputs, graph.outputs, shapes, strict=True)):
        found.append(fold(loaded, Output(name, place, shape, *find_activation(graph, tensor, shape))))
    return found


def fold(loaded: Loaded, output: Output) -> Output:
    """Return an output (1, h w, K), (1, h, w) or (1, h w) as the map (1, h, w, K) that it is; any other as it is.

    A map is one whose sides are the input's, or these divided by one whole number.
    """
    if len(loaded.shape) != 3 or len(output.shape) not in (2, 3) or output.activation == "unknown":
        return output
    height, width, _ = loaded.shape
    for step in range(1, min(height, width) // 2 + 1 if len(output.shape) == 3 else 2):
        if height % step or width % step:
            continue
        size = (height // step, width // step)
        if output.shape[1:] == size:
            return replace(output, shape=(1, *size, 1), flattened=output.shape)
        if output.shape[1] == size[0] * size[1]:
            channels = output.shape[2] if len(output.shape) == 3 else 1
            return replace(output, shape=(1, *size, channels), flattened=output.shape)
    return output


def find_activation(graph: Graph, tensor: Any, shape: tuple[int, ...]) -> tuple[str, str]:
    """Return how an output is activated, and the operation that it was told by.

    "sigmoid" or "softmax"; "linear" for logits; "unknown" where the last operations are none of the common ones.
    """
    operation = skip_moving(tensor)
    told, channels = f"{operation.type} {operation.name!r}", shape[-1]
    if operation.type == "Softmax":
        whole = operation.outputs[0].shape[-1] in (channels, None)
        return ("softmax" if whole else "sigmoid" if channels == 1 else "unknown"), told
    if operation.type == "Sigmoid":
        return "sigmoid", told
    low, high = find_range(graph, tensor)
    if low >= -SLACK and high <= 1 + SLACK:  # a mean of sigmoids, a hard sigmoid; of several channels: which kind?
        return ("sigmoid" if channels == 1 else "unknown"), told
    bounded = math.isfinite(low) and math.isfinite(high)
    return ("linear" if operation.type in LINEAR and not bounded else "unknown"), told


def choose_mask(what: str, loaded: Loaded, outputs: Sequence[Output], asked: str | None) -> Output:
    """Return the output that is the mask: the one asked for, the only map, or the only one at the input's size.

    Raises:
        ModelError: there is none, or several, which are named.
    """
    rank = len(loaded.shape) + 1
    maps = [o for o in outputs if len(o.shape) == rank and not o.flat]
    if asked is not None:
        named = next((output for output in outputs if output.name == asked), None)
        if named is None:
            names = [output.name for output in outputs]
            fix = near_miss(asked, names) or f"its outputs are {', '.join(names)}"
            raise ModelError(what, f"it has no output {asked!r} to be the mask", fix)
        if named not in maps:
            raise no_map(what, loaded, [named])
        return check_depth(what, loaded, named)
    if not maps:
        raise no_map(what, loaded, outputs)
    likely = [o for o in maps if o.activation in ("sigmoid", "softmax")] or maps
    whole = [o for o in likely if o.shape[1:-1] == loaded.shape[:-1]] or likely
    if len(whole) > 1:
        found = "; ".join(map(str, whole))
        fix = f'say mask = "{whole[-1].name}" {IN_FILE}, or save a model without the others'
        raise ModelError(what, f"it has {len(outputs)} outputs, of which {len(whole)} could be the mask: {found}", fix)
    return check_depth(what, loaded, whole[0])


def no_map(what: str, loaded: Loaded, outputs: Sequence[Output]) -> ModelError:
    """Return the error for outputs none of which is a mask."""
    wanted = "(1, depth, height, width, classes)" if len(loaded.shape) == 4 else "(1, height, width, classes)"
    found = "; ".join(map(str, outputs))
    return ModelError(what, f"none of its outputs is a mask {wanted}: {found}", "end it with a map of probabilities")


def check_depth(what: str, loaded: Loaded, mask: Output) -> Output:
    """Refuse a volume's mask of another depth: which slice is which would be a guess."""
    if len(loaded.shape) == 4 and mask.shape[1] != loaded.shape[0]:
        why = f"its mask {mask.name!r} has {mask.shape[1]} slices, its input {loaded.shape[0]}"
        raise ModelError(what, why, "end it with as many slices as it takes")
    return mask


def choose_activation(what: str, mask: Output, asked: str | None, labelled: bool) -> tuple[str, bool]:
    """Return the mask's activation and whether it has to be appended to the graph.

    Raises:
        ModelError: logits or an unknown last operation without a word from the user, or a word that contradicts.
    """
    found, classes = mask.activation, mask.shape[-1]
    say = f'or say activation = "sigmoid" (or "softmax") {IN_FILE}'
    if found == "unknown" and asked is None:
        why = f"its last operation, {mask.told}, is neither a sigmoid nor a softmax"
        raise ModelError(what, why, f"end it with one, {say}")
    if found == "linear" and asked is None:
        why = f"its output is no probability (the last operation is {mask.told}: logits?)"
        raise ModelError(what, why, f"end it with a sigmoid, {say} and it is appended")
    if found in ("sigmoid", "softmax") and asked not in (None, found):
        raise ModelError(what, f"its output is a {found}, but the contract file says {asked}")
    activation = asked or found
    if activation == "softmax" and classes == 1:
        why = f"its output is a softmax over one channel, which is 1 everywhere (layer of {mask.told})"
        raise ModelError(what, why, "end it with a sigmoid, or with two channels (background first)")
    if activation == "sigmoid" and classes > 1 and not labelled:
        why = f"its output is a sigmoid with {classes} channels: {classes} lesions, or a background among them?"
        fix = (
            f"say labels = [{{name, colour = [r, g, b]}}, ...] {IN_FILE} if each is a lesion; else end it with softmax"
        )
        raise ModelError(what, why, fix)
    return activation, found == "linear"


def choose_classes(what: str, others: Sequence[Output], asked: Any) -> Output | None:
    """Return the output that classifies the whole image; None where there is none, or none is wanted.

    Raises:
        ModelError: several, or one asked for by a name that there is not.
    """
    if asked is False:
        return None
    fit = [o for o in others if o.flat and o.activation in ("sigmoid", "softmax")]
    name = asked.get("output") if isinstance(asked, Mapping) else None
    if name is not None:
        found = next((output for output in fit if output.name == name), None)
        if found is None:
            names = [output.name for output in fit]
            fix = near_miss(str(name), names) or (f"there is {', '.join(names)}" if names else "")
            raise ModelError(what, f"it has no sigmoid or softmax output {name!r} to be the classes", fix)
        return found
    if len(fit) > 1:
        why = f"it has {len(fit)} outputs that classify the image: {'; '.join(map(str, fit))}"
        fix = f'say classes = {{output = "{fit[0].name}"}} {IN_FILE}, or classes = false'
        raise ModelError(what, why, fix)
    return fit[0] if fit else None
