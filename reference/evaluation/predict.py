"""Runs a model on a folder of labelled images: `.keras` through Keras, `.tflite` through the device's runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import UsageError
from edge_runtime.images.arrays import Image
from edge_runtime.images.formats import SUFFIXES
from edge_runtime.images.read import read_image
from edge_runtime.inference.postprocess import to_probability
from edge_runtime.inference.preprocess import to_grey, to_tensor
from edge_runtime.inference.session import Session
from evidence.scores import Mask
from reference.data.folders import Slice, read_labels, read_tumour_free

from .slice_scores import Scores

if TYPE_CHECKING:
    from edge_runtime.hospital.plan.plan_series import PlannedSeries

Probability = npt.NDArray[np.float32]  # (H, W) in [0, 1]
Predictor = Callable[[Image], Probability]
Progress = Callable[[int], None]


def find_slices(
    images: Path, masks: Path | None, labels: Path | None, patients: Collection[str] | None = None
) -> list[Slice]:
    """List the images of a folder with their masks, classes and patients; without `masks` they are tumour-free.

    patients: keep only these (a name alone, or as FOLDER/NAME in validation-patients.txt).
    Raises: UsageError if a folder, a mask or a label is missing, or no slice is left.
    """
    for folder in (images, masks):
        if folder is not None and not folder.is_dir():
            raise UsageError(str(folder), "no such folder", "give a folder of images")
    slices = read_tumour_free(images) if masks is None else pair_masks(images, masks, labels)
    if patients is not None:
        names = {name.rsplit("/", 1)[-1] for name in patients}
        slices = [item for item in slices if item.patient.rsplit("/", 1)[-1] in names]
    if not slices:
        raise UsageError(str(images), "there is nothing to evaluate", "check --images and --patients")
    return slices


def pair_masks(images: Path, masks: Path, labels: Path | None) -> list[Slice]:
    """List the images of a folder, each with the mask of its name, and its row in `labels` if given."""
    known = read_labels(labels) if labels else {}
    slices = []
    for path in sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES):
        mask = masks / path.with_suffix(".png").name
        if not mask.is_file():
            raise UsageError(str(path), "it has no mask", f"add {mask}")
        if known and path.stem not in known:
            raise UsageError(str(path), f"{labels} has no row for it", "add id, class and patient")
        slices.append(Slice(path, mask, *known.get(path.stem, ("tumour", path.name))))
    return slices


def load_predictor(model: Path, threads: int | None = None) -> tuple[Predictor, float]:
    """Return a function from an image to its lesion probability at its own size, and the model's threshold."""
    if model.suffix == ".tflite":
        session = Session.load(model, threads=threads)
        return lambda image: session.segment(image).probability, session.threshold
    if not model.exists():
        raise UsageError(str(model), "it does not exist", "give a .keras or .tflite file")
    return load_keras(model), 0.5


def load_keras(path: Path) -> Predictor:
    """Return a function from an image to its lesion probability, by Keras, preprocessed as on the device."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # as in conversion, which compares with Keras
    import keras
    import tensorflow as tf

    try:
        model = keras.saving.load_model(path, compile=False)
    except ValueError as error:
        raise UsageError(str(path), f"Keras cannot load it ({error})", "give a .keras file") from None
    _, height, width, channels = model.input_shape
    call: Any = tf.function(lambda tensor: model(tensor, training=False))

    def predict(image: Image) -> Probability:
        tensor = to_tensor(image, height, width, "rgb" if channels == 3 else "grey")
        probability = to_probability(call(tf.constant(tensor)).numpy(), *image.shape[:2])
        lesion: Probability = probability[:, :, 0] if probability.shape[2] == 1 else 1 - probability[:, :, 0]
        return lesion

    return predict


def flip_average(predict: Predictor) -> Predictor:
    """Return a predictor that averages an image's probability with its mirror image's, in twice the time."""

    def predict_twice(image: Image) -> Probability:
        mirrored = predict(np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
        return np.asarray((predict(image) + mirrored) / 2, np.float32)

    return predict_twice


def evaluate(
    predict: Predictor,
    slices: Sequence[Slice],
    thresholds: Sequence[float],
    progress: Progress = lambda done: None,
) -> dict[float, dict[str, float]]:
    """Return {threshold: scores}, each prediction compared with its mask at the image's own size."""
    found = score_slices(predict, slices, thresholds, progress)
    return {threshold: scores.summary() for threshold, scores in found.items()}


def score_slices(
    predict: Predictor, slices: Sequence[Slice], thresholds: Sequence[float], progress: Progress = lambda done: None
) -> dict[float, Scores]:
    """Return {threshold: each slice's scores}, with HD95."""
    scores = {threshold: Scores(distances=True) for threshold in thresholds}
    for item, _, truth, probability in predict_slices(predict, slices, progress):
        add_scores(scores, item, truth, probability)
    return scores


def predict_slices(
    predict: Predictor, slices: Sequence[Slice], progress: Progress = lambda done: None
) -> Iterator[tuple[Slice, Image, Mask, Probability]]:
    """Yield each slice with its image, its true mask and the lesion's probability, all of the image's own size."""
    for done, item in enumerate(slices, 1):
        image = read_image(item.image)
        yield item, image, read_truth(item, image), predict(image)
        progress(done)


def add_scores(scores: Mapping[float, Scores], item: Slice, truth: Mask, probability: Probability) -> None:
    """Add a slice to the scores of every threshold."""
    for threshold, slice_scores in scores.items():
        slice_scores.add(probability >= np.float32(threshold), truth, item.kind, item.patient, item.image.name)


@dataclass(frozen=True)
class SeriesAlarms:
    """What a model marks in a series that has no tumour."""

    number: int  # as edge-seg --list has it
    sequence: str  # such as "T1"; "" where nothing tells
    plane: str
    slices: int
    marked: int  # slices with a pixel of lesion
    objects: int  # connected over slices
    volume_ml: float | None  # None where positions are not known
    failed: int  # slices that do not decode


def find_alarms(
    predict: Predictor, inputs: Sequence[Path], threshold: float, progress: Progress = lambda done: None
) -> list[SeriesAlarms]:
    """Return what a model marks in each series of a head, in DICOM and NIfTI files that hold no tumour.

    Slices are read as edge-seg reads them; areas, volumes and objects are measured as it does.
    Raises: EdgeSegError if there is no such series, or an extra is missing.
    """
    from reference.data.dicom_slices import find_heads

    alarms: list[SeriesAlarms] = []
    _, heads = find_heads(inputs)
    for planned in heads:
        alarms.append(count_alarms(predict, planned, threshold))
        progress(sum(found.slices for found in alarms))
    return alarms


def count_alarms(predict: Predictor, planned: PlannedSeries, threshold: float) -> SeriesAlarms:
    """Return what a model marks in one series."""
    from edge_runtime.hospital.outputs.objects import ObjectCounter
    from edge_runtime.hospital.results.volume import find_extents, measure_ml
    from edge_runtime.hospital.series.geometry import GAP, measure_steps
    from reference.data.dicom_slices import read_series

    depths = [item.source.position_mm for item in planned.slices]
    known = [depth for depth in depths if depth is not None]
    step = measure_steps(known).step_mm if len(known) == len(depths) else None
    counter, pixels, failed = ObjectCounter(), list[int](), list[str]()
    for number, (_, image) in enumerate(read_series(planned, failed)):
        mask = np.zeros((1, 1), np.bool_) if image is None else predict(image) >= np.float32(threshold)
        joined = number > 0 and image is not None and (step is None or known[number] - known[number - 1] < GAP * step)
        counter.add(mask, joined and counter.above is not None and counter.above.shape == mask.shape)
        pixels.append(int(np.count_nonzero(mask)))
    areas = [count * (item.source.pixel_mm2 or 0.0) for count, item in zip(pixels, planned.slices, strict=True)]
    measured = step is not None and all(item.source.pixel_mm2 for item in planned.slices)
    return SeriesAlarms(
        number=planned.judged.number,
        sequence=planned.judged.sequence,
        plane=planned.plane,
        slices=len(pixels),
        marked=sum(count > 0 for count in pixels),
        objects=counter.count,
        volume_ml=measure_ml(areas, find_extents(known, step)) if measured else None,
        failed=len(failed),
    )


def read_truth(item: Slice, image: Image) -> Mask:
    """Return an image's true mask, (H, W) bool.

    Raises: UsageError if its size is not the image's.
    """
    if item.mask is None:
        return np.zeros(image.shape[:2], np.bool_)
    mask = read_image(item.mask)
    if mask.shape[:2] != image.shape[:2]:
        raise UsageError(str(item.mask), f"{mask.shape[:2]}, its image has {image.shape[:2]}", "give masks of its size")
    return to_grey(mask.astype(np.float32)) >= np.iinfo(mask.dtype).max / 2
