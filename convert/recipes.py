"""How the weights are stored: the recipes, by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One way to store a model.

    kind is what becomes of large weight tensors, one of quantize.KINDS, or "integer" where activations become int8
    too; `weights` is the type that they must have in the file.
    """

    name: str
    kind: str
    weights: str  # "float32" | "float16" | "int8"
    most_of_fp32: float  # the largest share of the float32 file's size that is believable
    most_time: float  # the clock refuses a file that takes this share of static float32's time, or more
    says: str


# float16 and weight-only files compute in float32: they promise size, not speed.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("drq", "int8", "int8", 0.35, 1.0, "dynamic-range quantization: int8 weights, float activations"),
        Recipe("int8", "integer", "int8", 0.35, 1.0, "int8 weights and activations, ranges from --calibrate's images"),
        Recipe("fp32", "float32", "float32", 1.0, 1.1, "32-bit floats, as trained"),
        Recipe("fp16", "float16", "float16", 0.55, 1.1, "weights as 16-bit floats, computed in 32"),
        Recipe("weight-only", "weight-only", "int8", 0.35, 1.1, "int8 weights, computed in 32-bit floats"),
    )
}
