"""Which of a model's outputs is the mask, which one classifies the whole image, and how is each activated?

Read from the last operations of the traced graph, since a layer's name tells little. Runs in the child process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from convert.source.loaded_model import Call, LoadedModel, format_shape
from convert.source.process import ClassOutput, ConversionRequest
from edge_runtime.errors import ModelError, near_miss

from .traced_graph import TracedGraph, count_kernels, find_layer, find_range, skip_moving, walk_back

# Ops whose result is no probability, unless its range is within [0, 1].
LINEAR = {"BiasAdd", "AddV2", "Add", "Sub", "Mul", "RealDiv", "Conv2D", "Conv2DBackpropInput", "MatMul", "Relu"}
LINEAR |= {"BatchMatMulV2", "Relu6", "LeakyRelu", "Elu", "Selu", "Tanh", "FusedBatchNormV3", "Softplus", "LogSoftmax"}
LINEAR |= {"ConcatV2", "Conv3D", "Conv3DBackpropInputV2", "AddN", "Einsum"}
SLACK = 1e-5
IN_FILE = "in the --contract file"


@dataclass(frozen=True)
class ModelOutput:
    """One output of the model."""

    name: str
    index: int  # among the model's outputs
    shape: tuple[int, ...]  # static, (1, ...)
    activation: str  # "sigmoid" | "softmax" | "linear" (logits) | "unknown"
    last_operation: str  # from which the activation was read
    flattened: tuple[int, ...] | None = None  # its shape in the model, where that is a map as a list of pixels

    @property
    def flat(self) -> bool:
        """Whether it is one vector for the whole image: (1, N), or (1, 1, 1, N)."""
        return len(self.shape) >= 2 and all(side == 1 for side in self.shape[:-1])

    def __str__(self) -> str:
        return f"{self.name!r} {format_shape(self.shape)} {self.activation}"


@dataclass(frozen=True)
class ChosenOutputs:
    """What is converted."""

    call: Call  # returns the mask or, where there are classes, the pair (mask, classes)
    run: Call  # the same, already traced
    shape: tuple[int, ...]  # of the mask: (1, h, w, K) or (1, D, h, w, K)
    activation: str
    classes: ClassOutput | None
    kernels: int  # numbers in the matrices and filters that these outputs depend on
    picked: tuple[int, bool, int | None, str]  # mask, whether flattened, classes, activation appended
    notes: tuple[str, ...]

    def run_mask(self, x: Any) -> Any:
        """Return the mask alone."""
        results = self.run(x)
        return results[0] if isinstance(results, tuple) else results


def choose_outputs(request: ConversionRequest, loaded: LoadedModel, graph: TracedGraph) -> ChosenOutputs:
    """Return the outputs to convert, an activation appended where the user asked for one; `graph` is the model's.

    Raises:
        ModelError: no mask or several, logits without a setting for them, or a setting that contradicts the model.
    """
    what = request.model
    refuse_randomness(what, graph, [str(layer.name) for layer in loaded.layers])
    outputs = read_outputs(loaded, graph)
    mask = choose_mask(what, loaded, outputs, request.mask)
    activation, appended = choose_activation(what, mask, request.activation, request.labelled)
    others = [output for output in outputs if output is not mask]
    classes = choose_classes(what, others, request.classes)
    left = [f"{output.name!r} {format_shape(output.shape)}" for output in others if output is not classes]
    notes = [f"of {len(outputs)} outputs, {mask.name!r} is the mask"] if len(outputs) > 1 else []
    if mask.flattened:
        notes.append(f"its output {format_shape(mask.flattened)} is read as a map {format_shape(mask.shape)}")
    notes += [f"outputs left out: {', '.join(left)}"] if left else []
    notes += [f"{activation} appended to the graph"] if appended else []
    append = activation if appended else ""
    picks = mask.index, mask.shape if mask.flattened else None, None if classes is None else classes.index, append
    return ChosenOutputs(
        call=pick_outputs(loaded.call, *picks),
        run=pick_outputs(graph.run, *picks),
        shape=mask.shape,
        activation=activation,
        classes=None if classes is None else ClassOutput((1, classes.shape[-1]), classes.activation, classes.name),
        kernels=count_kernels(graph, [output.index for output in (mask, classes) if output is not None]),
        picked=(mask.index, bool(mask.flattened), picks[2], append),
        notes=tuple(notes),
    )


def refuse_randomness(what: str, graph: TracedGraph, layers: Sequence[str]) -> None:
    """Raise ModelError for a model that draws random numbers in inference, such as one with active dropout."""
    for operation in walk_back(graph, range(len(graph.outputs))):
        if operation.type.startswith(("Random", "StatelessRandom", "Multinomial", "StatelessMultinomial")):
            found = find_layer(operation.name, layers)
            where = f"layer {found!r}" if found else f"operation {operation.name!r}"
            why = f"{where} draws random numbers in inference (training=True?)"
            raise ModelError(what, why, "save it with that layer called as in inference")


def pick_outputs(call: Call, mask: int, shape: tuple[int, ...] | None, classes: int | None, append: str) -> Call:
    """Return a call whose result is the mask, or the mask and the classes (1, N), by their places among the outputs.

    shape: of the mask, where it is a list of pixels. append: an activation.
    """
    import tensorflow as tf

    apply = {"": tf.identity, "sigmoid": tf.nn.sigmoid, "softmax": tf.nn.softmax}[append]

    def call_picked(x: Any) -> Any:
        results = call(x)
        found = tf.reshape(results[mask], shape) if shape else results[mask]
        found = apply(found) if append else found
        return found if classes is None else (found, tf.reshape(results[classes], (1, -1)))

    return call_picked


def read_outputs(loaded: LoadedModel, graph: TracedGraph) -> list[ModelOutput]:
    """Return the model's outputs at its static shape."""
    shapes = [tuple(tensor.shape.as_list()) if tensor.shape.rank is not None else () for tensor in graph.outputs]
    if any(not shape or None in shape for shape in shapes):  # some operations' shapes are known only at run time
        import tensorflow as tf

        shapes = [tuple(result.shape) for result in graph.run(tf.zeros((1, *loaded.shape), loaded.dtype))]
    found = []
    for index, (name, tensor, shape) in enumerate(zip(loaded.outputs, graph.outputs, shapes, strict=True)):
        found.append(unflatten(loaded, ModelOutput(name, index, shape, *find_activation(graph, tensor, shape))))
    return found


def unflatten(loaded: LoadedModel, output: ModelOutput) -> ModelOutput:
    """Return an output (1, h w, K), (1, h, w) or (1, h w) as the map (1, h, w, K); any other unchanged.

    The sides of a map are the input's, or these divided by one whole number.
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


def find_activation(graph: TracedGraph, tensor: Any, shape: tuple[int, ...]) -> tuple[str, str]:
    """Return how an output is activated, and the operation that shows it.

    "sigmoid" or "softmax"; "linear" for logits; "unknown" where the last operations are none of the common ones.
    """
    operation = skip_moving(tensor)
    last_operation, channels = f"{operation.type} {operation.name!r}", shape[-1]
    if operation.type == "Softmax":
        whole = operation.outputs[0].shape[-1] in (channels, None)
        return ("softmax" if whole else "sigmoid" if channels == 1 else "unknown"), last_operation
    if operation.type == "Sigmoid":
        return "sigmoid", last_operation
    low, high = find_range(graph, tensor)
    if low >= -SLACK and high <= 1 + SLACK:  # such as a mean of sigmoids; of several channels, the kind is not known
        return ("sigmoid" if channels == 1 else "unknown"), last_operation
    bounded = math.isfinite(low) and math.isfinite(high)
    return ("linear" if operation.type in LINEAR and not bounded else "unknown"), last_operation


def choose_mask(what: str, loaded: LoadedModel, outputs: Sequence[ModelOutput], asked: str | None) -> ModelOutput:
    """Return the output that is the mask: the one asked for, the only map, or the only one of the input's size.

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
            raise explain_no_map(what, loaded, [named])
        return check_depth(what, loaded, named)
    if not maps:
        raise explain_no_map(what, loaded, outputs)
    likely = [o for o in maps if o.activation in ("sigmoid", "softmax")] or maps
    whole = [o for o in likely if o.shape[1:-1] == loaded.shape[:-1]] or likely
    if len(whole) > 1:
        found = "; ".join(map(str, whole))
        fix = f'say mask = "{whole[-1].name}" {IN_FILE}, or save a model without the others'
        raise ModelError(what, f"it has {len(outputs)} outputs, of which {len(whole)} could be the mask: {found}", fix)
    return check_depth(what, loaded, whole[0])


def explain_no_map(what: str, loaded: LoadedModel, outputs: Sequence[ModelOutput]) -> ModelError:
    """Return the error for outputs none of which is a mask."""
    wanted = "(1, depth, height, width, classes)" if len(loaded.shape) == 4 else "(1, height, width, classes)"
    found = "; ".join(map(str, outputs))
    return ModelError(what, f"none of its outputs is a mask {wanted}: {found}", "end it with a map of probabilities")


def check_depth(what: str, loaded: LoadedModel, mask: ModelOutput) -> ModelOutput:
    """Return the mask. Raises: ModelError for a volume's mask of another depth, whose slices could not be matched."""
    if len(loaded.shape) == 4 and mask.shape[1] != loaded.shape[0]:
        why = f"its mask {mask.name!r} has {mask.shape[1]} slices, its input {loaded.shape[0]}"
        raise ModelError(what, why, "end it with as many slices as it takes")
    return mask


def choose_activation(what: str, mask: ModelOutput, asked: str | None, labelled: bool) -> tuple[str, bool]:
    """Return the mask's activation and whether it has to be appended to the graph.

    Raises:
        ModelError: logits or an unknown last operation without a setting for it, or a setting that contradicts.
    """
    found, classes = mask.activation, mask.shape[-1]
    fix = f'or say activation = "sigmoid" (or "softmax") {IN_FILE}'
    if found == "unknown" and asked is None:
        why = f"its last operation, {mask.last_operation}, is neither a sigmoid nor a softmax"
        raise ModelError(what, why, f"end it with one, {fix}")
    if found == "linear" and asked is None:
        why = f"its output is no probability (the last operation is {mask.last_operation}: logits?)"
        raise ModelError(what, why, f"end it with a sigmoid, {fix} and it is appended")
    if found in ("sigmoid", "softmax") and asked not in (None, found):
        raise ModelError(what, f"its output is a {found}, but the contract file says {asked}")
    activation = asked or found
    if activation == "softmax" and classes == 1:
        why = f"its output is a softmax over one channel, which is 1 everywhere (layer of {mask.last_operation})"
        raise ModelError(what, why, "end it with a sigmoid, or with two channels (background first)")
    if activation == "sigmoid" and classes > 1 and not labelled:
        why = f"its output is a sigmoid with {classes} channels: {classes} lesions, or a background among them?"
        fix = (
            f"say labels = [{{name, colour = [r, g, b]}}, ...] {IN_FILE} if each is a lesion; else end it with softmax"
        )
        raise ModelError(what, why, fix)
    return activation, found == "linear"


def choose_classes(what: str, others: Sequence[ModelOutput], asked: str | bool | None) -> ModelOutput | None:
    """Return the output that classifies the whole image; None where there is none, or none is wanted.

    asked: the name of the output; False: none.
    Raises:
        ModelError: several, or none of the name that was asked for.
    """
    if asked is False:
        return None
    fit = [o for o in others if o.flat and o.activation in ("sigmoid", "softmax")]
    if isinstance(asked, str):
        found = next((output for output in fit if output.name == asked), None)
        if found is None:
            names = [output.name for output in fit]
            fix = near_miss(asked, names) or (f"there is {', '.join(names)}" if names else "")
            raise ModelError(what, f"it has no sigmoid or softmax output {asked!r} to be the classes", fix)
        return found
    if len(fit) > 1:
        why = f"it has {len(fit)} outputs that classify the image: {'; '.join(map(str, fit))}"
        fix = f'say classes = {{output = "{fit[0].name}"}} {IN_FILE}, or classes = false'
        raise ModelError(what, why, fix)
    return fit[0] if fit else None
