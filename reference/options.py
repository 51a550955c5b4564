"""The options of `train`, `table` and `ablate`, and their commands; a number that is not given is the recipe's."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from edge_runtime.system.command import to_positive, to_share
from edge_runtime.system.machine import find_features, read_cores

from .paper import PAPER
from .recipe import ATTENTIONS, ENCODERS, Recipe

RECIPES = {"ours": Recipe(), "paper": PAPER}
TEST_SHARE = 0.2  # of table and ablate


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    add = parser.add_argument
    add("--attention", choices=ATTENTIONS, help="default ag")
    add("--encoder", choices=ENCODERS, help="default resnet50v2, the paper's; lite0: EfficientNet-Lite0, the embedded "
        "model's")  # fmt: skip
    add("--width", type=float, help="factor on all filters (default 1); below 1 is the slim net")
    add("--extra", type=Path, nargs="+", default=[], metavar="DIR", help="folders to train on only")
    add("-o", "--output", type=Path, required=True, metavar="MODEL.keras")
    add("--until", type=to_positive, metavar="N", help="stop after epoch N; the same command without it resumes")
    add_recipe(parser)


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add the options of `table`."""
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, metavar="RUNS", help="folder of the four runs and the page")
    add("--start", dest="weights", metavar="MODEL.keras", help="the same as --weights: a net that all four start from")
    add("--variants", type=to_variants, default=ATTENTIONS, metavar="LIST", help="such as none,ag (default: all four)")
    add(
        "--turn",
        type=to_positive,
        default=1,
        metavar="N",
        help="epochs of each variant per round (default 1)",
    )
    add("--minutes", type=float, metavar="M", help="begin no round that would end later; the same command resumes")
    add("--no-train", action="store_true", help="train nothing: measure the nets as trained so far")
    add(
        "--threads", type=to_positive, metavar="N", help="threads of every engine that is measured (default: all cores)"
    )
    add("--timing", choices=("keep", "again", "none"), default="keep", help="latency and memory: keep earlier "
        "measurements (default), measure again, or leave them out; best on an idle machine")  # fmt: skip
    add("--beside", type=Path, metavar="TABLE.json", help="show the same nets by the other split next to these")
    add("--width", type=float, help=argparse.SUPPRESS)  # for tests: tiny nets
    add_recipe(parser)


def add_ablate(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ablate`."""
    add = parser.add_argument
    add("--attention", choices=ATTENTIONS, help="default ag")
    add("--width", type=float, default=0.125, help="factor on all filters (default 0.125)")
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="folder of the runs and of ablation.json")
    add("--seeds", type=to_positive, default=3, metavar="N", help="runs of each choice (default 3)")
    add("--only", metavar="TEXT", help="train ours and the choices with this in their name (default: all)")
    add_recipe(parser)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the options of a training recipe."""
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, metavar="DIR", help="data folders to split")
    add("--recipe", choices=RECIPES, default="ours", help="ours (default), or the paper's: reference/paper.py")
    add("--size", type=to_side, help="side of the input, a multiple of 32 (default 224)")
    add("--colour", choices=("grey", "rgb"), help="1 or 3 input channels (default rgb)")
    add("--epochs", type=to_positive, help="default 50")
    add("--small-epochs", type=int, metavar="N", help="of these, the first N at --small-size (default 0)")
    add("--small-size", type=to_side, help="default 128")
    add("--batch", type=to_positive, help="default 16")
    add("--rate", type=float, help="learning rate, where it is highest (default 1e-3)")
    add("--deep", type=to_weight, metavar="W", help="deep supervision: weight of the loss of the decoder's next stage, "
        "halved for each coarser one (default 0: off)")  # fmt: skip
    add("--match", type=to_share, metavar="P", help="show this share of the slices in another's contrast (default 0)")
    add("--cover", type=to_share, metavar="P", help="cover this share of the lesions by the mirrored other half, where "
        "possible, with an empty mask (default 0)")  # fmt: skip
    add("--seed", type=int, help="default 1")
    add("--split", choices=("patient", "slice"), help="what is held out; by slice, a patient's other slices are "
        "trained on (default patient; the paper: slice)")  # fmt: skip
    add("--test-share", type=to_half, help="of each class's patients, or of the slices, kept for a test (default 0; "
        f"paper, table, ablate: {TEST_SHARE})")  # fmt: skip
    add("--weights", metavar="none|imagenet|FILE", help="start from ImageNet's encoder (downloaded), or a .keras, "
        ".h5 or .pth file, layer by name (default none)")  # fmt: skip
    add("--precision", choices=("auto", "float32", "mixed_bfloat16"), help="default auto; the paper: float32")


def to_side(text: str) -> int:
    """Return an image's side, a multiple of 32."""
    value = to_positive(text)
    if value % 32:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of 32")
    return value


def to_half(text: str) -> float:
    """Return a share from 0 to 0.5."""
    return to_share(text, 0.5)


def to_weight(text: str) -> float:
    """Return a loss's weight from 0 to 10."""
    return to_share(text, 10)


def to_variants(text: str) -> tuple[str, ...]:
    """Return the variants of a comma-separated list, in the table's order."""
    names = text.split(",")
    for name in names:
        if name not in ATTENTIONS:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(ATTENTIONS)}")
    return tuple(name for name in ATTENTIONS if name in names)


def make_recipe(args: argparse.Namespace, test_share: float | None = None) -> Recipe:
    """Return the named recipe with the numbers given on the command line; test_share: the default of --test-share."""
    base = RECIPES[args.recipe]
    given: dict[str, Any] = {field.name: getattr(args, field.name, None) for field in fields(base)}
    if given["test_share"] is None:
        given["test_share"] = test_share
    if given["precision"] == "auto" or (given["precision"] is None and args.recipe == "ours"):
        given["precision"] = choose_precision()
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def choose_precision() -> str:
    """Return the Keras policy: bfloat16 where the CPU has matrix instructions for it; elsewhere it is slower."""
    return "mixed_bfloat16" if "amx_bf16" in find_features(read_cores()) else "float32"


def run_train(args: argparse.Namespace) -> int:
    """Train a net."""
    from reference.training.train import train

    print(train(make_recipe(args), args.data, args.extra, args.output, args.until))
    return 0


def run_table(args: argparse.Namespace) -> int:
    """Train the variants in rounds, then measure the trained ones and write the page."""
    from edge_runtime.inference.engines.registry import count_cores
    from reference.paper_table.rounds import Plan, train_rounds
    from reference.paper_table.table import make_table, read_beside, split_data
    from reference.training.log import print_status

    plan = Plan(make_recipe(args, TEST_SHARE), args.variants, tuple(args.data), args.output, args.turn)
    if args.beside:
        read_beside(args.beside)
    split_data(plan)  # refuses an unusable folder before anything is written
    if not args.no_train and not train_rounds(plan, args.minutes, print_status):
        print_status("not all epochs are trained: the same command resumes; --no-train measures the nets as they are")
        return 0

    from reference.paper_table.page import write_page

    table = make_table(plan, args.threads or count_cores(), args.timing, args.beside, print_status)
    for page in write_page(table, plan.runs):
        print(page)
    return 0


def run_ablate(args: argparse.Namespace) -> int:
    """Measure the effect of each choice of our recipe."""
    from reference.training.ablation import ablate, to_markdown
    from reference.training.log import print_status

    facts = ablate(make_recipe(args, TEST_SHARE), args.data, args.output, args.seeds, args.only, print_status)
    print(to_markdown(facts))
    return 0
