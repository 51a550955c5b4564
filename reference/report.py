"""The evaluation's files: evaluation.json, .md and .html, and the picture of centroids."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.errors import OutputError, UsageError
from edge_runtime.files import write_file

from .blocks import to_html, to_markdown
from .findings import PICTURE, tell


def to_json(facts: Mapping[str, Any]) -> str:
    """Return the facts as JSON; NaN is no JSON: a score without slices to take it from is null."""
    return json.dumps(without_nan(facts), indent=1, allow_nan=False) + "\n"


def without_nan(value: Any) -> Any:
    """Return a value with None for NaN, all the way down."""
    if isinstance(value, Mapping):
        return {key: without_nan(its) for key, its in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(its) for its in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def prepare(folder: Path, force: bool) -> None:
    """Make the report's folder, before minutes of work, and see that what draws the picture is installed.

    Raises: UsageError if it holds a report and `force` is not given; OutputError if it cannot be made.
    """
    import matplotlib  # noqa: F401

    if (folder / "evaluation.json").exists() and not force:
        raise UsageError(str(folder), "it holds a report already", "add --force or name another --report")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error), "choose another --report") from None


def write_report(folder: Path, facts: Mapping[str, Any], picture: bytes | None) -> None:
    """Write the report's files into `folder`, evaluation.json last. Raises: OutputError if that fails."""
    facts = without_nan(facts)
    blocks = tell(facts)
    pictures = {PICTURE: picture} if picture is not None else {}
    for name, data in pictures.items():
        write_file(folder / name, data)
    write_file(folder / "evaluation.html", to_html(blocks, pictures).encode())
    write_file(folder / "evaluation.md", to_markdown(blocks).encode())
    write_file(folder / "evaluation.json", to_json(facts).encode())
