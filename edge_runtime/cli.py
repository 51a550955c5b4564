"""edge-seg: segment images and folders with a stamped model."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import EdgeSegError, UsageError
from .summary import describe_page, describe_run, own_version, printable, to_table

if TYPE_CHECKING:
    from .session import Session

ENGINES = ("auto", "litert", "tflite-runtime")
EXIT_SOME_FAILED, EXIT_INTERRUPTED = 3, 130


def make_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="edge-seg",
        description="Segment images (PNG, JPEG, TIFF, BMP; 8 or 16 bit) and folders of them.",
        epilog="Exit: 0 all done; 3 some inputs failed, the rest is done; 1 error; 2 usage; 130 interrupted. "
        "The same command again goes on where it stopped and does only what is missing or changed.",
    )
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="image files and folders")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="default: <first input's name>-seg, here")
    parser.add_argument("--model", type=Path, metavar="M.tflite", help="default: the embedded model")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="default: auto, the first installed")
    parser.add_argument("--threads", type=positive, metavar="N", help="of the engine; default: all cores / workers")
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="images at a time (default 1)")
    parser.add_argument("--threshold", type=float, metavar="T", help="instead of the contract's, between 0 and 1")
    parser.add_argument("--recursive", action="store_true", help="the folders in a folder too")
    parser.add_argument("--probability", action="store_true", help="write 16-bit probability maps too")
    parser.add_argument("--no-overlay", action="store_true", help="write no overlays")
    parser.add_argument("--no-gallery", action="store_true", help="write no index.html")
    parser.add_argument("--force", action="store_true", help="do all again, also in a folder that holds other files")
    parser.add_argument("--info", action="store_true", help="show the model's contract and leave")
    parser.add_argument("--json", action="store_true", help="print run.json, or with --info the contract, as JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--version", action="version", version=f"edge-seg {own_version()}")
    return parser


def positive(text: str) -> int:
    """Return a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = make_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service's stop is as orderly as Ctrl-C
    try:
        return show_info(args) if args.info else segment(args)
    except EdgeSegError as error:
        print(f"edge-seg: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("edge-seg: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of stdout left: nothing more to tell it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def show_info(args: argparse.Namespace) -> int:
    """Print the model's contract."""
    from .contract import read_contract, to_json
    from .models import DEFAULT

    path = args.model or DEFAULT
    fields = json.loads(to_json(read_contract(path, verify=True)))
    if args.json:
        print(json.dumps(fields, indent=1))
        return 0
    print(f"file: {path}")
    for key, value in fields.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for name, item in inner:
            print(f"{key}{'.' if name else ''}{name}: {item if isinstance(item, str) else json.dumps(item)}")
    return 0


def segment(args: argparse.Namespace) -> int:
    """Run a folder run and report on it."""
    if not args.inputs:
        raise UsageError("no input", "nothing to segment", "give image files or folders, see edge-seg --help")
    from .folder import Options, run_folder, write_page
    from .images import write_file
    from .inputs import find_inputs
    from .session import Session

    first = args.inputs[0].resolve()
    out = args.output or Path(f"{first.name or 'root'}-seg")
    inputs = find_inputs(args.inputs, args.recursive, out)
    options = Options(
        probability=args.probability,
        overlay=not args.no_overlay,
        gallery=not args.no_gallery,
        workers=args.workers,
        force=args.force,
    )
    threads = args.threads or default_threads(args.workers)
    loaded: list[Session] = []

    def load() -> Session:
        loaded.append(Session.load(args.model, args.engine, threads, args.threshold))
        return loaded[-1]

    started = time.time()
    bar = ProgressBar(len(inputs), shown=sys.stderr.isatty() and not args.quiet)
    try:
        rows, kept = run_folder(inputs, out, load, options, bar.show)
    finally:
        bar.clear()
    facts = describe_run(args, loaded[0], threads, rows, kept, started)
    if options.gallery:
        write_page(out, inputs, rows, options, describe_page(facts))
    write_file(out / "run.json", (json.dumps(facts, indent=1) + "\n").encode())
    if not args.quiet:
        print(json.dumps(facts, indent=1) if args.json else to_table(rows, facts, out, options.gallery))
    failed = [row["error"] for row in rows if row["status"] == "failed"]
    for error in failed:
        print(f"edge-seg: error: {printable(error)}", file=sys.stderr)
    return EXIT_SOME_FAILED if failed else 0


def default_threads(workers: int) -> int:
    """Return the cores that this process may use, shared out among the workers."""
    from .engines import count_cores

    return max(1, count_cores() // workers)


class ProgressBar:
    """One line on a terminal, rewritten at most ten times a second."""

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.shown = total, shown
        self.started = self.last = time.monotonic()

    def show(self, done: int) -> None:
        """Show how far the run is and how long the rest will take."""
        now = time.monotonic()
        if not self.shown or (now - self.last < 0.1 and done < self.total):
            return
        self.last = now
        left = (now - self.started) / done * (self.total - done)
        filled = 30 * done // self.total
        line = f"{'█' * filled}{'░' * (30 - filled)} {done}/{self.total}  {left:.0f} s left"
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
