"""How stored values become pixels, by each of a contract's rules, against NumPy spelled out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract.fields import InputSpec, Intensity, IntensityRule
from edge_runtime.inference.preprocess import to_model_input

IMAGE = np.random.default_rng(3).integers(300, 2900, (24, 24)).astype(np.uint16)
SPEC = InputSpec((1, 24, 24, 1), "float32", "grey", "stretch-area", 1.0, 0.0)


def prepare(image: Any, rule: IntensityRule, **changes: Any) -> Any:
    return to_model_input(image, replace(SPEC, intensity=Intensity(images=rule), **changes))[0]


@pytest.mark.parametrize("rule", ["bit-depth", "slice-min-max", "z-score", "percentiles", "window"])
def test_each_rule_is_its_formula(rule: str) -> None:
    """Of a 16-bit image: by the bits in use, from least to greatest, by mean and deviation, percentiles, a window."""
    x = IMAGE.astype(np.float64)
    given: IntensityRule = rule
    if rule == "bit-depth":
        wanted = x * 255 / 4095
    elif rule == "slice-min-max":
        wanted = (x - x.min()) * 255 / (x.max() - x.min())
    elif rule == "z-score":
        wanted = (x - x.mean()) / x.std()
    elif rule == "percentiles":
        given, ends = {"percentiles": (5.0, 90.0)}, np.percentile(x, [5, 90])
        wanted = (np.clip(x, *ends) - ends[0]) * 255 / (ends[1] - ends[0])
    else:
        given = {"window": (1000.0, 400.0)}
        wanted = (np.clip(x, 800, 1200) - 800) * 255 / 400
    np.testing.assert_allclose(prepare(IMAGE, given)[:, :, 0], wanted, atol=2e-3)


@pytest.mark.parametrize("rule", ["slice-min-max", "z-score", {"percentiles": (1.0, 99.0)}])
@pytest.mark.parametrize("value", [0, 7, 255])
def test_one_value_everywhere_is_zero(rule: IntensityRule, value: int) -> None:
    """An image of a single value has no range and no deviation: all its pixels are 0, none is NaN."""
    assert (prepare(np.full((24, 24), value, np.uint8), rule) == 0).all()


def test_values_beyond_a_window_do_not_spread() -> None:
    """A hot pixel is clipped before the image shrinks, or it would brighten its neighbours."""
    image = np.zeros((48, 48), np.uint16)
    image[10, 10] = 60000
    small = prepare(image, {"window": (50.0, 100.0)})
    assert small[5, 5, 0] == pytest.approx(255 / 4, abs=1e-3)


def test_a_scale_and_an_offset_for_each_channel() -> None:
    """Means and deviations of ImageNet are applied to their own channels."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = np.random.default_rng(5).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    scale, offset = tuple((1 / 255 / deviation).tolist()), tuple((-mean / deviation).tolist())
    found = prepare(image, "bit-depth", shape=(1, 24, 24, 3), colour="rgb", scale=scale, offset=offset)
    np.testing.assert_allclose(found, (image / 255 - mean) / deviation, atol=1e-5)


def test_a_volume_has_one_range_but_for_slice_min_max() -> None:
    """z-scores are of the whole volume, so that a dark slice stays dark; slice-min-max is of each slice."""
    volume = np.stack([IMAGE // 4, IMAGE])
    x = volume.astype(np.float64)
    shape = (1, 2, 24, 24, 1)
    scores = prepare(volume, "z-score", shape=shape)[..., 0]
    np.testing.assert_allclose(scores, (x - x.mean()) / x.std(), atol=1e-4)
    ranged = prepare(volume, "slice-min-max", shape=shape)[..., 0]
    assert [(s.min(), pytest.approx(s.max(), abs=1e-3)) for s in ranged] == [(0, 255), (0, 255)]
