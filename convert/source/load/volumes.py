"""How are 3-D layers computed with 2-D operations? Runs in the child process.

TFLite has no pooling of volumes, and no delegate supports its CONV_3D. So the slices of a volume become the batch,
(1, D, H, W, C) → (D, H, W, C), and a convolution over them is one 2-D convolution of the slices that the kernel covers,
concatenated as channels:

    y[q] = sum over i of conv2d(x[s q + i - p], w[i]) = conv2d([x[s q - p], x[s q - p + 1], ...], [w[0], w[1], ...])

for kernels of any depth, stride s and padding p. That is exact, and every runtime can quantize and delegate it. A
transposed convolution is s of these, one for each phase of the output's slices. Only a layer's `call` is replaced, so
nested models and layers inside custom ones need no rebuilding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Layers that compute on single values or along the channels, so that they do the same to slices as to volumes.
POINTWISE = ("BatchNormalization", "ReLU", "LeakyReLU", "ELU", "Activation", "Softmax", "LayerNormalization", "PReLU")
SliceFunction = Callable[[Any], Any]


def rewrite_volumes(layers: Sequence[Any]) -> list[str]:
    """Replace the calls of 3-D layers by 2-D operations; return notes for the report.

    Layers that are not supported here stay as they are.
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
    words = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return [f"slices of volumes as a batch of 2-D operations: {words}"] if words else []


def on_slices(apply: SliceFunction, otherwise: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a layer's call that converts (1, D, H, W, C) to slices (D, H, W, C) and back around `apply`.

    otherwise: the layer's original call, for tensors of another rank.
    """
    import tensorflow as tf

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        if otherwise is not None and x.shape.rank != 5:
            return otherwise(x, *args, **kwargs)
        return tf.expand_dims(apply(tf.squeeze(x, 0)), 0)

    return call


def make_pointwise(layer: Any) -> SliceFunction | None:
    """Return a pointwise layer on slices; None where its axis is not the channels."""
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
    """Return the number of output slices, and of zeros before the first input slice, by TensorFlow's rule."""
    span = dilation * (kernel - 1) + 1
    if padding == "valid":
        return -(-(depth - span + 1) // stride), 0
    out = -(-depth // stride)
    return out, max((out - 1) * stride + span - depth, 0) // 2


def take_slices(x: Any, start: int, count: int, stride: int) -> Any:
    """Return `count` slices of x (D, H, W, C) from `start` on, every `stride`-th; zeros outside of x.

    Without strided slices, which no delegate supports.
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
    """Return tensors of one shape interleaved along an axis: the first of each, then the second of each ..."""
    import tensorflow as tf

    shape = [int(side) for side in parts[0].shape]
    outer, inner = int(np.prod(shape[: axis + 1])), int(np.prod(shape[axis + 1 :]))
    joined = tf.concat([tf.reshape(part, (outer, inner)) for part in parts], 1)
    return tf.reshape(joined, (*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :]))


def make_convolution(layer: Any) -> SliceFunction | None:
    """Return a Conv3D on slices; None where that is not supported."""
    import tensorflow as tf

    if layer.groups != 1 or layer.padding not in ("same", "valid"):
        return None
    kernel = np.asarray(layer.kernel)  # (kd, kh, kw, in, filters)
    deep, *flat, channels, filters = kernel.shape
    weights = tf.constant(np.moveaxis(kernel, 0, 2).reshape(*flat, deep * channels, filters))
    bias = tf.constant(np.asarray(layer.bias)) if layer.use_bias else None
    (stride, *strides), (dilation, *dilations) = layer.strides, layer.dilation_rate

    def apply(x: Any) -> Any:  # (D, H, W, in) -> (D', H', W', filters)
        count, before = find_reach(int(x.shape[0]), deep, stride, dilation, layer.padding)
        near = [take_slices(x, i * dilation - before, count, stride) for i in range(deep)]
        stacked = near[0] if deep == 1 else tf.concat(near, -1)
        y = tf.nn.conv2d(stacked, weights, strides, layer.padding.upper(), dilations=dilations)
        return layer.activation(y if bias is None else tf.nn.bias_add(y, bias))

    return apply


def make_transposed(layer: Any) -> SliceFunction | None:
    """Return a Conv3DTranspose on slices; None where that is not supported."""
    import tensorflow as tf

    if layer.output_padding is not None or set(layer.dilation_rate) != {1} or layer.padding not in ("same", "valid"):
        return None
    kernel = np.asarray(layer.kernel)  # (kd, kh, kw, filters, in)
    deep, high, wide, filters, _ = kernel.shape
    bias = tf.constant(np.asarray(layer.bias)) if layer.use_bias else None
    stride, *strides = layer.strides
    before = max(deep - stride, 0) // 2 if layer.padding == "same" else 0

    def apply(x: Any) -> Any:  # (D, H, W, in) -> (D', H', W', filters)
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

    return apply


def make_pooling(layer: Any) -> SliceFunction:
    """Return a MaxPooling3D or AveragePooling3D: pooled within each slice, then over the slices as rows of an image."""
    import tensorflow as tf

    (deep, *pool), (stride, *strides) = layer.pool_size, layer.strides
    reduce = tf.nn.max_pool2d if type(layer).__name__ == "MaxPooling3D" else tf.nn.avg_pool2d
    padding = layer.padding.upper()

    def apply(x: Any) -> Any:  # (D, H, W, C) -> (D', H', W', C)
        x = reduce(x, pool, strides, padding)
        depth, height, width, channels = (int(side) for side in x.shape)
        x = reduce(tf.reshape(x, (1, depth, height * width, channels)), (deep, 1), (stride, 1), padding)
        return tf.reshape(x, (-1, height, width, channels))

    return apply


def make_upsampling(layer: Any) -> SliceFunction:
    """Return an UpSampling3D on slices: values repeated along the width, the height and the depth in turn."""

    def apply(x: Any) -> Any:  # (D, H, W, C) -> (D', H', W', C)
        for axis in (2, 1, 0):
            x = interleave([x] * layer.size[axis], axis) if layer.size[axis] > 1 else x
        return x

    return apply
