"""The recipe: all numbers of a training run, with ours as defaults. The paper's is in `reference/paper.py`.

The effect of each choice was measured: docs/training.md.
"""

from __future__ import annotations

from dataclasses import dataclass

ATTENTIONS = ("none", "ag", "se", "cbam")
ENCODERS = ("resnet50v2", "lite0")


@dataclass(frozen=True)
class Recipe:
    """Our recipe; where the paper differs, the comment says so. The field names are those of recipe.json."""

    encoder: str = "resnet50v2"  # the paper's, or "lite0": EfficientNet-Lite0, the embedded model's
    attention: str = "ag"
    width: float = 1.0
    size: int = 224
    colour: str = "rgb"
    epochs: int = 50
    small_epochs: int = 0  # first epochs at small_size, each in a third of the time (not in the paper)
    small_size: int = 128
    batch: int = 16
    rate: float = 1e-3
    schedule: str = "cosine"  # to zero over the run, or "plateau", by validation score (the paper)
    warm_up: float = 0.03  # share of the run before the cosine (the paper: none)
    factor: float = 0.2  # of the plateau: multiplies the rate
    patience: int = 4  # of the plateau: epochs without improvement before that
    least_rate: float = 1e-6  # of the plateau
    stop_patience: int = 7  # of the plateau: epochs without improvement that end the run
    weight_decay: float = 1e-2  # AdamW; 0 is Adam (the paper)
    dice: float = 1.0  # weight of the soft Dice loss beside cross-entropy (the paper: none)
    deep: float = 0.0  # weight of the loss of the decoder's next stage, halved for each coarser one (the paper: none)
    augment: bool = True  # mirrors, turns, scales, intensities (the paper: none)
    match: float = 0.0  # share of slices in the contrast of another training slice (the paper: none)
    cover: float = 0.0  # share of lesions that are covered where possible, with an empty mask (the paper: none)
    ema: float = 0.998  # decay of the averaged weights that are validated and saved; 0: no average (the paper)
    split: str = "patient"  # what is held out: patients, or "slice", single slices (the paper)
    share: float = 0.2  # of each class's patients, or of the slices, held out for validation
    test_share: float = 0.0  # held out for a test: neither epoch nor threshold is chosen on it
    seed: int = 1
    precision: str = "float32"
    weights: str = "none"  # "imagenet", or a .keras, .h5 or .pth file: for layers of the same name and shape
