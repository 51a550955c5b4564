"""Which recipes are there, and what must a file of each one keep to?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One way to store a model."""

    name: str
    kind: str  # how large weight tensors are stored: one of weights.KINDS; "integer": activations are int8 too
    weights: str  # the type that they must have in the file: "float32" | "float16" | "int8"
    max_size_ratio: float  # to the float32 file: a larger file is a finding of the audit
    time_limit_ratio: float  # to the float32 file's time: a file that takes as long or longer is a finding
    description: str


# float16 and weight-only files compute in float32: they are smaller, not faster.
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
