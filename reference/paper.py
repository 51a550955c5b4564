"""The paper's recipe and its published results.

Source: Aprianto and Riana 2025, "Brain Tumor Segmentation Meets Efficiency: Res-UNet Improved by Attention Mechanisms
and Quantization", section II.F and Table I.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .recipe import Recipe

PAPER = Recipe(
    size=224,  # "a uniform dimension of 224x224 pixels", intensities "divided by 255"
    batch=16,  # "for 50 epochs with a batch size of 16"
    epochs=50,
    rate=1e-3,  # "the Adam optimizer. A learning rate of 0.001"
    warm_up=0.0,
    weight_decay=0.0,
    dice=0.0,  # "the binary cross-entropy loss function"
    schedule="plateau",  # ReduceLROnPlateau and EarlyStopping on val_mean_iou, mode max
    factor=0.2,  # "reducing it by a factor of 0.2 after 4 epochs without improvement"
    patience=4,
    least_rate=1e-6,  # "with a minimum learning rate of 1e-6"
    stop_patience=7,  # "a patience of 7 epochs"; the best epoch's weights are what is saved
    augment=False,  # no augmentation is mentioned
    ema=0.0,
    split="slice",  # "divided into training (60%), validation (20%), and testing (20%) subsets"
    share=0.2,
    test_share=0.2,
    weights="none",  # "a pre-trained ResNet50V2 backbone": give --weights imagenet where there is a network
)

MIN_GAIN = 1e-4  # the default of Keras's ReduceLROnPlateau for an improvement


def follow_plateau(scores: Sequence[float], recipe: Recipe) -> tuple[float, bool]:
    """Return the next epoch's learning rate, and whether to stop, after epochs with these validation scores.

    It depends on the scores alone, so a resumed run continues as if it had not been interrupted.
    Source: keras.callbacks.ReduceLROnPlateau and EarlyStopping with mode "max" and their defaults (Keras 3).
    """
    rate, best_drop, waited_drop = recipe.rate, float("-inf"), 0
    best_stop, waited_stop = float("-inf"), 0
    for score in scores:
        if score > best_drop + MIN_GAIN:
            best_drop, waited_drop = score, 0
        else:
            waited_drop += 1
            if waited_drop >= recipe.patience and rate > recipe.least_rate:
                rate, waited_drop = max(rate * recipe.factor, recipe.least_rate), 0
        if score > best_stop:
            best_stop, waited_stop = score, 0
        else:
            waited_stop += 1
            if waited_stop >= recipe.stop_patience:
                return rate, True
    return rate, False


@dataclass(frozen=True)
class PublishedRow:
    """A row of Table I: the results of a variant's float32 net, or of its DRQ file."""

    mean_iou: float
    megabytes: float  # of 2**20 bytes, judging by the sizes of rebuilt nets
    seconds: float  # per image, mean of 500, on a Tesla M10


TABLE = {
    ("none", "fp32"): PublishedRow(0.8322, 126.4877, 0.3143),
    ("none", "drq"): PublishedRow(0.8317, 32.1887, 0.1973),
    ("ag", "fp32"): PublishedRow(0.8455, 127.2101, 0.3131),
    ("ag", "drq"): PublishedRow(0.8451, 32.3863, 0.2055),
    ("se", "fp32"): PublishedRow(0.8406, 127.0890, 0.3171),
    ("se", "drq"): PublishedRow(0.8384, 32.3802, 0.1996),
    ("cbam", "fp32"): PublishedRow(0.8359, 128.8157, 0.3245),
    ("cbam", "drq"): PublishedRow(0.8286, 32.8767, 0.2045),
}
