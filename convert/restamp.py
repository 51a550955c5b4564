"""How does an older stamped file get golden vectors, limits of flags and a newer quality? `python -m convert.restamp`.

The flatbuffer and the rest of the contract stay as they are. Exit codes: 0 done; 1 error; 2 usage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from convert.stamp.contract_file import Settings, read_settings
from convert.stamp.flag_limits import DEFAULTS, choose_flag_limits
from convert.stamp.golden_vectors import make_golden
from edge_runtime.contract.fields import Contract, FlagLimits
from edge_runtime.contract.tail import read_contract, split_tail, stamp_contract
from edge_runtime.errors import OutputError
from edge_runtime.system.command import Parser, run_command_line
from edge_runtime.system.command.common_options import add_common_options
from edge_runtime.system.files import write_file
from edge_runtime.system.terminal import print_message

PROGRAM = "convert.restamp"


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser(
        PROGRAM, description="Add golden vectors and limits of the device's flags to a stamped .tflite file."
    )
    parser.add_argument("file", metavar="FILE.tflite", type=Path)
    parser.add_argument("-o", metavar="OUT.tflite", dest="out", type=Path, required=True)
    parser.add_argument("--contract", metavar="FILE.toml", type=Path, help="only its [triage] and its quality are used")
    parser.add_argument("--force", action="store_true", help="overwrite what is there, FILE itself too")
    add_common_options(parser, completion=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as usage:  # argparse has printed its message
        return int(usage.code or 0)
    return run_command_line(PROGRAM, lambda: run(options), "nothing was written")


def run(options: argparse.Namespace) -> int:
    """Write the file anew. Raises: OutputError if there is one already."""
    if options.out.exists() and not options.force:
        raise OutputError(str(options.out), "it exists already", "say --force to overwrite it")
    settings = read_settings(options.contract) if options.contract else Settings()
    write_file(options.out, restamp(options.file, settings))
    return 0


def restamp(file: Path, settings: Settings) -> bytes:
    """Return a stamped file with new golden vectors, and the flags' limits and the quality of the settings, if given.

    Raises: EdgeSegError if the file, its contract or a setting is not valid.
    """
    contract = read_contract(file, verify=True)
    quality = contract.quality if settings.quality is None else settings.quality
    contract = replace(contract, triage=renew_flag_limits(contract, settings), quality=quality, golden=None)
    flatbuffer, _ = split_tail(file.read_bytes())
    with tempfile.TemporaryDirectory() as work:
        golden = make_golden(flatbuffer, contract, Path(work), partial(print_message, PROGRAM))
    return stamp_contract(flatbuffer, contract, golden)


def renew_flag_limits(contract: Contract, settings: Settings) -> FlagLimits | None:
    """Return the limits of the settings, else the contract's, else the defaults; None for a model of volumes."""
    if contract.input.depth is not None:
        return None
    if settings.triage is not None:
        return choose_flag_limits(settings.triage, settings.path, [])
    return contract.triage or DEFAULTS


if __name__ == "__main__":
    sys.exit(main())
