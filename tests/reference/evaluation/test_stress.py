"""The checks for shortcuts change slices as promised, detect a net with a shortcut, and pass one without."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from reference.data.altered_slices import cover_lesion, match_contrast, mirror, zoom
from reference.data.folders import Slice
from reference.data.lesion_shape import find_head
from reference.data.phantom import draw_phantom
from reference.evaluation.stress import OTHER, OWN, check_changes, check_covered, check_flip, draw_partners

SIDE = 96
Array = np.ndarray


def draw_head(lesion: tuple[int, int] | None = None, radius: int = 7) -> tuple[Array, Array]:
    """A symmetric head with a rim and two ventricles, and a bright lesion at (row, column)."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype("f")
    across = np.abs(columns - (SIDE - 1) / 2)
    image = np.zeros((SIDE, SIDE), "f")
    disc = np.hypot((rows - 47.5) / 40, across / 33)
    image[disc < 1] = 190
    image[disc < 0.9] = 90
    image[np.hypot((rows - 40) / 12, (across - 8) / 4) < 1] = 50
    mask = np.zeros((SIDE, SIDE), bool)
    if lesion:
        mask = np.hypot(rows - lesion[0], columns - lesion[1]) <= radius
        image[mask] = 240
    return np.rint(cv2.GaussianBlur(image, (3, 3), 0)).astype(np.uint8), mask


def save(folder: Path, name: str, image: Array, mask: Array | None) -> Slice:
    cv2.imwrite(str(folder / f"{name}.png"), image)
    if mask is None:
        return Slice(folder / f"{name}.png", None, "none", name)
    cv2.imwrite(str(folder / f"{name}-mask.png"), mask.astype(np.uint8) * 255)
    return Slice(folder / f"{name}.png", folder / f"{name}-mask.png", "glioma", name)


def see_brightness(image: Array) -> Array:
    """Predict as a net without shortcut: what is brighter than any tissue is a lesion."""
    return (image > 215).astype("f")


def use_source(image: Array) -> Array:
    """Predict as a net with a shortcut: it detects the tumours' source by a dark frame and marks the brightest spot."""
    inner = cv2.GaussianBlur(image, (9, 9), 0).astype("f")
    return ((inner >= inner.max()) & (image.mean() < 100)).astype("f")


def test_mirroring_and_zooming_keep_image_and_mask_together() -> None:
    """The changed mask lies where the changed image shows the lesion; a lesion that is cut off is left out."""
    image, mask = draw_head((30, 62))
    mirrored, truth = mirror(image, mask, None)
    assert np.array_equal(mirrored[:, ::-1], image) and np.array_equal(truth[:, ::-1], mask)
    for factor in (0.75, 1.25):
        changed = zoom(image, mask, factor)
        assert changed is not None and changed[0].shape == image.shape and changed[0].dtype == np.uint8
        assert changed[1].sum() == pytest.approx(mask.sum() * factor**2, rel=0.1)
        assert changed[0][cv2.erode(changed[1].astype("u1"), np.ones((5, 5))) > 0].min() > 220
    assert zoom(*draw_head((6, 47), 4), 1.25) is None
    assert zoom(image[:, :70], mask[:, :70], 0.75)[0].shape == (SIDE, 70)  # type: ignore[index]


def test_matched_contrast_has_the_other_heads_brightnesses() -> None:
    """Ranks stay, air stays, and the head's quantiles become the other head's."""
    image = draw_phantom(np.random.default_rng(1), "glioma", 128).image
    other = draw_phantom(np.random.default_rng(2), "none", 160).image
    other = np.rint(255 * (other / 255) ** 0.4).astype(np.uint8)
    none = np.zeros(image.shape, bool)
    changed = match_contrast(image, none, other)
    head, other_head = find_head(image), find_head(other)
    assert changed is not None and head is not None and other_head is not None
    assert np.array_equal(changed[0][~head.mask], image[~head.mask])
    shares = (10, 25, 50, 75, 90)
    np.testing.assert_allclose(
        np.percentile(changed[0][head.mask], shares), np.percentile(other[other_head.mask], shares), atol=6
    )
    order = np.argsort(image[head.mask], kind="stable")
    assert (np.diff(changed[0][head.mask][order].astype(int)) >= 0).all()
    assert match_contrast(np.zeros_like(image), none, other) is None


def test_a_covered_lesion_is_gone() -> None:
    """Laid over by the other half of a symmetric head, the slice is the head without its lesion."""
    for spot in ((30, 66), (60, 26)):
        image, mask = draw_head(spot)
        covered = cover_lesion(image, mask)
        assert covered is not None
        clean, _ = draw_head()
        assert np.abs(covered[0].astype(int) - clean)[cv2.erode(mask.astype("u1"), np.ones((3, 3))) > 0].max() <= 2
        far = cv2.dilate(covered[1].astype("u1"), np.ones((15, 15))) == 0
        assert covered[1][mask].all() and np.array_equal(covered[0][far], image[far])


def test_what_cannot_be_covered_is_left_out() -> None:
    """A lesion on the midline, a head without symmetry and a slice without lesion give no covered slice."""
    assert cover_lesion(*draw_head((30, 48))) is None
    image, mask = draw_head((30, 66))
    assert cover_lesion(image, np.zeros_like(mask)) is None
    face = image.copy()
    cv2.fillPoly(face, [np.array([[0, 95], [55, 95], [40, 40], [0, 60]])], 255)
    face[:, 70:] = 0
    assert cover_lesion(face, mask & (face > 0)) is None


def test_a_net_that_uses_the_source_is_detected(tmp_path: Path) -> None:
    """With covered lesions, the net without shortcut marks nothing and the one with a shortcut marks every slice."""
    spots = [(30 + k, 64 if k % 2 else 30) for k in range(6)]
    slices = [save(tmp_path, f"t{k}", *draw_head(spot)) for k, spot in enumerate(spots)]
    without_shortcut = check_covered(see_brightness, slices, 0.5)
    assert (without_shortcut["slices"], without_shortcut["patients"], without_shortcut["left_out"]) == (6, 6, 0)
    assert without_shortcut["marked_before"]["value"] == 1 and without_shortcut["marked_after"]["value"] == 0
    with_shortcut = check_covered(use_source, slices, 0.5)
    assert with_shortcut["marked_after"]["value"] == 1 and with_shortcut["newly_beyond"]["value"] == 1


def test_changes_are_scored_beside_the_same_slices_unchanged(tmp_path: Path) -> None:
    """Mirroring changes nothing for a net without a side; in the other source's contrast the net finds no lesions."""
    slices = [save(tmp_path, f"t{k}", *draw_head((28 + 4 * k, 64))) for k in range(4)]
    slices += [save(tmp_path, f"n{k}", draw_head()[0] // 2, None) for k in range(3)]
    found = {row["change"]: row for row in check_changes(see_brightness, slices, 0.5)}
    mirrored, contrast = found["mirrored"], found["contrast of the other source"]
    assert mirrored["before"] == mirrored["after"] and mirrored["difference"]["dice"]["value"] == 0
    assert contrast["after"]["overlooked"]["value"] == 1 and contrast["before"]["overlooked"]["value"] == 0
    assert contrast["difference"]["overlooked"]["value"] == 1
    alone = [row["change"] for row in check_changes(see_brightness, slices[:4], 0.5)]
    assert alone == ["mirrored", "rescaled by 0.75", "rescaled by 1.25", "contrast of its own source"]
    assert found["contrast of its own source"]["after"]["overlooked"]["value"] == 0
    partners = draw_partners(slices)
    for item, chosen in partners.items():
        assert all(other.patient != item.patient for other in chosen.values())
        assert [chosen[name].mask is None for name in (OWN, OTHER)] == [item.mask is None, item.mask is not None]
    flip = check_flip(see_brightness, slices, 0.5)
    assert flip["difference"]["dice"]["value"] == 0 and flip["scores"]["false_alarms"]["n"] == 3
