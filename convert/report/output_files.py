"""Where are the results of a conversion written, and what must not be overwritten?"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from convert.search.options import ConversionOptions
from edge_runtime.errors import OutputError, UsageError
from edge_runtime.system.files import write_files

from .markdown import to_markdown
from .words import Report
from .worst_images import check_folder, replace_folder


@dataclass(frozen=True)
class OutputFiles:
    """The paths of a conversion's results."""

    model: Path  # the .tflite file
    report: Path
    markdown: Path | None  # None: not asked for
    pictures: Path  # a folder, written where images were checked


def plan_outputs(options: ConversionOptions) -> OutputFiles:
    """Return where the results go.

    Raises:
        UsageError: the output's name does not end in .tflite.
        OutputError: a file exists already and --force is not given, or nothing can be written there.
    """
    model = options.out or options.model.with_name(f"{options.model.stem}.{options.recipe}.tflite")
    if model.suffix != ".tflite":
        raise UsageError(str(model), "the output's name does not end in .tflite", "rename it")
    markdown = model.with_suffix(".md") if options.markdown else None
    outputs = OutputFiles(model, model.with_suffix(".json"), markdown, model.with_suffix(".worst"))
    if not model.parent.is_dir():
        raise OutputError(str(model), "its folder does not exist", f"mkdir -p {model.parent}")
    if not os.access(model.parent, os.W_OK):
        raise OutputError(str(model), "its folder is not writable", "choose another with -o")
    for path in filter(None, (outputs.model, outputs.report, outputs.markdown)):
        if path.is_dir():
            raise OutputError(str(path), "it is a folder", "choose another name with -o")
        if path.exists() and not options.force:
            raise OutputError(str(path), "it exists already", "say --force to overwrite it")
    if options.check is not None or options.force:
        check_folder(outputs.pictures, options.force)
    return outputs


def write_outputs(
    outputs: OutputFiles, model: bytes, report: Report, pictures: Mapping[str, bytes], force: bool
) -> None:
    """Write all results, or none. Raises: OutputError."""
    files = {outputs.report: (json.dumps(report, indent=1, allow_nan=False) + "\n").encode(), outputs.model: model}
    if outputs.markdown is not None:
        files[outputs.markdown] = to_markdown(report).encode()
    with replace_folder(outputs.pictures, pictures) if pictures or force else nullcontext():
        write_files(files)
