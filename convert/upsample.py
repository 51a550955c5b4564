"""The rewrite of transposed convolutions: ordinary convolutions and a shuffle of their channels.

A transposed convolution of kernel k and stride s gives, along one axis and with p pixels cropped in front,

    y[s q + r] = sum over d of x[q - d] w[r + p + s d],   r = 0 ... s - 1,   wherever 0 <= r + p + s d < k

which is a convolution of x to the s * s phases (r, r'), then DEPTH_TO_SPACE. Every runtime can quantize and delegate
that; tflite-runtime 2.14 refuses a dynamic-range TRANSPOSE_CONV. Two ways to write it:

    depth-to-space   one convolution of s * s * filters channels: fastest, but phases that have fewer taps are filled up
                     with zeros (7 of 16 taps of a 3 x 3 kernel), which the file has to carry
    phases           one convolution for each phase, concatenated: no zeros, but the input is read s * s times

Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?" (arXiv 1609.07009).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .surgery import (
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

BUDGET = 0.03  # of the file: what zero taps may add to it under `auto`
UPSAMPLES = ("auto", "keep", "depth-to-space", "phases")
Kernel = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Axis:
    """One axis of a transposed convolution: lengths of input, output and kernel, stride, pixels cropped in front."""

    length: int
    grown: int
    kernel: int
    stride: int
    before: int

    @property
    def blocks(self) -> int:
        """How many groups of `stride` output pixels there are, the last one perhaps cropped."""
        return -(-self.grown // self.stride)

    def shifts(self, phase: int) -> list[int]:
        """Return the shifts d for which a phase has a tap; none where the kernel is shorter than the stride."""
        start = phase + self.before
        return [d for d in range(-self.kernel, self.kernel + 1) if 0 <= start + self.stride * d < self.kernel]

    def span(self) -> tuple[int, int]:
        """Return the smallest and the largest shift of all phases."""
        shifts = [d for phase in range(self.stride) for d in self.shifts(phase)]
        return min(shifts), max(shifts)

    def pads(self, first: int, last: int) -> tuple[int, int]:
        """Return how many pixels the input needs before and behind for shifts from first to last; negative: crop."""
        return last, self.blocks - self.length - first


@dataclass(frozen=True)
class Transposed:
    """One TRANSPOSE_CONV that can be rewritten; kernel is (filters, kh, kw, in)."""

    op: Operator
    name: str
    source: str  # name of the kernel's tensor, which shared layers have in common
    kernel: Kernel
    rows: Axis
    columns: Axis

    @property
    def extra(self) -> int:
        """How many weights, zeros all of them, the depth-to-space form adds."""
        taps = self.rows.stride * self.columns.stride
        for axis in (self.rows, self.columns):
            first, last = axis.span()
            taps *= last - first + 1
        return int(self.kernel.size // (self.rows.kernel * self.columns.kernel) * taps - self.kernel.size)


def find_transposed(model: Model) -> list[Transposed]:
    """Return the model's TRANSPOSE_CONV operations of constant float kernel and equal strides of 2 or more."""
    found = []
    for op in find_operators(model, "TRANSPOSE_CONV"):
        kernel, options = read_constant(model, int(op.inputs[1])), op.builtinOptions
        if kernel is None or kernel.dtype != np.float32 or options.strideH != options.strideW or options.strideH < 2:
            continue
        given, made = shape_of(model, int(op.inputs[2])), shape_of(model, int(op.outputs[0]))
        same, stride = options.padding == value_of("Padding", "SAME"), int(options.strideH)
        rows, columns = (find_axis(given[i], made[i], kernel.shape[i], stride, same) for i in (1, 2))
        name, source = (model.subgraphs[0].tensors[i].name.decode() for i in (op.outputs[0], op.inputs[1]))
        found.append(Transposed(op, name, source, kernel, rows, columns))
    return found


def find_axis(length: int, grown: int, kernel: int, stride: int, same: bool) -> Axis:
    """Return an axis; 'same' centres the kernel on the forward convolution that this one is the transpose of."""
    forward = -(-grown // stride)
    before = max((forward - 1) * stride + kernel - grown, 0) // 2 if same else 0
    return Axis(length, grown, kernel, stride, before)


def choose_forms(model: Model, how: str, weights: int) -> dict[str, str]:
    """Return {name: form} for a model's transposed convolutions; `weights` is how many numbers its file holds.

    "auto" fills the budget of zero taps with the cheapest depth-to-space forms and leaves the others as they are.
    """
    found = sorted(find_transposed(model), key=lambda one: one.extra)
    if how != "auto":
        return {one.name: how for one in found}
    forms, left = {}, BUDGET * weights
    for source, extra in {one.source: one.extra for one in found}.items():
        left -= extra
        forms[source] = "depth-to-space" if left >= 0 else "keep"
    return {one.name: forms[one.source] for one in found}


def rewrite_upsampling(model: Model, forms: Mapping[str, str]) -> dict[str, int]:
    """Rewrite the named transposed convolutions; return {name: weights added} of those rewritten."""
    added: dict[str, int] = {}
    seen: set[str] = set()
    for one in find_transposed(model):
        form = forms.get(one.name, "keep")
        if form == "keep":
            continue
        write = write_phases if form == "phases" else write_shuffled
        replace_operator(model, one.op, finish(model, one, *write(model, one)))
        added[one.name] = one.extra if form == "depth-to-space" and one.source not in seen else 0
        seen.add(one.source)
    return added


def write_shuffled(model: Model, one: Transposed) -> tuple[list[Operator], int]:
    """Return one convolution to all phases, and its output's place."""
    first, last = zip(one.rows.span(), one.columns.span(), strict=True)
    kernels = [phase_kernel(one, r, c, first, last) for r, c in list_phases(one)]
    ops, source = fit_input(model, one, first, last)
    conv, out = convolve(model, one, source, np.concatenate(kernels), len(kernels), "all")
    return [*ops, conv], out


def write_phases(model: Model, one: Transposed) -> tuple[list[Operator], int]:
    """Return one convolution for each phase and their concatenation, and its output's place."""
    from ai_edge_litert import schema_py_generated as schema

    ops: list[Operator] = []
    parts: list[int] = []
    inputs: dict[object, int] = {}
    for r, c in list_phases(one):
        rows, columns = one.rows.shifts(r) or [0], one.columns.shifts(c) or [0]
        first, last = (rows[0], columns[0]), (rows[-1], columns[-1])
        if (first, last) not in inputs:
            fitting, inputs[first, last] = fit_input(model, one, first, last)
            ops += fitting
        kernel = phase_kernel(one, r, c, first, last)
        conv, out = convolve(model, one, inputs[first, last], kernel, 1, f"phase{r}{c}")
        ops.append(conv)
        parts.append(out)
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    shape = (1, one.rows.blocks, one.columns.blocks, len(parts) * len(one.kernel))
    joined = add_tensor(model, f"{one.name}/phases", shape)
    return [*ops, make_operator(model, "CONCATENATION", parts, [joined], options)], joined


def list_phases(one: Transposed) -> list[tuple[int, int]]:
    """Return the phases in the order of DEPTH_TO_SPACE's channels."""
    return [(r, c) for r in range(one.rows.stride) for c in range(one.columns.stride)]


def phase_kernel(one: Transposed, r: int, c: int, first: tuple[int, ...], last: tuple[int, ...]) -> Kernel:
    """Return a phase's kernel (filters, th, tw, in) over the shifts from first to last, (rows, columns) each."""
    filters, _, _, channels = one.kernel.shape
    kernel = np.zeros((filters, last[0] - first[0] + 1, last[1] - first[1] + 1, channels), np.float32)
    for dy in one.rows.shifts(r):
        for dx in one.columns.shifts(c):
            y = r + one.rows.before + one.rows.stride * dy
            x = c + one.columns.before + one.columns.stride * dx
            kernel[:, last[0] - dy, last[1] - dx] = one.kernel[:, y, x]  # a correlation runs against the shift
    return kernel


def fit_input(
    model: Model, one: Transposed, first: tuple[int, ...], last: tuple[int, ...]
) -> tuple[list[Operator], int]:
    """Return the operations that pad or crop the input for these shifts, and the place of what they make."""
    from ai_edge_litert import schema_py_generated as schema

    source = int(one.op.inputs[2])
    pads = [axis.pads(a, b) for axis, a, b in zip((one.rows, one.columns), first, last, strict=True)]
    batch, *sides, channels = shape_of(model, source)
    ops, name = [], f"{one.name}/input" + "".join(f"_{a}_{b}" for a, b in pads)
    if min(map(min, pads)) < 0:
        begin = (0, *(max(-a, 0) for a, _ in pads), 0)
        sides = [side - max(-a, 0) - max(-b, 0) for side, (a, b) in zip(sides, pads, strict=True)]
        ops.append(crop(model, f"{name}/crop", source, begin, (batch, *sides, channels)))
        source = int(ops[-1].outputs[0])
    if max(map(max, pads)) > 0:
        around = [(0, 0), *((max(a, 0), max(b, 0)) for a, b in pads), (0, 0)]
        sides = [side + sum(pair) for side, pair in zip(sides, around[1:3], strict=True)]
        padded = add_tensor(model, f"{name}/pad", (batch, *sides, channels))
        place = add_constant(model, f"{name}/pad/paddings", np.array(around, np.int32))
        ops.append(make_operator(model, "PAD", [source, place], [padded], schema.PadOptionsT()))
        source = padded
    return ops, source


def crop(
    model: Model, name: str, source: int, begin: tuple[int, ...], size: tuple[int, ...], out: int | None = None
) -> Operator:
    """Return the operation that takes a block out of a tensor, to a new tensor or `out`."""
    from ai_edge_litert import schema_py_generated as schema

    numbers = (("begin", begin), ("size", size))
    places = [add_constant(model, f"{name}/{what}", np.array(value, np.int32)) for what, value in numbers]
    out = add_tensor(model, name, size) if out is None else out
    return make_operator(model, "SLICE", [source, *places], [out], schema.SliceOptionsT())


def convolve(
    model: Model, one: Transposed, source: int, kernel: Kernel, copies: int, label: str
) -> tuple[Operator, int]:
    """Return a convolution of `source` by kernel, with the bias repeated and the activation fused; and its output."""
    from ai_edge_litert import schema_py_generated as schema

    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = value_of("Padding", "VALID"), 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = one.op.builtinOptions.fusedActivationFunction
    bias = read_constant(model, int(one.op.inputs[3])) if len(one.op.inputs) > 3 else None
    bias = np.zeros(len(one.kernel), np.float32) if bias is None else bias
    label += f"_{one.rows.before}_{one.columns.before}"
    shared = find_tensor(model, f"{one.source}/{label}")
    place = add_constant(model, f"{one.source}/{label}", kernel) if shared is None else shared
    places = [place, add_constant(model, f"{one.name}/{label}/bias", np.tile(bias, copies))]
    out = add_tensor(model, f"{one.name}/{label}", (1, one.rows.blocks, one.columns.blocks, len(kernel)))
    return make_operator(model, "CONV_2D", [source, *places], [out], options), out


def finish(model: Model, one: Transposed, ops: list[Operator], source: int) -> list[Operator]:
    """Return the operations with the shuffle to the output's pixels, cropped where the last blocks are not whole."""
    from ai_edge_litert import schema_py_generated as schema

    out = int(one.op.outputs[0])
    made, options = shape_of(model, out), schema.DepthToSpaceOptionsT()
    options.blockSize = one.rows.stride
    whole = (1, one.rows.blocks * one.rows.stride, one.columns.blocks * one.columns.stride, made[3])
    if whole == made:
        return [*ops, make_operator(model, "DEPTH_TO_SPACE", [source], [out], options)]
    shuffled = add_tensor(model, f"{one.name}/shuffled", whole)
    last = crop(model, f"{one.name}/crop", shuffled, (0, 0, 0, 0), made, out)
    return [*ops, make_operator(model, "DEPTH_TO_SPACE", [source], [shuffled], options), last]
