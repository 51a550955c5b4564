"""The paper's Table I, ours: each variant converted, scored on the test slices, timed and weighed; and the verdicts.

RUNS/test is the test set as a data folder, RUNS/NAME.row.json what was measured of a variant, so that a killed run goes
on where it was; RUNS/table.json all of it, which the page is made from. Conversion and benchmark are the commands that
a user has; DRQ's has the table's own goal as its policy, held on RUNS/check: slices of the validation part.

Specification of table.json, edge-seg-table/1: `recipe` and `start` of the training; `data` with the split and its
counts; `machine`, `versions`, `threads`; `variants` by name, each with `epochs`, `curve` and `rows`, by engine, of
scores, bytes, p50_ms and peak_rss_bytes, and `policy`, what DRQ kept float for the goal; or `why` it has none; `goals`
with their verdicts. What was not measured is null or absent, with a reason beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.errors import EdgeSegError, OutputError, PolicyError, UsageError
from edge_runtime.images import read_image, write_file
from edge_runtime.machine import read_machine
from edge_runtime.summary import describe_host, now_text, own_version

from .child import run_module
from .data import SPLITS, Slice, read_folder
from .evaluate import evaluate, find_slices, load_predictor
from .figures import draw_figures
from .heldout import check_start
from .phantom import write_labels
from .recipe import ATTENTIONS
from .rounds import Plan, Say, read_rows
from .timing import ENGINES, judge_timing, measure_speed, pick_timed
from .verdicts import MOST_LOST, judge_goals

FORMAT = "edge-seg-table/1"
RECIPES = ("fp32", "drq")  # of the two that are converted
CHECKED = 128  # validation slices with a lesion, at most, on which the goal is DRQ's policy
LARGEST = 0.275  # of FP32's bytes, for a file that is surely within the goal: size is a goal too
Facts = dict[str, Any]


def make_table(plan: Plan, threads: int, timing: str, beside: Path | None, say: Say) -> Facts:
    """Measure what is trained; write RUNS/table.json and return what it holds.

    threads: of every engine. timing: "keep" what was timed and time the rest, time all "again", or "none"; it wants a
    machine with nothing else to do. beside: the table.json of the same nets by the other split.
    Raises: EdgeSegError if a folder is unusable or a variant cannot be converted.
    """
    parts = split_data(plan)
    test = write_slices(parts[2], plan.runs / "test")
    checked = pick_checked(parts[1])
    check = write_slices(checked, plan.runs / "check") if checked else None
    trained = [name for name in ATTENTIONS if (plan.runs / f"{name}.keras").is_file()]
    # All at once: converting times layers, and scoring takes long enough for other work beside it.
    known = {name: convert_variant(plan, name, check, threads, say) for name in trained}
    variants = {
        name: measure_variant(plan, name, known[name], test, threads, timing, say)
        if name in known
        else {"why": "not trained yet"}
        for name in ATTENTIONS
    }
    facts = {
        "format": FORMAT,
        "created": now_text(),
        "versions": {"edge-seg": own_version(), **read_versions()},
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
    """Return what the page shows of another table. Raises: UsageError if it is none."""
    try:
        other = json.loads(path.read_text())
        variants = {
            name: {"binary_io_u": facts["rows"]["keras-fp32"]["binary_io_u"], "epochs": facts["epochs"]}
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
    return marked[:: math.ceil(len(marked) / CHECKED) or 1]


def write_slices(slices: Sequence[Slice], dest: Path) -> Path:
    """Make slices a data folder of links to their images, with empty masks for those without tumour.

    Raises: OutputError if the folder there holds others.
    """
    names = {f"{item.patient.split('/')[0]}-{item.image.stem}": item for item in slices}
    there = dest / "labels.csv"
    if there.is_file():
        held = {line.split(",")[0] for line in there.read_text().splitlines()[1:]}
        if held != set(names):
            raise OutputError(str(dest), "it holds other slices than this split's", "delete it or use another -o")
        return dest
    shutil.rmtree(dest, ignore_errors=True)  # without labels it was interrupted
    for folder in ("images", "masks"):
        (dest / folder).mkdir(parents=True)
    for name, item in names.items():
        (dest / "images" / f"{name}{item.image.suffix}").symlink_to(item.image.resolve())
        if item.mask:
            (dest / "masks" / f"{name}.png").symlink_to(item.mask.resolve())
        else:
            empty = np.zeros(read_image(item.image).shape[:2], np.uint8)
            write_file(dest / "masks" / f"{name}.png", cv2.imencode(".png", empty)[1].tobytes())
    write_labels(there, [(name, item.kind, item.patient) for name, item in names.items()])
    return dest


def convert_variant(plan: Plan, name: str, check: Path | None, threads: int, say: Say) -> Facts:
    """Return what is known of a variant with these weights and threads, its `.tflite` files made where they lack.

    check: the slices on which DRQ must meet the goal, if any layers left float make it do so.
    """
    model, path = plan.runs / f"{name}.keras", plan.runs / f"{name}.row.json"
    digest = hash_file(model)
    known: Facts = json.loads(path.read_text()) if path.is_file() else {}
    if (known.get("sha256"), known.get("threads")) != (digest, threads):
        known = {"sha256": digest, "threads": threads, "converted": {}, "scores": {}, "bench": None}
    for recipe in RECIPES:
        out = plan.runs / f"{name}.{recipe}.tflite"
        if recipe not in known["converted"] or not out.is_file():
            say(f"{name}: converting to {recipe}")
            if recipe == "drq":
                most_bytes = LARGEST * known["converted"]["fp32"]["bytes"]
                known["converted"][recipe] = convert(model, out, recipe, check, most_bytes)
            else:
                known["converted"][recipe] = convert(model, out, recipe, None)
            known["scores"].pop(f"litert-{recipe}", None)
            write_json(path, known)
    return known


def measure_variant(plan: Plan, name: str, known: Facts, test: Path, threads: int, timing: str, say: Say) -> Facts:
    """Return a converted variant's part of the table, adding to what is `known` of it what is not there yet."""
    path = plan.runs / f"{name}.row.json"
    files = {
        "keras-fp32": plan.runs / f"{name}.keras",
        **{f"litert-{recipe}": plan.runs / f"{name}.{recipe}.tflite" for recipe in RECIPES},
    }
    slices = find_slices(test / "images", test / "masks", test / "labels.csv")
    for engine in ENGINES:
        if engine not in known["scores"]:
            say(f"{name}: scoring {engine} on {len(slices)} test slices")
            predict, _ = load_predictor(files[engine], threads)
            known["scores"][engine] = null_nan(evaluate(predict, slices, [0.5])[0.5])
            write_json(path, known)
    if timing == "again" or (timing == "keep" and "engines" not in (known["bench"] or {})):
        say(f"{name}: timing")
        known["bench"] = measure_speed(files, pick_timed(test, plan.runs / "timed"), threads)
        write_json(path, known)
    return describe_variant(plan, name, known, files)


def convert(model: Path, out: Path, recipe: str, check: Path | None, most_bytes: float = math.inf) -> Facts:
    """Convert as a user does; return the file's hash and size, and with `check` what the policy kept float.

    The policy is asked with --sure: some 100 slices tell a drop to within 0.0007 at best, and of the layers that could
    be left float some always happen to please them. Where that cannot be met, or not within `most_bytes`, the drop
    alone is the policy. A file that is no faster than its float32 is taken all the same: how fast it is, is a column of
    the table. So is one that misses the policy whatever is left float: what it loses is another.
    Raises: EdgeSegError if convert refuses it for anything else.
    """
    command = ("convert", model, "-o", out, "--recipe", recipe, "--allow", "slower", "--force")
    asked = ("--check", check / "images", "--masks", check / "masks", "--max-iou-drop", MOST_LOST) if check else ()
    for policy in ((*asked, "--sure"), asked, ()) if asked else ((),):
        status, said = run_module(*command, *policy)
        if status not in (0, PolicyError.exit_code):
            raise EdgeSegError(str(model), f"python -m convert ended with exit {status} ({said})")
        sure = "--sure" in policy
        if status == 0 and not (sure and out.stat().st_size > most_bytes):
            break
    facts: Facts = {"sha256": hash_file(out), "bytes": out.stat().st_size}
    if check is None:
        return facts
    drill = json.loads(out.with_suffix(".json").read_text())["drill_down"].get(recipe, {"kept": []})
    images = sum(1 for _ in (check / "images").iterdir())
    return facts | {"policy": {"images": images, "sure": sure, "met": bool(policy), "kept": drill["kept"]}}


def describe_variant(plan: Plan, name: str, known: Mapping[str, Any], files: Mapping[str, Path]) -> Facts:
    """Return a variant's part of the table."""
    speeds = (known["bench"] or {}).get("engines", {})
    rows = {
        engine: {
            **known["scores"][engine],
            "bytes": files[engine].stat().st_size,
            **speeds.get(engine, {}),
        }
        for engine in ENGINES
    }
    log = read_rows(plan.runs / f"{name}.run")
    facts = {"epochs": len(log), "sha256": known["sha256"], "curve": [pick_epoch(row) for row in log], "rows": rows}
    facts["policy"] = known["converted"]["drq"].get("policy")
    return facts | {"timing": judge_timing(known["bench"] or {"why": "not timed"}, files["litert-drq"])}


def pick_epoch(row: Mapping[str, str]) -> Facts:
    """Return what the curves show of an epoch."""
    numbers = {key: float(row[key]) for key in ("loss", "val_binary_io_u", "val_tumour_iou", "val_dice", "seconds")}
    return {"epoch": int(row["epoch"]), "size": int(row["size"]), **null_nan(numbers)}


def describe_start(plan: Plan, parts: Sequence[Sequence[Slice]]) -> Facts | None:
    """Return what all four started from, with its own epochs where its run is beside it."""
    if plan.recipe.weights in ("none", "imagenet"):
        return None if plan.recipe.weights == "none" else {"file": "imagenet"}
    path = Path(plan.recipe.weights)
    known = check_start(path, parts[1], parts[2])
    curve = [pick_epoch(row) for row in read_rows(path.with_suffix(".run"))]
    return {"file": path.name, "sha256": hash_file(path), "run_known": known, "epochs": len(curve), "curve": curve}


def describe_data(plan: Plan, parts: Sequence[Sequence[Slice]]) -> Facts:
    """Return the folders' names and what of them is trained, validated and tested on."""
    counts = {
        part: {
            "slices": len(its),
            "patients": len({item.patient for item in its}),
            "kinds": dict(sorted(Counter(item.kind for item in its).items())),
        }
        for part, its in zip(("training", "validation", "test"), parts, strict=True)
    }
    known = {item.patient for item in parts[0]}
    shared = sum(item.patient in known for item in parts[2])
    folders = [folder.resolve().name for folder in plan.data]
    return {"folders": folders, "split": plan.recipe.split, **counts, "test_slices_of_training_patients": shared}


def read_versions() -> dict[str, str]:
    """Return the versions of what trains, converts and runs."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("tensorflow", "keras", "ai-edge-litert", "numpy", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def null_nan(scores: Mapping[str, Any]) -> Facts:
    """Return scores with null for NaN, which is no JSON."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in scores.items()}


def hash_file(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts whole or not at all."""
    write_file(path, (json.dumps(facts, indent=1, allow_nan=False) + "\n").encode())


def count_threads() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
