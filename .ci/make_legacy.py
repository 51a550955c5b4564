"""Converts nets for tflite-runtime 2.14 and writes LiteRT's answers beside them: the folder of check_legacy.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "convert" / "nets"))

from keras_nets import build_unet, spread

import convert.search.candidate
from convert import convert_model
from edge_runtime import Session
from edge_runtime.images.write import encode_png
from edge_runtime.system.files import write_file
from reference.data.phantom import draw_phantom
from reference.nets.resunet import build_resunet

convert.search.candidate.TIMING_S, convert.search.candidate.MAX_TIMINGS = 0.3, 1  # its speed verdict is not used here
RECIPES = {"transpose": ("drq", "fp16", "weight-only", "fp32")}  # of one net all, of the others the default


def list_nets() -> dict[str, Any]:
    """Return nets with every kind of upsampling, one and several classes, dense layers and batch normalizations."""
    return {
        "transpose": spread(build_unet((64, 64), filters=(16, 32))),
        "nearest": spread(build_unet((64, 64), 1, up="nearest")),
        "softmax": spread(build_unet((48, 80), 3, 4, up="bilinear")),
        "squeeze": spread(build_resunet("se", 0.25, 64, 1)),
        "gate": spread(build_resunet("ag", 0.25, 64, 3)),
    }


def main(folder: Path) -> None:
    """Write NAME.RECIPE.tflite, image.png and NAME.RECIPE.npy, LiteRT's probabilities for it."""
    image = draw_phantom(np.random.default_rng(7), "meningioma", 96).image
    folder.mkdir(parents=True)
    write_file(folder / "image.png", encode_png(image))
    for name, net in list_nets().items():
        net.save(folder / f"{name}.keras")
        for recipe in RECIPES.get(name, ("drq",)):
            out = folder / f"{name}.{recipe}.tflite"
            convert_model(folder / f"{name}.keras", recipe, out, target="tflite-runtime", allow=["slower"])
            np.save(out.with_suffix(".npy"), Session.load(out, engine="litert").segment(image).probability)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
