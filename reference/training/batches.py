"""Draws the batches of a training epoch by seed and epoch alone, so that a resumed run gets the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from reference.data.altered_slices import cover_lesion, match_contrast
from reference.data.folders import augment
from reference.recipe import Recipe


def draw_batches(
    arrays: tuple[np.ndarray, np.ndarray], recipe: Recipe, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches, (N, H, W, C) and (N, H, W, 1) float32; each is prepared while the previous one is trained on."""
    order = np.random.default_rng((recipe.seed, epoch)).permutation(len(arrays[0]))
    groups = [order[i : i + recipe.batch] for i in range(0, len(order) - recipe.batch + 1, recipe.batch)]

    def prepare_batch(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = [prepare_slice(arrays, int(i), recipe, epoch) for i in group]
        return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])

    with ThreadPoolExecutor(1) as pool:
        next_batch = pool.submit(prepare_batch, groups[0]) if groups else None
        for group in [*groups[1:], None]:
            assert next_batch is not None
            ready = next_batch.result()
            next_batch = pool.submit(prepare_batch, group) if group is not None else None
            yield ready


def prepare_slice(
    arrays: tuple[np.ndarray, np.ndarray], i: int, recipe: Recipe, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the i-th image (H, W, C) in [0, 1] and mask (H, W, 1), float32, changed as the recipe says."""
    images, masks = arrays
    image, mask, seed = images[i], masks[i], (recipe.seed, epoch, i)
    if recipe.match or recipe.cover:
        rng = np.random.default_rng((*seed, 1))
        image, mask = alter_slice(image, mask, images[rng.integers(len(images))], rng, recipe.match, recipe.cover)
    if recipe.augment:
        return augment(image, mask, np.random.default_rng(seed))
    return image.astype(np.float32) / 255, mask.astype(np.float32)[..., None]


def alter_slice(
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    other: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    match: float,
    cover: float,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return a training slice, (H, W, C) with mask (H, W) in {0, 1}, changed so that it reveals its source less.

    match: probability of the other slice's contrast. cover: probability that its lesion is covered and its mask empty,
    where that is possible. Slices are grey: the first channel is used for all.
    """
    grey, lesion = image[..., 0], mask > 0
    if rng.random() < cover and lesion.any():
        covered = cover_lesion(grey, lesion)
        if covered is not None:
            grey, lesion = covered[0], np.zeros_like(lesion)
    if rng.random() < match:
        matched = match_contrast(grey, lesion, other[..., 0])
        if matched is not None:
            grey = matched[0]
    return np.repeat(grey[..., None], image.shape[2], axis=2), lesion.astype(np.uint8)
