"""How the weights are stored: the recipes, by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One way to store a model: `weights` is the type that large weight tensors must have in the file."""

    name: str
    weights: str  # "float32" | "int8"
    most_of_fp32: float  # the largest share of the float32 file's size that is believable
    says: str


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("drq", "int8", 0.35, "dynamic-range quantization: int8 weights per channel, float activations"),
        Recipe("fp32", "float32", 1.0, "32-bit floats, as trained"),
    )
}
