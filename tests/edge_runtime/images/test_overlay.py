"""Pictures of a result."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.images.overlay import TINT, draw_contour, draw_overlay, to_picture

RED, GREEN = (255, 0, 0), (0, 255, 0)


def test_pictures_of_every_image_are_8_bit_rgb(rng: np.random.Generator) -> None:
    """Grey and colour, 8 and 16 bit become (H, W, 3) uint8; 12-bit content is not left dark."""
    grey = rng.integers(0, 256, (9, 11)).astype(np.uint8)
    grey[0, 0] = 255
    assert (to_picture(grey) == grey[:, :, None]).all()
    assert np.abs(to_picture(grey.astype(np.uint16) * 16 + 15)[:, :, 1].astype(int) - grey).max() <= 1
    colour = rng.integers(0, 256, (9, 11, 3)).astype(np.uint8)
    assert (to_picture(colour) == colour).all()
    deep = to_picture(colour.astype(np.uint16) * 257)
    assert deep.dtype == np.uint8
    assert (deep == colour).all()


def test_overlay_tints_inside_outlines_the_edge_and_leaves_the_rest(drawn: npt.NDArray[np.uint8]) -> None:
    """A block lesion: its rim has the label's colour, its inside a share of it, all else is the picture."""
    picture = to_picture(drawn)
    labels = np.zeros(drawn.shape, np.uint8)
    labels[20:30, 40:55] = 1
    found = draw_overlay(picture, labels, [RED])
    inside, rim = np.zeros_like(labels, bool), labels > 0
    inside[21:29, 41:54] = True
    rim &= ~inside
    assert (found[rim] == RED).all()
    assert (found[labels == 0] == picture[labels == 0]).all()
    wanted = picture[inside] * (1 - TINT) + np.array(RED) * TINT
    assert np.abs(found[inside] - wanted).max() <= 0.51


def test_contour_keeps_the_inside(drawn: npt.NDArray[np.uint8]) -> None:
    """The contour alone hides nothing of the lesion it surrounds."""
    picture = to_picture(drawn)
    labels = np.zeros(drawn.shape, np.uint8)
    labels[20:30, 40:55] = 1
    found = draw_contour(picture, labels, [RED])
    assert (found[21:29, 41:54] == picture[21:29, 41:54]).all()
    assert (found[20, 40:55] == RED).all()


def test_each_label_has_its_own_colour() -> None:
    """Label k is drawn in colours[k - 1]."""
    labels = np.zeros((20, 20), np.uint8)
    labels[2:8, 2:8], labels[12:18, 12:18] = 1, 2
    found = draw_overlay(np.zeros((20, 20, 3), np.uint8), labels, [RED, GREEN])
    assert found[2, 2].tolist() == list(RED)
    assert found[12, 12].tolist() == list(GREEN)
    assert found[5, 5, 1] == found[15, 15, 0] == 0


def test_a_mask_is_drawn_as_its_labels(drawn: npt.NDArray[np.uint8]) -> None:
    """Whatever type it has, and wherever in another array it lies."""
    picture, labels = to_picture(drawn), np.zeros(drawn.shape, np.uint8)
    labels[20:30, 40:55] = 1
    wanted = draw_overlay(picture, labels, [RED])
    for mask in (labels > 0, labels.astype(np.int64), np.asfortranarray(labels), labels[::-1][::-1]):
        assert (draw_overlay(picture, mask, [RED]) == wanted).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_thin_images_are_drawn(shape: tuple[int, int]) -> None:
    """Images of one row, one column or one pixel have overlays too."""
    found = draw_overlay(np.zeros((*shape, 3), np.uint8), np.ones(shape, np.uint8), [RED])
    assert found.shape == (*shape, 3)
    assert found[0, 0, 0] > 0


def test_drawing_leaves_its_arguments_alone(drawn: npt.NDArray[np.uint8]) -> None:
    """Picture and labels are read only: the caller draws several pictures from them."""
    picture, labels = to_picture(drawn), np.ones(drawn.shape, np.uint8)
    before = picture.copy()
    picture.flags.writeable = labels.flags.writeable = False
    draw_overlay(picture, labels, [RED])
    draw_contour(picture, labels, [RED])
    assert (picture == before).all()
