"""What does a check against true masks say of a file's quality, in the contract's words?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edge_runtime.errors import printable

from .compare_on_images import ImageSetCheck

DIGITS, MAX_NAME = 4, 150
LEFT_OUT = ("iou_background",)


def to_quality(check: ImageSetCheck | None, images: Path | None) -> dict[str, Any] | None:
    """Return the contract's `quality` as measured on images with masks; None where there was no such check.

    n: images; n_lesions: those that show a lesion; split: the folder's name; then each score of the file itself, that
    of a single lesion's IoU named lesion_iou. A score that is not defined on these images is left out.
    """
    if check is None or images is None or check.truth != "masks":
        return None
    folder = "/".join(images.absolute().parts[-2:]).lstrip("/")
    quality: dict[str, Any] = {"n": check.images, "n_lesions": check.lesions}
    quality["split"] = f"edge-convert --check {printable(folder)[-MAX_NAME:]}"
    single = f"iou_{check.labels[1]}" if len(check.labels) == 2 else None
    for score in check.scores:
        if score.name not in LEFT_OUT and math.isfinite(score.result):
            quality["lesion_iou" if score.name == single else score.name] = round(score.result, DIGITS)
    return {**quality, "series": None}
