"""Which options does the command have? Each value is checked as it is read."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from edge_runtime.errors import near_miss
from edge_runtime.system.command import Parser, to_number, to_path, to_positive
from edge_runtime.system.command.common_options import add_common_options

PROGRAM = "edge-bench"
MODES = ("standard", "single-stream", "paper")


def make_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser(
        PROGRAM,
        description="Measure what a converted model costs and what it loses, against its baselines; report; compare.",
        epilog="Exit: 0 done; 1 error; 2 usage; 3 the run is invalid or inconclusive (its files are written); "
        "7 a gate failed; 130 interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | report | compare | throughput")
    add_run(commands.add_parser("run", help="measure models and write a result with its report"))
    add_report(commands.add_parser("report", help="write the report of a result again"))
    add_compare(commands.add_parser("compare", help="results side by side"))
    add_throughput(commands.add_parser("throughput", help="how much of the engine's speed a folder run keeps"))
    add_common_options(parser)
    return parser


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    add = parser.add_argument
    add("models", nargs="+", type=to_path, metavar="MODEL", help="trained (.keras, .h5, SavedModel: converted first) "
        "or .tflite; the first is the report's subject")  # fmt: skip
    add("--images", type=to_path, required=True, metavar="DIR", help="images to measure on")
    add("--masks", type=to_path, metavar="DIR", help="the true masks, .png of the same names")
    add(
        "-o",
        "--output",
        type=to_path,
        metavar="DIR",
        help="default: <first model's stem>-benchmark in the working directory",
    )
    add("--engines", type=to_engines, default=("litert",), metavar="LIST", help="litert, tflite-runtime, openvino "
        "(default: litert)")  # fmt: skip
    add("--threads", type=to_counts, metavar="LIST", help="such as 1,2,4 (default: all cores)")
    add("--samples", type=to_positive, metavar="N", help="timed runs of each, at least 30 (default 60; 1024 in "
        "single-stream, 500 in paper)")  # fmt: skip
    add("--mode", choices=MODES, default="standard", help="single-stream: 1,024 queries and 60 s, p90, as in MLPerf; "
        "paper: the mean of 500 passes (default: standard)")  # fmt: skip
    add("--peers", action="store_true", help="also measure other runtimes and converters that are installed")
    add("--peer-python", type=to_interpreter, action="append", default=[], dest="pythons", metavar="NAME=PATH",
        help="an interpreter that has the package NAME (litert, tflite-runtime, keras, openvino, onnxruntime, "
        "tensorflow, tf2onnx); for all of them: EDGE_SEG_PEERS_PYTHON")  # fmt: skip
    add(
        "--calibrate", type=to_path, metavar="DIR", help="images to calibrate the INT8 peer, other than the test images"
    )
    add("--sustain", type=to_number, dest="sustain_minutes", metavar="MINUTES", help="then measure without a pause")
    add("--soak", type=to_positive, dest="soak_runs", metavar="RUNS", help="then measure memory over so many runs")
    add("--meter", type=to_path, metavar="CSV", help="a power meter's log, `time,watts`, that covers the run")
    add("--trust-custom", dest="trust", metavar="MODULE", default="", help="import the model's own layers from MODULE, "
        "which runs it")  # fmt: skip
    add("--no-report", action="store_true", help="write result.json alone; `report` can write the rest elsewhere")
    add(
        "--no-pictures",
        dest="pictures",
        action="store_false",
        help="store no pictures of the worst cases in the result",
    )
    add_workload(parser)
    add_claims(parser)
    add("--force", action="store_true", help="write into a folder that is not empty")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of `report`."""
    parser.add_argument("result", type=to_path, metavar="RESULT.json")
    parser.add_argument("-o", "--output", type=to_path, metavar="DIR", help="default: the result's folder")
    add_workload(parser)
    parser.add_argument("--force", action="store_true", help="overwrite an existing report")
    parser.add_argument("--slices-per-study", type=to_number, metavar="N", help="default: 200")
    add_claims(parser)


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    parser.add_argument("results", nargs="+", type=to_path, metavar="RESULT.json", help="two or more; the first is A")
    parser.add_argument("--gate", metavar="LIMITS", help="such as p90=5%%,lesion_iou=0.001: exit 7 on a larger "
                        "regression")  # fmt: skip
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    add_claims(parser)


def add_throughput(parser: argparse.ArgumentParser) -> None:
    """Add the options of `throughput`."""
    parser.add_argument("model", nargs="?", type=to_path, metavar="M.tflite", help="default: the embedded model")
    parser.add_argument("--images", type=to_path, required=True, metavar="DIR", help="images to run on")
    parser.add_argument("--count", type=to_positive, default=1000, metavar="N", help="files in a run (default 1000)")
    parser.add_argument("--rounds", type=to_positive, default=3, metavar="N", help="default 3")
    parser.add_argument("--engine", default="litert", help="default litert")
    parser.add_argument("--no-gallery", action="store_true", help="folder runs write masks and overlays alone")
    parser.add_argument("-o", "--output", type=to_path, metavar="RESULT.json", help="write the raw figures there")
    parser.add_argument("--force", action="store_true", help="overwrite an existing RESULT.json")


def add_workload(parser: argparse.ArgumentParser) -> None:
    """Add --price, --currency and --studies-per-day."""
    parser.add_argument("--price", type=to_number, metavar="P", help="of one device, for the cost per 1,000 slices")
    parser.add_argument("--currency", type=to_currency, metavar="C", help="of the price, such as EUR (default: none, "
                        "and the report says that it was not given)")  # fmt: skip
    parser.add_argument("--studies-per-day", type=to_number, metavar="N", help="for the number of devices needed")


def add_claims(parser: argparse.ArgumentParser) -> None:
    """Add --claims."""
    parser.add_argument("--claims", type=to_claims, metavar="FILE", help="judge the claims of this file, or of the "
                        "paper: --claims paper (default: none)")  # fmt: skip


def to_counts(text: str) -> tuple[int, ...]:
    """Return the whole numbers above 0 of a comma-separated list."""
    return tuple(dict.fromkeys(to_positive(part.strip()) for part in text.split(",")))


def to_engines(text: str) -> tuple[str, ...]:
    """Return the engines of a comma-separated list."""
    from benchmarks.subjects.candidates import MEASURED_ENGINES

    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in found:
        if name not in MEASURED_ENGINES:
            hint = near_miss(name, MEASURED_ENGINES) or f"there are {', '.join(MEASURED_ENGINES)}"
            raise argparse.ArgumentTypeError(f"unknown engine {name!r}, {hint}")
    return found


def to_currency(text: str) -> str:
    """Return a currency's code or sign: a few characters, no digit and no space, that stand beside a number."""
    if not re.fullmatch(r"[^\s\d.,+-]{1,8}", text) or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not a currency; write a code or a sign, such as EUR or CHF")
    return text


def to_claims(text: str) -> Path:
    """Return the path of a claims file; "paper" is the one of the paper's claims that comes with edge-seg."""
    from benchmarks.verdicts.claims_file import PAPER

    return PAPER if text == "paper" else to_path(text)


def to_interpreter(text: str) -> tuple[str, str]:
    """Return (name, path) of NAME=PATH."""
    from benchmarks.subjects.peers import MODULES

    name, _, path = text.partition("=")
    if name not in MODULES or not os.access(path, os.X_OK):
        hint = near_miss(name, MODULES) if name not in MODULES else f"{path!r} is not a program"
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH of an interpreter ({hint or ', '.join(MODULES)})")
    return name, path


def strip_folders(argument: str) -> str:
    """Return an argument with paths reduced to their last name: folders may name people and sites."""
    name, equals, value = argument.partition("=")
    kept = [os.path.basename(part.rstrip(os.sep)) if os.sep in part else part for part in (name, value)]  # noqa: PTH119
    return equals.join(kept) if equals else kept[0]
