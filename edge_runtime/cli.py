"""edge-seg: segment images and folders with a stamped model."""

from __future__ import annotations

import argparse
import atexit
import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from .errors import EdgeSegError, OutputError, UsageError
from .limits import MAX_PIXELS, MAX_SECONDS
from .summary import count_flags, describe_page, describe_run, own_version, printable, to_table

if TYPE_CHECKING:
    from .crew import ThreadCrew
    from .engines.choose import Verdict
    from .folder import Counts, Crew, Options
    from .isolation import IsolatedCrew

ENGINES = ("auto", "litert", "gpu", "openvino", "tflite-runtime")
EXIT_SOME_FAILED, EXIT_INTERRUPTED = 3, 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit status 2."""
        self.exit(UsageError.exit_code, f"{self.prog}: error: {printable(message)}; see {self.prog} --help\n")


class Version(argparse.Action):
    """Looks for the version only where it is asked for: --help is not to wait."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print the version and leave."""
        print(parser.prog, own_version())
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser(
        prog="edge-seg",
        description="Segment images (PNG, JPEG, TIFF, BMP; 8 or 16 bit) and folders of them.",
        epilog="Exit: 0 all done; 3 some inputs failed, the rest is done; 1 error; 2 usage; 130 interrupted. "
        "The same command again goes on where it stopped and does only what is missing or changed.",
    )
    parser.add_argument("inputs", nargs="*", type=place, metavar="INPUT", help="image files and folders")
    parser.add_argument("-o", "--output", type=place, metavar="OUT", help="default: <first input's name>-seg, here")
    parser.add_argument("--model", type=place, metavar="M.tflite", help="default: the embedded model")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="default: auto, the best measured here")
    parser.add_argument("--threads", type=positive, metavar="N", help="of the engine; default: as measured")
    parser.add_argument("--workers", type=positive, metavar="N", help="images at a time; default: as measured")
    parser.add_argument("--retune", action="store_true", help="measure anew which engine is the best here")
    parser.add_argument("--threshold", type=float, metavar="T", help="instead of the contract's, between 0 and 1")
    parser.add_argument("--recursive", action="store_true", help="the folders in a folder too")
    parser.add_argument("--probability", action="store_true", help="write 16-bit probability maps too")
    parser.add_argument("--no-overlay", action="store_true", help="write no overlays")
    parser.add_argument("--no-gallery", action="store_true", help="write no index.html")
    parser.add_argument("--force", action="store_true", help="do all again, also in a folder that holds other files")
    parser.add_argument(
        "--watch",
        type=place,
        metavar="INBOX",
        help="serve: segment what is dropped into INBOX, each once, until stopped",
    )
    parser.add_argument(
        "--settle",
        type=seconds,
        default=2.0,
        metavar="S",
        help="of --watch: a file unchanged for S is whole (default 2)",
    )
    parser.add_argument(
        "--isolation",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="segment in a process that is replaced when an image brings it down (default), or in this one",
    )
    parser.add_argument("--max-pixels", type=positive, default=MAX_PIXELS, metavar="N", help=f"default {MAX_PIXELS}")
    parser.add_argument(
        "--max-seconds", type=seconds, default=MAX_SECONDS, metavar="S", help=f"for one image (default {MAX_SECONDS:g})"
    )
    parser.add_argument("--max-memory", type=positive, metavar="MB", help="default: 80 %% of the machine's")
    parser.add_argument("--info", action="store_true", help="show the model's contract and leave")
    parser.add_argument(
        "--selftest", action="store_true", help="run the model's golden vectors here; name what diverges"
    )
    parser.add_argument("--doctor", action="store_true", help="look at this machine: what is fit, what to mend and how")
    parser.add_argument("--json", action="store_true", help="print run.json, or what one of these says, as JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and leave")
    return parser


def positive(text: str) -> int:
    """Return a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def seconds(text: str) -> float:
    """Return a time above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time")
    return value


def place(text: str) -> Path:
    """Return a path; an empty one, an unset variable in a script, would mean the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = make_parser().parse_args(argv)
    fill_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service's stop is as orderly as Ctrl-C
    try:
        with hold_back():
            return choose_action(args)(args)
    except EdgeSegError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("edge-seg: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED


def fill_streams() -> None:
    """Open what the caller closed of stdin, stdout and stderr: a result's file must not take their place."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free


@contextmanager
def hold_back() -> Iterator[None]:
    """Keep what C libraries write to stderr off the terminal, and show it only where it explains a bug.

    LiteRT announces its delegate, libpng and libtiff lament damaged images: none has a switch for it. Our own words
    go on through a copy of file descriptor 2.
    """
    atexit.register(hush)
    ours = sys.stderr
    try:
        shared = ours.fileno() == 2
    except (AttributeError, OSError, ValueError):  # no stderr, or one that is no file
        yield
        return
    terminal = os.dup(2)
    with make_memory() as held, os.fdopen(os.dup(2), "w", 1, ours.encoding, ours.errors) as copy:
        os.dup2(held.fileno(), 2)
        faulthandler.enable(copy)  # where a library brings the process down, its last words are held
        sys.stderr = copy if shared else ours
        try:
            yield
        except (EdgeSegError, KeyboardInterrupt):
            raise
        except BaseException:
            held.seek(0)
            copy.buffer.write(held.read())
            raise
        finally:
            faulthandler.disable()
            sys.stderr = ours
            os.dup2(terminal, 2)
            os.close(terminal)


def hush() -> None:
    """Send what is still written to stderr nowhere: LiteRT's destructors speak after all else is over."""
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def make_memory() -> IO[bytes]:
    """Return a file without a name, in memory where that is possible: a device's disk may be read-only."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


def complain(error: object) -> None:
    """Print an error, one line whatever the names in it hold."""
    if sys.stderr is not None:  # print would take stdout for it
        print(f"edge-seg: error: {printable(str(error))}", file=sys.stderr)


def say(text: str) -> None:
    """Print to stdout now, while a failure can still be told; a reader who left early is not one.

    Raises: OutputError.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UnicodeEncodeError:  # a terminal that cannot show every name
        print(text.encode("ascii", "replace").decode(), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would fail again at exit
        raise OutputError("standard output", error.strerror or str(error), "make room there") from None


def choose_action(args: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    """Return what the command line asks for; of several, the first."""
    asked = {
        show_info: args.info or (args.retune and not args.inputs and args.watch is None),
        show_selftest: args.selftest,
        show_doctor: args.doctor,
        watch: args.watch is not None,
    }
    return next((action for action, wanted in asked.items() if wanted), segment)


def show_selftest(args: argparse.Namespace) -> int:
    """Print what became of the model's golden vectors here. Raises: ModelError naming the stage that diverged."""
    from .selftest import run_selftest, to_error, to_fields, to_text

    report = run_selftest(args.model, args.engine, args.threads)
    if not args.quiet:
        say(json.dumps(to_fields(report), indent=1) if args.json else printable_lines(to_text(report)))
    error = to_error(report)
    if error is not None:
        raise error
    return 0


def show_doctor(args: argparse.Namespace) -> int:
    """Print a page on this machine; return 1 where a line is a problem."""
    from .doctor import examine, to_fields, to_text

    lines = examine(args.model)
    say(json.dumps(to_fields(lines), indent=1) if args.json else printable_lines(to_text(lines)))
    return int(any(line.level == "problem" for line in lines))


def printable_lines(text: str) -> str:
    """Return text of several lines, each without what could fool a terminal."""
    return "\n".join(printable(line) for line in text.split("\n"))


def show_info(args: argparse.Namespace) -> int:
    """Print the model's contract."""
    from dataclasses import asdict

    from .contract import read_contract, to_json
    from .engines.choose import measure, read_verdict, to_lines
    from .models import DEFAULT

    path = args.model or DEFAULT
    contract = read_contract(path, verify=True)
    fields = json.loads(to_json(contract))
    sha256 = contract.model.sha256
    verdict = measure(path, sha256) if args.retune else read_verdict(sha256)
    if args.json:
        say(json.dumps({**fields, "engine": asdict(verdict)} if verdict else fields, indent=1))
        return 0
    lines = [f"file: {path}"]
    for key, value in fields.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for name, item in inner:
            lines.append(f"{key}{'.' if name else ''}{name}: {item if isinstance(item, str) else json.dumps(item)}")
    lines += to_lines(verdict) if verdict else ["engine: not measured here; edge-seg --retune does"]
    say("\n".join(printable(line) for line in lines))
    return 0


def segment(args: argparse.Namespace) -> int:
    """Run a folder run and report on it."""
    if not args.inputs:
        raise UsageError("no input", "nothing to segment", "give image files or folders, see edge-seg --help")
    from .files import write_file
    from .folder import run_folder, write_page
    from .inputs import find_inputs
    from .results import RESULTS, read_rows

    started = time.monotonic()
    first = os.path.basename(os.path.abspath(args.inputs[0]))  # noqa: PTH100, PTH119 - "." and ".." have no name
    out = args.output or Path(f"{first or 'root'}-seg")
    inputs = find_inputs(args.inputs, args.recursive, out)
    verdict = choose_engine(args, len(inputs))
    options = make_options(args, verdict.workers)
    bar = ProgressBar(len(inputs), shown=sys.stderr is not None and sys.stderr.isatty() and not args.quiet)
    with closing(gather_crew(args, verdict, options)) as crew:
        try:
            counts = run_folder(inputs, out, crew, options, bar.show)
        finally:
            bar.clear()
    facts = describe_run(args, crew.contract, crew.facts, counts, time.monotonic() - started)
    facts["flags"] = count_flags(read_rows(out / RESULTS))
    if options.gallery:
        write_page(out, inputs, options, describe_page(facts))
    write_file(out / "run.json", (json.dumps(facts, indent=1) + "\n").encode())
    if not args.quiet:
        told = (
            json.dumps(facts, indent=1)
            if args.json
            else to_table(read_rows(out / RESULTS), facts, out, options.gallery)
        )
        say(told)
    for row in read_rows(out / RESULTS) if counts.failed else ():
        if row["status"] == "failed":
            complain(row["error"])
    return EXIT_SOME_FAILED if counts.failed else 0


def watch(args: argparse.Namespace) -> int:
    """Serve a folder until told to stop."""
    if args.inputs:
        raise UsageError(str(args.inputs[0]), "--watch takes one folder and no other inputs", "leave it out")
    if not args.watch.is_dir():
        raise EdgeSegError(str(args.watch), "no such folder", "make it first")
    from .watch import Place, Service

    inbox = args.watch.absolute()
    out = args.output or Path(f"{inbox.name or 'root'}-seg")
    if f"{os.path.realpath(inbox)}{os.sep}".startswith(f"{os.path.realpath(out)}{os.sep}"):
        raise UsageError(f"--watch {args.watch}", f"it lies in the output folder {out}", "choose another -o")
    verdict = choose_engine(args, 0)  # a service is not kept from starting
    options = make_options(args, verdict.workers)

    def describe(crew: Crew, counts: Counts, spent: float) -> dict[str, Any]:
        return describe_run(args, crew.contract, crew.facts, counts, spent)

    place = Place(inbox, out, args.recursive, args.settle)
    service = Service(place, options, lambda beat: gather_crew(args, verdict, options, beat), describe, complain)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, service.stop)
    if not args.quiet:
        print(f"edge-seg: watching {printable(str(inbox))}; results in {printable(str(out))}", file=sys.stderr)
    service.run()
    if not args.quiet:
        print(f"edge-seg: stopped; {service.ok} segmented, {service.failed} failed in all", file=sys.stderr)
    return 0


def make_options(args: argparse.Namespace, workers: int) -> Options:
    """Return what a run writes and what an image may cost."""
    from .folder import Options

    return Options(
        probability=args.probability,
        overlay=not args.no_overlay,
        gallery=not args.no_gallery,
        workers=workers,
        force=args.force,
        max_pixels=args.max_pixels,
        max_seconds=args.max_seconds,
        max_memory=args.max_memory and args.max_memory * 1_000_000,
    )


def choose_engine(args: argparse.Namespace, count: int) -> Verdict:
    """Return the engine, threads and workers to segment `count` images with."""
    from .contract import read_contract
    from .engines.choose import choose
    from .models import DEFAULT

    path = args.model or DEFAULT
    sha256 = read_contract(path).model.sha256
    return choose(path, sha256, count, args.engine, args.threads, args.workers, args.retune)


def gather_crew(
    args: argparse.Namespace, verdict: Verdict, options: Options, beat: Callable[[], None] = lambda: None
) -> ThreadCrew | IsolatedCrew:
    """Return who segments, on the verdict's engine or, where that fails, on the next best one."""
    from .engines.choose import load_best

    crew, verdict = load_best(verdict, lambda engine, threads: make_crew(args, engine, threads, options, beat))
    crew.facts = {**crew.facts, "reason": verdict.why, "workers": verdict.workers}
    return crew


def make_crew(
    args: argparse.Namespace, engine: str, threads: int, options: Options, beat: Callable[[], None]
) -> ThreadCrew | IsolatedCrew:
    """Return a child process that segments, unless told to do it in this one."""
    from .isolation import IsolatedCrew
    from .parent import Job

    job = Job(args.model, engine, threads, args.threshold)
    if args.isolation:
        return IsolatedCrew(job, options, beat)
    from .crew import ThreadCrew
    from .session import Session

    return ThreadCrew(lambda: Session.load(job.model, job.engine, job.threads, job.threshold), options)


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
