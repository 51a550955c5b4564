"""How is a model converted on the command line? By `python -m convert MODEL`, also edge-convert.

Data goes to stdout, messages to stderr. Exit codes: 0 done; 1 error; 2 usage; 4 the result did not pass the audit or
the timing; 5 the model could run code; 6 the policy was not met; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from convert.flatbuffer.upsampling import UPSAMPLES
from convert.quantize.full_integer import IO
from convert.quantize.recipes import RECIPES
from convert.search.options import AUTO, TARGETS
from edge_runtime.errors import UsageError
from edge_runtime.system.command import Parser, run_command_line
from edge_runtime.system.command.common_options import add_common_options
from edge_runtime.system.terminal import print_message, print_output

from .conversion import convert_model, make_contract_template

PROGRAM = "edge-convert"


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser(PROGRAM, description="A trained Keras model → one stamped, audited .tflite file.")
    parser.add_argument("model", metavar="MODEL", nargs="?", help=".keras, .h5 or a SavedModel folder")
    parser.add_argument("-o", metavar="OUT.tflite", dest="out", help="default: MODEL's stem.RECIPE.tflite beside it")
    recipes = "; ".join(f"{recipe.name}: {recipe.description}" for recipe in RECIPES.values())
    parser.add_argument("--recipe", default="drq", choices=[*RECIPES, AUTO], help=f"{recipes}; {AUTO}: the fastest "
                        "that passes the audit, the timing and the policy (default: drq)")  # fmt: skip
    parser.add_argument("--calibrate", metavar="DIR", help="100 to 500 representative images that set the ranges of "
                        "int8 activations; they may not be checked on")  # fmt: skip
    parser.add_argument("--int8-io", default="float32", choices=IO, help="type of input and output of an int8 file; "
                        "edge-seg runs either (default: float32)")  # fmt: skip
    parser.add_argument("--check", metavar="IMAGES", help="compare original and result on a folder of images, through "
                        "the device's own runtime, and draw the ten with the largest loss")  # fmt: skip
    parser.add_argument("--masks", metavar="DIR", help="the true masks of these images, NAME.png; without them the "
                        "original's masks are the truth")  # fmt: skip
    parser.add_argument("--max-iou-drop", type=float, metavar="X", help="refuse a result (exit 6) that loses more than "
                        "X of mean IoU on these images; layers that cause the loss are left float first")  # fmt: skip
    parser.add_argument("--sure", action="store_true", help="with --max-iou-drop: the loss's whole 95 %% interval must "
                        "be at most X, so that other images are unlikely to lose more")  # fmt: skip
    parser.add_argument("--input-size", nargs=2, type=int, metavar=("H", "W"), help="for a model whose size is open")
    parser.add_argument("--depth", type=int, metavar="D", help="with --input-size, for a model of volumes")
    parser.add_argument(
        "--contract", metavar="FILE.toml", help="contract fields; default: STEM.contract.toml, if there"
    )
    parser.add_argument("--contract-template", action="store_true", help="print such a file, filled in with what MODEL "
                        "says, and convert nothing; without MODEL, one for any model")  # fmt: skip
    parser.add_argument("--upsample", default="auto", choices=UPSAMPLES, help="transposed convolutions: auto "
                        "takes what is measured to be fastest within 3 %% of the size (default: auto)")  # fmt: skip
    parser.add_argument("--target", default="litert", choices=TARGETS, help="the runtime to load it (default: litert)")
    parser.add_argument("--keep-float", type=to_limit, default=None, metavar="auto|N", help="do not quantize "
                        "convolutions of fewer than N filters x taps; auto: those that are measured to be slower in "
                        "int8, as far as the size allows (default: auto)")  # fmt: skip
    parser.add_argument("--choices", metavar="REPORT.json", help="take the layout of an earlier conversion from its "
                        "report instead of measuring, for the same bytes on any machine")  # fmt: skip
    parser.add_argument("--retune", action="store_true", help="measure again what an earlier conversion here chose")
    parser.add_argument(
        "--trust-custom", metavar="MODULE", default="", help="import custom layers from MODULE, which runs its code"
    )
    parser.add_argument("--signature", metavar="NAME", help="of a SavedModel with several (default: serving_default)")
    parser.add_argument("--allow", metavar="FINDING", action="append", default=[], help="accept a finding of the audit")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument("--markdown", action="store_true", help="write the report as OUT.md too")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of the table")
    add_common_options(parser)
    return parser


def to_limit(text: str) -> int | None:
    """Return --keep-float's number, None for "auto"."""
    if text == "auto":
        return None
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number such as 0 or 150")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as usage:  # argparse has printed its message
        return int(usage.code or 0)
    return run_command_line(PROGRAM, lambda: run(options), "nothing was written")


def run(options: argparse.Namespace) -> int:
    """Convert a model, and print the table or the report."""
    size = tuple(options.input_size or ())
    if options.depth is not None:
        size = (options.depth, *size)
    if size and (min(size) < 1 or len(size) < 2):
        why = "sizes are positive, and --depth needs --input-size"
        raise UsageError(f"the size {' '.join(map(str, size))}", why)
    if options.contract_template:
        print_output(
            make_contract_template(options.model, size or None, options.trust_custom, options.signature).rstrip()
        )
        return 0
    if options.model is None:
        raise UsageError("MODEL", "nothing to convert", "give a .keras or .h5 file or a SavedModel folder")
    own = ("model", "input_size", "depth", "json", "contract_template")
    given = {name: value for name, value in vars(options).items() if name not in own}

    def say(text: str) -> None:
        print_message(PROGRAM, text)

    done = convert_model(options.model, input_size=size or None, say=say, **given)
    print_output(json.dumps(done.report, indent=1) if options.json else done.table)
    print_message(PROGRAM, f"wrote {done.path} and {done.report_path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
