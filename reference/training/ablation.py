"""Measures the effect of each choice of our recipe: the same small net trained with one choice changed at a time.

Every choice is trained with the same seeds, on the same patients, and compared with our recipe seed by seed, on test
patients that were not used to choose an epoch. The runs are in OUT; finished ones are not trained again.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from edge_runtime.errors import UsageError
from edge_runtime.system.files import write_file
from evidence.document import rule_table
from reference.data.folders import read_arrays
from reference.evaluation.slice_scores import rename_scores
from reference.paper import PAPER
from reference.recipe import Recipe

from .train import score_arrays, split_folders, train

SCORES = ("mean_iou", "lesion_iou", "dice")
# Changes to our recipe by name: one choice undone, then all at once; then choices that ours does not make.
CHOICES: dict[str, dict[str, Any]] = {
    "ours": {},
    "without Dice in the loss": {"dice": 0.0},
    "without augmentation": {"augment": False},
    "plateau instead of warm-up and cosine": {"schedule": "plateau"},
    "without averaged weights (EMA)": {"ema": 0.0},
    "without weight decay": {"weight_decay": 0.0},
    "the first half of the epochs at half the size": {"small": True},
    "the paper's recipe": {
        name: getattr(PAPER, name) for name in ("dice", "augment", "schedule", "ema", "weight_decay", "warm_up")
    },
    "with deep supervision": {"deep": 0.5},
    "with half of the slices in another's contrast": {"match": 0.5},
    "with half of the lesions covered": {"cover": 0.5},
}


def ablate(
    base: Recipe, folders: Sequence[Path], out: Path, seeds: int, only: str | None, notify: Callable[[str], None]
) -> dict[str, Any]:
    """Train every choice with every seed; write OUT/ablation.json after each, and return what it holds.

    only: ours and the choices with this text in their name; None: all. Raises: UsageError if no name has it.
    """
    chosen = [choice for choice in CHOICES if only is None or choice == "ours" or only in choice]
    if chosen == ["ours"]:
        raise UsageError(f"--only {only}", "no choice has this in its name", f"choose from: {', '.join(CHOICES)}")
    parts = split_folders(base, folders)  # refuses an unusable folder before anything is written
    out.mkdir(parents=True, exist_ok=True)
    path = out / "ablation.json"
    facts: dict[str, Any] = {
        "recipe": describe_recipe(base),
        "data": [folder.resolve().name for folder in folders],
        "slices": [len(part) for part in parts],  # to train, validate and test on, with the first seed
        "runs": {},
    }
    begun = rename_scores(json.loads(path.read_text())) if path.is_file() else facts
    if any(begun.get(key) != facts[key] for key in ("recipe", "data", "slices")):
        raise UsageError(str(path), "begun with another recipe or other data", "use another -o or delete the folder")
    done: dict[str, Any] = begun["runs"]
    # All choices of one seed first, so that an interrupted run has complete seeds.
    for seed in range(base.seed, base.seed + seeds):
        for number, (choice, changes) in enumerate(CHOICES.items()):
            if choice not in chosen:
                continue
            key = f"{choice}, seed {seed}"
            if key not in done:
                notify(key)
                done[key] = {"choice": choice, "seed": seed}
                recipe = apply_choice(base, changes, seed)
                done[key] |= measure_choice(recipe, folders, out / f"c{number}-s{seed}.keras")
            facts["runs"] = done
            write_file(path, json.dumps(facts, indent=1).encode())
    return facts


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the parts of a recipe that identify an ablation."""
    names = ("attention", "width", "size", "colour", "epochs", "batch", "rate", "split", "share", "test_share")
    return {name: getattr(recipe, name) for name in names}


def apply_choice(base: Recipe, changes: Mapping[str, Any], seed: int) -> Recipe:
    """Return our recipe with the changes of one choice."""
    if "small" in changes:
        return replace(base, small_epochs=base.epochs // 2, small_size=max(32, base.size // 2), seed=seed)
    return replace(base, **changes, seed=seed)


def measure_choice(recipe: Recipe, folders: Sequence[Path], model_path: Path) -> dict[str, Any]:
    """Train one net; return its scores on the test slices and the processor time of its training."""
    keras.backend.clear_session()
    started = time.process_time()
    train(recipe, folders, [], model_path)
    seconds = time.process_time() - started  # of all processors: independent of other load on the machine
    _, _, test = split_folders(recipe, folders)
    model = keras.saving.load_model(model_path, compile=False)
    predict = tf.function(lambda x: model(x, training=False))
    arrays = read_arrays(test, recipe.size, recipe.colour)
    scores = score_arrays(predict, arrays, [item.kind for item in test], recipe.batch)
    return {"test_slices": len(test), "cpu_seconds": round(seconds, 1), **{name: scores[name] for name in SCORES}}


def to_markdown(facts: Mapping[str, Any]) -> str:
    """Return the table: each choice's mean over the seeds, and its difference from ours seed by seed, least to most."""
    heads = (
        "choice",
        "seeds",
        "mean IoU",
        "difference from ours",
        "mean Dice",
        "difference from ours",
        "processor time",
    )
    rows = []
    runs = list(facts["runs"].values())
    ours = {run["seed"]: run for run in runs if run["choice"] == "ours"}
    for choice in dict.fromkeys(run["choice"] for run in runs):
        own_runs = [run for run in runs if run["choice"] == choice and run["seed"] in ours]
        cells = [choice, str(len(own_runs))]
        for score in ("mean_iou", "dice"):
            cells.append(f"{statistics.mean(run[score] for run in own_runs):.3f}")
            gains = [run[score] - ours[run["seed"]][score] for run in own_runs]
            cells.append("" if choice == "ours" else format_difference(gains))
        times = [(run.get("cpu_seconds"), ours[run["seed"]].get("cpu_seconds")) for run in own_runs]
        shares = [seconds / own for seconds, own in times if seconds and own]
        cells.append(f"× {statistics.mean(shares):.2f}" if shares else "–")
        rows.append(cells)
    return rule_table(heads, rows, 1)


def format_difference(gains: Sequence[float]) -> str:
    """Return the mean of the seeds' differences, and of several the least and the most."""
    spread = f" ({min(gains):+.3f} to {max(gains):+.3f})" if len(gains) > 1 else ""
    return f"{statistics.mean(gains):+.3f}{spread}"
