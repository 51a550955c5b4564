"""Runs every model of a folder that make_legacy.py filled on tflite-runtime, and compares with LiteRT's answers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edge_runtime import Session
from edge_runtime.images import read_image

# Hybrid kernels of 2.14 quantize inputs in another way than XNNPACK's of today; float arithmetic differs in rounding.
TOLERANCES = {"drq": 0.05, "fp16": 1e-3, "weight-only": 1e-3, "fp32": 1e-3}


def main(folder: Path) -> int:
    """Return 0 if all models load, run and agree."""
    models = sorted(folder.glob("*.tflite"))
    image = read_image(folder / "image.png")
    worst: dict[str, float] = {}
    for model in models:
        found = Session.load(model, engine="tflite-runtime").segment(image).probability
        recipe = model.suffixes[-2].removeprefix(".")
        difference = float(np.abs(found - np.load(model.with_suffix(".npy"))).max())
        worst[recipe] = max(worst.get(recipe, 0.0), difference)
        if not difference <= TOLERANCES[recipe]:
            print(f"{model.name}: differs by {difference:.3g}, more than {TOLERANCES[recipe]:g}")
            return 1
    print(f"{len(models)} models agree; largest differences {worst}")
    return 0 if models else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
