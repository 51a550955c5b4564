"""Batches are drawn by seed and epoch, and show slices in other contrasts or without lesion as often as asked."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from reference.data.altered_slices import cover_lesion
from reference.data.lesion_shape import find_head
from reference.data.phantom import draw_phantom
from reference.recipe import Recipe
from reference.training.batches import alter_slice, draw_batches, prepare_slice

PLAIN = Recipe(size=64, colour="grey", batch=4, augment=False)


def draw_arrays(kinds: tuple[str, ...], channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Drawn slices (N, 64, 64, C) and their masks (N, 64, 64), a darker half of them."""
    drawn = [draw_phantom(np.random.default_rng(i), kind, 64) for i, kind in enumerate(kinds)]
    grey = [np.rint(255 * (phantom.image / 255) ** (1 + 2 * (i % 2))).astype("u1") for i, phantom in enumerate(drawn)]
    return np.repeat(np.stack(grey)[..., None], channels, axis=3), np.stack(
        [phantom.mask.astype("u1") for phantom in drawn]
    )


def draw_coverable() -> tuple[np.ndarray, np.ndarray]:
    """A symmetric head (64, 64, 1) with a lesion in one half, and its mask."""
    rows, columns = np.mgrid[:64, :64].astype("f")
    head = np.hypot((rows - 31.5) / 28, (columns - 31.5) / 23)
    image = np.where(head < 0.9, 90, 190) * (head < 1).astype("f")
    image[np.hypot((rows - 28) / 8, (np.abs(columns - 31.5) - 6) / 3) < 1] = 50
    mask = np.hypot(rows - 20, columns - 44) < 5
    image[mask] = 240
    return cv2.GaussianBlur(image, (3, 3), 0).astype("u1")[..., None], mask.astype("u1")


def test_a_covered_slice_has_an_empty_mask_and_no_lesion() -> None:
    """With a chance of 1 it is what cover_lesion makes of it, with 0 it is as it was, with 0.5 about half of them."""
    image, mask = draw_coverable()
    covered = cover_lesion(image[..., 0], mask > 0)
    assert covered is not None
    rng = np.random.default_rng(0)
    shown, truth = alter_slice(image, mask, image, rng, match=0, cover=1)
    assert np.array_equal(shown[..., 0], covered[0]) and not truth.any()
    shown, truth = alter_slice(image, mask, image, rng, match=0, cover=0)
    assert np.array_equal(shown, image) and np.array_equal(truth, mask)
    empty = sum(not alter_slice(image, mask, image, rng, match=0, cover=0.5)[1].any() for _ in range(60))
    assert 15 <= empty <= 45


def test_a_matched_slice_keeps_its_mask_and_takes_the_others_brightness() -> None:
    """The head's median becomes the other head's, in every channel; the lesion stays where it is."""
    images, masks = draw_arrays(("glioma", "meningioma"), channels=3)
    shown, truth = alter_slice(images[0], masks[0], images[1], np.random.default_rng(0), match=1, cover=0)
    ours, theirs = find_head(images[0, ..., 0]), find_head(images[1, ..., 0])
    assert ours is not None and theirs is not None
    goal = np.median(images[1][theirs.mask])
    assert abs(np.median(images[0][ours.mask]) - goal) > 20 > 6 > abs(np.median(shown[ours.mask]) - goal)
    assert np.array_equal(truth, masks[0]) and shown.shape == images[0].shape
    assert np.array_equal(shown[..., 0], shown[..., 2])


def test_an_epoch_is_drawn_again_as_it_was() -> None:
    """Seed and epoch decide all of a batch; another epoch shows other slices and other changes."""
    arrays = draw_arrays(("glioma", "none", "pituitary", "meningioma") * 3)
    recipe = replace(PLAIN, augment=True, match=0.5, cover=0.5)
    first, again, other = (list(draw_batches(arrays, recipe, epoch)) for epoch in (1, 1, 2))
    assert [images.shape for images, _ in first] == [(4, 64, 64, 1)] * 3
    assert [masks.shape for _, masks in first] == [(4, 64, 64, 1)] * 3
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
    assert not np.array_equal(first[0][0], other[0][0])


def test_what_is_not_asked_for_changes_nothing() -> None:
    """Without augmentation and chances a slice is its pixels / 255 and its mask."""
    arrays = draw_arrays(("glioma", "none"))
    image, mask = prepare_slice(arrays, 0, PLAIN, epoch=3)
    np.testing.assert_array_equal(image, arrays[0][0].astype("f") / 255)
    np.testing.assert_array_equal(mask[..., 0], arrays[1][0])
    assert image.dtype == mask.dtype == np.float32
