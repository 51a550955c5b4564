"""Model output to masks and measurements, against oracles; what is no probability is an error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.errors import ModelError
from edge_runtime.inference.postprocess import find_lead, measure_mask, to_class, to_labels, to_probability


def count_components(mask: npt.NDArray[np.bool_]) -> int:
    """A naive flood fill over eight neighbours."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    count = 0
    while left:
        count += 1
        stack = [left.pop()]
        while stack:
            y, x = stack.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            stack += near
    return count


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 0.6, 1.0])
def test_measurements_against_naive_counts(rng: np.random.Generator, density: float) -> None:
    """Pixels, share, eight-connected components, labels and peak equal those counted one by one."""
    labels = ((rng.random((23, 31)) < density) * rng.integers(1, 3, (23, 31))).astype(np.uint8)
    probability = rng.random((23, 31)).astype(np.float32)
    found = measure_mask(labels, probability, 3)
    flat = labels.ravel().tolist()
    assert found.lesion_pixels == sum(value > 0 for value in flat)
    assert found.lesion_fraction == pytest.approx(found.lesion_pixels / len(flat))
    assert found.label_pixels == (flat.count(1), flat.count(2))
    assert found.components == count_components(labels > 0)
    assert found.max_probability == max(probability.ravel().tolist())


@pytest.mark.parametrize(
    ("pixel", "flags"),
    [(None, ("empty",)), ((4, 4), ()), ((0, 4), ("border",)), ((8, 8), ("border",)), ((3, 8), ("border",))],
)
def test_empty_and_border_are_flagged(pixel: tuple[int, int] | None, flags: tuple[str, ...]) -> None:
    """No lesion is flagged "empty", one that touches the frame "border"."""
    labels = np.zeros((9, 9), np.uint8)
    if pixel:
        labels[pixel] = 1
    assert measure_mask(labels, labels.astype(np.float32), 2).flags == flags


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_output_that_is_not_finite_is_an_error(value: float, channels: int) -> None:
    """One NaN or infinity among all values is an error, never an empty mask."""
    output = np.full((1, 8, 8, channels), 0.5, np.float32)
    output[0, 7, 3, -1] = value
    with pytest.raises(ModelError, match="not finite"):
        to_probability(output, 20, 20)


@pytest.mark.parametrize("value", [-0.02, 1.02, 255.0, -7.5])
def test_an_output_that_is_no_probability_is_an_error(value: float) -> None:
    """Logits and pixel values are not clipped into probabilities."""
    output = np.full((1, 8, 8, 1), 0.5, np.float32)
    output[0, 2, 2, 0] = value
    with pytest.raises(ModelError, match="no probabilities"):
        to_probability(output, 20, 20)


def test_quantization_noise_is_clipped() -> None:
    """A hair above one or below zero is rounding, and is brought back."""
    output = np.array([-0.004, 0.25, 1.004, 1.0], np.float32).reshape(1, 2, 2, 1)
    assert to_probability(output, 2, 2).ravel().tolist() == [0, 0.25, 1, 1]


@pytest.mark.parametrize("size", [(8, 8), (3, 5), (40, 21), (5, 40), (1, 1)])
def test_probability_has_the_images_own_size_and_stays_in_range(
    rng: np.random.Generator, size: tuple[int, int]
) -> None:
    """Stretched to any size, probabilities stay between zero and one, and flat maps stay flat."""
    output = rng.random((1, 8, 8, 3)).astype(np.float32)
    found = to_probability(output, *size)
    assert found.shape == (*size, 3)
    assert found.dtype == np.float32
    assert -1e-6 <= found.min() <= found.max() <= 1 + 1e-6
    assert to_probability(np.full((1, 8, 8, 1), 0.25), *size) == pytest.approx(0.25, abs=1e-6)


def test_sigmoid_labels_are_those_at_or_above_the_threshold() -> None:
    """A pixel exactly at the threshold is lesion."""
    probability = np.array([0.0, 0.29, 0.3, 0.31, 1.0], np.float32).reshape(1, 5, 1)
    labels, lesion = to_labels(probability, 0.3)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 0, 1, 1, 1]]
    assert lesion.shape == (1, 5)


def test_softmax_labels_are_the_most_probable(rng: np.random.Generator) -> None:
    """Each pixel takes its most probable label; the lesion's probability is what the background leaves."""
    probability = rng.dirichlet(np.ones(4), (9, 7)).astype(np.float32)
    labels, lesion = to_labels(probability, 0.5)
    for y in range(9):
        for x in range(7):
            values = probability[y, x].tolist()
            assert labels[y, x] == values.index(max(values))
            assert lesion[y, x] == pytest.approx(1 - values[0])


def test_the_lead_decides_whether_the_mask_is_empty(rng: np.random.Generator) -> None:
    """A softmax's mask is empty just where no label exceeds the background at the pixel named, ties included."""
    for alpha in (1.0, 8.0, 80.0):
        for _ in range(40):
            probability = rng.dirichlet([2 * alpha, alpha, alpha, alpha], (4, 5)).astype(np.float32)
            probability[0, 0] = (0.5, 0.5, 0, 0)
            lead = find_lead(probability)
            pixels = [tuple(map(float, pixel)) for row in probability for pixel in row]
            best = max(pixels, key=lambda pixel: np.float32(max(pixel[1:])) - np.float32(pixel[0]))
            assert (lead.label, lead.background) == (max(best[1:]), best[0])
            assert (lead.label > lead.background) == bool(to_labels(probability, 0.5)[0].any())


def test_overlapping_sigmoids_show_the_last_that_is_reached() -> None:
    """Regions are listed from the whole to its core: a pixel of both is the core's; the greatest probability counts."""
    probability = np.array([[[0.9, 0.6], [0.9, 0.4], [0.2, 0.5], [0.1, 0.2]]], np.float32)  # (1, 4, 2)
    labels, lesion = to_labels(probability, 0.5, "sigmoid")
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[2, 1, 2, 0]]
    assert lesion.ravel().tolist() == pytest.approx([0.9, 0.9, 0.5, 0.2])


def test_a_volume_is_stretched_slice_by_slice(rng: np.random.Generator) -> None:
    """(1, D, h, w, K) becomes (D, height, width, K), each slice as if it were alone, and gets labels like an image."""
    output = rng.random((1, 3, 8, 6, 2)).astype(np.float32)
    found = to_probability(output, 20, 5)
    assert found.shape == (3, 20, 5, 2)
    for k in range(3):
        assert (found[k] == to_probability(output[:, k], 20, 5)).all()
    labels, lesion = to_labels(found, 0.5)
    assert labels.shape == lesion.shape == (3, 20, 5)


@pytest.mark.parametrize(
    ("output", "name", "probability"), [([0.1, 0.7, 0.2], "b", 0.7), ([0.2], "a", 0.8), ([0.6], "b", 0.6)]
)
def test_the_most_probable_class_is_named(output: list[float], name: str, probability: float) -> None:
    """Of several the greatest; one sigmoid is the second class's probability."""
    labels = ("a", "b", "c")[: max(2, len(output))]
    assert to_class(np.array([output]), labels) == (name, pytest.approx(probability))


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_a_class_that_is_no_probability_is_an_error(value: float) -> None:
    """Logits and NaN name no class."""
    with pytest.raises(ModelError):
        to_class(np.array([[0.5, value]]), ("a", "b"))
