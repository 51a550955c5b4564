"""python -m reference: import, train, evaluate, draw, and the paper's table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.system.command import Parser, run_command_line, to_positive
from edge_runtime.system.command.common_options import add_common_options
from edge_runtime.system.terminal import StatusLine, print_error

from .evaluation import evaluate as evaluation
from .options import add_ablate, add_table, add_train, run_ablate, run_table, run_train

PROGRAM = "reference"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(prog="python -m reference", description=__doc__)
    add_common_options(parser, completion=False)
    commands = parser.add_subparsers(dest="command", required=True)

    add_train(commands.add_parser("train", help="train a Res-UNet on data folders"))
    add_table(
        commands.add_parser("table", help="train the four variants side by side, convert and score them: Table I")
    )
    add_ablate(commands.add_parser("ablate", help="train a small net with each choice of our recipe undone"))

    evaluate = commands.add_parser("evaluate", help="score a .keras or .tflite model on images and masks")
    evaluation.add_arguments(evaluate)

    add_import(commands.add_parser("import", help="make a data folder of a published set, and find its copies"))

    draw = commands.add_parser("draw", help="draw slices with tumours and their masks into a data folder")
    draw.add_argument("count", type=to_positive, metavar="N")
    draw.add_argument("dest", type=Path, metavar="DEST")
    draw.add_argument("--seed", type=int, default=0)
    draw.add_argument("--size", type=to_positive, default=256, help="64 to 1024")
    kinds = draw.add_mutually_exclusive_group()
    kinds.add_argument("--demo", action="store_true", help="instead, a dozen images of every format and odd sizes")
    kinds.add_argument(
        "--dicom",
        action="store_true",
        help="instead, an MR study as DICOM files, series of N slices each, with a tumour of known volume",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    args = make_parser().parse_args(argv)
    resumes = args.command in ("train", "table", "ablate")
    hint = f"the same command {'goes on from the last epoch' if resumes else 'starts again'}"
    return run_command_line(PROGRAM, lambda: run(args), hint)


def run(args: argparse.Namespace) -> int:
    """Run one command. Raises: EdgeSegError if a package is missing."""
    try:
        return COMMANDS[args.command](args)
    except ModuleNotFoundError as error:
        why = f"it needs {error.name}, which is not installed"
        extra = {"pydicom": "dicom", "nibabel": "nifti"}.get(error.name or "", "reference")
        raise EdgeSegError(args.command, why, f"pip install '.[{extra}]'") from None


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the options of `import`."""
    kinds = ("figshare", "kaggle-segmentation", "kaggle-classes", "dicom")
    parser.add_argument("set", choices=kinds, help="see docs/data.md; dicom: series of DICOM or NIfTI files")
    parser.add_argument(
        "source",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="the folder or zip as downloaded; of dicom several",
    )
    parser.add_argument(
        "dest", type=Path, metavar="DEST", help="the data folder to make; import.md in it is the report"
    )
    parser.add_argument(
        "--against",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="data folders used with this one: leave out copies of their slices, and other slices of the same patients",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="kaggle-segmentation: labels.csv of a Figshare import"
    )
    parser.add_argument("--skip-damaged", action="store_true", help="import the other files and list the damaged ones")
    parser.add_argument("--force", action="store_true", help="replace an earlier import in DEST")
    parser.add_argument("--tumour-free", action="store_true", help="dicom: with empty masks, as training data")
    parser.add_argument(
        "--series",
        action="append",
        metavar="N|all",
        help="dicom: these, by the number of edge-seg --list (default: those of heads, whatever their sequence)",
    )


def run_import(args: argparse.Namespace) -> int:
    """Make a data folder of a published set; Figshare's needs h5py. Or of series."""
    if args.set == "dicom":
        return run_import_dicom(args)
    if len(args.source) != 1 or args.series or args.tumour_free:
        raise UsageError(args.set, "several sources, --series and --tumour-free are of dicom alone", "leave them out")
    from reference.public_sets.import_set import ImportOptions, import_set
    from reference.public_sets.report import render_summary

    status = StatusLine(PROGRAM)
    options = ImportOptions(args.against, args.labels, args.skip_damaged, args.force)
    try:
        result = import_set(args.set, args.source[0], args.dest, options, lambda done: status.show(f"{done} slices"))
    finally:
        status.clear()
    for line in render_summary(result):
        print(line)
    print(args.dest)
    others = sorted(path.parent for path in args.dest.parent.glob("*/import.json") if path.parent != args.dest)
    if others and not args.against:
        folders = " ".join(map(str, others))
        print(f"reference: copies of slices in other imports were not searched; --against {folders}", file=sys.stderr)
    return 0


def run_import_dicom(args: argparse.Namespace) -> int:
    """Make a data folder of series; return 3 where a slice does not decode."""
    if args.against or args.labels or args.skip_damaged:
        raise UsageError("dicom", "--against, --labels and --skip-damaged are of published sets", "leave them out")
    from reference.data.dicom_slices import import_dicom

    status = StatusLine(PROGRAM)
    try:
        found = import_dicom(
            args.source,
            args.dest,
            args.tumour_free,
            args.series or (),
            args.force,
            lambda done: status.show(f"{done} slices"),
        )
    finally:
        status.clear()
    for series in found:
        done = f"{series.slices} slices, {series.alias}-*.png" if series.alias else f"left out, {series.why}"
        print(f"series {series.number}: {done}")
        for line in series.failed:
            print_error(PROGRAM, line)
    if not args.tumour_free:
        print(f"to train or score on them, add {args.dest / 'masks'}, one for each image, and classes in labels.csv")
    print(args.dest)
    return 3 if any(series.failed for series in found) else 0


def run_draw(args: argparse.Namespace) -> int:
    """Draw slices; needs only NumPy and OpenCV, --dicom pydicom too."""
    if not 64 <= args.size <= 1024:
        raise UsageError(f"--size {args.size}", "it is not from 64 to 1024", "give a side in pixels")
    if args.dicom:
        return run_draw_study(args)
    from reference.data.phantom import draw_demo, draw_folder

    drawn = draw_demo(args.dest, args.seed) if args.demo else draw_folder(args.count, args.dest, args.seed, args.size)
    print(f"{len(drawn)} slices in {args.dest}")
    return 0


def run_draw_study(args: argparse.Namespace) -> int:
    """Draw a study of DICOM files."""
    from reference.data.phantom_study import draw_study

    if args.count < 3:
        raise UsageError(f"{args.count} slices", "a series of fewer than 3 is no volume", "give 3 or more")
    study = draw_study(args.dest, args.count, args.size, args.seed)
    count = sum(len(files) for files in study.files.values())
    print(f"{count} DICOM files in {args.dest / 'cd'}; the tumour has {study.tumour.volume_ml:.2f} mL")
    return 0


COMMANDS = {
    "import": run_import,
    "train": run_train,
    "table": run_table,
    "ablate": run_ablate,
    "evaluate": evaluation.run,
    "draw": run_draw,
}

if __name__ == "__main__":
    sys.exit(main())
