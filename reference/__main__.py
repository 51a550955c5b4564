"""python -m reference: import, train, evaluate and draw."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError, UsageError

from . import examine


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the commands."""
    parser = argparse.ArgumentParser(prog="python -m reference", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a Res-UNet on data folders, split by patient")
    train.add_argument("--attention", choices=("none", "ag", "se", "cbam"), default="ag")
    train.add_argument("--width", type=float, default=1.0, help="factor on all filters; below 1 is the slim net")
    train.add_argument("--data", type=Path, nargs="+", required=True, metavar="DIR", help="data folders to split")
    train.add_argument("--extra", type=Path, nargs="+", default=[], metavar="DIR", help="folders to train on only")
    train.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.keras")
    train.add_argument("--size", type=side, default=224, help="side of the input, a multiple of 32 (default 224)")
    train.add_argument("--colour", choices=("grey", "rgb"), default="rgb", help="1 or 3 input channels")
    train.add_argument("--epochs", type=positive, default=50)
    train.add_argument("--small-epochs", type=int, default=0, help="of these, the first N at --small-size")
    train.add_argument("--small-size", type=side, default=128)
    train.add_argument("--batch", type=positive, default=16)
    train.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    train.add_argument("--seed", type=int, default=1)
    train.add_argument("--test-share", type=share, default=0.0, help="of each class's patients, kept for a test")
    train.add_argument(
        "--weights", default="none", metavar="none|FILE", help="a .keras file to start from, layer by name"
    )
    train.add_argument("--precision", choices=("auto", "float32", "mixed_bfloat16"), default="auto")

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


def positive(text: str) -> int:
    """Return a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def side(text: str) -> int:
    """Return an image's side that five halvings leave whole."""
    value = positive(text)
    if value % 32:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of 32")
    return value


def share(text: str) -> float:
    """Return a share from 0 to 0.5."""
    value = float(text)
    if not 0 <= value <= 0.5:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 0.5")
    return value


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
        left = "goes on from the last epoch" if args.command == "train" else "starts again"
        print(f"reference: interrupted; the same command {left}", file=sys.stderr)
        return 130


def run_train(args: argparse.Namespace) -> int:
    """Train a net."""
    from .train import Recipe, train

    recipe = Recipe(
        attention=args.attention,
        width=args.width,
        size=args.size,
        colour=args.colour,
        epochs=args.epochs,
        small_epochs=args.small_epochs,
        small_size=args.small_size,
        batch=args.batch,
        rate=args.rate,
        seed=args.seed,
        precision=choose_precision(args.precision),
        weights=args.weights,
        test_share=args.test_share,
    )
    print(train(recipe, args.data, args.extra, args.output))
    return 0


def choose_precision(asked: str) -> str:
    """Return the Keras policy: bfloat16 where the CPU has matrix instructions for it, elsewhere it is slower."""
    if asked != "auto":
        return asked
    facts = Path("/proc/cpuinfo")
    return "mixed_bfloat16" if facts.is_file() and "amx_bf16" in facts.read_text() else "float32"


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


COMMANDS = {"train": run_train, "evaluate": run_evaluate, "import": run_import, "draw": run_draw}

if __name__ == "__main__":
    sys.exit(main())
