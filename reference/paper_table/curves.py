"""Draws PNG files: grids of pictures, and curves over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {
    "none": "#5c6670",
    "ag": "#0072b2",
    "se": "#d55e00",
    "cbam": "#009e73",
}  # Okabe and Ito: safe for colour blindness
NAMES = {"none": "Res-UNet", "ag": "+ AG", "se": "+ SE", "cbam": "+ CBAM"}


def start_figure(rows: int, columns: int) -> tuple[Any, Any]:
    """Return a figure for a grid of square pictures, and its axes, (rows, columns)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(2.1 * columns, 2.3 * rows), squeeze=False, constrained_layout=True)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG and free it."""
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def draw_curves(table: Mapping[str, Any], path: Path) -> None:
    """Draw training loss and validation score of every trained variant over its epochs."""
    figure, axes = start_figure(1, 2)
    figure.set_size_inches(9.6, 3.7)
    start = (table["start"] or {}).get("curve") or []
    for number, part in enumerate(split_by_size(start)):  # left of the variants' first epoch: all start from it
        epochs = [row["epoch"] - len(start) for row in part]
        style = {"color": "#1a1d21", "linestyle": "--", "linewidth": 1.2}
        axes[0, 0].plot(epochs, [row["loss"] for row in part], label="start" if number == 0 else None, **style)
        axes[0, 1].plot(epochs, [row["val_mean_iou"] for row in part], **style)
    for name, facts in table["variants"].items():
        for number, part in enumerate(split_by_size(facts.get("curve", []))):
            epochs = [row["epoch"] for row in part]
            style = {"color": COLOURS[name], "marker": "o", "markersize": 3, "linewidth": 1.4}
            label = NAMES[name] if number == 0 else None
            axes[0, 0].plot(epochs, [row["loss"] for row in part], label=label, **style)
            axes[0, 1].plot(epochs, [row["val_mean_iou"] for row in part], label=label, **style)
    axes[0, 0].set(title="Training loss", xlabel="epoch")
    axes[0, 1].set(title="Mean IoU, validation", xlabel="epoch")
    for axis in axes[0]:
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.25)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    if any(facts.get("curve") for facts in table["variants"].values()):
        axes[0, 0].legend(frameon=False)
    save_figure(figure, path)


def split_by_size(curve: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the epochs in parts of one image size: scores at two sizes are not comparable."""
    parts: list[list[Mapping[str, Any]]] = []
    for row in curve:
        if not parts or parts[-1][-1]["size"] != row["size"]:
            parts.append([])
        parts[-1].append(row)
    return parts
