"""How does `edge-seg --watch INBOX` run the service?"""

from __future__ import annotations

import argparse
import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.folder.records.run_json import describe_run
from edge_runtime.system.terminal import print_error, print_message

from .options import PROGRAM
from .segment import choose_engine, make_options, make_pool, warn_assumed

if TYPE_CHECKING:
    from edge_runtime.folder.pools.pool import Pool
    from edge_runtime.folder.records.run_json import Counts


def watch(args: argparse.Namespace) -> int:
    """Serve a folder until stopped."""
    if args.inputs:
        raise UsageError(str(args.inputs[0]), "--watch takes one folder and no other inputs", "leave it out")
    if not os.path.isdir(args.watch):  # noqa: PTH112 - unlike Path's, it never raises
        raise EdgeSegError(str(args.watch), "no such folder", "make it first")
    from edge_runtime.contract.tail import read_contract
    from edge_runtime.folder.watch.service import Service, Watched
    from edge_runtime.models import DEFAULT

    inbox = args.watch.absolute()
    out = args.output or Path(f"{inbox.name or 'root'}-seg")
    if f"{os.path.realpath(inbox)}{os.sep}".startswith(f"{os.path.realpath(out)}{os.sep}"):
        raise UsageError(f"--watch {args.watch}", f"it lies in the output folder {out}", "choose another -o")
    verdict = choose_engine(args, 0)  # without images nothing is measured, so the service starts at once
    options = make_options(args, verdict.workers)

    def describe(pool: Pool, counts: Counts, spent: float) -> dict[str, Any]:
        return describe_run(args, pool.contract, pool.facts, counts, spent)

    service = Service(
        Watched(inbox, out, args.recursive, args.settle),
        options,
        lambda beat: make_pool(args, verdict, options, beat=beat),
        describe,
        partial(print_error, PROGRAM),
        partial(print_message, PROGRAM),
    )
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, service.stop)
    warn_assumed(read_contract(args.model or DEFAULT))
    if not args.quiet:
        print_message(PROGRAM, f"watching {inbox}; results in {out}")
    service.run()
    if not args.quiet:
        print_message(PROGRAM, f"stopped; {service.ok} segmented, {service.failed} failed in all")
    return 0
