"""A converted file against its original on real images, through the device's own session: scores, agreement, worst.

Three models see the same images: Keras, the static float32 file, the result. What the float32 file loses against Keras
is the conversion's, what the result loses beyond it is the recipe's; both should be nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edge_runtime.contract import Contract
from edge_runtime.errors import ModelError
from edge_runtime.images import read_image
from edge_runtime.postprocess import Labels, to_labels, to_probability
from edge_runtime.preprocess import Image
from edge_runtime.session import Session

from .audit import Finding
from .cases import Cases, LeftOut, read_truth
from .originals import read_original
from .scores import Counts, count_pixels, find_dice, find_drops, find_intervals, find_scores
from .verify import muffled, open_engine

MIN_IMAGES, MIN_LESIONS = 10, 5  # with fewer images, or fewer that show a lesion, a bootstrap says nothing
WORST = 10


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
    """How far a file's masks are from Keras' own, over all images."""

    changed_pixels: float  # share
    mean_iou: float  # with Keras' masks as the truth


@dataclass(frozen=True)
class Row:
    """One image: pixels with another label than Keras gave them, lesion pixels, Dice; NaN where there is none."""

    file: str
    changed_pixels: float
    lesion_pixels: dict[str, float]  # of "truth", "keras", "fp32", "result"
    dice: dict[str, float]  # of "keras", "fp32", "result"
    drop: float  # of Dice, Keras' minus the result's; an empty mask of a lesion-free image counts as 1


@dataclass(frozen=True)
class Check:
    """What a check on images found; `rows` are all images, `worst` places in them, the worst first."""

    truth: str  # "masks", or "keras": where there are none, Keras' own masks stand in
    images: int
    lesions: int  # images whose truth shows one
    labels: tuple[str, ...]
    absent: tuple[str, ...]  # labels that the truth has nowhere: no score of theirs
    scores: tuple[Score, ...]
    fp32: Agreement
    result: Agreement
    rows: tuple[Row, ...]
    worst: tuple[int, ...]
    left_out: tuple[LeftOut, ...]
    findings: tuple[Finding, ...]

    @property
    def iou(self) -> Score:
        """The mean IoU, which policies are about."""
        return next(score for score in self.scores if score.name == "mean_iou")


@dataclass(frozen=True)
class Tally:
    """One model's answers: counts (N, K, 3) against the truth and against Keras' masks, and what was no answer."""

    truth: Counts
    keras: Counts
    findings: tuple[Finding, ...]


class Evidence:
    """The images, their truth and Keras' answers: what every file of one model is held against."""

    def __init__(self, found: Cases, work: Path, contract: Contract) -> None:
        """`work` holds fp32.tflite and the child's originals; `contract` is the float32 file's."""
        self.found, self.cases, self.work, self.contract = found, found.cases, work, contract
        named = tuple(label.name for label in contract.output.labels)
        self.labels = named if len(named) > 1 else ("background", *named)

    def read(self, index: int) -> tuple[Image, Labels, Labels]:
        """Return an image (H, W[, 3]), its truth (H, W) and Keras' labels (H, W).

        Raises:
            ModelError: Keras' own output is no probability.
        """
        case = self.cases[index]
        image = read_image(case.image)
        try:
            probability = to_probability(read_original(self.work, index), *image.shape[:2])
        except ModelError as error:
            raise ModelError(case.file, f"Keras' own output for it: {error.why}", "leave --check out") from None
        keras, _ = to_labels(probability, self.contract.threshold.value)
        return image, keras if case.mask is None else read_truth(case.mask, self.contract.output.labels), keras

    def examine(self, session: Session, places: Sequence[int] | None = None) -> Tally:
        """Return what a session answers, on all images or on those at `places`."""
        rows: list[tuple[Counts, Counts]] = []
        findings: dict[str, Finding] = {}
        count = len(self.labels)
        for index in range(len(self.cases)) if places is None else places:
            image, truth, keras = self.read(index)
            answer = self.segment(session, image, self.cases[index].file, findings)
            rows.append((count_pixels(truth, answer, count), count_pixels(keras, answer, count)))
        against_truth, against_keras = (np.stack(side) for side in zip(*rows, strict=True))
        return Tally(against_truth, against_keras, tuple(findings.values()))

    def segment(self, session: Session, image: Image, file: str, findings: dict[str, Finding]) -> Labels | None:
        """Return a session's labels (H, W); None, and a finding, where its output is no probability."""
        try:
            with muffled():
                return session.segment(image).labels
        except ModelError:
            finite = np.isfinite(session.engine.infer(session.preprocess(image))).all()
            name = "not-probability" if finite else "not-finite"
            findings.setdefault(name, Finding(name, f"on {file}"))
            return None

    @cached_property
    def keras(self) -> Counts:
        """Keras' own counts (N, K, 3) against the truth."""
        pairs = (self.read(index)[1:] for index in range(len(self.cases)))
        return np.stack([count_pixels(truth, keras, len(self.labels)) for truth, keras in pairs])

    @cached_property
    def fp32(self) -> Tally:
        """The static float32 file's answers."""
        return self.examine(open_session(self.work / "fp32.tflite", self.contract))

    def check(self, model: Path, contract: Contract) -> Check:
        """Return how a file does on all images."""
        return make_check(self, self.examine(open_session(model, contract)))


def open_session(model: Path, contract: Contract) -> Session:
    """Return the device's session on a file that is not stamped yet."""
    return Session(contract, open_engine(model))


def make_check(evidence: Evidence, result: Tally) -> Check:
    """Return a check from what the three models answered."""
    keras, fp32, names = evidence.keras, evidence.fp32, evidence.labels
    lesion = keras[:, 1:, 1].sum(axis=1) > 0
    rows = tuple(make_row(evidence, result, i) for i in range(len(keras)))
    return Check(
        truth="masks" if evidence.found.masks else "keras",
        images=len(keras),
        lesions=int(lesion.sum()),
        labels=names,
        absent=tuple(name for k, name in enumerate(names) if not keras[:, k, 1].any()),
        scores=compare_scores(keras, fp32.truth, result.truth, names, len(keras) >= MIN_IMAGES),
        fp32=find_agreement(fp32.keras, names),
        result=find_agreement(result.keras, names),
        rows=rows,
        worst=rank_worst(rows),
        left_out=evidence.found.left_out,
        findings=(*fp32.findings, *result.findings),
    )


def compare_scores(
    keras: Counts, fp32: Counts, result: Counts, names: Sequence[str], enough: bool
) -> tuple[Score, ...]:
    """Return every score of the three models; intervals where there are `enough` images for one."""
    sides = [find_scores(counts, names) for counts in (keras, fp32, result)]
    drops = find_drops(keras, result, names)
    intervals = find_intervals(keras, result, names) if enough else dict.fromkeys(drops, (math.nan, math.nan))
    found = []
    for name, drop in drops.items():
        before, static, after = (float(side[name][0]) for side in sides)
        found.append(Score(name, before, static, after, float(drop[0]), *intervals[name]))
    return tuple(found)


def find_agreement(counts: Counts, names: Sequence[str]) -> Agreement:
    """Return how far answers are from Keras' masks, from counts (N, K, 3) against those."""
    return Agreement(
        1 - float(counts[:, :, 0].sum() / counts[:, :, 1].sum()), float(find_scores(counts, names)["mean_iou"][0])
    )


def make_row(evidence: Evidence, result: Tally, index: int) -> Row:
    """Return one image's numbers."""
    three = {"keras": evidence.keras, "fp32": evidence.fp32.truth, "result": result.truth}
    one = {name: counts[index : index + 1] for name, counts in three.items()}
    lesions = {"truth": float(one["keras"][0, 1:, 1].sum())}
    lesions |= {name: float(counts[0, 1:, 2].sum()) for name, counts in one.items()}
    dice = {name: float(find_dice(counts)[0]) for name, counts in one.items()}
    against = result.keras[index]
    return Row(
        file=evidence.cases[index].file,
        changed_pixels=1 - float(against[:, 0].sum() / against[:, 1].sum()),
        lesion_pixels=lesions,
        dice=dice,
        drop=find_drop(lesions, dice),
    )


def find_drop(lesions: dict[str, float], dice: dict[str, float]) -> float:
    """Return by how much the result's Dice is below Keras'; of a lesion-free image, 1 is for an empty mask."""
    if lesions["truth"]:
        return dice["keras"] - dice["result"]
    return float(lesions["keras"] == 0) - (
        float(lesions["result"] == 0) if lesions["result"] == lesions["result"] else float("nan")
    )


def rank_worst(rows: Sequence[Row]) -> tuple[int, ...]:
    """Return the places of the ten rows where the result lost most, those without an answer first."""

    def badness(place: int) -> tuple[bool, float, float]:
        row = rows[place]
        if math.isnan(row.changed_pixels):  # there was no answer
            return False, 0, 0
        return True, -row.drop, -row.changed_pixels

    return tuple(sorted(range(len(rows)), key=badness)[:WORST])
