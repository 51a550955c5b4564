"""Makes our Table I: converts each variant, scores it on the test slices, measures speed and size, judges the goals.

RUNS/test is the test set as a data folder. RUNS/NAME.row.json has the measurements of a variant, so that a killed run
resumes. RUNS/table.json has everything, and the page is made from it. Conversion and benchmark are the public commands;
DRQ's policy is the table's goal, checked on RUNS/check: slices of the validation part.

Specification of table.json, edge-seg-table/1: `recipe` and `start` of the training; `data` with the split and its
counts; `machine`, `versions`, `threads`; `variants` by name, each with `epochs`, `curve` and `rows`, by engine, of
scores, bytes, p50_ms and peak_rss_bytes, and `policy`, what DRQ kept float for the goal; or `why` it has none; `goals`
with their verdicts. What was not measured is null or absent, with a reason.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.errors import EdgeSegError, OutputError, PolicyError, UsageError
from edge_runtime.images.read import read_image
from edge_runtime.system.files import hash_file, write_file
from edge_runtime.system.machine import describe_host, format_local_time, read_machine
from edge_runtime.system.process import run_module
from edge_runtime.system.versions import find_own_version, read_versions
from reference.data.folders import SPLITS, Slice, read_folder
from reference.data.phantom import write_labels
from reference.evaluation.predict import evaluate, find_slices, load_predictor
from reference.evaluation.report import without_nan
from reference.evaluation.slice_scores import rename_scores
from reference.recipe import ATTENTIONS
from reference.training.held_out import check_start
from reference.training.log import read_log

from .figures import draw_figures
from .goals import MAX_DROP, judge_goals
from .rounds import Notify, Plan
from .timing import ENGINES, judge_timing, measure_speed, pick_timed

FORMAT = "edge-seg-table/1"
PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "numpy", "opencv-python-headless")
RECIPES = ("fp32", "drq")  # that each variant is converted by
MAX_CHECKED = 128  # validation slices with a lesion, at most, on which the goal is DRQ's policy
MAX_SIZE_RATIO = 0.275  # to FP32's bytes, of a file that meets the goal by its whole interval: size is a goal too
Facts = dict[str, Any]


def make_table(plan: Plan, threads: int, timing: str, beside: Path | None, notify: Notify) -> Facts:
    """Measure the trained variants; write RUNS/table.json and return its facts.

    threads: of every engine. timing: "keep" earlier timings and add missing ones, time all "again", or "none"; best on
    an idle machine. beside: the table.json of the same nets by the other split.
    Raises: EdgeSegError if a folder is unusable or a variant cannot be converted.
    """
    parts = split_data(plan)
    test = write_slices(parts[2], plan.runs / "test")
    checked = pick_checked(parts[1])
    check = write_slices(checked, plan.runs / "check") if checked else None
    trained = [name for name in ATTENTIONS if (plan.runs / f"{name}.keras").is_file()]
    # All conversions first: they time layers and need an idle machine; scoring does not.
    record = {name: convert_variant(plan, name, check, threads, notify) for name in trained}
    variants = {
        name: measure_variant(plan, name, record[name], test, threads, timing, notify)
        if name in record
        else {"why": "not trained yet"}
        for name in ATTENTIONS
    }
    facts = {
        "format": FORMAT,
        "created": format_local_time(),
        "versions": {"edge-seg": find_own_version(), **read_versions(PACKAGES)},
        "machine": {**describe_host(), "processor": read_machine().processor},
        "threads": threads,
        "recipe": asdict(plan.recipe) | {"weights": Path(plan.recipe.weights).name, "attention": "each of the four"},
        "start": describe_start(plan, parts),
        "data": describe_data(plan, parts),
        "variants": variants,
        "beside": read_beside(beside) if beside else None,
    }
    facts["figures"] = draw_figures(plan.runs, [name for name in ATTENTIONS if "rows" in variants[name]], threads)
    facts["goals"] = judge_goals(facts)
    write_json(plan.runs / "table.json", facts)
    return facts


def read_beside(path: Path) -> Facts:
    """Return the figures of another table that the page shows. Raises: UsageError if it is none."""
    try:
        other = rename_scores(json.loads(path.read_text()))
        variants = {
            name: {"mean_iou": facts["rows"]["keras-fp32"]["mean_iou"], "epochs": facts["epochs"]}
            for name, facts in other["variants"].items()
            if "rows" in facts
        }
        return {"split": other["data"]["split"], "variants": variants}
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"it cannot be read as a table ({type(error).__name__}: {error})"
        raise UsageError(str(path), why, "give the table.json of another RUNS folder") from None


def split_data(plan: Plan) -> list[list[Slice]]:
    """Return the slices to train on, to validate on and to test on, as the training splits them."""
    recipe = plan.recipe
    slices = [item for folder in plan.data for item in read_folder(folder)]
    return SPLITS[recipe.split](slices, (recipe.share, recipe.test_share), recipe.seed)


def pick_checked(validation: Sequence[Slice]) -> list[Slice]:
    """Return some slices with a lesion, spread evenly over the patients."""
    marked = sorted((item for item in validation if item.mask), key=lambda item: (item.patient, item.image.name))
    return marked[:: math.ceil(len(marked) / MAX_CHECKED) or 1]


def write_slices(slices: Sequence[Slice], dest: Path) -> Path:
    """Write a data folder of links to the slices' images, with empty masks for those without tumour.

    Raises: OutputError if the folder already holds other slices.
    """
    names = {f"{item.patient.split('/')[0]}-{item.image.stem}": item for item in slices}
    labels = dest / "labels.csv"
    if labels.is_file():
        existing = {line.split(",")[0] for line in labels.read_text().splitlines()[1:]}
        if existing != set(names):
            raise OutputError(str(dest), "it holds other slices than this split's", "delete it or use another -o")
        return dest
    shutil.rmtree(dest, ignore_errors=True)  # without labels.csv the writing was interrupted
    for folder in ("images", "masks"):
        (dest / folder).mkdir(parents=True)
    for name, item in names.items():
        (dest / "images" / f"{name}{item.image.suffix}").symlink_to(item.image.resolve())
        if item.mask:
            (dest / "masks" / f"{name}.png").symlink_to(item.mask.resolve())
        else:
            empty = np.zeros(read_image(item.image).shape[:2], np.uint8)
            write_file(dest / "masks" / f"{name}.png", cv2.imencode(".png", empty)[1].tobytes())
    write_labels(labels, [(name, item.kind, item.patient) for name, item in names.items()])
    return dest


def convert_variant(plan: Plan, name: str, check: Path | None, threads: int, notify: Notify) -> Facts:
    """Return a variant's record for these weights and threads; convert its `.tflite` files where they are missing.

    check: the slices on which DRQ must meet the goal, if it can by leaving layers float.
    """
    model, path = plan.runs / f"{name}.keras", plan.runs / f"{name}.row.json"
    digest = hash_file(model)
    record: Facts = rename_scores(json.loads(path.read_text())) if path.is_file() else {}
    if (record.get("sha256"), record.get("threads")) != (digest, threads):
        record = {"sha256": digest, "threads": threads, "converted": {}, "scores": {}, "bench": None}
    for recipe in RECIPES:
        out = plan.runs / f"{name}.{recipe}.tflite"
        if recipe not in record["converted"] or not out.is_file():
            notify(f"{name}: converting to {recipe}")
            if recipe == "drq":
                max_bytes = MAX_SIZE_RATIO * record["converted"]["fp32"]["bytes"]
                record["converted"][recipe] = convert(model, out, recipe, check, max_bytes)
            else:
                record["converted"][recipe] = convert(model, out, recipe, None)
            record["scores"].pop(f"litert-{recipe}", None)
            write_json(path, record)
    return record


def measure_variant(
    plan: Plan, name: str, record: Facts, test: Path, threads: int, timing: str, notify: Notify
) -> Facts:
    """Return a converted variant's part of the table; add missing measurements to its `record`."""
    path = plan.runs / f"{name}.row.json"
    files = {
        "keras-fp32": plan.runs / f"{name}.keras",
        **{f"litert-{recipe}": plan.runs / f"{name}.{recipe}.tflite" for recipe in RECIPES},
    }
    slices = find_slices(test / "images", test / "masks", test / "labels.csv")
    for engine in ENGINES:
        if engine not in record["scores"]:
            notify(f"{name}: scoring {engine} on {len(slices)} test slices")
            predict, _ = load_predictor(files[engine], threads)
            record["scores"][engine] = without_nan(evaluate(predict, slices, [0.5])[0.5])
            write_json(path, record)
    if timing == "again" or (timing == "keep" and "engines" not in (record["bench"] or {})):
        notify(f"{name}: timing")
        record["bench"] = measure_speed(files, pick_timed(test, plan.runs / "timed"), threads)
        write_json(path, record)
    return describe_variant(plan, name, record, files)


def convert(model: Path, out: Path, recipe: str, check: Path | None, max_bytes: float = math.inf) -> Facts:
    """Run `python -m convert`; return the file's hash and size, and with `check` what the policy kept float.

    The policy is used with --sure: on some 100 slices a drop is known to within 0.0007 at best, and among the layers
    that could stay float some reduce it by chance. If --sure cannot be met, or only with more than `max_bytes`, the
    drop alone is the policy. A file that is no faster than float32 is accepted, and so is one that misses the policy
    with any layers left float: the table has columns for both.
    Raises: EdgeSegError if convert fails for another reason.
    """
    command = ("convert", model, "-o", out, "--recipe", recipe, "--allow", "slower", "--force")
    limits = ("--check", check / "images", "--masks", check / "masks", "--max-iou-drop", MAX_DROP) if check else ()
    for policy in ((*limits, "--sure"), limits, ()) if limits else ((),):
        status, message = run_module(*command, *policy)
        if status not in (0, PolicyError.exit_code):
            raise EdgeSegError(str(model), f"python -m convert ended with exit {status} ({message})")
        sure = "--sure" in policy
        if status == 0 and not (sure and out.stat().st_size > max_bytes):
            break
    facts: Facts = {"sha256": hash_file(out), "bytes": out.stat().st_size}
    if check is None:
        return facts
    float_layers = json.loads(out.with_suffix(".json").read_text())["drill_down"].get(recipe, {"kept": []})
    images = sum(1 for _ in (check / "images").iterdir())
    return facts | {"policy": {"images": images, "sure": sure, "met": bool(policy), "kept": float_layers["kept"]}}


def describe_variant(plan: Plan, name: str, record: Mapping[str, Any], files: Mapping[str, Path]) -> Facts:
    """Return a variant's part of the table."""
    speeds = (record["bench"] or {}).get("engines", {})
    rows = {
        engine: {
            **record["scores"][engine],
            "bytes": files[engine].stat().st_size,
            **speeds.get(engine, {}),
        }
        for engine in ENGINES
    }
    log = read_log(plan.runs / f"{name}.run")
    facts = {"epochs": len(log), "sha256": record["sha256"], "curve": [pick_epoch(row) for row in log], "rows": rows}
    facts["policy"] = record["converted"]["drq"].get("policy")
    return facts | {"timing": judge_timing(record["bench"] or {"why": "not timed"}, files["litert-drq"])}


def pick_epoch(row: Mapping[str, str]) -> Facts:
    """Return the figures of an epoch that the curves show."""
    numbers = {key: float(row[key]) for key in ("loss", "val_mean_iou", "val_lesion_iou", "val_dice", "seconds")}
    return {"epoch": int(row["epoch"]), "size": int(row["size"]), **without_nan(numbers)}


def describe_start(plan: Plan, parts: Sequence[Sequence[Slice]]) -> Facts | None:
    """Return the net that all four started from, with its epochs if its run's folder is beside it."""
    if plan.recipe.weights in ("none", "imagenet"):
        return None if plan.recipe.weights == "none" else {"file": "imagenet"}
    path = Path(plan.recipe.weights)
    run_known = check_start(path, parts[1], parts[2])
    curve = [pick_epoch(row) for row in read_log(path.with_suffix(".run"))]
    return {"file": path.name, "sha256": hash_file(path), "run_known": run_known, "epochs": len(curve), "curve": curve}


def describe_data(plan: Plan, parts: Sequence[Sequence[Slice]]) -> Facts:
    """Return the folders' names and the counts of the training, validation and test parts."""
    counts = {
        part: {
            "slices": len(slices),
            "patients": len({item.patient for item in slices}),
            "kinds": dict(sorted(Counter(item.kind for item in slices).items())),
        }
        for part, slices in zip(("training", "validation", "test"), parts, strict=True)
    }
    trained = {item.patient for item in parts[0]}
    shared = sum(item.patient in trained for item in parts[2])
    folders = [folder.resolve().name for folder in plan.data]
    return {"folders": folders, "split": plan.recipe.split, **counts, "test_slices_of_training_patients": shared}


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts as JSON, whole or not at all."""
    write_file(path, (json.dumps(facts, indent=1, allow_nan=False) + "\n").encode())
