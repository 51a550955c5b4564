"""What does a child process of a run do? It loads the model, then processes one image after another.

Lines of JSON on both pipes. In: {session, options}, {out, resume}, then {n, path, file} for each image. Out: {ready:
facts}, then {n, entry, fresh} in the order in which images are done; {error: [class, what, why, fix]} or {bug:
traceback} end the run. The parent's end is `child_process`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from edge_runtime.errors import EdgeSegError
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.records.journal import JOURNAL, Outcome, read_journal
from edge_runtime.system.needs import check_libraries, describe_limits, describe_shortage, is_shortage, to_shortage
from edge_runtime.system.process import end_with

MEMORY_SHARE = 0.8  # of the machine's memory: the limit of a child unless another is given


def main() -> None:
    """Process images until the parent closes the pipe, or is dead."""
    end_with(int(sys.argv[1]))  # a child that hangs does not read that its pipe was closed
    for stop in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent decides
        signal.signal(stop, signal.SIG_IGN)
    answers = Answers(os.fdopen(os.dup(1), "wb", buffering=0))
    os.dup2(2, 1)  # libraries that print must not write into the answers
    with answers.report_errors():
        serve(sys.stdin.buffer, answers)
    os._exit(0)  # without the libraries' exit handlers, which can hang


def serve(requests: IO[bytes], answers: Answers) -> None:
    """Load the model and queue images as they come."""
    failure = import_libraries()
    first = requests.readline()
    if not first:
        return
    request = json.loads(first)
    options = Options(**request["options"])
    answers.limits = describe_limits(options.max_memory)
    if failure is not None:
        raise failure
    from edge_runtime.folder.pipeline import ImageProcessor, Pipeline, describe_session
    from edge_runtime.inference.session import Session

    limit_memory(options.max_memory)
    load = partial(Session.load, **request["session"])
    session = load()
    answers.send({"ready": describe_session(session)})
    second = requests.readline()
    if not second:
        return
    output = json.loads(second)
    out = Path(output["out"])
    earlier = read_journal(out / JOURNAL) if output["resume"] else {}
    pipeline = Pipeline(ImageProcessor(out, session, load, options, earlier), options.workers)
    for line in requests:
        image = json.loads(line)
        outcome = pipeline.submit(to_input(image))
        outcome.add_done_callback(partial(answers.send_outcome, image["n"]))


def import_libraries() -> Exception | None:
    """Import what every run needs, while the parent finds out what this one is; return the error, if any.

    NumPy and OpenCV first, so that an error of theirs is one line. The engine is imported later: of several, only the
    chosen one may end this process.
    """
    try:
        check_libraries()
        import_module("edge_runtime.folder.pipeline")
    except Exception as error:
        return error
    return None


def to_input(image: dict[str, Any]) -> Input:
    """Return the input that the parent sent."""
    if "slice" not in image:
        return Input(Path(image["path"]), image["file"])
    from edge_runtime.hospital.pixels.slice_source import to_slice_source

    return Input(Path(image["path"]), image["file"], to_slice_source(image["slice"]))


class Answers:
    """The pipe to the parent, which threads share."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe, self.lock = pipe, threading.Lock()
        self.limits = ""  # of memory, in words

    def send(self, message: dict[str, Any]) -> None:
        """Write one line; that the parent is dead is no error."""
        data = json.dumps(message).encode() + b"\n"
        with self.lock, suppress(OSError):
            while data:
                data = data[self.pipe.write(data) :]

    def send_outcome(self, number: int, future: Future[Outcome]) -> None:
        """Send the outcome of an image."""
        with self.report_errors():
            outcome = future.result()
            self.send({"n": number, "entry": asdict(outcome.entry), "fresh": outcome.fresh})

    @contextmanager
    def report_errors(self) -> Iterator[None]:
        """Send an error of the run, or a bug, to the parent."""
        try:
            yield
        except EdgeSegError as error:
            self.send({"error": [type(error).__name__, error.what, error.why, error.fix]})
        except Exception as error:
            if is_shortage(error):
                line = to_shortage(describe_shortage(error), self.limits)
                self.send({"error": ["EdgeSegError", line.what, line.why, line.fix]})
            else:
                self.send({"bug": traceback.format_exc()})


def limit_memory(limit: int | None) -> None:
    """Limit this process's memory in bytes, by default to a share of the machine's.

    An image that needs more fails; without a limit the system would begin to swap, or kill another program.
    """
    if limit is None:
        limit = int(MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    main()
