"""The masks of every subject on all images: scored against the truth and against each other, the worst as pictures.

Outputs come from the children, one chunk of images at a time; what an output means is decided here, by the functions
of the device.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.contract import Contract
from edge_runtime.errors import EdgeSegError
from edge_runtime.images import encode_png, read_image
from edge_runtime.overlay import Colour, Picture, draw_contour, draw_overlay, to_picture
from edge_runtime.postprocess import Labels, to_labels, to_probability
from edge_runtime.preprocess import Image

from .candidates import Candidate
from .data import Data, prepare, read_mask
from .process import Child
from .quality import COUNTS, Mask, Row, score_image, summarize, summarize_difference

CHUNK = 8  # images whose outputs are in memory at a time
SCORES = ("iou", "binary_iou", "dice", "hd95_px", "lesion_area_error")
COMPARED = ("iou", "binary_iou", "dice")
WORST = 10
PICTURE_SIDE = 256
TRUTH = (0, 158, 115)  # a green that red-green blind eyes tell from the lesion's red by its brightness

Asked = tuple[Candidate, Child]
Tensors = npt.NDArray[Any]


def measure_accuracy(
    asked: Sequence[Asked], reference: str, data: Data, work: Path, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Row]:
    """Return a result's `accuracy`, an entry for each subject that is asked; `reference` is the FP32 one's key.

    Without masks all are scored against the reference, which has no entry then.
    """
    rows: dict[str, list[Row]] = {candidate.key: [] for candidate, _ in asked}
    for start in range(0, len(data.images), CHUNK):
        part = range(start, min(start + CHUNK, len(data.images)))
        images = [read_image(data.images[i]) for i in part]
        labels = {candidate.key: segment(candidate, child, images, work) for candidate, child in asked}
        for place, number in enumerate(part):
            truth = read_mask(data.masks[number], images[place], count_labels(asked[0][0])) if data.masks else None
            masks = {key: found[place] for key, found in labels.items()}
            for key, found in masks.items():
                rows[key].append({"file": data.images[number].name} | score(found, truth, masks.get(reference)))
        progress(part.stop)
    against = "masks" if data.masks else reference
    entries = {key: to_entry(own, rows.get(reference), against, reference, key) for key, own in rows.items()}
    return {key: entry for key, entry in entries.items() if key != against}


def count_labels(candidate: Candidate) -> int:
    """Return how many label values a model's masks can have."""
    return max(2, len(candidate.contract.output.labels))


def segment(candidate: Candidate, child: Child, images: Sequence[Image], work: Path) -> list[Labels | str]:
    """Return the labels (H, W) that a subject gives for each image, or why it gives none."""
    tensors, outputs = work / "tensors.npy", work / "outputs.npy"
    np.save(tensors, np.stack([prepare(image, candidate.contract) for image in images]))
    try:
        child.ask("infer", tensors=str(tensors), out=str(outputs))
        found = np.load(outputs, allow_pickle=False)
    except EdgeSegError as error:
        return [error.why] * len(images)
    return [label(output, image, candidate) for output, image in zip(found, images, strict=True)]


def label(output: Tensors, image: Image, candidate: Candidate) -> Labels | str:
    """Return the labels (H, W) of an output (1, h, w, K), or why it is none."""
    try:
        probability = to_probability(activate(output, candidate.append), *image.shape[:2])
        return to_labels(probability, candidate.contract.threshold.value)[0]
    except EdgeSegError as error:
        return error.why


def activate(output: Tensors, activation: str) -> Tensors:
    """Return logits (..., K) as probabilities; what is activated already stays."""
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-output.astype(np.float64))), np.float32)
    if activation == "softmax":
        powers = np.exp(output - output.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)
    return output


def score(found: Labels | str, truth: Mask | None, reference: Labels | str | None) -> Row:
    """Return one image's scores: against the truth, under "agreement" against the reference; "error" if it has none."""
    if isinstance(found, str):
        return {"error": found}
    row: Row = {} if truth is None else score_image(found > 0, truth)
    if reference is None or isinstance(reference, str):
        return row if truth is not None else {"error": f"there is nothing to compare with ({reference})"}
    changed = {"changed_pixels": float(np.mean(found != reference))}
    agreement = score_image(found > 0, reference > 0) | changed
    return {**row, **changed, "agreement": agreement} if truth is not None else agreement


def to_entry(rows: Sequence[Row], others: Sequence[Row] | None, against: str, reference: str, key: str) -> Row:
    """Return one subject's entry in `accuracy`. Any image without a result makes all values null: the mean of the rest
    would pass for that of all."""
    failed = [row for row in rows if "error" in row]
    if failed:
        why = f"{len(failed)} of {len(rows)} images have no result: {failed[0]['error']}"
        nothing = {"value": None, "interval": [None, None], "n": 0}
        empty = dict.fromkeys(SCORES, nothing)
        kept = [strip(row) for row in rows]
        more = {"changed_pixels": None, "per_image": kept, "failed": len(failed), "why": why}
        return {"against": against, "n": len(rows) - len(failed), **empty, **more}
    entry = {"against": against, **to_scores(rows), "per_image": [strip(row) for row in rows]}
    if key == reference:
        entry["changed_pixels"] = None  # from itself
    whole = others is not None and not any("error" in row for row in others)
    if against == "masks" and key != reference and whole and others:
        entry["agreement"] = {"against": reference, **to_scores([row["agreement"] for row in rows])}
        compared = {name: summarize_difference(rows, others, name) for name in COMPARED}
        entry["difference"] = {"against": reference, **compared}
    return entry | {"false_alarms": summarize(rows, "false_alarms"), "failed": 0}


def to_scores(rows: Sequence[Row]) -> Row:
    """Return n, the five scores and the share of changed pixels, null where there is nothing to compare with."""
    changed = [row["changed_pixels"] for row in rows if "changed_pixels" in row]
    pixels = [sum(row[name] for name in COUNTS) for row in rows]
    share = round(float(np.average(changed, weights=pixels)), 8) if changed else None
    return {"n": len(rows), **{name: summarize(rows, name) for name in SCORES}, "changed_pixels": share}


def strip(row: Row) -> Row:
    """Return one image's row as results keep it: numbers rounded, no nested scores but the counts that pool."""
    kept = {name: value for name, value in row.items() if name != "agreement"}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in kept.items()}


def draw_worst(asked: Asked, entry: Row, data: Data, work: Path) -> list[Row]:
    """Return a result's `worst`: the images of lowest IoU, each with a picture of truth and of what was found."""
    candidate, child = asked
    ranked = [(row["iou"], i) for i, row in enumerate(entry["per_image"]) if row.get("iou") is not None]
    worst = []
    for _, number in sorted(ranked)[:WORST]:
        row, image = entry["per_image"][number], read_image(data.images[number])
        (found,) = segment(candidate, child, [image], work)
        if isinstance(found, str):
            continue
        truth = read_mask(data.masks[number], image, count_labels(candidate)) if data.masks else None
        picture = base64.b64encode(encode_png(draw_case(image, found, truth, candidate.contract))).decode()
        scores = {"dice": row["dice"], "iou": row["iou"]}
        worst.append({"file": row["file"], "subject": candidate.key, **scores, "picture": picture})
    return worst


def draw_case(image: Image, found: Labels, truth: Mask | None, contract: Contract) -> Picture:
    """Return three pictures side by side, each at most PICTURE_SIDE high: the image, the truth's contour on it (left
    out without truth), and what was found, tinted."""
    labels = contract.output.labels
    colours: list[Colour] = [label.colour for label in (labels if len(labels) == 1 else labels[1:])]
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
