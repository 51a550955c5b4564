"""Trains the four variants in rounds, so that all have seen equally many epochs whenever it ends.

A variant is RUNS/NAME.keras with its run's folder RUNS/NAME.run beside it, NAME one of none, ag, se, cbam; each turn is
`python -m reference train --until EPOCH` in a child process, which gives the memory back and can be killed.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from edge_runtime.errors import EdgeSegError

from .child import run_module
from .paper import follow_plateau
from .recipe import Recipe

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is trained on what: the recipe but for its attention, the data folders, and where the runs lie."""

    recipe: Recipe
    variants: tuple[str, ...]
    data: tuple[Path, ...]
    runs: Path
    turn: int = 1  # epochs of one variant before the next one's


def train_rounds(plan: Plan, minutes: float | None, say: Say) -> bool:
    """Train until every variant has all its epochs; return whether they have.

    minutes: begin no round that would, by the last one's time, end later than this. A first round is begun always.
    Raises: EdgeSegError if a turn fails.
    """
    began, took = time.monotonic(), 0.0
    for goal in [*range(plan.turn, plan.recipe.epochs, plan.turn), plan.recipe.epochs]:
        due = [name for name in plan.variants if not has_reached(plan, name, goal)]
        if due and took and minutes is not None and time.monotonic() - began + took > 60 * minutes:
            say(f"stopped before the round to epoch {goal}: it would take longer than --minutes {minutes:g}")
            return False
        started = time.monotonic()
        for name in due:
            say(f"{name}: to epoch {goal} of {plan.recipe.epochs}")
            train_turn(plan, name, goal)
        took = time.monotonic() - started if due else took
    return True


def train_turn(plan: Plan, name: str, goal: int) -> None:
    """Train one variant up to an epoch, in a child. Raises: EdgeSegError if it fails."""
    given = {field.name: getattr(plan.recipe, field.name) for field in fields(Recipe) if field.name in OPTIONS}
    options = [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    data = ["--data", *map(str, plan.data)]
    out = ["--attention", name, "--until", str(goal), "-o", str(plan.runs / f"{name}.keras")]
    recipe = "paper" if plan.recipe.schedule == "plateau" else "ours"
    status, _ = run_module("reference", "train", "--recipe", recipe, *options, *data, *out, heard=True)
    if status:
        raise EdgeSegError(f"training {name}", f"it ended with exit {status}", "see above; the same command goes on")


# What `train` takes on its command line; the rest is the named recipe's.
OPTIONS = (
    "width", "size", "colour", "epochs", "small_epochs", "small_size", "batch", "rate", "deep", "match", "cover",
    "split", "test_share", "seed", "precision", "weights",
)  # fmt: skip


def has_reached(plan: Plan, name: str, goal: int) -> bool:
    """Tell whether a variant has trained so many epochs, or was stopped early by its recipe."""
    rows = read_rows(plan.runs / f"{name}.run")
    if len(rows) >= goal:
        return True
    size = plan.recipe.small_size if len(rows) < plan.recipe.small_epochs else plan.recipe.size
    scores = [float(row["val_binary_io_u"]) for row in rows if int(row["size"]) == size]
    return plan.recipe.schedule == "plateau" and follow_plateau(scores, plan.recipe)[1]


def read_rows(run: Path) -> Sequence[dict[str, str]]:
    """Return the epochs in a run's log, none where there is no run.

    A state is written after its row: a run that was killed between the two trains that epoch again, and drops the row.
    """
    path = run / "log.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
