"""What does `edge-seg --list` print? Numbers and known words: nothing that a file's texts or names hold."""

from __future__ import annotations

import argparse
import json
from statistics import median
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import UsageError
from edge_runtime.system.terminal import print_message, print_output

from .options import PROGRAM

if TYPE_CHECKING:
    from edge_runtime.contract.fields import Acquisition
    from edge_runtime.hospital.find_series import Listing
    from edge_runtime.hospital.series.verdict import Judged

EXIT_NONE_TAKEN = 3
COLUMNS = ("#", "verdict", "reason", "plane", "size", "slices", "step mm", "sequence", "contrast", "flags", "why")


def list_series(args: argparse.Namespace) -> int:
    """Print all series of the inputs with verdict and reason; return 3 where none would be taken."""
    if not args.inputs:
        raise UsageError("--list", "nothing to list", "give folders, zips and files of series")
    from edge_runtime.contract.tail import read_contract
    from edge_runtime.hospital.find_series import find_series
    from edge_runtime.hospital.series.verdict import ASSUMED
    from edge_runtime.models import DEFAULT

    wanted = read_contract(args.model or DEFAULT).acquisition
    listing = find_series(args.inputs, wanted or ASSUMED, args.recursive)
    if wanted is None:
        warn_assumed_wish()
    if args.json:
        print_output(json.dumps(to_fields(listing, wanted), indent=1))
    elif not args.quiet:
        print_output("\n".join(to_lines(listing)))
    return 0 if listing.taken else EXIT_NONE_TAKEN


def warn_assumed_wish() -> None:
    """Print a line: what is wanted of a series is assumed."""
    print_message(PROGRAM, f"the model's contract does not say which images it was made for; {describe_assumed()}")


def describe_assumed() -> str:
    """Return what is wanted where a contract does not say."""
    from edge_runtime.hospital.series.verdict import ASSUMED

    return f"assumed: {ASSUMED.modality}, {ASSUMED.weighting} with contrast agent, {ASSUMED.min_slices} slices or more"


def to_row(item: Judged) -> dict[str, Any]:
    """Return a series' facts: numbers, and words of this program."""
    series, header, frame = item.series, item.series.first.header, item.series.first.frame
    thicknesses = [part.frame.thickness for part in series.slices if part.frame.thickness is not None]
    is_image = header.form != "other"
    return {
        "series": item.number,
        "kind": header.form,
        "modality": header.modality,
        "verdict": item.verdict.verdict,
        "reason": item.verdict.reason,
        "why": item.verdict.why,
        "plane": item.plane,
        "rows": header.rows if is_image else None,
        "columns": header.columns if is_image else None,
        "slices": len(series.slices) if is_image else 0,
        "missing": series.steps.missing,
        "duplicates": series.duplicates,
        "uneven": series.steps.uneven,
        "conflicts": series.conflicts,
        "damaged": series.damaged,
        "pixel_mm": [round(side, 4) for side in frame.spacing] if frame.spacing else None,
        "step_mm": round(series.steps.step_mm, 4) if series.steps.step_mm is not None else None,
        "thickness_mm": round(median(thicknesses), 4) if thicknesses else None,
        "sequence": item.sequence,
        "contrast": item.contrast,
        "flags": list(item.flags),
    }


def to_fields(listing: Listing, wanted: Acquisition | None) -> dict[str, Any]:
    """Return the listing for --json."""
    from dataclasses import asdict

    from edge_runtime.hospital.find_series import KINDS
    from edge_runtime.hospital.series.verdict import ASSUMED

    return {
        "wanted": {**asdict(wanted or ASSUMED), "assumed": wanted is None},
        "taken": listing.taken,
        "series": [to_row(item) for item in listing.series],
        "files": {
            **{kind: listing.counts[kind] for kind in KINDS},
            "named_but_absent": listing.absent,
            "not_named": listing.unnamed,
        },
    }


def to_lines(listing: Listing) -> list[str]:
    """Return the table and the closing lines."""
    from edge_runtime.hospital.find_series import KINDS

    cells = [COLUMNS, *(to_cells(to_row(item)) for item in listing.series)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(COLUMNS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines = lines if listing.series else []
    lines.append(f"{len(listing.series)} series, {listing.taken} would be taken")
    others = [f"{listing.counts[kind]} {words}" for kind, words in KINDS.items() if listing.counts[kind]]
    lines += [f"files left out: {', '.join(others)}"] if others else []
    if listing.absent or listing.unnamed:
        lines.append(f"DICOMDIR: {listing.absent} files it names are not there, {listing.unnamed} images it leaves out")
    return lines


def to_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of the table as text."""
    size = f"{row['rows']}x{row['columns']}" if row["rows"] is not None else ""
    words = {"missing": "missing", "duplicates": "duplicate", "uneven": "uneven", "conflicts": "conflict"}
    notes = [f"{row[name]} {word}" for name, word in {**words, "damaged": "damaged"}.items() if row[name]]
    told = {"gapped", "uneven", "duplicates", "damaged"}
    step = f"{row['step_mm']:g}" if row["step_mm"] is not None else ""
    return (
        str(row["series"]), row["verdict"], row["reason"], row["plane"], size, str(row["slices"]), step,
        row["sequence"], row["contrast"], ", ".join([*notes, *(flag for flag in row["flags"] if flag not in told)]),
        row["why"],
    )  # fmt: skip
