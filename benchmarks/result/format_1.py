"""Results of edge-seg-benchmark/1, which named some fields otherwise, read with the names of today."""

from __future__ import annotations

import re
from typing import Any

from .lookup import Result

FORMAT_1 = "edge-seg-benchmark/1"
METRICS = {"iou": "lesion_iou", "binary_iou": "mean_iou"}
NAMES = {**METRICS, "hit": "tp", "false": "fp", "missed": "fn", "rest": "tn"}
OLD_METRICS = {new: old for old, new in METRICS.items()}
METRIC = re.compile(rf"\b({'|'.join(OLD_METRICS)})\b")


def rename_fields(result: Any) -> Any:
    """Return a result with the names of today; its `format` stays, so that it says what its file holds."""
    if not isinstance(result, dict) or result.get("format") != FORMAT_1:
        return result
    renamed = dict(result)
    if isinstance(result.get("accuracy"), dict):  # its keys are subjects'
        renamed["accuracy"] = {key: rename(entry) for key, entry in result["accuracy"].items()}
    if "worst" in result:
        renamed["worst"] = rename(result["worst"])
    return renamed


def rename(value: Any) -> Any:
    """Return plain data with its fields renamed at every depth."""
    if isinstance(value, dict):
        return {NAMES.get(name, name): rename(item) for name, item in value.items()}
    return [rename(item) for item in value] if isinstance(value, list) else value


def to_file_path(result: Result, path: str) -> str:
    """Return a path, or a formula with paths in it, as it leads through the file that the result was read from."""
    old = result.get("format") == FORMAT_1
    return METRIC.sub(lambda name: OLD_METRICS[name[0]], path) if old else path
