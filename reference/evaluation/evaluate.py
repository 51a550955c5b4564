"""python -m reference evaluate: scores a model, prints the figures and writes them as a report."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import UsageError
from edge_runtime.system.files import hash_file
from edge_runtime.system.terminal import StatusLine, print_message

if TYPE_CHECKING:
    from reference.data.folders import Slice

    from .predict import Predictor
    from .slice_scores import SliceRow

# Fixed shares of the slice, so that groups of two data sets are comparable; terciles would differ between sets.
SIZES = (("below 0.5 %", 0.0, 0.005), ("0.5 to 2 %", 0.005, 0.02), ("2 % and more", 0.02, 1.01))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--masks", type=Path, metavar="DIR", help="masks of the same names; without it the images are tumour-free"
    )
    parser.add_argument(
        "--tumour-free",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="more folders of images, for false alarms",
    )
    parser.add_argument(
        "--series",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="DICOM or NIfTI series without a tumour: slices, objects and mL that are marked in each",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="id,class,patient: scores by class, intervals by patient, appearance"
    )
    parser.add_argument("--patients", type=Path, metavar="FILE", help="only these patients, one a line")
    parser.add_argument("--thresholds", type=to_threshold, nargs="+", metavar="T", help="default: the model's, or 0.5")
    parser.add_argument(
        "--calibrate", type=Path, metavar="FILE", help="choose the threshold on these patients, score on others only"
    )
    parser.add_argument(
        "--most-alarms",
        type=to_threshold,
        default=0.05,
        metavar="X",
        help="share of false alarms that --calibrate allows (0.05)",
    )
    parser.add_argument("--flip", action="store_true", help="measure gain and cost of averaging with the mirror image")
    parser.add_argument(
        "--stress", action="store_true", help="score mirrored and rescaled slices, other contrast, covered lesions"
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write evaluation.json, .md, .html and centroids.png"
    )
    parser.add_argument("--force", action="store_true", help="replace a report")
    parser.add_argument("--json", action="store_true", help="print evaluation.json instead of the page")


def to_threshold(text: str) -> float:
    """Return a number above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Score a model; print the page or its JSON, write the report."""
    from evidence.document import to_markdown

    from .report import prepare_folder, render_report, to_json, without_nan, write_report

    if args.report is not None:
        prepare_folder(args.report, args.force)
    facts, picture = evaluate_model(args)
    print(to_json(facts) if args.json else to_markdown(render_report(without_nan(facts))), end="")
    if args.report is not None:
        write_report(args.report, facts, picture)
    return 0


def evaluate_model(args: argparse.Namespace) -> tuple[dict[str, Any], bytes | None]:
    """Return the facts of evaluation.json, and the picture of centroids if classes are known."""
    from .predict import find_alarms, load_predictor
    from .stress import check_changes, check_covered, check_flip
    from .threshold import choose_threshold

    slices, calibration_slices = choose_slices(args)
    predict, own = load_predictor(args.model)
    thresholds = args.thresholds or [own]
    origin = "the model's own" if thresholds[0] == own else "given"
    calibration = None
    if calibration_slices:
        calibration = choose_threshold(
            predict, calibration_slices, args.most_alarms, make_counter(len(calibration_slices), "threshold")
        )
        thresholds, origin = [calibration["threshold"], *(args.thresholds or [])], "chosen on other patients"
    facts, picture = score_model(predict, slices, list(dict.fromkeys(thresholds)), args)
    facts.update(model=describe_model(args.model), threshold_from=origin, calibration=calibration)
    facts["trained_on"] = describe_training(args.model, slices)
    if args.series:
        status = StatusLine("reference")
        found = find_alarms(predict, args.series, thresholds[0], lambda done: status.show(f"{done} slices of series "))
        status.clear()
        facts["series"] = [asdict(series) for series in found]
    if args.flip:
        facts["flip"] = check_flip(predict, slices, thresholds[0], make_counter(len(slices), "flip"))
    if args.stress:
        lesions = [item for item in slices if item.mask is not None]
        facts["stress"] = {
            "changes": check_changes(predict, slices, thresholds[0], make_counter(len(slices), "changes")),
            "covered": check_covered(predict, lesions, thresholds[0], make_counter(len(lesions), "covered")),
            "other_source": facts["thresholds"][0]["scores"].get("false_alarms"),
        }
    return facts, picture


def choose_slices(args: argparse.Namespace) -> tuple[list[Slice], list[Slice]]:
    """Return the slices to score and those to choose the threshold on.

    Raises: UsageError for missing files, or a patient that would be in both.
    """
    from .predict import find_slices

    def find_all(patients: Collection[str] | None) -> list[Slice]:
        found = find_slices(args.images, args.masks, args.labels, patients)
        for folder in args.tumour_free:
            found += find_slices(folder, None, None, patients)
        return found

    calibration_slices = find_all(read_patients(args.calibrate)) if args.calibrate else []
    slices = find_all(read_patients(args.patients) if args.patients else None)
    calibration_patients = {item.patient for item in calibration_slices}
    if not args.patients:
        slices = [item for item in slices if item.patient not in calibration_patients]
    shared = calibration_patients & {item.patient for item in slices}
    if shared:
        why = f"{len(shared)} of its patients are scored too"
        raise UsageError(str(args.calibrate), why, "give --patients others, or leave it out")
    if not slices:
        raise UsageError(str(args.calibrate), "it names all patients", "leave some to score")
    return slices, calibration_slices


def read_patients(path: Path) -> list[str]:
    """Return the names in a file, one a line. Raises: UsageError if it cannot be read or names none."""
    try:
        names = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise UsageError(str(path), "it is no readable text file", "give one patient a line") from None
    if not names:
        raise UsageError(str(path), "it names no patient", "give one patient a line")
    return names


def score_model(
    predict: Predictor, slices: list[Slice], thresholds: list[float], args: argparse.Namespace
) -> tuple[dict[str, Any], bytes | None]:
    """Return the figures at all thresholds, in detail at the first, and the picture of centroids."""
    import numpy as np

    from reference.data.lesion_shape import to_grey8

    from .appearance import compare_classes, pair_shapes
    from .centroids import MeanOutline, draw_centroids
    from .failures import describe_failures
    from .intervals import split_by_lesion, summarize, summarize_pooled
    from .predict import add_scores, predict_slices
    from .slice_scores import Scores

    scores = {threshold: Scores(distances=True) for threshold in thresholds}
    pairs, outline = [], MeanOutline()
    for item, image, truth, found in predict_slices(predict, slices, make_counter(len(slices), "slices")):
        add_scores(scores, item, truth, found)
        if args.report is not None and truth.any():
            grey = to_grey8(image)
            mask = found >= np.float32(thresholds[0])
            pairs.append(pair_shapes(item.image.name, item.patient, item.kind, grey, truth, mask))
            outline.add(grey, item.kind)
    facts: dict[str, Any] = {"threshold": thresholds[0], "data": describe_data(slices, bool(args.labels))}
    facts["thresholds"] = [{"threshold": t, "scores": summarize(at.rows)} for t, at in scores.items()]
    rows = scores[thresholds[0]].rows
    facts["with_tumour_free"] = summarize_pooled(rows) if all(split_by_lesion(rows)) else None
    facts["classes"] = {kind: summarize(group) for kind, group in group_by_class(rows).items()} if args.labels else None
    facts["sizes"] = {size: summarize(group) for size, group in group_by_size(rows).items()}
    facts["failures"] = describe_failures(rows, pairs)
    if not args.labels or all(pair.truth is None for pair in pairs):
        return facts, None
    facts["appearance"] = {**compare_classes(pairs), "picture": True}
    return facts, draw_centroids(pairs, outline)


def group_by_class(rows: Sequence[SliceRow]) -> dict[str, list[SliceRow]]:
    """Return {class: its slices with a lesion}."""
    kinds = sorted({row.kind for row in rows if row.dice is not None})
    return {kind: [row for row in rows if row.kind == kind and row.dice is not None] for kind in kinds}


def group_by_size(rows: Sequence[SliceRow]) -> dict[str, list[SliceRow]]:
    """Return {size: slices with a true lesion of that size}, for the SIZES that occur."""
    groups = {
        size: [row for row in rows if row.dice is not None and low <= row.fraction < high] for size, low, high in SIZES
    }
    return {size: group for size, group in groups.items() if group}


def describe_data(slices: Sequence[Slice], labelled: bool) -> dict[str, Any]:
    """Return how many slices and patients were scored."""
    masked = [item for item in slices if item.mask is not None]
    return {
        "slices": len(masked),
        "patients": len({item.patient for item in masked}),
        "tumour_free": len(slices) - len(masked),
        "labelled": labelled,
    }


def describe_training(model: Path, slices: Sequence[Slice]) -> dict[str, Any] | None:
    """Return how many of the scored slices the net was trained on, with a line if any; None where that is not known."""
    from reference.data.training_record import find_trained

    from .report import format_trained

    found = find_trained(model, slices)
    if found is None:
        return None
    if found.slices:
        print_message("reference", f"warning: {format_trained(found.slices, found.scored, str(found.record))}")
    return {"slices": found.slices, "scored": found.scored, "record": found.record.name}


def describe_model(path: Path) -> dict[str, Any]:
    """Return the model file's name, size and digest, and the runtime."""
    through = "edge_runtime" if path.suffix == ".tflite" else "Keras with edge_runtime's preprocessing"
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path), "through": through}


def make_counter(total: int, what: str) -> Callable[[int], None]:
    """Return a function that shows progress on a terminal."""
    status = StatusLine("reference")

    def show_count(done: int) -> None:
        status.show(f"{what} {done}/{total} ")
        if done == total:
            status.clear()

    return show_count
