"""How accurate are the masks of every subject? Scores against true and FP32 masks, and pictures of the worst cases.

The child processes return outputs, one chunk of images at a time; the device's own functions turn them into masks here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.measure.child.process import Child
from benchmarks.result.lookup import Result
from benchmarks.result.specification import COMPARED_SCORES, SCORES
from benchmarks.subjects.candidates import Candidate, Notify
from benchmarks.subjects.images import ImageSet, read_mask
from edge_runtime.contract.fields import Contract
from edge_runtime.errors import EdgeSegError
from edge_runtime.images.arrays import Image, Labels
from edge_runtime.images.overlay import Colour, Picture, draw_contour, draw_overlay, to_picture
from edge_runtime.images.read import read_image
from edge_runtime.images.write import encode_png
from edge_runtime.inference.postprocess import to_labels, to_probability
from edge_runtime.inference.preprocess import to_model_input
from evidence.scores import Mask

from .image_scores import COUNTS, Row, score_image, summarize, summarize_difference
from .plan import RunPlan, RunState
from .rounds import RunningCandidate

CHUNK = 8  # images whose outputs are in memory at a time
MAX_WORST = 10
PICTURE_SIDE = 256
TRUTH = (0, 158, 115)  # a green that differs from the lesion's red in brightness, for red-green blind readers

CandidateProcess = tuple[Candidate, Child]
Tensors = npt.NDArray[Any]


def score_candidates(
    loaded: Sequence[CandidateProcess],
    reference: str,
    data: ImageSet,
    work: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Row]:
    """Return a result's `accuracy`, an entry for each candidate; `reference` is the FP32 baseline's key.

    Without masks all are scored against the reference, which then has no entry.
    """
    rows: dict[str, list[Row]] = {candidate.key: [] for candidate, _ in loaded}
    for start in range(0, len(data.images), CHUNK):
        chunk = range(start, min(start + CHUNK, len(data.images)))
        images = [read_image(data.images[i]) for i in chunk]
        labels = {candidate.key: segment(candidate, child, images, work) for candidate, child in loaded}
        for index, number in enumerate(chunk):
            truth = read_mask(data.masks[number], images[index], count_labels(loaded[0][0])) if data.masks else None
            masks = {key: found[index] for key, found in labels.items()}
            for key, found in masks.items():
                rows[key].append({"file": data.images[number].name} | score_output(found, truth, masks.get(reference)))
        progress(chunk.stop)
    against = "masks" if data.masks else reference
    entries = {key: make_entry(own, rows.get(reference), against, reference, key) for key, own in rows.items()}
    return {key: entry for key, entry in entries.items() if key != against}


def count_labels(candidate: Candidate) -> int:
    """Return the number of label values of a model's masks."""
    return max(2, len(candidate.contract.output.labels))


def segment(candidate: Candidate, child: Child, images: Sequence[Image], work: Path) -> list[Labels | str]:
    """Return a candidate's labels (H, W) for each image, or the reason why there are none."""
    tensors, outputs = work / "tensors.npy", work / "outputs.npy"
    np.save(tensors, np.stack([to_model_input(image, candidate.contract.input) for image in images]))
    try:
        child.request("infer", tensors=str(tensors), out=str(outputs))
        found = np.load(outputs, allow_pickle=False)
    except EdgeSegError as error:
        return [error.why] * len(images)
    return [to_label_map(output, image, candidate) for output, image in zip(found, images, strict=True)]


def to_label_map(output: Tensors, image: Image, candidate: Candidate) -> Labels | str:
    """Return the labels (H, W) of an output (1, h, w, K), or the reason why there are none."""
    try:
        probability = to_probability(activate(output, candidate.append), *image.shape[:2])
        return to_labels(probability, candidate.contract.threshold.value)[0]
    except EdgeSegError as error:
        return error.why


def activate(output: Tensors, activation: str) -> Tensors:
    """Return logits (..., K) as probabilities; an output that needs no activation is returned unchanged."""
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-output.astype(np.float64))), np.float32)
    if activation == "softmax":
        powers = np.exp(output - output.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)
    return output


def score_output(found: Labels | str, truth: Mask | None, reference: Labels | str | None) -> Row:
    """Return one image's scores against the truth, and under "agreement" against the reference; or its "error"."""
    if isinstance(found, str):
        return {"error": found}
    row: Row = {} if truth is None else score_image(found > 0, truth)
    if reference is None or isinstance(reference, str):
        return row if truth is not None else {"error": f"there is nothing to compare with ({reference})"}
    changed = {"changed_pixels": float(np.mean(found != reference))}
    agreement = score_image(found > 0, reference > 0) | changed
    return {**row, **changed, "agreement": agreement} if truth is not None else agreement


def make_entry(rows: Sequence[Row], others: Sequence[Row] | None, against: str, reference: str, key: str) -> Row:
    """Return one candidate's entry in `accuracy`.

    One image without a result makes all values null: the mean of the others would be taken for that of all.
    """
    failed = [row for row in rows if "error" in row]
    if failed:
        why = f"{len(failed)} of {len(rows)} images have no result: {failed[0]['error']}"
        scores = {name: {"value": None, "interval": [None, None], "n": 0} for name in SCORES}
        rounded = [round_row(row) for row in rows]
        rest = {"changed_pixels": None, "per_image": rounded, "failed": len(failed), "why": why}
        return {"against": against, "n": len(rows) - len(failed), **scores, **rest}
    entry = {"against": against, **summarize_scores(rows), "per_image": [round_row(row) for row in rows]}
    if key == reference:
        entry["changed_pixels"] = None  # it would be compared with itself
    whole = others is not None and not any("error" in row for row in others)
    if against == "masks" and key != reference and whole and others:
        entry["agreement"] = {"against": reference, **summarize_scores([row["agreement"] for row in rows])}
        compared = {name: summarize_difference(rows, others, name) for name in COMPARED_SCORES}
        entry["difference"] = {"against": reference, **compared}
    return entry | {"false_alarms": summarize(rows, "false_alarms"), "failed": 0}


def summarize_scores(rows: Sequence[Row]) -> Row:
    """Return n, the five scores and the share of changed pixels, null without a reference."""
    changed = [row["changed_pixels"] for row in rows if "changed_pixels" in row]
    pixels = [sum(row[name] for name in COUNTS) for row in rows]
    share = round(float(np.average(changed, weights=pixels)), 8) if changed else None
    return {"n": len(rows), **{name: summarize(rows, name) for name in SCORES}, "changed_pixels": share}


def round_row(row: Row) -> Row:
    """Return one image's row for the result file: numbers rounded, without the nested agreement."""
    kept = {name: value for name, value in row.items() if name != "agreement"}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in kept.items()}


def draw_worst(loaded: CandidateProcess, entry: Row, data: ImageSet, work: Path) -> list[Row]:
    """Return a result's `worst`: the images of lowest IoU, each with a picture of the true and the predicted mask."""
    candidate, child = loaded
    ranked = [(row["lesion_iou"], i) for i, row in enumerate(entry["per_image"]) if row.get("lesion_iou") is not None]
    worst = []
    for _, number in sorted(ranked)[:MAX_WORST]:
        row, image = entry["per_image"][number], read_image(data.images[number])
        (found,) = segment(candidate, child, [image], work)
        if isinstance(found, str):
            continue
        truth = read_mask(data.masks[number], image, count_labels(candidate)) if data.masks else None
        picture = base64.b64encode(encode_png(draw_worst_case(image, found, truth, candidate.contract))).decode()
        scores = {"dice": row["dice"], "lesion_iou": row["lesion_iou"]}
        worst.append({"file": row["file"], "subject": candidate.key, **scores, "picture": picture})
    return worst


def draw_worst_case(image: Image, found: Labels, truth: Mask | None, contract: Contract) -> Picture:
    """Return pictures side by side: the image, the true contour where it is known, the predicted mask as an overlay."""
    labels = contract.output.labels
    colours: list[Colour] = [to_label_map.colour for to_label_map in (labels if len(labels) == 1 else labels[1:])]
    plain = to_picture(image)
    drawn = [plain, draw_overlay(plain, found, colours)]
    if truth is not None:
        drawn.insert(1, draw_contour(plain, truth.astype(np.uint8), [TRUTH]))
    return np.concatenate([shrink(picture) for picture in drawn], axis=1)


def shrink(picture: Picture) -> Picture:
    """Return a picture of at most PICTURE_SIDE on its longer side."""
    height, width = picture.shape[:2]
    factor = PICTURE_SIDE / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))  # cv2 wants (width, height)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def measure_accuracy(plan: RunPlan, state: RunState, notify: Notify) -> Result:
    """Return `accuracy` and `worst`: one entry for each file and engine, by the candidate with the most threads."""
    by_file: dict[tuple[Path, str], RunningCandidate] = {}
    for running in sorted(state.group, key=lambda one: one.candidate.threads):
        by_file[running.candidate.path, running.candidate.engine] = running
    loaded = [(running.candidate, running.child) for running in state.group if running in by_file.values()]
    reference = find_reference(state)
    if not reference and not state.data.masks:
        return {"accuracy": None, "accuracy_why": "neither masks nor an FP32 baseline to compare with", "worst": []}
    notify(f"segmenting {len(state.data.images)} images with each of {len(loaded)}")
    total = len(state.data.images)
    entries = score_candidates(loaded, reference, state.data, state.work, lambda n: state.show(f"image {n} of {total}"))
    main = state.main
    entry = entries.get(main.candidate.key)
    worst = draw_worst((main.candidate, main.child), entry, state.data, state.work) if entry and plan.pictures else []
    return {"accuracy": entries, "worst": worst}


def find_reference(state: RunState) -> str:
    """Return the key of the FP32 baseline for comparisons of masks: LiteRT's, else Keras'; "" without any."""
    found = [
        one.candidate for one in state.group if one.candidate.recipe == "fp32" and one.candidate.role == "baseline"
    ]
    found.sort(key=lambda candidate: (candidate.engine == "keras", -candidate.threads))
    return found[0].key if found else ""
