"""The command `python -m convert.restamp FILE.tflite`: an older stamped file gets golden vectors, what to doubt,
and how good it was found to be since.

The flatbuffer stays as it is, and so does the rest of the contract. 0 done; 1 error; 2 usage.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_runtime.contract import Contract, Triage, read_contract, split_tail, stamp_contract
from edge_runtime.errors import EdgeSegError, OutputError
from edge_runtime.images import write_file

from .__main__ import Parser
from .golden import make_golden
from .settings import Settings, read_settings
from .triage import DEFAULTS, choose_triage

PROGRAM = "convert.restamp"


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser(PROGRAM, description="Give a stamped .tflite file golden vectors, and what the device is to doubt.")
    parser.add_argument("file", metavar="FILE.tflite", type=Path)
    parser.add_argument("-o", metavar="OUT.tflite", dest="out", type=Path, required=True)
    parser.add_argument(
        "--contract", metavar="FILE.toml", type=Path, help="its [triage] and its quality are taken, nothing else of it"
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there, FILE itself too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        options = build_parser().parse_args(arguments)
        if options.out.exists() and not options.force:
            raise OutputError(str(options.out), "it exists already", "say --force to overwrite it")
        settings = read_settings(options.contract) if options.contract else Settings()
        write_file(options.out, restamp(options.file, settings))
    except EdgeSegError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def restamp(file: Path, settings: Settings) -> bytes:
    """Return a stamped file with new golden vectors, and the triage and quality that the settings say, where they do.

    Raises: EdgeSegError if the file, its contract or a setting does not hold.
    """
    contract = read_contract(file, verify=True)
    quality = contract.quality if settings.quality is None else settings.quality
    contract = replace(contract, triage=renew_triage(contract, settings), quality=quality, golden=None)
    flatbuffer, _ = split_tail(file.read_bytes())
    with tempfile.TemporaryDirectory() as work:
        golden = make_golden(
            flatbuffer, contract, Path(work), lambda text: print(f"{PROGRAM}: {text}", file=sys.stderr)
        )
    return stamp_contract(flatbuffer, contract, golden)


def renew_triage(contract: Contract, settings: Settings) -> Triage | None:
    """Return what the settings say, else the contract's own, else the defaults; none of a model of volumes."""
    if contract.input.depth is not None:
        return None
    if settings.triage is not None:
        return choose_triage(settings.triage, settings.path, [])
    return contract.triage or DEFAULTS


if __name__ == "__main__":
    sys.exit(main())
