"""What does a run write for each image, and under which names?"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from edge_runtime.errors import OutputError
from edge_runtime.images.limits import MAX_PIXELS, MAX_SECONDS
from edge_runtime.system.files import NAME_ERRORS, ObstacleError, remove_inside

from .inputs import Input

OverlayKind = Literal["jpeg", "png", "none"]


@dataclass(frozen=True)
class Options:
    """What a run writes for each image, how many images at a time, and what one image may cost."""

    probability: bool = False
    overlay: OverlayKind = "jpeg"
    gallery: bool = True
    workers: int = 1
    force: bool = False
    max_pixels: int = MAX_PIXELS
    max_seconds: float = MAX_SECONDS
    max_memory: int | None = None  # bytes


def name_sprite(name: str) -> str:
    """Return the path of an image's gallery picture in OUT, `name` being its mask's."""
    return f"gallery/{name_jpeg(name)}"


def name_overlay(name: str, kind: OverlayKind) -> str:
    """Return the path of an image's overlay in OUT, `name` being its mask's."""
    return f"overlays/{name_jpeg(name) if kind == 'jpeg' else name}"


def name_jpeg(name: str) -> str:
    """Return the name of a JPEG file that belongs to a mask."""
    return f"{name.removesuffix('.png')}.jpg"  # no longer than the mask's: names may have 255 bytes


def list_outputs(name: str) -> tuple[str, ...]:
    """Return the paths in OUT of all that may be written for an image, `name` being its mask's."""
    overlays = name_overlay(name, "jpeg"), name_overlay(name, "png")
    return f"masks/{name}", f"probability/{name}", *overlays, name_sprite(name)


def find_overlay(out: Path, name: str) -> str:
    """Return the path in OUT of the overlay that stands there, `name` being its mask's; "" where there is none."""
    paths = name_overlay(name, "jpeg"), name_overlay(name, "png")
    return next((path for path in paths if os.path.isfile(out / path)), "")  # noqa: PTH113 - unlike Path's, it never raises


def find_obstacle(out: Path, name: str) -> str | None:
    """Return what stands in OUT where a folder, or a file, of an image's outputs is needed; None if nothing does."""
    for path in list_outputs(name):
        if os.path.isdir(out / path):  # noqa: PTH112 - unlike Path's, it never raises
            return path
        for parent in PurePosixPath(path).parents:
            if os.path.lexists(out / parent) and not os.path.isdir(out / parent):  # noqa: PTH112
                return str(parent)
    return None


def discard_outputs(out: Path, item: Input, keep: Collection[str]) -> None:
    """Remove an earlier run's outputs of an image that this run did not write again: they may be wrong now."""
    for name in list_outputs(item.name):
        path = out / name
        try:
            if name not in keep and os.path.lexists(path):
                remove_inside(path, out)
        except (IsADirectoryError, ObstacleError):
            pass  # it is no output, but stands in the way of one
        except OSError as error:
            if error.errno not in NAME_ERRORS:  # under such a name there is nothing
                raise OutputError(str(path), error.strerror or str(error), "remove it") from None
