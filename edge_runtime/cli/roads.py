"""Are an `edge-seg INPUT...` command's inputs images or series?"""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import UsageError
from edge_runtime.folder.pools.start import start_early

if TYPE_CHECKING:
    from subprocess import Popen

    from edge_runtime.folder.inputs import Found


def segment(args: argparse.Namespace) -> int:
    """Segment images and series into OUT, and print what was found; return the exit status."""
    if not args.inputs:
        raise UsageError("no input", "nothing to segment", "give image files or folders, see edge-seg --help")
    with start_early(args.isolation) as process:  # before all imports that can wait
        return segment_with(args, process)


def segment_with(args: argparse.Namespace, process: Popen[bytes] | None) -> int:
    """Segment by a process that was started already, and others like it."""
    from edge_runtime.folder.inputs import list_inputs

    first = os.path.basename(os.path.abspath(args.inputs[0]))  # noqa: PTH100, PTH119 - "." and ".." have no name
    out = args.output or Path(f"{first or 'root'}-seg")
    found = list_inputs(args.inputs, args.recursive, out)
    if not holds_series(args, found):
        from .segment import segment_images

        return segment_images(args, found, out, process)
    from .series_run import segment_series

    return segment_series(args, found, process)


def holds_series(args: argparse.Namespace, found: Found) -> bool:
    """Tell whether series are to be segmented: they are asked for, named, or in a folder and can be read.

    Where a folder holds images too and an extra is missing, the images alone are segmented, and a line names the rest.
    """
    from edge_runtime.folder.others import DICOM, NIFTI, ZIP

    if any((args.series, args.write, args.links, args.salt, args.plane != "acquired")):
        return True
    if any(found.named[kind] for kind in (DICOM, NIFTI, ZIP)):
        return True
    if not found.inputs:
        return any(found.others[kind] for kind in (DICOM, NIFTI, ZIP))
    kinds = {DICOM: "pydicom", NIFTI: "nibabel"}
    there = [package for kind, package in kinds.items() if found.others[kind]]
    return bool(there) and all(find_spec(package) for package in there)
