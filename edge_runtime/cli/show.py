"""What do `edge-seg --info`, `--selftest` and `--doctor` print?"""

from __future__ import annotations

import argparse
import json

from edge_runtime.errors import printable
from edge_runtime.system.needs import check_libraries, try_to_load
from edge_runtime.system.terminal import print_output


def show_selftest(args: argparse.Namespace) -> int:
    """Print the result of the model's golden vectors here. Raises: ModelError naming the stage that diverged."""
    try_to_load(args.model, args.engine, args.threads, always=True)
    check_libraries()
    from edge_runtime.checks.selftest import run_selftest, to_error, to_fields, to_text

    report = run_selftest(args.model, args.engine, args.threads)
    if not args.quiet:
        print_output(json.dumps(to_fields(report), indent=1) if args.json else to_text(report))
    error = to_error(report)
    if error is not None:
        raise error
    return 0


def show_doctor(args: argparse.Namespace) -> int:
    """Print a page on this machine for the run that the other options are of; return 1 where a line is a problem."""
    from edge_runtime.checks.doctor import RunNeeds, examine_machine, to_fields, to_text

    lines = examine_machine(RunNeeds(args.model, args.engine, args.workers, args.output))
    print_output(json.dumps(to_fields(lines), indent=1) if args.json else to_text(lines))
    return int(any(line.level == "problem" for line in lines))


def show_info(args: argparse.Namespace) -> int:
    """Print eight lines on the model, with --json its contract; after --retune the trials of the engines too."""
    from dataclasses import asdict

    from edge_runtime.checks.choose import measure_engines
    from edge_runtime.contract.json_text import to_json
    from edge_runtime.contract.tail import read_contract
    from edge_runtime.inference.engine_verdict import read_verdict, to_lines
    from edge_runtime.models import DEFAULT

    from .info import describe_contract

    path = args.model or DEFAULT
    contract = read_contract(path, verify=True)
    sha256 = contract.model.sha256
    verdict = measure_engines(path, sha256) if args.retune else read_verdict(sha256)
    if args.json:
        fields = json.loads(to_json(contract))
        print_output(json.dumps({**fields, "engine": asdict(verdict)} if verdict else fields, indent=1))
        return 0
    lines = describe_contract(path, contract, verdict)
    if args.retune and verdict:
        lines += to_lines(verdict)
    print_output("\n".join(printable(line) for line in lines))
    return 0
