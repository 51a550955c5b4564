"""The depth-to-space rewrite: a stride-2 Conv2DTranspose as an ordinary convolution and a shuffle of its channels.

A Conv2DTranspose of kernel k and stride 2 gives, along one axis and with p = max(k - 2, 0) // 2 for padding 'same' and
0 for 'valid',

    y[2 q + r] = sum over d of x[q - d] w[r + p + 2 d],   r = 0, 1,   wherever 0 <= r + p + 2 d < k

which is a convolution of x to the 2 x 2 phases (r, s), 4 filters channels in all, then DEPTH_TO_SPACE. Every runtime
can quantize and delegate that; tflite-runtime 2.14 refuses a dynamic-range Conv2DTranspose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BUDGET = 0.03  # of the model's weights: what `auto` may add to the file
UPSAMPLES = ("auto", "keep", "depth-to-space")


@dataclass(frozen=True)
class Taps:
    """The phases of one axis: shifts d from `first` to `last`, and which kernel tap each phase r takes for each d."""

    first: int
    last: int
    index: tuple[tuple[int, ...], tuple[int, ...]]  # [r][j], j-th tap of the correlation; -1 where there is none

    @property
    def count(self) -> int:
        """How many taps the convolution has along this axis."""
        return self.last - self.first + 1


def find_taps(kernel: int, padding: str) -> Taps:
    """Return the taps of one axis for a kernel of that length at stride 2."""
    before = max(kernel - 2, 0) // 2 if padding == "same" else 0
    first, last = -((1 + before) // 2), (kernel - 1 - before) // 2
    places = [[phase + before + 2 * d for d in range(last, first - 1, -1)] for phase in (0, 1)]
    rows = [tuple(i if 0 <= i < kernel else -1 for i in row) for row in places]
    return Taps(first, last, (rows[0], rows[1]))


def rearrange_kernel(kernel: npt.NDArray[np.float32], padding: str) -> npt.NDArray[np.float32]:
    """Return the (Th, Tw, in, 4 filters) kernel of the convolution for a (kh, kw, filters, in) transposed one."""
    rows, columns = find_taps(kernel.shape[0], padding), find_taps(kernel.shape[1], padding)
    filters, channels = kernel.shape[2:]
    phases = np.zeros((rows.count, columns.count, channels, 2, 2, filters), np.float32)
    for r in (0, 1):
        for s in (0, 1):
            for i, above in enumerate(rows.index[r]):
                for j, left in enumerate(columns.index[s]):
                    if above >= 0 and left >= 0:
                        phases[i, j, :, r, s] = kernel[above, left].T
    return phases.reshape(rows.count, columns.count, channels, 4 * filters)


def can_rewrite(layer: Any) -> bool:
    """Tell whether a Keras layer is a Conv2DTranspose that the rewrite covers."""
    import keras

    return (
        type(layer) is keras.layers.Conv2DTranspose
        and tuple(layer.strides) == (2, 2)
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.data_format == "channels_last"
        and layer.padding in ("same", "valid")
        and getattr(layer, "output_padding", None) is None
    )


def extra_weights(layer: Any) -> int:
    """Return how many weights the rewrite adds to a layer (zeros, where phases have no tap)."""
    height, width, filters, channels = layer.kernel.shape
    taps = find_taps(height, layer.padding).count * find_taps(width, layer.padding).count
    return int(4 * taps * filters * channels - height * width * filters * channels)


def choose_layers(layers: list[Any], how: str, weights: int) -> list[Any]:
    """Return the layers to rewrite: all, none, or (`auto`) the cheapest ones, as long as they add 3 % of `weights`."""
    able = sorted((layer for layer in layers if can_rewrite(layer)), key=extra_weights)
    if how == "keep":
        return []
    if how == "depth-to-space":
        return able
    chosen, left = [], BUDGET * weights
    for layer in able:
        left -= extra_weights(layer)
        if left < 0:
            break
        chosen.append(layer)
    return chosen


def rewrite_layer(layer: Any) -> None:
    """Make a Conv2DTranspose compute itself as a convolution and DEPTH_TO_SPACE from now on.

    The layer stays in its place and only its `call` changes, so nested models, shared layers and layers inside custom
    ones need no rebuilding. The layer is not to be trained or saved afterwards.
    """
    import tensorflow as tf

    kernel = tf.constant(rearrange_kernel(np.asarray(layer.kernel), layer.padding))
    bias = tf.constant(np.tile(np.asarray(layer.bias), 4)) if layer.use_bias else None
    axes = [find_taps(k, layer.padding) for k in layer.kernel_size]
    inner = getattr(layer.activation, "__name__", "") == "relu"  # before the shuffle it fuses with the convolution

    def call(x: Any) -> Any:  # (N, H, W, in) -> (N, 2 H, 2 W, filters), or what 'valid' makes of it
        sides = [int(x.shape[1]), int(x.shape[2])]
        out = [grown(side, k, layer.padding) for side, k in zip(sides, layer.kernel_size, strict=True)]
        pads = [(a.last, -(-o // 2) - side - a.first) for a, o, side in zip(axes, out, sides, strict=True)]
        x = crop_and_pad(x, pads)
        x = tf.nn.conv2d(x, kernel, strides=1, padding="VALID")
        x = x if bias is None else tf.nn.bias_add(x, bias)
        x = layer.activation(x) if inner else x
        x = tf.nn.depth_to_space(x, 2)
        x = x[:, : out[0], : out[1], :] if (out[0] % 2 or out[1] % 2) else x
        return x if inner else layer.activation(x)

    object.__setattr__(layer, "call", call)


def grown(side: int, kernel: int, padding: str) -> int:
    """Return the length that a stride-2 Conv2DTranspose makes of `side`."""
    return 2 * side + (max(kernel - 2, 0) if padding == "valid" else 0)


def crop_and_pad(x: Any, pads: list[tuple[int, int]]) -> Any:
    """Return x (N, H, W, C) with zeros around; a negative pad crops."""
    import tensorflow as tf

    (top, bottom), (left, right) = pads
    height, width = int(x.shape[1]), int(x.shape[2])
    if min(top, bottom, left, right) < 0:
        x = x[:, max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : width - max(-right, 0), :]
    around = [[max(top, 0), max(bottom, 0)], [max(left, 0), max(right, 0)]]
    return tf.pad(x, [[0, 0], *around, [0, 0]]) if any(map(sum, around)) else x
