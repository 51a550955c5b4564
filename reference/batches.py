"""Batches of a training epoch, drawn by seed and epoch alone, so that a resumed run sees what it would have seen."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .changes import disguise
from .data import augment
from .recipe import Recipe


def draw_batches(
    arrays: tuple[np.ndarray, np.ndarray], recipe: Recipe, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches, (N, H, W, C) and (N, H, W, 1) float32, each prepared, and augmented, while the last one trains."""
    order = np.random.default_rng((recipe.seed, epoch)).permutation(len(arrays[0]))
    groups = [order[i : i + recipe.batch] for i in range(0, len(order) - recipe.batch + 1, recipe.batch)]

    def prepare(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = [vary(arrays, int(i), recipe, epoch) for i in group]
        return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(prepare, groups[0]) if groups else None
        for group in [*groups[1:], None]:
            assert following is not None
            ready = following.result()
            following = pool.submit(prepare, group) if group is not None else None
            yield ready


def vary(arrays: tuple[np.ndarray, np.ndarray], i: int, recipe: Recipe, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the i-th image (H, W, C) in [0, 1] and mask (H, W, 1), float32, varied as the recipe says."""
    images, masks = arrays
    image, mask, seed = images[i], masks[i], (recipe.seed, epoch, i)
    if recipe.match or recipe.cover:
        rng = np.random.default_rng((*seed, 1))
        image, mask = disguise(image, mask, images[rng.integers(len(images))], rng, recipe.match, recipe.cover)
    if recipe.augment:
        return augment(image, mask, np.random.default_rng(seed))
    return image.astype(np.float32) / 255, mask.astype(np.float32)[..., None]
