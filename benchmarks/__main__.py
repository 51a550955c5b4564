"""The command: `python -m benchmarks`, also edge-bench. Data on stdout, words on stderr, exit codes as documented.

0 done; 1 error; 2 usage; 3 the run is invalid or inconclusive, and why (it is written all the same); 7 a gate failed;
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.summary import printable

from .arguments import PROGRAM, make_parser, without_folders

REPORTS = ("report.html", "report.pdf", "report.md", "summary.csv")
EXIT_DOUBTFUL, EXIT_GATE, EXIT_INTERRUPTED = 3, 7, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service's stop is as orderly as Ctrl-C
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = make_parser().parse_args(given)
    try:
        if args.command == "run":
            return run_benchmark(args, given)
        if args.command == "throughput":
            return tell_throughput(args)
        return report(args) if args.command == "report" else compare(args)
    except EdgeSegError as error:
        print(f"{PROGRAM}: error: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED


def run_benchmark(args: argparse.Namespace, given: Sequence[str]) -> int:
    """Measure, write the result and its report, print the table."""
    from .data import check_folder
    from .results import write_result
    from .run import run

    out = args.output or Path(f"{args.models[0].stem or 'model'}-benchmark")
    check_folder(out, args.force)
    write_report = None if args.no_report else load_report()  # before minutes of work
    line = StatusLine()
    try:
        result = run(to_wish(args, given), line.say, line.show)
    finally:
        line.clear()
    result = write_result(out / "result.json", result)
    print(to_table(result), flush=True)
    for path in [out / "result.json", *(write_report(result, out) if write_report else [])]:
        print(f"{PROGRAM}: wrote {path}", file=sys.stderr)
    return tell_validity(result)


def to_wish(args: argparse.Namespace, given: Sequence[str]) -> Any:
    """Return what the arguments ask for. Raises: UsageError for too few samples and for what is not there."""
    from edge_runtime.engines import count_cores

    from .measure import LEAST_SAMPLES, MODES
    from .parts import Wish
    from .peers import ENVIRONMENT

    samples = args.samples or MODES[args.mode].samples
    if samples < max(LEAST_SAMPLES, MODES[args.mode].samples if args.mode == "single-stream" else 0):
        raise UsageError(f"--samples {samples}", "too few to tell anything by", "30 or more, 1024 in single-stream")
    if args.meter and not args.meter.is_file():
        raise UsageError(f"--meter {args.meter}", "no such file", "start the meter's log first")
    if args.masks and not args.masks.is_dir():
        raise UsageError(f"--masks {args.masks}", "no such folder", "give a folder of masks")
    if args.sustain and args.sustain < 2:
        raise UsageError(f"--sustain {args.sustain:g}", "the last minute is compared with the first", "2 or more")
    common = os.environ.get(ENVIRONMENT)
    if common and not os.access(common, os.X_OK):
        raise UsageError(f"{ENVIRONMENT}={common}", "it is not a program", "name an interpreter, or unset it")
    return Wish(
        models=tuple(args.models),
        images=args.images,
        masks=args.masks,
        engines=args.engines,
        threads=args.threads or (count_cores(),),
        mode=args.mode,
        samples=samples,
        peers=args.peers,
        pythons={**({"": common} if common else {}), **dict(args.peer_python)},
        calibrate=args.calibrate,
        sustain_minutes=args.sustain,
        soak_runs=args.soak,
        meter=args.meter,
        price=args.price,
        studies_per_day=args.studies_per_day,
        trust=args.trust_custom,
        pictures=not args.no_pictures,
        command=tuple(without_folders(argument) for argument in given),
    )


def load_report() -> Callable[..., list[Path]]:
    """Return report.write_reports. Raises: EdgeSegError if what draws it is not installed."""
    try:
        from .report import write_reports
    except ImportError as error:
        why = f"it needs {error.name}, which is not installed"
        raise EdgeSegError("report", why, "pip install 'edge-seg[benchmarks]', or run with --no-report") from None
    return write_reports


def report(args: argparse.Namespace) -> int:
    """Write the report of a result again, with another price or number of studies if given."""
    from .results import read_result

    result, out = read_result(args.result), args.output or args.result.parent
    there = [out / name for name in REPORTS if (out / name).exists()]
    if there and not args.force:
        raise EdgeSegError(str(there[0]), "it exists already", "choose another folder with -o, or --force")
    given = {name: getattr(args, name) for name in ("price", "studies_per_day", "slices_per_study", "claims")}
    for path in load_report()(result, out, **given):
        print(f"{PROGRAM}: wrote {path}", file=sys.stderr)
    if args.claims:
        print_claims(result, args.claims)
    return 0


def compare(args: argparse.Namespace) -> int:
    """Print results side by side; judge the gates."""
    from .compare import compare_results, gate, list_undecided, render_comparison
    from .results import read_result

    results = [read_result(path) for path in args.results]
    comparison = compare_results(results)
    print(render_comparison(comparison, "markdown" if args.markdown else "text"))
    if args.claims:
        for path, result in zip(args.results, results, strict=True):
            print(f"\n{path}")
            print_claims(result, args.claims)
    if not args.gate:
        return 0
    failed, undecided = gate(comparison, args.gate), list_undecided(comparison, args.gate)
    for line in failed:
        print(f"{PROGRAM}: gate failed: {printable(line)}", file=sys.stderr)
    for line in undecided:
        print(f"{PROGRAM}: gate undecided: {printable(line)}", file=sys.stderr)
    return EXIT_GATE if failed else EXIT_DOUBTFUL if undecided else 0


def tell_throughput(args: argparse.Namespace) -> int:
    """Measure how much of the engine's speed a folder run keeps, and print it."""
    from edge_runtime.files import write_file

    from .throughput import measure_throughput
    from .throughput import to_table as to_lines

    if not args.images.is_dir():
        raise UsageError(f"--images {args.images}", "no such folder", "give a folder of images")
    line = StatusLine()
    try:
        gallery = not args.no_gallery
        result = measure_throughput(args.model, args.images, args.count, args.rounds, args.engine, gallery, line.show)
    finally:
        line.clear()
    if args.output:
        write_file(args.output, (json.dumps(result, indent=1) + "\n").encode())
    print(to_lines(result), flush=True)
    return 0


def print_claims(result: dict[str, Any], path: Path) -> None:
    """Print a verdict for each claim."""
    from .claims import check_claims

    for verdict in check_claims(result, path):
        print(verdict)


def to_table(result: dict[str, Any]) -> str:
    """Return the table that the command prints."""
    lines = [f"{'subject':<28} {'p50 ms':>9} {'p90 ms':>9} {'p99 ms':>9} {'n':>6} {'file MB':>8} {'peak MB':>8}"]
    for key, subject in result["subjects"].items():
        if subject["status"] != "ok":
            lines.append(f"{key:<28} {subject['status']}: {printable(subject['reason'])}")
            continue
        times, peak = subject["latency"], subject["memory"]["peak_rss_bytes"]
        figures = " ".join(f"{times[name]:>9.2f}" for name in ("p50_ms", "p90_ms", "p99_ms"))
        sizes = f"{subject['file']['bytes'] / 1e6:>8.2f} {peak / 1e6 if peak else float('nan'):>8.1f}"
        lines.append(f"{key:<28} {figures} {times['n']:>6} {sizes}")
    for pair in result["pairs"]:
        if result["subjects"][pair["subject"]]["role"] != "subject":
            continue
        low, high = pair["interval"]
        said = f"{pair['ratio_p50']:.3f} [{low:.3f}, {high:.3f}] of the time: {pair['verdict']}"
        lines.append(f"{pair['subject']} against {pair['baseline']}: {said}")
    for key, entry in (result["accuracy"] or {}).items():
        scores = ", ".join(f"{name} {tell(entry[name]['value'])}" for name in ("iou", "binary_iou", "dice"))
        lines.append(f"{key} against {entry['against']}: {scores}")
    return "\n".join(lines)


def tell(value: float | None) -> str:
    """Return a score in print."""
    return "not measured" if value is None else f"{value:.4f}"


def tell_validity(result: dict[str, Any]) -> int:
    """Print why a run decides nothing; return its exit status."""
    validity = result["validity"]
    for reason in validity["reasons"]:
        print(f"{PROGRAM}: {validity['status']}: {printable(reason)}", file=sys.stderr)
    return 0 if validity["status"] == "valid" else EXIT_DOUBTFUL


class StatusLine:
    """What a person sees: lines on what begins, and on a terminal one that says how far it is."""

    def __init__(self) -> None:
        self.shown = sys.stderr is not None and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Say what begins."""
        self.clear()
        print(f"{PROGRAM}: {printable(text)}", file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        """Show how far it is."""
        if self.shown:
            print(f"\r\x1b[K{printable(text)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
