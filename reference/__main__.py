"""python -m reference: import, train, evaluate, draw, and the paper's table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError, UsageError

from . import examine
from .arguments import add_ablate, add_table, add_train, positive, run_ablate, run_table, run_train


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the commands."""
    parser = argparse.ArgumentParser(prog="python -m reference", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    add_train(commands.add_parser("train", help="train a Res-UNet on data folders"))
    add_table(
        commands.add_parser("table", help="train the four variants side by side, convert and score them: Table I")
    )
    add_ablate(commands.add_parser("ablate", help="train a small net with each choice of our recipe undone"))

    evaluate = commands.add_parser("evaluate", help="score a .keras or .tflite model on images and masks")
    examine.add_arguments(evaluate)

    add_import(commands)

    draw = commands.add_parser("draw", help="draw slices with tumours and their masks into a data folder")
    draw.add_argument("count", type=positive, metavar="N")
    draw.add_argument("dest", type=Path, metavar="DEST")
    draw.add_argument("--seed", type=int, default=0)
    draw.add_argument("--size", type=positive, default=256, help="64 to 1024")
    draw.add_argument("--demo", action="store_true", help="instead, a dozen images of every format and odd sizes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    args = make_parser().parse_args(argv)
    try:
        return COMMANDS[args.command](args)
    except EdgeSegError as error:
        print(f"reference: error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        fix = "pip install 'edge-seg[reference]'"
        print(
            f"reference: error: {args.command}: it needs {error.name}, which is not installed; {fix}", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        left = "goes on from the last epoch" if args.command in ("train", "table", "ablate") else "starts again"
        print(f"reference: interrupted; the same command {left}", file=sys.stderr)
        return 130


def run_evaluate(args: argparse.Namespace) -> int:
    """Score a model."""
    return examine.run(args)


def add_import(commands: Any) -> None:
    """Add the import command."""
    adopt = commands.add_parser("import", help="make a data folder of a published set, and find its copies")
    adopt.add_argument("set", choices=("figshare", "kaggle-segmentation", "kaggle-classes"), help="see docs/data.md")
    adopt.add_argument("source", type=Path, metavar="SOURCE", help="the folder or zip as it was downloaded")
    adopt.add_argument("dest", type=Path, metavar="DEST", help="the data folder to make; import.md in it says all")
    adopt.add_argument(
        "--against",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="data folders used beside this one: leave out copies of what is in them, and the rest of those patients",
    )
    adopt.add_argument(
        "--labels", type=Path, metavar="CSV", help="kaggle-segmentation: labels.csv of a Figshare import"
    )
    adopt.add_argument("--skip-damaged", action="store_true", help="import the others and list what is damaged")
    adopt.add_argument("--force", action="store_true", help="replace an earlier import in DEST")


def run_import(args: argparse.Namespace) -> int:
    """Make a data folder of a published set; needs h5py for Figshare's."""
    from .import_report import tell_import
    from .importer import Choices, import_set

    def progress(done: int) -> None:
        if sys.stderr is not None and sys.stderr.isatty():
            print(f"\r\x1b[K{done} slices", end="", file=sys.stderr, flush=True)

    choices = Choices(args.against, args.labels, args.skip_damaged, args.force)
    try:
        found = import_set(args.set, args.source, args.dest, choices, progress)
    finally:
        if sys.stderr is not None and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    for line in tell_import(found):
        print(line)
    print(args.dest)
    beside = sorted(path.parent for path in args.dest.parent.glob("*/import.json") if path.parent != args.dest)
    if beside and not args.against:
        known = " ".join(map(str, beside))
        print(f"reference: copies of slices in other imports were not looked for; --against {known}", file=sys.stderr)
    return 0


def run_draw(args: argparse.Namespace) -> int:
    """Draw slices; needs NumPy and OpenCV alone."""
    from .phantom import draw_demo, draw_folder

    if not 64 <= args.size <= 1024:
        raise UsageError(f"--size {args.size}", "it is not from 64 to 1024", "give a side in pixels")
    drawn = draw_demo(args.dest, args.seed) if args.demo else draw_folder(args.count, args.dest, args.seed, args.size)
    print(f"{len(drawn)} slices in {args.dest}")
    return 0


COMMANDS = {
    "import": run_import,
    "train": run_train,
    "table": run_table,
    "ablate": run_ablate,
    "evaluate": run_evaluate,
    "draw": run_draw,
}

if __name__ == "__main__":
    sys.exit(main())
