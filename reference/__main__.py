"""python -m reference: import, train, evaluate, draw, and the paper's table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError, UsageError

from . import examine
from .paper import PAPER
from .recipe import ATTENTIONS, Recipe

RECIPES = {"ours": Recipe(), "paper": PAPER}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the commands."""
    parser = argparse.ArgumentParser(prog="python -m reference", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a Res-UNet on data folders")
    train.add_argument("--attention", choices=ATTENTIONS, help="default ag")
    train.add_argument("--width", type=float, help="factor on all filters; below 1 is the slim net")
    train.add_argument("--extra", type=Path, nargs="+", default=[], metavar="DIR", help="folders to train on only")
    train.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.keras")
    train.add_argument(
        "--until", type=positive, metavar="N", help="stop after epoch N; the same command without it goes on"
    )
    add_recipe(train)

    table = commands.add_parser("table", help="train the four variants side by side, convert and score them: Table I")
    add_table(table)
    add_recipe(table)

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


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add what decides a training run; what is not given is the recipe's."""
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, metavar="DIR", help="data folders to split")
    add("--recipe", choices=RECIPES, default="ours", help="ours (default), or the paper's: reference/paper.py")
    add("--size", type=side, help="side of the input, a multiple of 32 (default 224)")
    add("--colour", choices=("grey", "rgb"), help="1 or 3 input channels (default rgb)")
    add("--epochs", type=positive, help="default 50")
    add("--small-epochs", type=int, metavar="N", help="of these, the first N at --small-size (default 0)")
    add("--small-size", type=side, help="default 128")
    add("--batch", type=positive, help="default 16")
    add("--rate", type=float, help="learning rate, where it is highest (default 1e-3)")
    add("--seed", type=int, help="default 1")
    add("--split", choices=("patient", "slice"), help="what is held out; by slice, a patient's other slices are "
        "trained on (default patient; the paper: slice)")  # fmt: skip
    add("--test-share", type=share, help="of each class's patients, or of the slices, kept for a test (default 0; the "
        "paper, table: 0.2)")  # fmt: skip
    add("--weights", metavar="none|imagenet|FILE", help="start from ImageNet's encoder (downloaded), or a .keras or "
        ".h5 file, layer by name (default none)")  # fmt: skip
    add("--precision", choices=("auto", "float32", "mixed_bfloat16"), help="default auto; the paper: float32")


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add what `table` has beside a recipe."""
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, metavar="RUNS", help="folder of the four runs and the page")
    add("--start", dest="weights", metavar="MODEL.keras", help="the same as --weights: a net that all four start from")
    add("--variants", type=variants, default=ATTENTIONS, metavar="LIST", help="such as none,ag (default: all four)")
    add("--turn", type=positive, default=1, metavar="N", help="epochs of one variant before the next one's (default 1)")
    add("--minutes", type=float, metavar="M", help="begin no round that would end later; the same command goes on")
    add("--width", type=float, help=argparse.SUPPRESS)  # for tests: tiny nets


def variants(text: str) -> tuple[str, ...]:
    """Return the variants of a list with commas, in the table's order."""
    given = text.split(",")
    for name in given:
        if name not in ATTENTIONS:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(ATTENTIONS)}")
    return tuple(name for name in ATTENTIONS if name in given)


def make_recipe(args: argparse.Namespace, **more: Any) -> Recipe:
    """Return the recipe that was named, with what was given on the command line."""
    base = RECIPES[args.recipe]
    given = {field.name: getattr(args, field.name, None) for field in fields(base)} | more
    if given["precision"] == "auto" or (given["precision"] is None and args.recipe == "ours"):
        given["precision"] = choose_precision()
    return replace(base, **{name: value for name, value in given.items() if value is not None})


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
    from .train import train

    print(train(make_recipe(args), args.data, args.extra, args.output, args.until))
    return 0


def run_table(args: argparse.Namespace) -> int:
    """Train the variants in rounds."""
    from .rounds import Plan, train_rounds

    recipe = make_recipe(args)
    recipe = recipe if args.test_share is not None else replace(recipe, test_share=0.2)
    plan = Plan(recipe, args.variants, tuple(args.data), args.output, args.turn)
    train_rounds(plan, args.minutes, lambda text: print(text, file=sys.stderr, flush=True))
    return 0


def choose_precision() -> str:
    """Return the Keras policy: bfloat16 where the CPU has matrix instructions for it, elsewhere it is slower."""
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


COMMANDS = {"import": run_import, "train": run_train, "table": run_table, "evaluate": run_evaluate, "draw": run_draw}

if __name__ == "__main__":
    sys.exit(main())
