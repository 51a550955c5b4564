"""Masks of simulated child processes by the device's own functions: entries, NaN, references, pictures."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fakes import make_contract

from benchmarks.measure.accuracy import CHUNK, activate, draw_worst, score_candidates
from benchmarks.measure.image_scores import score_image
from benchmarks.subjects.candidates import Candidate
from benchmarks.subjects.images import ImageSet, read_image_set
from edge_runtime.errors import EngineError
from edge_runtime.images import read_image
from edge_runtime.images.write import encode_png

Array = npt.NDArray[Any]
SIZE = 32


class FakeChild:
    """A child whose model is a function of its tensors."""

    def __init__(self, answer: Callable[[Array], Array]) -> None:
        self.answer = answer

    def request(self, do: str, tensors: str, out: str) -> dict[str, Any]:
        np.save(out, self.answer(np.load(tensors)))
        return {}


def fail(tensors: Array) -> Array:
    raise EngineError("x", "it broke", "")


def make(key: str, answer: Callable[[Array], Array], **more: Any) -> Any:
    candidate = Candidate(key, key, "subject", "litert", 1, "drq", Path(), key, make_contract(SIZE), "", **more)
    return candidate, FakeChild(answer)


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> ImageSet:
    """More images than a chunk: bright ellipses on dark ground, and the last without one; masks of the same."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    y, x = np.mgrid[:SIZE, :SIZE]
    for number in range(CHUNK + 3):
        cy, cx, radius = rng.uniform(8, 24), rng.uniform(8, 24), 0.0 if number == CHUNK + 2 else rng.uniform(3, 7)
        mask = ((y - cy) ** 2 + (x - cx) ** 2 < radius**2).astype(np.uint8) * 255
        image = np.where(mask > 0, 200, 40 + 10 * (number % 3)).astype(np.uint8)
        (tmp_path / f"images/{number:02}.png").write_bytes(encode_png(image))
        (tmp_path / f"masks/{number:02}.png").write_bytes(encode_png(mask))
    return read_image_set(tmp_path / "images", tmp_path / "masks")


def lose_a_row(tensors: Array) -> Array:
    """Finds all but the lower half of the image."""
    found = tensors.copy()
    found[:, :, SIZE // 2 :] = 0
    return found


def test_entries_are_scores_against_masks_and_reference(data: ImageSet, tmp_path: Path) -> None:
    """A perfect reference scores 1; another one is compared with both, image by image as an oracle does."""
    entries = score_candidates([make("drq", lose_a_row), make("fp32", np.array)], "fp32", data, tmp_path)
    perfect, lossy = entries["fp32"], entries["drq"]
    assert perfect["against"] == lossy["against"] == "masks"
    assert perfect["lesion_iou"]["value"] == perfect["dice"]["value"] == perfect["mean_iou"]["value"] == 1.0
    assert perfect["hd95_px"]["value"] == 0.0 and perfect["changed_pixels"] is None
    assert (perfect["n"], perfect["dice"]["n"], perfect["false_alarms"]["n"]) == (CHUNK + 3, CHUNK + 2, 1)
    assert "agreement" not in perfect and "difference" not in perfect
    rows = []
    for image, mask in zip(data.images, data.masks or (), strict=True):
        found = read_image(image) > 127
        found[SIZE // 2 :] = False
        rows.append((image.name, score_image(found, read_image(mask) > 127), found != (read_image(image) > 127)))
    assert [row["file"] for row in lossy["per_image"]] == [name for name, _, _ in rows]
    expected = [-1 if row["dice"] is None else row["dice"] for _, row, _ in rows]
    assert [-1 if row["dice"] is None else row["dice"] for row in lossy["per_image"]] == pytest.approx(
        expected, abs=1e-6
    )
    assert lossy["changed_pixels"] == pytest.approx(np.mean([changed.mean() for *_, changed in rows]), abs=1e-8)
    assert lossy["agreement"]["against"] == "fp32" and lossy["agreement"]["lesion_iou"] == lossy["lesion_iou"]
    assert lossy["difference"]["dice"]["value"] == pytest.approx(lossy["dice"]["value"] - 1, abs=1e-5)


def test_without_masks_the_reference_is_the_truth(data: ImageSet, tmp_path: Path) -> None:
    """And has no entry of its own."""
    bare = ImageSet(data.images, None, data.digests, data.sizes)
    entries = score_candidates([make("drq", lose_a_row), make("fp32", np.array)], "fp32", bare, tmp_path)
    assert list(entries) == ["drq"] and entries["drq"]["against"] == "fp32"
    assert 0 < entries["drq"]["lesion_iou"]["value"] < 1 and entries["drq"]["changed_pixels"] > 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: np.where(np.arange(len(x))[:, None, None, None, None] == 0, np.nan, x), "not finite"),
        (lambda x: x * 30, "no probabilities"),
        (fail, "it broke"),
    ],
)
def test_nan_is_never_hidden(data: ImageSet, tmp_path: Path, answer: Callable[[Array], Array], words: str) -> None:
    """One image without a result makes every mean null, with the reason; the other subject is not concerned."""
    entries = score_candidates([make("drq", answer), make("fp32", np.array)], "fp32", data, tmp_path)
    broken = entries["drq"]
    assert broken["failed"] >= 1 and words in broken["why"]
    assert all(
        broken[name]["value"] is None for name in ("lesion_iou", "mean_iou", "dice", "hd95_px", "lesion_area_error")
    )
    assert broken["changed_pixels"] is None
    assert entries["fp32"]["lesion_iou"]["value"] == 1.0


def test_a_broken_reference_leaves_the_scores_against_masks(data: ImageSet, tmp_path: Path) -> None:
    """Only what is compared with it is missing; without masks nothing is left."""
    entries = score_candidates([make("drq", np.array), make("fp32", fail)], "fp32", data, tmp_path)
    assert entries["drq"]["lesion_iou"]["value"] == 1.0 and "agreement" not in entries["drq"]
    bare = ImageSet(data.images, None, data.digests, data.sizes)
    entries = score_candidates([make("drq", np.array), make("fp32", fail)], "fp32", bare, tmp_path)
    assert entries["drq"]["lesion_iou"]["value"] is None and "nothing to compare with" in entries["drq"]["why"]


def test_logits_are_activated_where_conversion_appended_it(data: ImageSet, tmp_path: Path) -> None:
    """A file that lacks the sigmoid of its contract gives the same masks with it."""
    logits = make("keras", lambda x: np.where(x > 0.5, 9.0, -9.0).astype(np.float32), append="sigmoid")
    assert score_candidates([logits], "", data, tmp_path)["keras"]["lesion_iou"]["value"] == 1.0
    values = np.array([[1.0, 2.0, 4.0]], np.float32)
    assert activate(values, "softmax").sum() == pytest.approx(1) and activate(values, "") is values


def test_the_worst_cases_are_pictures(data: ImageSet, tmp_path: Path) -> None:
    """Ten at most, the lowest IoU first; each a small PNG of image, truth and what was found."""
    loaded = make("drq", lose_a_row)
    entry = score_candidates([loaded], "", data, tmp_path)["drq"]
    worst = draw_worst(loaded, entry, data, tmp_path)
    ious = [case["lesion_iou"] for case in worst]
    assert len(worst) == 10 and ious == sorted(ious)
    assert ious[0] == min(row["lesion_iou"] for row in entry["per_image"] if row["lesion_iou"] is not None)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(worst[0]["picture"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (SIZE, 3 * SIZE, 3)


def test_large_pictures_are_made_small(tmp_path: Path) -> None:
    """256 pixels on the longer side, in proportion."""
    from benchmarks.measure.accuracy import shrink

    assert shrink(np.zeros((512, 384, 3), np.uint8)).shape == (256, 192, 3)
    assert shrink(np.zeros((100, 90, 3), np.uint8)).shape == (100, 90, 3)
