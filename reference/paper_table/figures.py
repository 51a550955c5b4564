"""Draws the paper's figures 9 and A2 with drawn slices only: no patient's image leaves the data folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.images.overlay import draw_contour, draw_overlay, to_picture
from edge_runtime.inference.session import Session
from evidence.scores import count_confusion
from reference.data.phantom import Phantom, draw_phantom

from .curves import NAMES, save_figure, start_figure

KINDS = ("glioma", "meningioma", "pituitary")
SEED = 1  # gives a slice above the ventricles, one through them, one through the orbits
COLOUR = (255, 64, 64)


def draw_figures(runs: Path, variants: Sequence[str], threads: int) -> dict[str, Any]:
    """Draw RUNS/figure-9.png and figure-a2.png of the variants' DRQ files; return their facts, with every Dice.

    Figure 9: each class's slice, its true mask, and each variant's overlay. Figure A2: original, mask, overlay and
    contour of each class by AG, or by the first variant.
    """
    if not variants:
        return {}
    slices = {kind: draw_phantom(np.random.default_rng([SEED, i]), kind, 256) for i, kind in enumerate(KINDS)}
    found = {name: segment_all(runs / f"{name}.drq.tflite", slices, threads) for name in variants}
    dice = {
        name: {kind: count_confusion(mask, slices[kind].mask).dice for kind, mask in masks.items()}
        for name, masks in found.items()
    }
    detail = "ag" if "ag" in found else variants[0]
    draw_by_variant(slices, found, dice, runs / "figure-9.png")
    draw_detail(slices, found[detail], detail, runs / "figure-a2.png")
    return {"engine": "litert-drq", "seed": SEED, "size": 256, "detail": detail, "dice": dice}


def segment_all(model: Path, slices: dict[str, Phantom], threads: int) -> dict[str, Any]:
    """Return a model's mask, (H, W) bool, of each slice."""
    session = Session.load(model, threads=threads)
    return {kind: session.segment(phantom.image).mask for kind, phantom in slices.items()}


def draw_by_variant(slices: dict[str, Phantom], found: dict[str, Any], dice: dict[str, Any], path: Path) -> None:
    """Draw one row per class: the slice, its true mask, and each variant's overlay with its Dice."""
    figure, axes = start_figure(len(slices), 2 + len(found))
    for line, (kind, phantom) in zip(axes, slices.items(), strict=True):
        picture = to_picture(phantom.image)
        show(line[0], picture, "drawn slice", kind)
        show(line[1], to_picture(to_pixels(phantom.mask)), "true mask")
        for axis, (name, masks) in zip(line[2:], found.items(), strict=True):
            overlay = draw_overlay(picture, masks[kind], [COLOUR])
            show(axis, overlay, f"{NAMES[name]}, DRQ: Dice {dice[name][kind]:.2f}")
    save_figure(figure, path)


def draw_detail(slices: dict[str, Phantom], masks: dict[str, Any], name: str, path: Path) -> None:
    """Draw one row per class: original, predicted mask, overlay, contour."""
    figure, axes = start_figure(len(slices), 4)
    for line, (kind, phantom) in zip(axes, slices.items(), strict=True):
        picture = to_picture(phantom.image)
        show(line[0], picture, "original", kind)
        show(line[1], to_picture(to_pixels(masks[kind])), f"mask ({NAMES[name]}, DRQ)")
        show(line[2], draw_overlay(picture, masks[kind], [COLOUR]), "overlay")
        show(line[3], draw_contour(picture, masks[kind], [COLOUR]), "contour")
    save_figure(figure, path)


def to_pixels(mask: Any) -> Any:
    """Return a mask as (H, W) uint8, 0 and 255."""
    return mask.astype(np.uint8) * 255


def show(axis: Any, picture: Any, title: str, label: str = "") -> None:
    """Show one picture without axes."""
    axis.imshow(picture)
    axis.set_title(title, fontsize=9)
    axis.set_ylabel(label, fontsize=10)
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_visible(False)
