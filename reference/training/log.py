"""What a training run records and prints: log.csv, curve.png, and its progress on the terminal."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.system.terminal import StatusLine
from reference.evaluation.slice_scores import rename_scores


def read_log(run: Path, epochs: int | None = None) -> list[dict[str, str]]:
    """Return the epochs in a run's log.csv, by default all; none without a log.

    The state is written after the log: a run that was killed between the two repeats its last epoch.
    """
    path = run / "log.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [rename_scores(row) for row in csv.DictReader(file) if epochs is None or int(row["epoch"]) <= epochs]


def write_log(run: Path, row: dict[str, float]) -> None:
    """Append an epoch to log.csv, without the rows that a resumed run repeats, and redraw curve.png."""
    rows: list[dict[str, Any]] = [*read_log(run, int(row["epoch"]) - 1), row]
    with (run / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row), extrasaction="ignore")  # an older log may have other columns
        writer.writeheader()
        writer.writerows(rows)
    draw_curve(rows, run / "curve.png")


def draw_curve(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw loss and validation scores over the epochs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    epochs = [int(row["epoch"]) for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    axes[0].plot(epochs, [float(row["loss"]) for row in rows])
    axes[0].set(title="Training loss", xlabel="epoch")
    for key, label in (("val_mean_iou", "BinaryIoU"), ("val_lesion_iou", "tumour IoU"), ("val_dice", "mean Dice")):
        axes[1].plot(epochs, [float(row[key]) for row in rows], label=label)
    axes[1].set(title="Validation", xlabel="epoch", ylim=(0, 1))
    axes[1].legend(loc="lower right")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def print_status(text: str) -> None:
    """Print a line on stderr, in place of the progress line."""
    StatusLine("reference").clear()
    print(text, file=sys.stderr, flush=True)


def show_progress(epoch: int, step: int, count: int, started: float) -> None:
    """Show an epoch's progress on a terminal; `started` is a time of time.monotonic()."""
    left = (time.monotonic() - started) / step * (count - step)
    StatusLine("reference").show(f"epoch {epoch + 1} {step}/{count} {left:4.0f} s left ")
