"""Builds the net that a recipe names."""

from __future__ import annotations

import keras

from edge_runtime.errors import UsageError
from reference.recipe import Recipe

from .liteunet import build_liteunet
from .resunet import build_resunet


def build_net(recipe: Recipe, size: int | None) -> keras.Model:
    """Return the recipe's untrained net, (N, size, size, channels) to (N, size, size, 1).

    Raises: UsageError if the encoder does not exist in this width.
    """
    channels = 3 if recipe.colour == "rgb" else 1
    if recipe.encoder == "resnet50v2":
        return build_resunet(recipe.attention, recipe.width, size, channels)
    if recipe.width != 1:
        raise UsageError("--width", f"{recipe.encoder} comes in one width", "leave it out")
    return build_liteunet(recipe.attention, size, channels)
