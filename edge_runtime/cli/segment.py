"""How does `edge-seg INPUT...` choose an engine, run a folder run and print its result?"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.folder.records.run_json import ASSUMED_INPUT, count_flags, describe_run
from edge_runtime.system.terminal import ProgressBar, print_error, print_message, print_output

from .options import PROGRAM
from .table import to_table

if TYPE_CHECKING:
    from subprocess import Popen

    from edge_runtime.contract.fields import Contract
    from edge_runtime.folder.inputs import Found
    from edge_runtime.folder.outputs import Options
    from edge_runtime.folder.pools.processes import ProcessPool
    from edge_runtime.folder.pools.threads import ThreadPool
    from edge_runtime.inference.engine_verdict import EngineVerdict

EXIT_SOME_FAILED = 3


def segment_images(args: argparse.Namespace, found: Found, out: Path, first: Popen[bytes] | None) -> int:
    """Segment the images that were found into OUT, and print the table or run.json.

    first: a child process from `start_process`.
    """
    from edge_runtime.folder.gallery.originals import add_originals
    from edge_runtime.folder.inputs import require_images
    from edge_runtime.folder.records.results_csv import RESULTS, read_rows
    from edge_runtime.folder.run import run_folder, write_summary

    started = time.monotonic()
    inputs = require_images(found, args.inputs, args.recursive).inputs
    for note in () if args.quiet else found.notes:
        print_message(PROGRAM, note)
    verdict = choose_engine(args, len(inputs))
    options = make_options(args, verdict.workers)
    bar = ProgressBar(PROGRAM, len(inputs), args.quiet)
    with closing(make_pool(args, verdict, options, first)) as pool:
        warn_assumed(pool.contract)
        try:
            counts = run_folder(inputs, out, pool, options, bar.update)
        finally:
            bar.clear()
    facts = describe_run(args, pool.contract, pool.facts, counts, time.monotonic() - started)
    facts["flags"] = count_flags(read_rows(out / RESULTS))
    facts["unreadable"] = [error.what for error in found.unreadable]
    write_summary(out, facts, add_originals(read_rows(out / RESULTS), inputs, out), options)
    if args.json and not args.quiet:
        print_output(json.dumps(facts, indent=1))
    elif not args.quiet:
        print_output(to_table(read_rows(out / RESULTS), facts, out, options.gallery))
    for row in read_rows(out / RESULTS) if counts.failed else ():
        if row["status"] == "failed":
            print_error(PROGRAM, row["error"])
    for error in found.unreadable:
        print_error(PROGRAM, error)
    return EXIT_SOME_FAILED if counts.failed or found.unreadable else 0


def warn_assumed(contract: Contract) -> None:
    """Print a line where the model's input was assumed, also with --quiet: the masks may be wrong."""
    if contract.input.scale_from == "assumed":
        print_message(PROGRAM, f"model {contract.model.id}: {ASSUMED_INPUT}")


def make_options(args: argparse.Namespace, workers: int) -> Options:
    """Return what a run writes and what an image may cost."""
    from edge_runtime.folder.outputs import Options

    return Options(
        probability=args.probability,
        overlay=args.overlay,
        gallery=not args.no_gallery,
        workers=workers,
        force=args.force,
        max_pixels=args.max_pixels,
        max_seconds=args.max_seconds,
        max_memory=args.max_memory and args.max_memory * 1_000_000,
    )


def choose_engine(args: argparse.Namespace, count: int) -> EngineVerdict:
    """Return the engine, threads and workers to segment `count` images with."""
    from edge_runtime.checks.choose import choose
    from edge_runtime.contract.tail import read_contract
    from edge_runtime.models import DEFAULT
    from edge_runtime.system.cache import find_cache_fault

    fault = find_cache_fault()
    if fault and not args.quiet:
        print_message(PROGRAM, fault)
    path = args.model or DEFAULT
    sha256 = read_contract(path).model.sha256
    return choose(path, sha256, count, args.engine, args.threads, args.workers, args.retune)


def make_pool(
    args: argparse.Namespace,
    verdict: EngineVerdict,
    options: Options,
    first: Popen[bytes] | None = None,
    beat: Callable[[], None] = lambda: None,
) -> ThreadPool | ProcessPool:
    """Return a pool on the verdict's engine or, where that fails, on the next best one.

    first: the first child process, if one was started already. beat: called at least once a second while child
    processes segment.
    """
    from edge_runtime.inference.engine_verdict import load_best

    pool, verdict = load_best(verdict, lambda engine, threads: start_pool(args, engine, threads, options, first, beat))
    pool.facts = {**pool.facts, "reason": verdict.why, "workers": verdict.workers}
    return pool


def start_pool(
    args: argparse.Namespace,
    engine: str,
    threads: int,
    options: Options,
    first: Popen[bytes] | None,
    beat: Callable[[], None],
) -> ThreadPool | ProcessPool:
    """Return a pool of child processes, with --no-isolation one of threads."""
    if args.isolation:
        from edge_runtime.folder.pools.child_process import SessionOptions
        from edge_runtime.folder.pools.processes import ProcessPool

        return ProcessPool(SessionOptions(args.model, engine, threads, args.threshold), options, beat, first)
    from edge_runtime.system.needs import check_libraries, try_to_load

    try_to_load(args.model, engine, threads)
    check_libraries()
    from edge_runtime.folder.pools.threads import ThreadPool
    from edge_runtime.inference.session import Session

    return ThreadPool(lambda: Session.load(args.model, engine, threads, args.threshold), options)
