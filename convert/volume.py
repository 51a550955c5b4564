"""3-D layers as 2-D ones: TFLite pools no volumes, and no delegate takes its CONV_3D; runs in the child process.

The slices of a volume become the batch, (1, D, H, W, C) → (D, H, W, C), and a convolution over them is one 2-D
convolution of the slices it reaches, side by side as channels:

    y[q] = sum over i of conv2d(x[s q + i - p], w[i]) = conv2d([x[s q - p], x[s q - p + 1], ...], [w[0], w[1], ...])

for kernels of any depth, stride s and padding p. That is exact, and what every runtime can quantize and delegate. A
transposed convolution is s of these, one for each phase of the output's slices. A layer stays in its place and only its
`call` changes, so nested models and layers inside custom ones need no rebuilding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Layers that work on each value alone, or along the channels: as well on slices as on volumes.
POINTWISE = ("BatchNormalization", "ReLU", "LeakyReLU", "ELU", "Activation", "Softmax", "LayerNormalization", "PReLU")
Change = Callable[[Any], Any]


def rewrite_volumes(layers: Sequence[Any]) -> list[str]:
    """Make the 3-D layers compute themselves with 2-D operations; return notes on what was done.

    Layers that this does not cover stay as they are.
    """
    makers = {
        "Conv3D": make_convolution,
        "Conv3DTranspose": make_transposed,
        "MaxPooling3D": make_pooling,
        "AveragePooling3D": make_pooling,
        "UpSampling3D": make_upsampling,
    }
    changed = []
    for layer in layers:
        kind = type(layer).__name__
        maker = makers.get(kind, make_pointwise if kind in POINTWISE else None)
        if maker is None or not type(layer).__module__.startswith("keras."):
            continue
        slices = maker(layer)
        if slices is not None:
            object.__setattr__(layer, "call", on_slices(slices, layer.call if kind in POINTWISE else None))
            changed += [kind] if kind in makers else []
    counts = {kind: changed.count(kind) for kind in dict.fromkeys(changed)}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return [f"slices of volumes as a batch of 2-D operations: {told}"] if told else []


def on_slices(change: Change, otherwise: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a layer's call that brings (1, D, H, W, C) to slices (D, H, W, C) and back around `change`.

    otherwise: the layer's own call, for tensors of another rank.
    """
    import tensorflow as tf

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        if otherwise is not None and x.shape.rank != 5:
            return otherwise(x, *args, **kwargs)
        return tf.expand_dims(change(tf.squeeze(x, 0)), 0)

    return call


def make_pointwise(layer: Any) -> Change | None:
    """Return what a layer does to slices, where its axis is the channels."""
    own, axis = layer.call, getattr(layer, "axis", -1)
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return None if any(one not in (-1, 4) for one in axes) else lambda x: apply_pointwise(layer, own, x)


def apply_pointwise(layer: Any, own: Callable[..., Any], x: Any) -> Any:
    """Return a pointwise layer's result on slices (D, H, W, C)."""
    axis = getattr(layer, "axis", None)
    if axis == 4:
        layer.axis = 3
    elif isinstance(axis, list) and axis == [4]:
        layer.axis = [3]
    try:
        return own(x)
    finally:
        if axis is not None:
            layer.axis = axis


def find_reach(depth: int, kernel: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
    """Return how many slices come out, and how many zeros stand before the first: TensorFlow's rule."""
    span = dilation * (kernel - 1) + 1
    if padding == "valid":
        return -(-(depth - span + 1) // stride), 0
    out = -(-depth // stride)
    return out, max((out - 1) * stride + span - depth, 0) // 2


def take_slices(x: Any, start: int, count: int, stride: int) -> Any:
    """Return `count` slices of x (D, H, W, C) from `start` on, every `stride`-th; zeros where there are none.

    In pieces without a step: no delegate takes a slice with one.
    """
    import tensorflow as tf

    depth, *sides = (int(side) for side in x.shape)
    before, blocks = max(-start, 0), max(count, -(-(max(-start, 0) + depth) // stride))
    behind = max(start + before + blocks * stride - before - depth, 0)
    x = tf.pad(x, [[before, behind], [0, 0], [0, 0], [0, 0]]) if before or behind else x
    x = x[start + before : start + before + count * stride]
    if stride == 1:
        return x
    size = int(np.prod(sides))
    return tf.reshape(tf.reshape(x, (count, stride * size))[:, :size], (count, *sides))


def interleave(parts: Sequence[Any], axis: int) -> Any:
    """Return tensors of one shape woven along an axis: the first of each, then the second of each ..."""
    import tensorflow as tf

    shape = [int(side) for side in parts[0].shape]
    outer, inner = int(np.prod(shape[: axis + 1])), int(np.prod(shape[axis + 1 :]))
    joined = tf.concat([tf.reshape(part, (outer, inner)) for part in parts], 1)
    return tf.reshape(joined, (*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :]))


def make_convolution(layer: Any) -> Change | None:
    """Return a Conv3D on slices; None for what is not covered."""
    import tensorflow as tf

    if layer.groups != 1 or layer.padding not in ("same", "valid"):
        return None
    kernel = np.asarray(layer.kernel)  # (kd, kh, kw, in, filters)
    deep, *flat, channels, filters = kernel.shape
    weights = tf.constant(np.moveaxis(kernel, 0, 2).reshape(*flat, deep * channels, filters))
    bias = tf.constant(np.asarray(layer.bias)) if layer.use_bias else None
    (stride, *strides), (dilation, *dilations) = layer.strides, layer.dilation_rate

    def change(x: Any) -> Any:  # (D, H, W, in) -> (D', H', W', filters)
        count, before = find_reach(int(x.shape[0]), deep, stride, dilation, layer.padding)
        near = [take_slices(x, i * dilation - before, count, stride) for i in range(deep)]
        stacked = near[0] if deep == 1 else tf.concat(near, -1)
        y = tf.nn.conv2d(stacked, weights, strides, layer.padding.upper(), dilations=dilations)
        return layer.activation(y if bias is None else tf.nn.bias_add(y, bias))

    return change


def make_transposed(layer: Any) -> Change | None:
    """Return a Conv3DTranspose on slices; None for what is not covered."""
    import tensorflow as tf

    if layer.output_padding is not None or set(layer.dilation_rate) != {1} or layer.padding not in ("same", "valid"):
        return None
    kernel = np.asarray(layer.kernel)  # (kd, kh, kw, filters, in)
    deep, high, wide, filters, _ = kernel.shape
    bias = tf.constant(np.asarray(layer.bias)) if layer.use_bias else None
    stride, *strides = layer.strides
    before = max(deep - stride, 0) // 2 if layer.padding == "same" else 0

    def change(x: Any) -> Any:  # (D, H, W, in) -> (D', H', W', filters)
        sides = [int(side) for side in x.shape[:3]]
        grown = [
            side * s + (max(k - s, 0) if layer.padding == "valid" else 0)
            for side, s, k in zip(sides, layer.strides, (deep, high, wide), strict=True)
        ]
        count, phases = -(-grown[0] // stride), []
        for phase in range(stride):
            # y[s q + r] = sum of x[q - d] w[r + before + s d] over the shifts d that have a tap
            shifts = [d for d in range(-deep, deep + 1) if 0 <= phase + before + stride * d < deep]
            if not shifts:
                phases.append(tf.zeros((count, *grown[1:], filters), x.dtype))
                continue
            taps = np.concatenate([kernel[phase + before + stride * d] for d in shifts], -1)
            near = tf.concat([take_slices(x, -d, count, 1) for d in shifts], -1)
            shape = (count, *grown[1:], filters)
            phases.append(tf.nn.conv2d_transpose(near, tf.constant(taps), shape, strides, layer.padding.upper()))
        y = phases[0] if stride == 1 else interleave(phases, 0)
        y = y[: grown[0]] if count * stride != grown[0] else y
        return layer.activation(y if bias is None else tf.nn.bias_add(y, bias))

    return change


def make_pooling(layer: Any) -> Change:
    """Return a MaxPooling3D or AveragePooling3D on slices: first in each, then over them, as rows of one image."""
    import tensorflow as tf

    (deep, *pool), (stride, *strides) = layer.pool_size, layer.strides
    reduce = tf.nn.max_pool2d if type(layer).__name__ == "MaxPooling3D" else tf.nn.avg_pool2d
    padding = layer.padding.upper()

    def change(x: Any) -> Any:  # (D, H, W, C) -> (D', H', W', C)
        x = reduce(x, pool, strides, padding)
        depth, height, width, channels = (int(side) for side in x.shape)
        x = reduce(tf.reshape(x, (1, depth, height * width, channels)), (deep, 1), (stride, 1), padding)
        return tf.reshape(x, (-1, height, width, channels))

    return change


def make_upsampling(layer: Any) -> Change:
    """Return an UpSampling3D on slices: each value repeated, width, height and depth in turn."""

    def change(x: Any) -> Any:  # (D, H, W, C) -> (D', H', W', C)
        for axis in (2, 1, 0):
            x = interleave([x] * layer.size[axis], axis) if layer.size[axis] > 1 else x
        return x

    return change
