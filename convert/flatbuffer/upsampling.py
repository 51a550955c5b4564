"""How is a transposed convolution rewritten as ordinary convolutions and a shuffle of their channels?

A transposed convolution of kernel k and stride s gives, along one axis and with p pixels cropped in front,

    y[s q + r] = sum over d of x[q - d] w[r + p + s d],   r = 0 ... s - 1,   wherever 0 <= r + p + s d < k

which is a convolution of x to the s * s phases (r, r'), then DEPTH_TO_SPACE. Every runtime can quantize and delegate
that; tflite-runtime 2.14 does not load a dynamic-range TRANSPOSE_CONV. There are two forms:

    depth-to-space   one convolution of s * s * filters channels: fastest, but phases that have fewer taps are padded
                     with zeros (7 of 16 taps of a 3 x 3 kernel), which are stored in the file
    phases           one convolution for each phase, concatenated: no zeros, but the input is read s * s times

Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?" (arXiv 1609.07009).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .edit import (
    Model,
    Operator,
    add_constant,
    add_tensor,
    find_operators,
    find_tensor,
    make_operator,
    read_constant,
    replace_operator,
    shape_of,
    value_of,
)

MAX_ADDED_SHARE = 0.03  # of the file: how much larger zero taps may make it under `auto`
UPSAMPLES = ("auto", "keep", "depth-to-space", "phases")
Kernel = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Axis:
    """One axis of a transposed convolution: lengths of input, output and kernel, stride, pixels cropped in front."""

    input_length: int
    output_length: int
    kernel: int
    stride: int
    before: int

    @property
    def blocks(self) -> int:
        """How many groups of `stride` output pixels there are; the last one may be cropped."""
        return -(-self.output_length // self.stride)

    def shifts(self, phase: int) -> list[int]:
        """Return the shifts d for which a phase has a tap; empty where the kernel is shorter than the stride."""
        start = phase + self.before
        return [d for d in range(-self.kernel, self.kernel + 1) if 0 <= start + self.stride * d < self.kernel]

    def span(self) -> tuple[int, int]:
        """Return the smallest and the largest shift of all phases."""
        shifts = [d for phase in range(self.stride) for d in self.shifts(phase)]
        return min(shifts), max(shifts)

    def pads(self, first: int, last: int) -> tuple[int, int]:
        """Return how many pixels the input needs before and behind for shifts from first to last; negative: crop."""
        return last, self.blocks - self.input_length - first


@dataclass(frozen=True)
class TransposedConvolution:
    """One TRANSPOSE_CONV that can be rewritten; kernel is (filters, kh, kw, in)."""

    op: Operator
    name: str
    source: str  # name of the kernel's tensor: layers that share weights have the same
    kernel: Kernel
    rows: Axis
    columns: Axis

    @property
    def added_weights(self) -> int:
        """How many weights the depth-to-space form adds; all of them are zeros."""
        taps = self.rows.stride * self.columns.stride
        for axis in (self.rows, self.columns):
            first, last = axis.span()
            taps *= last - first + 1
        return int(self.kernel.size // (self.rows.kernel * self.columns.kernel) * taps - self.kernel.size)


def find_transposed(model: Model) -> list[TransposedConvolution]:
    """Return the model's TRANSPOSE_CONV operations of constant float kernel and equal strides of 2 or more."""
    found = []
    for op in find_operators(model, "TRANSPOSE_CONV"):
        kernel, options = read_constant(model, int(op.inputs[1])), op.builtinOptions
        if kernel is None or kernel.dtype != np.float32 or options.strideH != options.strideW or options.strideH < 2:
            continue
        input_shape, output_shape = shape_of(model, int(op.inputs[2])), shape_of(model, int(op.outputs[0]))
        same, stride = options.padding == value_of("Padding", "SAME"), int(options.strideH)
        rows, columns = (find_axis(input_shape[i], output_shape[i], kernel.shape[i], stride, same) for i in (1, 2))
        name, source = (model.subgraphs[0].tensors[i].name.decode() for i in (op.outputs[0], op.inputs[1]))
        found.append(TransposedConvolution(op, name, source, kernel, rows, columns))
    return found


def find_axis(input_length: int, output_length: int, kernel: int, stride: int, same: bool) -> Axis:
    """Return an axis; same: padded as the forward convolution that this one is the transpose of."""
    forward = -(-output_length // stride)
    before = max((forward - 1) * stride + kernel - output_length, 0) // 2 if same else 0
    return Axis(input_length, output_length, kernel, stride, before)


def choose_forms(model: Model, how: str, weights: int) -> dict[str, str]:
    """Return {name: form} for a model's transposed convolutions; `weights` is how many numbers its file holds.

    "auto" gives the depth-to-space form to the layers that add fewest zeros, as far as MAX_ADDED_SHARE allows; the
    others stay as they are.
    """
    found = sorted(find_transposed(model), key=lambda layer: layer.added_weights)
    if how != "auto":
        return {layer.name: how for layer in found}
    forms, left = {}, MAX_ADDED_SHARE * weights
    for source, added_weights in {layer.source: layer.added_weights for layer in found}.items():
        left -= added_weights
        forms[source] = "depth-to-space" if left >= 0 else "keep"
    return {layer.name: forms[layer.source] for layer in found}


def rewrite_upsampling(model: Model, forms: Mapping[str, str]) -> dict[str, int]:
    """Rewrite the named transposed convolutions; return {name: weights added} of those rewritten."""
    added: dict[str, int] = {}
    seen: set[str] = set()
    for layer in find_transposed(model):
        form = forms.get(layer.name, "keep")
        if form == "keep":
            continue
        write = write_phases if form == "phases" else write_depth_to_space
        replace_operator(model, layer.op, append_shuffle(model, layer, *write(model, layer)))
        added[layer.name] = layer.added_weights if form == "depth-to-space" and layer.source not in seen else 0
        seen.add(layer.source)
    return added


def write_depth_to_space(model: Model, layer: TransposedConvolution) -> tuple[list[Operator], int]:
    """Return one convolution to all phases, and its output's tensor index."""
    first, last = zip(layer.rows.span(), layer.columns.span(), strict=True)
    kernels = [phase_kernel(layer, r, c, first, last) for r, c in list_phases(layer)]
    ops, source = pad_input(model, layer, first, last)
    conv, out = convolve(model, layer, source, np.concatenate(kernels), len(kernels), "all")
    return [*ops, conv], out


def write_phases(model: Model, layer: TransposedConvolution) -> tuple[list[Operator], int]:
    """Return one convolution for each phase and their concatenation, and its output's tensor index."""
    from ai_edge_litert import schema_py_generated as schema

    ops: list[Operator] = []
    outputs: list[int] = []
    inputs: dict[object, int] = {}
    for r, c in list_phases(layer):
        rows, columns = layer.rows.shifts(r) or [0], layer.columns.shifts(c) or [0]
        first, last = (rows[0], columns[0]), (rows[-1], columns[-1])
        if (first, last) not in inputs:
            fitting, inputs[first, last] = pad_input(model, layer, first, last)
            ops += fitting
        kernel = phase_kernel(layer, r, c, first, last)
        conv, out = convolve(model, layer, inputs[first, last], kernel, 1, f"phase{r}{c}")
        ops.append(conv)
        outputs.append(out)
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    shape = (1, layer.rows.blocks, layer.columns.blocks, len(outputs) * len(layer.kernel))
    joined = add_tensor(model, f"{layer.name}/phases", shape)
    return [*ops, make_operator(model, "CONCATENATION", outputs, [joined], options)], joined


def list_phases(layer: TransposedConvolution) -> list[tuple[int, int]]:
    """Return the phases in the order of DEPTH_TO_SPACE's channels."""
    return [(r, c) for r in range(layer.rows.stride) for c in range(layer.columns.stride)]


def phase_kernel(layer: TransposedConvolution, r: int, c: int, first: tuple[int, ...], last: tuple[int, ...]) -> Kernel:
    """Return a phase's kernel (filters, th, tw, in) over the shifts from first to last, (rows, columns) each."""
    filters, _, _, channels = layer.kernel.shape
    kernel = np.zeros((filters, last[0] - first[0] + 1, last[1] - first[1] + 1, channels), np.float32)
    for dy in layer.rows.shifts(r):
        for dx in layer.columns.shifts(c):
            y = r + layer.rows.before + layer.rows.stride * dy
            x = c + layer.columns.before + layer.columns.stride * dx
            kernel[:, last[0] - dy, last[1] - dx] = layer.kernel[:, y, x]  # a correlation has the shift's opposite sign
    return kernel


def pad_input(
    model: Model, layer: TransposedConvolution, first: tuple[int, ...], last: tuple[int, ...]
) -> tuple[list[Operator], int]:
    """Return the operations that pad or crop the input for these shifts, and their result's tensor index."""
    from ai_edge_litert import schema_py_generated as schema

    source = int(layer.op.inputs[2])
    pads = [axis.pads(a, b) for axis, a, b in zip((layer.rows, layer.columns), first, last, strict=True)]
    batch, *sides, channels = shape_of(model, source)
    ops, name = [], f"{layer.name}/input" + "".join(f"_{a}_{b}" for a, b in pads)
    if min(map(min, pads)) < 0:
        begin = (0, *(max(-a, 0) for a, _ in pads), 0)
        sides = [side - max(-a, 0) - max(-b, 0) for side, (a, b) in zip(sides, pads, strict=True)]
        ops.append(crop(model, f"{name}/crop", source, begin, (batch, *sides, channels)))
        source = int(ops[-1].outputs[0])
    if max(map(max, pads)) > 0:
        around = [(0, 0), *((max(a, 0), max(b, 0)) for a, b in pads), (0, 0)]
        sides = [side + sum(pair) for side, pair in zip(sides, around[1:3], strict=True)]
        padded = add_tensor(model, f"{name}/pad", (batch, *sides, channels))
        paddings = add_constant(model, f"{name}/pad/paddings", np.array(around, np.int32))
        ops.append(make_operator(model, "PAD", [source, paddings], [padded], schema.PadOptionsT()))
        source = padded
    return ops, source


def crop(
    model: Model, name: str, source: int, begin: tuple[int, ...], size: tuple[int, ...], out: int | None = None
) -> Operator:
    """Return the operation that copies a block of a tensor to a new tensor or to `out`."""
    from ai_edge_litert import schema_py_generated as schema

    numbers = (("begin", begin), ("size", size))
    constants = [add_constant(model, f"{name}/{what}", np.array(value, np.int32)) for what, value in numbers]
    out = add_tensor(model, name, size) if out is None else out
    return make_operator(model, "SLICE", [source, *constants], [out], schema.SliceOptionsT())


def convolve(
    model: Model, layer: TransposedConvolution, source: int, kernel: Kernel, copies: int, label: str
) -> tuple[Operator, int]:
    """Return a convolution of `source`, its bias repeated for all copies, its activation fused; and its output."""
    from ai_edge_litert import schema_py_generated as schema

    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = value_of("Padding", "VALID"), 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = layer.op.builtinOptions.fusedActivationFunction
    bias = read_constant(model, int(layer.op.inputs[3])) if len(layer.op.inputs) > 3 else None
    bias = np.zeros(len(layer.kernel), np.float32) if bias is None else bias
    label += f"_{layer.rows.before}_{layer.columns.before}"
    shared = find_tensor(model, f"{layer.source}/{label}")
    weights = add_constant(model, f"{layer.source}/{label}", kernel) if shared is None else shared
    constants = [weights, add_constant(model, f"{layer.name}/{label}/bias", np.tile(bias, copies))]
    out = add_tensor(model, f"{layer.name}/{label}", (1, layer.rows.blocks, layer.columns.blocks, len(kernel)))
    return make_operator(model, "CONV_2D", [source, *constants], [out], options), out


def append_shuffle(model: Model, layer: TransposedConvolution, ops: list[Operator], source: int) -> list[Operator]:
    """Return the operations and DEPTH_TO_SPACE after them, cropped where the output is no multiple of the stride."""
    from ai_edge_litert import schema_py_generated as schema

    out = int(layer.op.outputs[0])
    output_shape, options = shape_of(model, out), schema.DepthToSpaceOptionsT()
    options.blockSize = layer.rows.stride
    whole = (1, layer.rows.blocks * layer.rows.stride, layer.columns.blocks * layer.columns.stride, output_shape[3])
    if whole == output_shape:
        return [*ops, make_operator(model, "DEPTH_TO_SPACE", [source], [out], options)]
    shuffled = add_tensor(model, f"{layer.name}/shuffled", whole)
    last = crop(model, f"{layer.name}/crop", shuffled, (0, 0, 0, 0), output_shape, out)
    return [*ops, make_operator(model, "DEPTH_TO_SPACE", [source], [shuffled], options), last]
