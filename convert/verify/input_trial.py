"""Which values of its input do a model's true masks show? The original itself is tried on the usual scalings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.source.answers import FOLDER, TRIALS, Trial, choose_tried, read_image_output
from edge_runtime.contract.fields import Contract
from edge_runtime.errors import ModelError
from edge_runtime.images.read import read_image
from edge_runtime.inference.postprocess import to_labels, to_probability
from evidence.scores import Counts, count_pixels, find_intervals, find_scores

from .check_images import CheckImages, read_truth

MIN_TRIED = 8  # images
CLEAR_GAIN = 0.05  # of mean IoU, its 95 % interval above 0


@dataclass(frozen=True)
class InputVerdict:
    """What the masks show clearly."""

    best: Trial
    other: bool  # it is not what the model was loaded with
    mean_iou: float
    second: float  # of what the model was loaded with or, where that is the best, of the next best
    images: int

    @property
    def toml(self) -> str:
        """The lines of a contract file that say so."""
        extra = "" if self.best.intensity == "bit-depth" else f', intensity = "{self.best.intensity}"'
        return f"scale = {self.best.scale!r}, offset = {self.best.offset!r}{extra}"

    def __str__(self) -> str:
        return f"the original's mean IoU is {self.mean_iou:.3f}, else {self.second:.3f}, on {self.images} images"


def judge_input(found: CheckImages, work: Path, contract: Contract) -> InputVerdict | None:
    """Return which scaling of the input is clearly the best for the original model; None where the masks leave it open.

    `work` holds the original's outputs in its own scaling and in each of TRIALS; `contract` has its own scaling.
    """
    indices = choose_tried(len(found.images))
    if len(indices) < MIN_TRIED:
        return None
    names = ("background", *(label.name for label in contract.output.lesions))
    counts = {trial: count_trial(found, work, contract, trial.folder, indices) for trial in TRIALS}
    loaded = next((trial for trial in TRIALS if is_loaded(trial, contract)), None)
    own = counts[loaded] if loaded else count_trial(found, work, contract, FOLDER, indices)
    scores = {trial: find_mean(one, names) for trial, one in counts.items()}
    best = max(scores, key=lambda trial: scores[trial])
    if best is not loaded and is_clear(counts[best], own, names):
        return InputVerdict(best, True, scores[best], find_mean(own, names), len(indices))
    if loaded is None:
        return None
    # Images that use all of their bits have the same values in slice-min-max: that says nothing against the scale.
    others = [trial for trial in TRIALS if trial is not loaded and trial.intensity != "slice-min-max"]
    if all(is_clear(own, counts[trial], names) for trial in others):
        return InputVerdict(loaded, False, scores[loaded], max(scores[trial] for trial in others), len(indices))
    return None


def is_loaded(trial: Trial, contract: Contract) -> bool:
    """Return whether a trial's scaling is the contract's own."""
    spec = contract.input
    same = np.allclose(spec.scale, trial.scale, rtol=0.01) and np.allclose(spec.offset, trial.offset, atol=0.01)
    return bool(same) and spec.intensity.images == trial.intensity


def count_trial(found: CheckImages, work: Path, contract: Contract, folder: str, indices: Sequence[int]) -> Counts:
    """Return the counts (N, K, 3) of the original's masks against the truth; NaN where its output is no probability."""
    output, rows = contract.output, []
    for index in indices:
        item = found.images[index]
        assert item.mask is not None
        truth = read_truth(item.mask, output.labels)
        try:
            probability = to_probability(read_image_output(work, index, folder), *read_image(item.image).shape[:2])
            labels = to_labels(probability, contract.threshold.value, output.activation)[0]
        except ModelError:
            labels = None
        rows.append(count_pixels(truth, labels, len(output.lesions) + 1))
    return np.stack(rows)


def find_mean(counts: Counts, names: Sequence[str]) -> float:
    """Return mean IoU; -1 where an output is no probability or the masks have no lesion."""
    score = float(find_scores(counts, names)["mean_iou"][0])
    return score if np.isfinite(score) else -1.0


def is_clear(better: Counts, worse: Counts, names: Sequence[str]) -> bool:
    """Return whether one scaling's mean IoU is above another's by CLEAR_GAIN, its paired interval above 0.

    An output that is no probability is worse than any that is one.
    """
    first, second = find_mean(better, names), find_mean(worse, names)
    if first < 0 or second < 0:
        return first > 0
    return first - second >= CLEAR_GAIN and find_intervals(better, worse, names)["mean_iou"][0] > 0
