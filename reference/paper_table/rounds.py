"""Trains the four variants in rounds, so that all have the same number of epochs after each round.

A variant is RUNS/NAME.keras with its run's folder RUNS/NAME.run, NAME one of none, ag, se, cbam. Each turn is
`python -m reference train --until EPOCH` in a child process, which frees its memory and can be killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from edge_runtime.errors import EdgeSegError
from edge_runtime.system.process import run_module
from reference.paper import follow_plateau
from reference.recipe import Recipe
from reference.training.log import read_log

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is trained: the recipe without its attention, the variants, the data folders, and the folder of the runs."""

    recipe: Recipe
    variants: tuple[str, ...]
    data: tuple[Path, ...]
    runs: Path
    turn: int = 1  # epochs of each variant per round


def train_rounds(plan: Plan, minutes: float | None, notify: Notify) -> bool:
    """Train until every variant has all its epochs; return whether they have.

    minutes: begin no round that, judging by the last one, would end later. The first round always begins.
    Raises: EdgeSegError if a turn fails.
    """
    started_at, duration = time.monotonic(), 0.0
    for goal in [*range(plan.turn, plan.recipe.epochs, plan.turn), plan.recipe.epochs]:
        pending = [name for name in plan.variants if not has_reached(plan, name, goal)]
        if pending and duration and minutes is not None and time.monotonic() - started_at + duration > 60 * minutes:
            notify(f"stopped before the round to epoch {goal}: it would take longer than --minutes {minutes:g}")
            return False
        started = time.monotonic()
        for name in pending:
            notify(f"{name}: to epoch {goal} of {plan.recipe.epochs}")
            train_turn(plan, name, goal)
        duration = time.monotonic() - started if pending else duration
    return True


def train_turn(plan: Plan, name: str, goal: int) -> None:
    """Train one variant up to an epoch, in a child process. Raises: EdgeSegError if it fails."""
    values = {field.name: getattr(plan.recipe, field.name) for field in fields(Recipe) if field.name in OPTIONS}
    options = [part for key, value in values.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    data = ["--data", *map(str, plan.data)]
    out = ["--attention", name, "--until", str(goal), "-o", str(plan.runs / f"{name}.keras")]
    recipe = "paper" if plan.recipe.schedule == "plateau" else "ours"
    status, _ = run_module("reference", "train", "--recipe", recipe, *options, *data, *out, show=True)
    if status:
        raise EdgeSegError(f"training {name}", f"it ended with exit {status}", "see above; the same command resumes")


# The fields that `train` has options for; the others come from the named recipe.
OPTIONS = (
    "width", "size", "colour", "epochs", "small_epochs", "small_size", "batch", "rate", "deep", "match", "cover",
    "split", "test_share", "seed", "precision", "weights",
)  # fmt: skip


def has_reached(plan: Plan, name: str, goal: int) -> bool:
    """Return whether a variant has trained so many epochs, or was stopped early by its recipe."""
    rows = read_log(plan.runs / f"{name}.run")
    if len(rows) >= goal:
        return True
    size = plan.recipe.small_size if len(rows) < plan.recipe.small_epochs else plan.recipe.size
    scores = [float(row["val_mean_iou"]) for row in rows if int(row["size"]) == size]
    return plan.recipe.schedule == "plateau" and follow_plateau(scores, plan.recipe)[1]
