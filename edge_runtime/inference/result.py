"""What is known of one segmented image, and how is it drawn and saved?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.contract.fields import Label
from edge_runtime.errors import OutputError, UsageError
from edge_runtime.images.arrays import Image, Labels

from .given_image import check_sides, take_image
from .postprocess import Lead, Probability


@dataclass(frozen=True, repr=False)
class Result:
    """One image's segmentation, at the image's own size; a volume's has the depth in front."""

    mask: npt.NDArray[np.bool_]  # (H, W): lesion of any label
    probability: Probability  # (H, W) float32 in [0, 1]: of any lesion
    labels: Labels  # (H, W) uint8: 0 background, from 1 on the contract's lesions
    engine: str  # that ran it
    timings: Mapping[str, float]  # preprocess_ms, infer_ms, postprocess_ms
    class_name: str | None = None  # of the whole image, where the model has such an output
    class_probability: float | None = None  # of that class
    lead: Lead | None = None  # of a softmax: what decides whether the mask is empty
    lesions: tuple[Label, ...] = ()  # the contract's, with name and colour: of labels 1, 2 ...

    def __repr__(self) -> str:
        """Say size, what was found of each lesion, the highest probability, engine and time."""
        size = " × ".join(map(str, self.labels.shape))
        counts = [int(np.count_nonzero(self.labels == value)) for value in range(1, len(self.lesions) + 1)]
        found = [
            f"{label.name} {count} pixels ({count / self.labels.size:.2%})"
            for label, count in zip(self.lesions, counts, strict=True)
            if count
        ]
        highest = f"probability up to {self.probability.max():.3f}"
        kind = [] if self.class_name is None else [f"class {self.class_name} {self.class_probability:.3f}"]
        spent = f"{sum(self.timings.values()):.0f} ms on {self.engine}"
        return f"<Result {', '.join([size, *(found or ['nothing found']), highest, *kind, spent])}>"

    def overlay(self, image: Image | str | Path) -> npt.NDArray[np.uint8]:
        """Return the segmented image with tinted mask and contour, (H, W, 3) RGB uint8; of a volume (D, H, W, 3).

        image: the one that was segmented, or its path. 16-bit images are shown by the bit depth they use.
        Raises: ImageError if it is no image, or of another size.
        """
        from edge_runtime.images.overlay import draw_overlay, to_picture

        depth = len(self.labels) if self.labels.ndim == 3 else None
        pixels = take_image(image, depth)
        check_sides(pixels, self.labels.shape)
        colours = [label.colour for label in self.lesions]
        if depth is None:
            return draw_overlay(to_picture(pixels), self.labels, colours)
        slices = zip(pixels, self.labels, strict=True)
        return np.stack([draw_overlay(to_picture(part), labels, colours) for part, labels in slices])

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Write the mask as `edge-seg` does, an 8-bit grey PNG: 0 and 255, or label values where there are several.

        force: overwrite what is there. Returns the path.
        Raises: UsageError if the name does not end in .png, or of a volume; OutputError if the file exists or cannot
        be written; nothing is left behind then.
        """
        from edge_runtime.images.write import encode_mask
        from edge_runtime.system.files import write_file

        path = Path(path)
        if path.suffix.lower() != ".png":
            raise UsageError(str(path), "a mask is saved as PNG", "give a name that ends in .png")
        if self.labels.ndim != 2:
            raise UsageError(str(path), "a volume's mask is no single picture", "save result.labels with NumPy")
        if not path.parent.is_dir():
            raise OutputError(str(path), "its folder does not exist", f"mkdir -p {path.parent}")
        if path.exists() and not force:
            raise OutputError(str(path), "it exists already", "give another name, or force=True")
        several = len(self.lesions) > 1
        write_file(path, encode_mask(self.labels if several else self.mask.astype(np.uint8) * 255))
        return path
