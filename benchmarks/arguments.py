"""What the command understands: its arguments, each checked as it is read, and without the folders that name people."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

from edge_runtime.contract import near_miss
from edge_runtime.errors import UsageError
from edge_runtime.summary import printable

PROGRAM = "edge-bench"
MODES = ("standard", "single-stream", "paper")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(UsageError.exit_code, f"{self.prog}: error: {printable(message)}; see {self.prog} --help\n")


def make_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser(
        PROGRAM,
        description="Measure what a converted model costs and what it loses, against its baselines; report; compare.",
        epilog="Exit: 0 done; 1 error; 2 usage; 3 the run is invalid or inconclusive (it is written all the same); "
        "7 a gate failed; 130 interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | report | compare | throughput")
    add_run(commands.add_parser("run", help="measure models and write a result with its report"))
    add_report(commands.add_parser("report", help="write the report of a result again"))
    add_compare(commands.add_parser("compare", help="results side by side"))
    add_throughput(commands.add_parser("throughput", help="how much of the engine's speed a folder run keeps"))
    return parser


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    add = parser.add_argument
    add("models", nargs="+", type=place, metavar="MODEL", help="trained (.keras, .h5, SavedModel: converted first) or "
        ".tflite; the first is the one that the report is about")  # fmt: skip
    add("--images", type=place, required=True, metavar="DIR", help="what to measure on")
    add("--masks", type=place, metavar="DIR", help="the true masks, .png of the same names")
    add("-o", "--output", type=place, metavar="DIR", help="default: <first model's stem>-benchmark, here")
    add("--engines", type=names, default=("litert",), metavar="LIST", help="litert, tflite-runtime, openvino "
        "(default: litert)")  # fmt: skip
    add("--threads", type=counts, metavar="LIST", help="such as 1,2,4 (default: all cores)")
    add("--samples", type=positive, metavar="N", help="timed runs of each, at least 30 (default 60; 1024 in "
        "single-stream, 500 in paper)")  # fmt: skip
    add("--mode", choices=MODES, default="standard", help="single-stream: 1,024 queries and 60 s, p90, as in MLPerf; "
        "paper: the mean of 500 passes (default: standard)")  # fmt: skip
    add("--peers", action="store_true", help="measure other runtimes and converters too, as far as they are installed")
    add("--peer-python", type=interpreter, action="append", default=[], metavar="NAME=PATH", help="an interpreter that "
        "has the package NAME (litert, tflite-runtime, keras, openvino, onnxruntime, tensorflow, tf2onnx); for all of "
        "them: EDGE_SEG_PEERS_PYTHON")  # fmt: skip
    add("--calibrate", type=place, metavar="DIR", help="images for the INT8 peer; none of the test images")
    add("--sustain", type=number, metavar="MINUTES", help="then work without a pause for so long")
    add("--soak", type=positive, metavar="RUNS", help="then so many runs, watching the memory")
    add("--meter", type=place, metavar="CSV", help="a power meter's log, `time,watts`, that covers the run")
    add("--trust-custom", metavar="MODULE", default="", help="import the model's own layers from MODULE: runs it")
    add("--no-report", action="store_true", help="write result.json alone; `report` can make the rest elsewhere")
    add("--no-pictures", action="store_true", help="keep no pictures of the worst cases in the result")
    add_workload(parser)
    add("--force", action="store_true", help="write into a folder that holds something")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of `report`."""
    parser.add_argument("result", type=place, metavar="RESULT.json")
    parser.add_argument("-o", "--output", type=place, metavar="DIR", help="default: the result's folder")
    add_workload(parser)
    parser.add_argument("--force", action="store_true", help="overwrite a report that is there")
    parser.add_argument("--slices-per-study", type=number, metavar="N", help="default: as benchmarks.sizing assumes")
    add_claims(parser)


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    parser.add_argument("results", nargs="+", type=place, metavar="RESULT.json", help="two or more; the first is A")
    parser.add_argument("--gate", metavar="LIMITS", help="such as p90=5%%,iou=0.001: exit 7 on a regression "
                        "beyond them")  # fmt: skip
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    add_claims(parser)


def add_throughput(parser: argparse.ArgumentParser) -> None:
    """Add the options of `throughput`."""
    parser.add_argument("model", nargs="?", type=place, metavar="M.tflite", help="default: the embedded model")
    parser.add_argument("--images", type=place, required=True, metavar="DIR", help="what to run on")
    parser.add_argument(
        "--count", type=positive, default=1000, metavar="N", help="files of a folder run (default 1000)"
    )
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="default 3")
    parser.add_argument("--engine", default="litert", help="default litert")
    parser.add_argument("--no-gallery", action="store_true", help="runs that write masks and overlays alone")
    parser.add_argument("-o", "--output", type=place, metavar="RESULT.json", help="write the raw figures there")


def add_workload(parser: argparse.ArgumentParser) -> None:
    """Add what a buyer knows."""
    parser.add_argument("--price", type=number, metavar="P", help="of one device, for the cost per 1,000 slices")
    parser.add_argument("--studies-per-day", type=number, metavar="N", help="for the number of devices needed")


def add_claims(parser: argparse.ArgumentParser) -> None:
    """Add --claims."""
    parser.add_argument("--claims", type=place, metavar="claims.toml", help="check these claims against the result")


def place(text: str) -> Path:
    """Return a path; an empty one, an unset variable in a script, would mean the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def positive(text: str) -> int:
    """Return a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def number(text: str) -> float:
    """Return a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def counts(text: str) -> tuple[int, ...]:
    """Return whole numbers above 0 from a list with commas."""
    return tuple(dict.fromkeys(positive(part.strip()) for part in text.split(",")))


def names(text: str) -> tuple[str, ...]:
    """Return the engines of a list with commas."""
    from .candidates import ENGINES_HERE

    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in found:
        if name not in ENGINES_HERE:
            hint = near_miss(name, ENGINES_HERE) or f"there are {', '.join(ENGINES_HERE)}"
            raise argparse.ArgumentTypeError(f"unknown engine {name!r}, {hint}")
    return found


def interpreter(text: str) -> tuple[str, str]:
    """Return (name, path) of NAME=PATH."""
    from .peers import MODULES

    name, _, path = text.partition("=")
    if name not in MODULES or not os.access(path, os.X_OK):
        hint = near_miss(name, MODULES) if name not in MODULES else f"{path!r} is not a program"
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH of an interpreter ({hint or ', '.join(MODULES)})")
    return name, path


def without_folders(argument: str) -> str:
    """Return an argument without the folders above a path's own name: they may name people and sites."""
    name, equals, value = argument.partition("=")
    kept = [os.path.basename(part.rstrip(os.sep)) if os.sep in part else part for part in (name, value)]  # noqa: PTH119
    return equals.join(kept) if equals else kept[0]
