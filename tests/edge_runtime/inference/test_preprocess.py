"""Image to tensor, against oracles that spell the arithmetic out."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.images.arrays import full_scale
from edge_runtime.inference.preprocess import resize_area, to_grey, to_tensor, to_volume

Array = npt.NDArray[np.float64]


def shrink_weights(old: int, new: int) -> Array:
    """Row k holds the share of each old pixel in new pixel k: how much of it lies under it."""
    weights = np.zeros((new, old))
    step = old / new
    for k in range(new):
        for j in range(old):
            weights[k, j] = max(0.0, min((k + 1) * step, j + 1) - max(k * step, j)) / step
    return weights


def grow_weights(old: int, new: int) -> Array:
    """Linear between pixel centres, the edge continued."""
    weights = np.zeros((new, old))
    for k in range(new):
        position = (k + 0.5) * old / new - 0.5
        left, share = math.floor(position), position - math.floor(position)
        weights[k, min(max(left, 0), old - 1)] += 1 - share
        weights[k, min(max(left + 1, 0), old - 1)] += share
    return weights


def resize_naive(image: Array, height: int, width: int) -> Array:
    down = shrink_weights if image.shape[0] >= height else grow_weights
    across = shrink_weights if image.shape[1] >= width else grow_weights
    return np.einsum("ki,ij...,lj->kl...", down(image.shape[0], height), image, across(image.shape[1], width))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((48, 64), (16, 16)),
        ((51, 37), (20, 20)),
        ((20, 20), (51, 37)),
        ((60, 10), (24, 24)),
        ((10, 60), (24, 24)),
        ((24, 61), (24, 24)),
        ((7, 24), (24, 24)),
        ((1, 1), (8, 8)),
        ((1, 90), (8, 8)),
        ((8, 8), (1, 1)),
    ],
)
def test_resize_is_area_mean_where_it_shrinks_and_linear_where_it_grows(
    rng: np.random.Generator, old: tuple[int, int], new: tuple[int, int], channels: int
) -> None:
    """Each axis by itself: the mean of what lies under a pixel, or the line between two centres."""
    image = rng.uniform(0, 255, old if channels == 1 else (*old, channels)).astype(np.float32)
    found = resize_area(image, *new)
    assert found.dtype == np.float32
    # OpenCV keeps interpolation weights to 11 bits in some paths.
    np.testing.assert_allclose(found, resize_naive(image.astype(float), *new), atol=0.2)


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("top", [255, 65535])
def test_means_of_whole_numbers_in_one_step_are_exact(rng: np.random.Generator, factor: int, top: int) -> None:
    """The fast way and the slow one give the exact mean in 64-bit floats, to the last bit."""
    values = rng.integers(0, top + 1, (6 * factor, 10 * factor))
    values[: 2 * factor] = top  # the greatest sums
    exact = values.reshape(6, factor, 10, factor).mean(axis=(1, 3))
    for whole in (False, True):
        assert (resize_area(values.astype(np.float32), 6, 10, whole) == exact).all()


def test_resize_to_the_same_size_changes_nothing(rng: np.random.Generator) -> None:
    """An image of the model's own size passes untouched."""
    image = rng.uniform(0, 255, (24, 17)).astype(np.float32)
    assert (resize_area(image, 24, 17) == image).all()


@pytest.mark.parametrize(
    ("top", "white"),
    [(0, 255), (1, 255), (255, 255), (256, 511), (3000, 4095), (4095, 4095), (4096, 8191), (65535, 65535)],
)
def test_full_scale_of_16_bit_is_the_used_bit_depth(top: int, white: int) -> None:
    """12-bit data in a 16-bit file is scaled by 4095, not by 65535; 8-bit data always by 255."""
    image = np.zeros((4, 5), np.uint16)
    image[2, 2] = top
    assert full_scale(image) == white
    assert full_scale(np.zeros((4, 5), np.uint8)) == 255


def test_8_bit_and_16_bit_of_the_same_slice_give_the_same_tensor(drawn: npt.NDArray[np.uint8]) -> None:
    """A slice stored with 8, 12 or 16 bits is one slice to the model."""
    bright = np.where(drawn == drawn.max(), 255, drawn).astype(np.uint8)
    wanted = to_tensor(bright, 32, 32)
    for top in (4095, 65535):
        deep = np.rint(bright.astype(float) * top / 255).astype(np.uint16)
        np.testing.assert_allclose(to_tensor(deep, 32, 32), wanted, atol=0.6 / 255)


def test_grey_and_its_colour_copy_give_the_same_tensor(drawn: npt.NDArray[np.uint8]) -> None:
    """A grey slice saved in colour is one slice to a grey model, and to a colour model."""
    colour = np.repeat(drawn[:, :, None], 3, axis=2)
    for kind in ("grey", "rgb"):
        np.testing.assert_allclose(
            to_tensor(colour, 40, 56, kind), to_tensor(drawn, 40, 56, kind), atol=1e-5, err_msg=kind
        )


def test_luma_is_that_of_bt601() -> None:
    """Red, green and blue weigh 0.299, 0.587 and 0.114."""
    image = np.eye(3, dtype=np.float32)[None] * 100  # (1, 3, 3): a red, a green and a blue pixel
    np.testing.assert_allclose(to_grey(image)[0], [29.9, 58.7, 11.4], rtol=1e-5)


@pytest.mark.parametrize(("colour", "channels"), [("grey", 1), ("rgb", 3)])
@pytest.mark.parametrize("shape", [(50, 30), (50, 30, 3)])
def test_tensor_has_the_shape_and_type_of_the_contract(
    rng: np.random.Generator, shape: tuple[int, ...], colour: str, channels: int
) -> None:
    """(1, H, W, C) float32 in one piece of memory, from grey and from colour."""
    tensor = to_tensor(rng.integers(0, 256, shape).astype(np.uint8), 16, 24, colour)
    assert tensor.shape == (1, 16, 24, channels)
    assert tensor.dtype == np.float32
    assert 0 <= tensor.min() <= tensor.max() <= 1


def test_tensor_against_the_whole_oracle(rng: np.random.Generator) -> None:
    """Luma, stretch, scale and offset, written out naively, give the same numbers for a 12-bit colour image."""
    image = rng.integers(0, 4096, (37, 50, 3)).astype(np.uint16)
    image[0, 0] = 4095
    grey = image.astype(float) @ [0.299, 0.587, 0.114]
    wanted = resize_naive(grey, 16, 64) * (255 / 4095) * 0.02 - 1.5
    found = to_tensor(image, 16, 64, "grey", 0.02, -1.5)
    np.testing.assert_allclose(found[0, :, :, 0], wanted, atol=0.02 * 0.2)


@pytest.mark.parametrize(("dtype", "offset"), [("uint8", 0.0), ("int8", -128.0)])
def test_integer_tensors_are_rounded_and_clipped(dtype: str, offset: float) -> None:
    """To nearest, halves to even, and what leaves the type's range stops at its end instead of wrapping."""
    image = np.array([[0, 1, 3, 5, 200, 255]], np.uint8)
    found = to_tensor(image, 1, 6, "grey", 0.5, offset, dtype)[0, 0, :, 0]
    assert found.dtype == dtype
    assert (found.astype(int) - int(offset)).tolist() == [0, 0, 2, 2, 100, 128]
    wide = to_tensor(image, 1, 6, "grey", 2.0, offset - 6, dtype)[0, 0, :, 0]
    assert (wide.astype(int) - int(offset)).tolist() == [0, 0, 0, 4, 255, 255]


def test_the_image_is_not_written_to(drawn: npt.NDArray[np.uint8]) -> None:
    """A read-only image is enough, and views of any stride are read right."""
    turned = drawn[::-1, ::2]
    assert not turned.flags.writeable
    assert (to_tensor(turned, 16, 16) == to_tensor(np.ascontiguousarray(turned), 16, 16)).all()


@pytest.mark.parametrize("shape", [(4, 20, 30), (4, 20, 30, 3)])
def test_a_volume_is_its_slices_on_one_scale(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    """(1, D, H, W, C); white is the volume's, so that a dark slice of a 12-bit series stays dark."""
    volume = rng.integers(0, 200, shape).astype(np.uint16)
    volume[2] *= 20  # its maximum needs 12 bits
    found = to_volume(volume, 16, 24)
    assert found.shape == (1, 4, 16, 24, 1)
    assert found.dtype == np.float32
    for k in range(4):
        alone = volume[k].copy()
        alone.ravel()[0] = 4095  # gives a single slice the volume's scale, but for its corner
        np.testing.assert_allclose(found[0, k, 4:, 4:], to_tensor(alone, 16, 24)[0, 4:, 4:], atol=1e-6)
    assert found[0, 0].max() < 0.06 < found[0, 2].max()
