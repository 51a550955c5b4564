"""How well does a converted file segment images, compared with the Keras model, through the session of edge_runtime?

Three models get the same images: Keras, the static float32 file, the result. What the float32 file loses against Keras
is due to the conversion, what the result loses beyond it is due to the recipe; both should be nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from convert.flatbuffer.run import open_engine
from convert.source.answers import read_image_output
from edge_runtime.contract.fields import Contract
from edge_runtime.errors import ModelError
from edge_runtime.images.arrays import Image, Labels
from edge_runtime.images.read import read_image
from edge_runtime.inference.postprocess import to_labels, to_probability
from edge_runtime.inference.session import Session
from edge_runtime.system.quiet import silence_stderr
from evidence.scores import Counts, count_pixels, find_drops, find_image_dice, find_intervals, find_scores

from .audit import Finding
from .check_images import CheckImages, LeftOutImage, read_truth

MIN_IMAGES, MIN_LESIONS = 10, 5  # with fewer images, or fewer that show a lesion, a bootstrap is meaningless
WORST_COUNT = 10


@dataclass(frozen=True)
class Score:
    """One score of the three models, and how much worse the result's is than Keras', with its 95 % interval."""

    name: str
    keras: float
    fp32: float
    result: float
    drop: float  # below 0: the result is better
    low: float  # NaN where there are too few images to tell
    high: float


@dataclass(frozen=True)
class Agreement:
    """How far a file's masks are from Keras' masks, over all images."""

    changed_pixels: float  # share
    mean_iou: float  # with Keras' masks as the truth


@dataclass(frozen=True)
class ImageRow:
    """One image: pixels with another label than Keras gave them, lesion pixels, Dice; NaN where there is none."""

    file: str
    changed_pixels: float
    lesion_pixels: dict[str, float]  # of "truth", "keras", "fp32", "result"
    dice: dict[str, float]  # of "keras", "fp32", "result"
    drop: float  # of Dice, Keras' minus the result's; an empty mask of a lesion-free image counts as 1


@dataclass(frozen=True)
class ImageSetCheck:
    """The result of a check on images."""

    truth: str  # "masks", or "keras": where there are none, Keras' masks are the truth
    images: int
    lesions: int  # images whose truth shows one
    labels: tuple[str, ...]
    absent: tuple[str, ...]  # labels that occur nowhere in the truth, so that they have no score
    scores: tuple[Score, ...]
    fp32: Agreement
    result: Agreement
    rows: tuple[ImageRow, ...]  # of all images
    worst: tuple[int, ...]  # indices of the rows with the largest loss, in order
    left_out: tuple[LeftOutImage, ...]
    findings: tuple[Finding, ...]
    empty_iou: float  # the mean IoU of masks without any lesion

    @property
    def useless(self) -> bool:
        """Whether the original scores no better than masks without any lesion, against true masks."""
        return self.truth == "masks" and self.iou.keras <= self.empty_iou

    @property
    def iou(self) -> Score:
        """The mean IoU, on which the policy is defined."""
        return next(score for score in self.scores if score.name == "mean_iou")


@dataclass(frozen=True)
class ModelCounts:
    """One model's counts (N, K, 3) against the truth and against Keras' masks, and findings on invalid outputs."""

    truth: Counts
    keras: Counts
    findings: tuple[Finding, ...]


class ReferenceImages:
    """The images to check on, their truth and Keras' outputs, with which every file of one model is compared."""

    def __init__(self, found: CheckImages, work: Path, contract: Contract) -> None:
        """`work` holds fp32.tflite and Keras' outputs; `contract` is the float32 file's."""
        self.found, self.images, self.work, self.contract = found, found.images, work, contract
        named = tuple(label.name for label in contract.output.labels)
        self.labels = named if len(named) > 1 else ("background", *named)

    def read(self, index: int) -> tuple[Image, Labels, Labels]:
        """Return an image (H, W[, 3]), its truth (H, W) and Keras' labels (H, W).

        Raises:
            ModelError: Keras' output is no probability.
        """
        item = self.images[index]
        image = read_image(item.image)
        try:
            probability = to_probability(read_image_output(self.work, index), *image.shape[:2])
        except ModelError as error:
            raise ModelError(item.file, f"Keras' own output for it: {error.why}", "leave --check out") from None
        keras, _ = to_labels(probability, self.contract.threshold.value)
        return image, keras if item.mask is None else read_truth(item.mask, self.contract.output.labels), keras

    def run_session(self, session: Session, indices: Sequence[int] | None = None) -> ModelCounts:
        """Return a session's counts on all images, or on those of the given indices."""
        rows: list[tuple[Counts, Counts]] = []
        findings: dict[str, Finding] = {}
        count = len(self.labels)
        for index in range(len(self.images)) if indices is None else indices:
            image, truth, keras = self.read(index)
            labels = self.segment(session, image, self.images[index].file, findings)
            rows.append((count_pixels(truth, labels, count), count_pixels(keras, labels, count)))
        against_truth, against_keras = (np.stack(side) for side in zip(*rows, strict=True))
        return ModelCounts(against_truth, against_keras, tuple(findings.values()))

    def segment(self, session: Session, image: Image, file: str, findings: dict[str, Finding]) -> Labels | None:
        """Return a session's labels (H, W); None where its output is no probability, which is added to `findings`."""
        try:
            with silence_stderr():
                return session.segment(image).labels
        except ModelError:
            finite = np.isfinite(session.engine.infer(session.preprocess(image))).all()
            name = "not-probability" if finite else "not-finite"
            findings.setdefault(name, Finding(name, f"on {file}"))
            return None

    @cached_property
    def keras(self) -> Counts:
        """Keras' counts (N, K, 3) against the truth."""
        pairs = (self.read(index)[1:] for index in range(len(self.images)))
        return np.stack([count_pixels(truth, keras, len(self.labels)) for truth, keras in pairs])

    @cached_property
    def fp32(self) -> ModelCounts:
        """The static float32 file's counts."""
        return self.run_session(open_session(self.work / "fp32.tflite", self.contract))

    def check(self, model: Path, contract: Contract) -> ImageSetCheck:
        """Return the check of a file on all images."""
        return build_check(self, self.run_session(open_session(model, contract)))


def open_session(model: Path, contract: Contract) -> Session:
    """Return the session of edge_runtime on a file that is not stamped yet."""
    return Session(contract, open_engine(model))


def build_check(reference: ReferenceImages, result: ModelCounts) -> ImageSetCheck:
    """Return the check of a file from its counts and the reference's."""
    keras, fp32, names = reference.keras, reference.fp32, reference.labels
    lesion = keras[:, 1:, 1].sum(axis=1) > 0
    rows = tuple(build_row(reference, result, i) for i in range(len(keras)))
    return ImageSetCheck(
        truth="masks" if reference.found.masks else "keras",
        images=len(keras),
        lesions=int(lesion.sum()),
        labels=names,
        absent=tuple(name for k, name in enumerate(names) if not keras[:, k, 1].any()),
        scores=compare_scores(keras, fp32.truth, result.truth, names, len(keras) >= MIN_IMAGES),
        fp32=find_agreement(fp32.keras, names),
        result=find_agreement(result.keras, names),
        rows=rows,
        worst=rank_images(rows),
        left_out=reference.found.left_out,
        findings=(*fp32.findings, *result.findings),
        empty_iou=float(find_scores(empty_counts(keras), names)["mean_iou"][0]),
    )


def empty_counts(counts: Counts) -> Counts:
    """Return the counts (N, K, 3) of masks that are background everywhere, for the truth of given counts."""
    real = counts[:, :, 1]
    answered = np.zeros_like(real)
    answered[:, 0] = real.sum(axis=1)
    return np.stack([np.minimum(real, answered), real, answered], axis=2)


def compare_scores(
    keras: Counts, fp32: Counts, result: Counts, names: Sequence[str], enough: bool
) -> tuple[Score, ...]:
    """Return every score of the three models; intervals where there are `enough` images for one."""
    sides = [find_scores(counts, names) for counts in (keras, fp32, result)]
    drops = find_drops(keras, result, names)
    intervals = find_intervals(keras, result, names) if enough else dict.fromkeys(drops, (math.nan, math.nan))
    scores = []
    for name, drop in drops.items():
        before, static, after = (float(side[name][0]) for side in sides)
        scores.append(Score(name, before, static, after, float(drop[0]), *intervals[name]))
    return tuple(scores)


def find_agreement(counts: Counts, names: Sequence[str]) -> Agreement:
    """Return how far masks are from Keras' masks, from counts (N, K, 3) against those."""
    return Agreement(
        1 - float(counts[:, :, 0].sum() / counts[:, :, 1].sum()), float(find_scores(counts, names)["mean_iou"][0])
    )


def build_row(reference: ReferenceImages, result: ModelCounts, index: int) -> ImageRow:
    """Return one image's numbers."""
    three = {"keras": reference.keras, "fp32": reference.fp32.truth, "result": result.truth}
    one = {name: counts[index : index + 1] for name, counts in three.items()}
    lesions = {"truth": float(one["keras"][0, 1:, 1].sum())}
    lesions |= {name: float(counts[0, 1:, 2].sum()) for name, counts in one.items()}
    dice = {name: float(find_image_dice(counts)[0]) for name, counts in one.items()}
    against = result.keras[index]
    return ImageRow(
        file=reference.images[index].file,
        changed_pixels=1 - float(against[:, 0].sum() / against[:, 1].sum()),
        lesion_pixels=lesions,
        dice=dice,
        drop=find_dice_drop(lesions, dice),
    )


def find_dice_drop(lesions: dict[str, float], dice: dict[str, float]) -> float:
    """Return by how much the result's Dice is below Keras'; of a lesion-free image, an empty mask counts as 1."""
    if lesions["truth"]:
        return dice["keras"] - dice["result"]
    before, after = lesions["keras"], lesions["result"]
    return float(before == 0) - (math.nan if math.isnan(after) else float(after == 0))


def rank_images(rows: Sequence[ImageRow]) -> tuple[int, ...]:
    """Return the indices of the rows with the largest loss, WORST_COUNT at most, invalid outputs first."""

    def sort_key(index: int) -> tuple[bool, float, float]:
        row = rows[index]
        if math.isnan(row.changed_pixels):  # the output was invalid
            return False, 0, 0
        return True, -row.drop, -row.changed_pixels

    return tuple(sorted(range(len(rows)), key=sort_key)[:WORST_COUNT])
