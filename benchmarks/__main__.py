"""What does `python -m benchmarks` (also edge-bench) do? Data on stdout, messages on stderr.

Exit codes: 0 done; 1 error; 2 usage; 3 the run is invalid or inconclusive (its files are written); 7 a gate failed;
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.system.command import run_command_line
from edge_runtime.system.terminal import StatusLine, print_message, print_output

from .options import PROGRAM, make_parser, strip_folders

REPORTS = ("report.html", "report.pdf", "report.md", "summary.csv")
EXIT_INCONCLUSIVE, EXIT_GATE = 3, 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = make_parser().parse_args(given)

    def run() -> int:
        if args.command == "run":
            return run_benchmark(args, given)
        if args.command == "throughput":
            return print_throughput(args)
        return rewrite_report(args) if args.command == "report" else print_comparison(args)

    return run_command_line(PROGRAM, run, "nothing was written")


def run_benchmark(args: argparse.Namespace, given: Sequence[str]) -> int:
    """Measure, write the result and its report, print the summary."""
    from benchmarks.measure.plan import make_plan
    from benchmarks.result.file import write_result
    from benchmarks.result.folder import check_output_folder
    from benchmarks.result.summary import render_summary

    from .run import run

    # What would stop the run after minutes or hours is looked for first: a folder, claims, packages.
    out = args.output or Path(f"{args.models[0].stem or 'model'}-benchmark")
    check_output_folder(out, ("result.json", *REPORTS), args.force)
    check_claims_file(args.claims)
    write_report = None if args.no_report else load_report()
    line = StatusLine(PROGRAM)
    try:
        plan = make_plan(vars(args), tuple(map(strip_folders, given)))
        result = run(plan, line.print_line, line.show)
    finally:
        line.clear()
    result = write_result(out / "result.json", result)
    print_output(render_summary(result))
    print_message(PROGRAM, f"wrote {out / 'result.json'}")  # at once: a report that fails leaves it
    for path in write_report(result, out, claims=args.claims) if write_report else []:
        print_message(PROGRAM, f"wrote {path}")
    if args.claims:
        print_claims(result, args.claims)
    return print_validity(result)


def check_claims_file(path: Path | None) -> None:
    """Read a claims file that is needed later. Raises: EdgeSegError."""
    from benchmarks.verdicts.claims_file import read_claims

    if path:
        read_claims(path)


def load_report() -> Callable[..., list[Path]]:
    """Return benchmarks.report's write_reports. Raises: EdgeSegError if a package of it is missing or broken."""
    from benchmarks.report.write import require_packages, write_reports

    require_packages()
    return write_reports


def rewrite_report(args: argparse.Namespace) -> int:
    """Write the report of a result again, with another price or number of studies if given."""
    from benchmarks.result.file import read_result

    result, out = read_result(args.result), args.output or args.result.parent
    existing = [out / name for name in REPORTS if (out / name).exists()]
    if existing and not args.force:
        raise EdgeSegError(str(existing[0]), "it exists already", "choose another folder with -o, or --force")
    names = ("price", "studies_per_day", "slices_per_study", "currency", "claims")
    for path in load_report()(result, out, **{name: getattr(args, name) for name in names}):
        print_message(PROGRAM, f"wrote {path}")
    if args.claims:
        print_claims(result, args.claims)
    return 0


def print_comparison(args: argparse.Namespace) -> int:
    """Print results side by side and the gates that failed or are undecided."""
    from benchmarks.result.file import read_result
    from benchmarks.verdicts.compare import compare_results
    from benchmarks.verdicts.comparison_table import render_comparison
    from benchmarks.verdicts.gate import list_failed, list_undecided

    results = [read_result(path) for path in args.results]
    comparison = compare_results(results)
    print_output(render_comparison(comparison, "markdown" if args.markdown else "text"))
    if args.claims:
        for path, result in zip(args.results, results, strict=True):
            print_output(f"\n{path}")
            print_claims(result, args.claims)
    if not args.gate:
        return 0
    failed, undecided = list_failed(comparison, args.gate), list_undecided(comparison, args.gate)
    for line in failed:
        print_message(PROGRAM, f"gate failed: {line}")
    for line in undecided:
        print_message(PROGRAM, f"gate undecided: {line}")
    return EXIT_GATE if failed else EXIT_INCONCLUSIVE if undecided else 0


def print_throughput(args: argparse.Namespace) -> int:
    """Measure and print how much of the engine's speed a folder run keeps."""
    from benchmarks.measure.throughput import measure_throughput, render_table
    from benchmarks.result.folder import check_output_file
    from edge_runtime.system.files import write_file

    if not args.images.is_dir():
        raise UsageError(f"--images {args.images}", "no such folder", "give a folder of images")
    if args.output:
        check_output_file(args.output, args.force)
    line = StatusLine(PROGRAM)
    try:
        gallery = not args.no_gallery
        result = measure_throughput(args.model, args.images, args.count, args.rounds, args.engine, gallery, line.show)
    finally:
        line.clear()
    if args.output:
        write_file(args.output, (json.dumps(result, indent=1) + "\n").encode())
    print_output(render_table(result))
    return 0


def print_claims(result: dict[str, Any], path: Path) -> None:
    """Print the verdict on each claim."""
    from benchmarks.verdicts.claims import check_claims

    for verdict in check_claims(result, path):
        print_output(str(verdict))


def print_validity(result: dict[str, Any]) -> int:
    """Print the reasons why a run is not valid; return its exit status."""
    validity = result["validity"]
    for reason in validity["reasons"]:
        print_message(PROGRAM, f"{validity['status']}: {reason}")
    return 0 if validity["status"] == "valid" else EXIT_INCONCLUSIVE


if __name__ == "__main__":
    sys.exit(main())
