"""How does `edge-seg CD/ -o OUT` segment the series of folders, zips and files, and write what was found in each?"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.folder.inputs import Found, Input
from edge_runtime.folder.records.journal import JOURNAL, SALT, read_journal
from edge_runtime.folder.records.results_csv import RESULTS, read_rows
from edge_runtime.folder.records.run_json import count_flags, describe_run
from edge_runtime.folder.run import check_images_model, make_output, run_folder, write_summary
from edge_runtime.hospital.find_series import find_series
from edge_runtime.hospital.outputs.write_series import Orders, write_series
from edge_runtime.hospital.plan.choose_series import check_one_sequence, choose_series
from edge_runtime.hospital.plan.plan_series import PlannedSeries, plan_series
from edge_runtime.hospital.plan.plane import ACQUIRED
from edge_runtime.hospital.plan.salt import keep_salt, read_salt
from edge_runtime.hospital.plan.survey import survey
from edge_runtime.hospital.results.series_csv import COLUMNS, LINK_COLUMNS, describe_found, describe_taken, to_csv
from edge_runtime.hospital.series.verdict import ASSUMED
from edge_runtime.system.files import write_file, write_private
from edge_runtime.system.terminal import ProgressBar, print_error, print_message, print_output
from edge_runtime.system.versions import find_own_version

from .options import PROGRAM
from .segment import EXIT_SOME_FAILED, choose_engine, make_options, make_pool, warn_assumed
from .series_list import warn_assumed_wish

if TYPE_CHECKING:
    from subprocess import Popen

    from edge_runtime.contract.fields import Contract
    from edge_runtime.hospital.find_series import Listing

DEFAULT_OUT = Path("series-seg")  # the first input's name may be a patient's
SERIES, LINKS = "series.csv", "links.csv"
PRIVATE = ("output", "salt", "inputs", "links")  # arguments that may hold a name, or say where names are
NEEDS = {"seg": ("highdicom", "dicom"), "sc": ("highdicom", "dicom"), "nifti": ("nibabel", "nifti")}  # extras
SERIES_HEAD = f"{'series':<14} {'verdict':<8} {'reason':<12} {'slices':>6} {'lesions':>7} {'mL':>8}  flags"


def segment_series(args: argparse.Namespace, found: Found, first: Popen[bytes] | None) -> int:
    """Segment the series that the model was made for, and images beside them; return 3 where one failed or none is.

    first: as of `segment_images`.
    """
    from edge_runtime.contract.tail import read_contract
    from edge_runtime.models import DEFAULT

    started = time.monotonic()
    out = args.output or DEFAULT_OUT
    contract = read_contract(args.model or DEFAULT)
    check_images_model(contract)
    check_one_sequence(contract)
    salt = read_salt(args.salt, out / SALT)
    listing = find_series(args.inputs, contract.acquisition or ASSUMED, args.recursive, salt)
    chosen = choose_series(listing, args.series or ())
    planned = plan_series(chosen, args.plane)
    check_planes(planned, args.plane)
    check_packages(planned, args.write or ())
    if contract.acquisition is None and not args.quiet:
        warn_assumed_wish()
    planned = survey(planned, args.max_pixels)
    images = () if args.series else find_images(found)
    if not planned and not images:
        return report_none(args, listing)
    inputs = (*images, *(Input(item.path, item.file, item.source) for series in planned for item in series.slices))
    verdict = choose_engine(args, len(inputs))
    if args.write is not None and "png" not in args.write:
        args.overlay, args.no_gallery = "none", True
    options = make_options(args, verdict.workers)
    bar = ProgressBar(PROGRAM, len(inputs), args.quiet)
    rows: list[dict[str, str]] = []
    with closing(make_pool(args, verdict, options, first)) as pool:
        warn_assumed(pool.contract)
        make_output(out, args.force)
        keep_salt(salt, out / SALT)
        orders = Orders(args.write or (), args.links, pool.facts["threshold"], find_own_version())

        def finish() -> None:
            rows.extend(write_results(listing, planned, out, pool.contract, orders))

        try:
            counts = run_folder(inputs, out, pool, options, bar.update, finish)
        finally:
            bar.clear()
    facts = describe_run(
        hide_paths(args, planned, images), pool.contract, pool.facts, counts, time.monotonic() - started
    )
    facts["flags"] = count_flags(read_rows(out / RESULTS))
    facts["unreadable"] = [f"{len(found.unreadable)} folders"] if found.unreadable else []
    facts["series"] = {"found": len(listing.series), "taken": len(planned)}
    if (out / "dicom").is_dir():
        facts["identities"] = "the files in dicom/ carry the patients' identities, as a PACS needs them"
    write_summary(out, facts, read_rows(out / RESULTS), options)
    if args.json and not args.quiet:
        print_output(json.dumps(facts, indent=1))
    elif not args.quiet:
        print_output("\n".join([*to_lines(rows), *close_lines(facts, out, options.gallery)]))
    return report_failures(rows, out, bool(found.unreadable))


def check_planes(planned: Sequence[PlannedSeries], plane: str) -> None:
    """Refuse --plane for a DICOM series that lies in another one. Raises: UsageError."""
    for series in planned:
        if plane != ACQUIRED and series.form != "nifti" and series.plane.split(" ")[0] != plane:
            why = f"series {series.judged.number} is {series.plane or 'without positions'}, and only NIfTI is cut anew"
            raise UsageError(f"--plane {plane}", why, "leave it out, or choose others with --series")


def check_packages(planned: Sequence[PlannedSeries], kinds: Sequence[str]) -> None:
    """Refuse what a missing package would write, before anything is done. Raises: EdgeSegError."""
    orders = Orders(tuple(kinds), False, 0.0, "")
    for kind in {kind for series in planned for kind in orders.list_kinds(series.form)}:
        package, extra = NEEDS[kind]
        if find_spec(package) is None:
            raise EdgeSegError(f"--write {kind}", f"{package} is not installed", f"pip install '.[{extra}]'")


def find_images(found: Found) -> tuple[Input, ...]:
    """Return the image files beside the series; a named file that holds series is none."""
    from edge_runtime.images.formats import SUFFIXES

    return tuple(item for item in found.inputs if item.path.suffix.lower() in SUFFIXES)


def write_results(
    listing: Listing, planned: Sequence[PlannedSeries], out: Path, contract: Contract, orders: Orders
) -> Iterable[dict[str, str]]:
    """Write each series' files, series.csv and perhaps links.csv; return the rows of series.csv."""
    made = {file: entry.row for file, entry in read_journal(out / JOURNAL).items()}
    current = {row["file"] for row in read_rows(out / RESULTS) if row["status"] == "ok"}
    made = {file: row for file, row in made.items() if file in current}
    taken, links = {}, []
    for series, answer in write_series(planned, made, out, contract, orders):
        taken[series.judged.number] = describe_taken(series, answer, made, contract)
        links += [dict(zip(LINK_COLUMNS, (series.alias, *link), strict=True)) for link in answer.links]
    rows = [taken.get(judged.number) or describe_found(judged) for judged in listing.series]
    write_file(out / SERIES, to_csv(COLUMNS, rows), root=out)
    if orders.links:
        write_private(out / LINKS, to_csv(LINK_COLUMNS, links))
    return rows


def hide_paths(
    args: argparse.Namespace, planned: Sequence[PlannedSeries], images: Sequence[Input]
) -> argparse.Namespace:
    """Return the arguments as run.json shows them: aliases for what holds series, and no other path."""
    shown = {name: value for name, value in vars(args).items() if name not in PRIVATE}
    names = [series.alias for series in planned] + [f"{len(images)} images"] * bool(images)
    return argparse.Namespace(**{**shown, "inputs": names, "links": args.links, "model": args.model})


def report_none(args: argparse.Namespace, listing: Listing) -> int:
    """Say why no series is taken; nothing is written."""
    rows = [describe_found(judged) for judged in listing.series]
    if not args.quiet and not args.json:
        print_output("\n".join(to_lines(rows)))
    for judged in listing.series if args.json or args.quiet else ():
        print_message(PROGRAM, f"series {judged.number}: {judged.verdict.reason}: {judged.verdict.why}")
    raise_none = EdgeSegError(
        "the inputs", "no series that the model was made for", "see edge-seg --list, or --series N"
    )
    print_error(PROGRAM, raise_none)
    return EXIT_SOME_FAILED


def to_lines(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return a table of all series."""
    lines = [SERIES_HEAD]
    for row in rows:
        found = f"{row['lesion_slices']:>7} {row['volume_ml']:>8}"
        flags = ", ".join(filter(None, row["flags"].split(";")))
        cells = f"{row['series']:<14} {row['verdict']:<8} {row['reason']:<12} {row['slices']:>6} {found}  {flags}"
        lines.append(cells.rstrip())
    return lines


def close_lines(facts: Mapping[str, Any], out: Path, gallery: bool) -> list[str]:
    """Return what was done, and where it is."""
    counts = facts["counts"]
    kept = f", {counts['kept']} of them kept from an earlier run" if counts["kept"] else ""
    speed = f"{facts['images_per_second']:g} images a second"
    files = [SERIES, RESULTS, *(["index.html"] if gallery else []), *(["dicom/"] if (out / "dicom").is_dir() else [])]
    return [
        f"{counts['ok']} segmented{kept}, {counts['failed']} failed; {speed}",
        f"in the output folder: {', '.join(files)}",
    ]


def report_failures(rows: Sequence[Mapping[str, str]], out: Path, unreadable: bool) -> int:
    """Print an error for each image, slice and series that failed; return the exit status."""
    failed = [row["error"] for row in read_rows(out / RESULTS) if row["status"] == "failed"]
    failed += [f"{row['series']}: {row['error']}" for row in rows if row["error"]]
    failed += ["some folders cannot be listed: left out; check their permissions"] * unreadable
    for line in failed:
        print_error(PROGRAM, line)
    return EXIT_SOME_FAILED if failed else 0
