"""The flags of an input and of a result: each where it should be, and none where its limit is not known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from strangers import draw_page, draw_photo, draw_screenshot

from edge_runtime.cli import main
from edge_runtime.contract.fields import FlagLimits
from edge_runtime.contract.tail import read_contract
from edge_runtime.inference.flags import CONTENT_FEATURES, find_features, flag_input, flag_result, raise_flags, shrink
from edge_runtime.inference.postprocess import Lead, Measurements, measure_mask
from edge_runtime.models import DEFAULT
from reference.data.phantom import draw_phantom

LIMITS = FlagLimits(0, blank=0.01, saturated=0.25, largest=0.5, fragments=3, margin=0.05, ranges={})
KINDS = ("glioma", "meningioma", "pituitary", "none")


@pytest.fixture(scope="module")
def own() -> FlagLimits:
    """The embedded model's, measured on its training slices."""
    limits = read_contract(DEFAULT).triage
    assert limits is not None and limits.count > 1000
    return limits


def draw_slices(number: int) -> list[npt.NDArray[np.uint8]]:
    return [draw_phantom(np.random.default_rng([5, i]), KINDS[i % 4]).image for i in range(number)]


def flags(image: Any, limits: FlagLimits) -> list[str]:
    return flag_input(find_features(image), limits)


def test_features_against_naive_ones(drawn: npt.NDArray[np.uint8]) -> None:
    """On an image that need not shrink, each feature is as its definition says, computed pixel by pixel."""
    found = find_features(drawn)
    values = drawn.astype(np.float64) / 255
    height, width = drawn.shape
    rim = height // 16
    frame = [
        values[y, x] for y in range(height) for x in range(width) if min(y, x, height - 1 - y, width - 1 - x) < rim
    ]
    steps = [abs(values[y, x + 1] - values[y, x]) for y in range(height) for x in range(width - 1)]
    steps += [abs(values[y + 1, x] - values[y, x]) for y in range(height - 1) for x in range(width)]
    assert found["side"] == pytest.approx((height * width) ** 0.5)
    assert found["aspect"] == width / height
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-5)
    assert found["contrast"] == pytest.approx(values.std(), abs=1e-5)
    assert found["border"] == pytest.approx(np.mean(frame) / values.max(), abs=1e-5)
    assert found["dark"] == pytest.approx(np.mean(values < 0.1 * values.max()), abs=1e-3)
    assert found["edges"] == pytest.approx(sum(steps) / values.size / 2 / (values.std() + 0.001), rel=1e-3)
    assert found["colour"] == 0
    negative = find_features(255 - drawn)
    assert found["border_turned"] == pytest.approx(negative["border"], abs=1e-5)
    assert found["dark_turned"] == pytest.approx(negative["dark"], abs=1e-3)


def test_symmetry_and_colour_have_their_ends() -> None:
    """A mirrored image correlates by 1 with itself, one half against the other by -1; pure red is 1 apart."""
    half = np.random.default_rng(3).integers(0, 256, (64, 32), np.uint8)
    assert find_features(np.hstack([half, half[:, ::-1]]))["symmetry"] == pytest.approx(1, abs=1e-3)
    assert find_features(np.hstack([half, 255 - half[:, ::-1]]))["symmetry"] == pytest.approx(-1, abs=1e-3)
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 255
    assert find_features(red)["colour"] == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (127, 128), (129, 300), (513, 511), (2000, 900)])
def test_any_size_and_depth_has_features(shape: tuple[int, int]) -> None:
    """At most 128 x 128 pixels are used; 8 and 16 bit, grey and colour give the same features."""
    grey = (np.indices(shape).sum(axis=0) % 256).astype(np.uint8)
    found = find_features(grey)
    assert max(shrink(grey).shape) <= 128
    assert all(np.isfinite(value) for value in found.values())
    likenesses = [np.repeat(grey[..., None], 3, axis=2), grey.astype(np.uint16) * 257]
    for other in map(find_features, likenesses if min(shape) > 1 else []):
        for name in ("mean", "contrast", "border", "edges", "symmetry", "colour"):
            assert other[name] == pytest.approx(found[name], abs=0.01), name


def test_drawn_slices_are_not_flagged(own: FlagLimits) -> None:
    """Drawn slices, as JPEG, in colour, of 12 bit in 16 and of twice the size, raise no flag of an input."""
    for image in draw_slices(12):
        large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        colour = np.repeat(image[..., None], 3, axis=2)
        packed = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_UNCHANGED)
        for variant in (image, large, colour, packed, image.astype(np.uint16) * 16):
            assert flags(variant, own) == []


def test_negatives_are_inverted(own: FlagLimits) -> None:
    """The negative of a slice is distinguished from other kinds of images."""
    for image in draw_slices(12):
        assert "inverted" in flags(255 - image, own)
        assert "inverted" in flags(4095 - image.astype(np.uint16) * 16, own)


def test_strangers_are_foreign(own: FlagLimits) -> None:
    """Photographs, grey ones too, pages and screenshots, light and dark, are not what the model was made for."""
    for seed in range(8):
        strangers = {
            "photograph": draw_photo(seed),
            "grey photograph": draw_photo(seed, grey=True),
            "page": draw_page(seed),
            "screenshot": draw_screenshot(seed),
            "dark screenshot": draw_screenshot(seed, dark=True),
        }
        for what, image in strangers.items():
            assert {"foreign", "inverted"} & set(flags(image, own)), what


def test_blank_saturated_size_and_intensity(own: FlagLimits) -> None:
    """One value everywhere, a washed-out slice, a thumbnail, a strip, and a slice eight times too dark."""
    (image,) = draw_slices(1)
    for value in (0, 128, 255):
        assert flags(np.full((50, 60), value, np.uint8), own) == ["blank"]
    assert "saturated" in flags(np.where(image > 20, 255, image).astype(np.uint8), own)
    assert flags(cv2.resize(image, (40, 40), interpolation=cv2.INTER_AREA), own) == ["size"]
    assert "size" in flags(np.vstack([image] * 4), own)
    assert flags(image // 8, own) == ["intensity"]


def test_without_ranges_nothing_is_flagged() -> None:
    """Without ranges nothing is foreign, inverted, of odd size or intensity; without a border's, nothing inverted."""
    assert flags(draw_photo(1), LIMITS) == []
    features = find_features(255 - draw_slices(1)[0])
    assert "inverted" not in flag_input(features, dataclasses.replace(LIMITS, ranges={"colour": (0.5, 1.0)}))
    assert flag_input(features, dataclasses.replace(LIMITS, saturated=1.0, ranges={"border": (0.0, 0.2)})) == [
        "inverted"
    ]
    assert set(CONTENT_FEATURES) <= set(features)


def test_flags_of_a_result() -> None:
    """Each limit at its edge: above, not at it."""
    quiet = Measurements(10, 0.5, 3, 0.56, (), ())
    assert flag_result(quiet, LIMITS, 0.5) == []
    assert flag_result(dataclasses.replace(quiet, lesion_fraction=0.51), LIMITS, 0.5) == ["large"]
    assert flag_result(dataclasses.replace(quiet, components=4), LIMITS, 0.5) == ["fragments"]
    for close in (0.54, 0.46):
        assert flag_result(dataclasses.replace(quiet, max_probability=close), LIMITS, 0.5) == ["margin"]
    for label, background, raised in ((0.34, 0.30, True), (0.30, 0.34, True), (0.55, 0.30, False), (0.2, 0.4, False)):
        found = dataclasses.replace(quiet, max_probability=0.5, lead=Lead(label, background))
        assert flag_result(found, LIMITS, 0.5) == ["margin"] * raised


def test_a_contract_without_triage_raises_what_needs_none() -> None:
    """Empty and border as ever; nothing else, whatever the image."""
    contract = dataclasses.replace(read_contract(DEFAULT), triage=None)
    mask = np.zeros((20, 20), np.uint8)
    assert raise_flags(draw_photo(1), measure_mask(mask, mask.astype(np.float32), 2), contract, 0.5) == ("empty",)


def test_a_run_flags_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """results.csv has each image's flags, run.json and the table how many of each."""
    (image,) = draw_slices(1)
    for name, pixels in {"a": image, "b": draw_page(1), "c": np.zeros((90, 90), np.uint8)}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    out = tmp_path / "out"
    assert main([*(str(tmp_path / f"{name}.png") for name in "abc"), "-o", str(out), "--threads", "1"]) == 0
    lines = [line.split(",") for line in (out / "results.csv").read_text().splitlines()]
    column = lines[0].index("flags")
    found = [line[column].split(";") for line in lines[1:]]
    assert {"foreign", "inverted", "blank"} & set(found[0]) == set()
    assert "foreign" in found[1] and found[2] == ["blank", "empty"]
    counts = json.loads((out / "run.json").read_text())["flags"]
    assert counts["foreign"] == counts["blank"] == 1
    assert f"flagged: {counts['empty']} empty, " in capsys.readouterr().out
