"""The child of an isolated run: loads the model, then answers for one image after another; see `isolation`.

Lines of JSON on both pipes. In: {job, options}, {out, resume}, then {n, path, file, name} for each image. Out: {ready:
facts}, then {n, done, fresh} in the order in which images are done; {error: [class, what, why, fix]} or {bug:
traceback} end it.
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
from pathlib import Path
from typing import IO, Any

from .crew import Answer, Line, describe_session
from .errors import EdgeSegError
from .folder import Options
from .inputs import Input
from .journal import JOURNAL, read_journal
from .session import Session
from .worker import Worker

SHARE = 0.8  # of the machine's memory: what a child may take unless told otherwise


def main() -> None:
    """Work until the parent closes the pipe, or is gone."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent decides
        signal.signal(stop, signal.SIG_IGN)
    answers = Answers(os.fdopen(os.dup(1), "wb", buffering=0))
    os.dup2(2, 1)  # libraries that print must not write into the answers
    with answers.told():
        serve(sys.stdin.buffer, answers)
    os._exit(0)  # without the libraries' leave-taking, which can hang


def serve(questions: IO[bytes], answers: Answers) -> None:
    """Load the model and put images on the line as they come."""
    first = questions.readline()
    if not first:
        return
    asked = json.loads(first)
    options = Options(**asked["options"])
    limit_memory(options.max_memory)
    job = asked["job"]

    def load() -> Session:
        return Session.load(job["model"], job["engine"], job["threads"], job["threshold"])

    session = load()
    answers.say({"ready": describe_session(session)})
    second = questions.readline()
    if not second:
        return
    place = json.loads(second)
    out = Path(place["out"])
    earlier = read_journal(out / JOURNAL) if place["resume"] else {}
    line = Line(Worker(out, session, load, options, earlier), options.workers)
    for text in questions:
        image = json.loads(text)
        done = line.put(Input(Path(image["path"]), image["file"], image["name"]))
        done.add_done_callback(partial(answers.answer, image["n"]))


class Answers:
    """The pipe to the parent, for threads to share."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe, self.lock = pipe, threading.Lock()

    def say(self, message: dict[str, Any]) -> None:
        """Write one line; a parent that is gone needs none."""
        data = json.dumps(message).encode() + b"\n"
        with self.lock, suppress(OSError):
            while data:
                data = data[self.pipe.write(data) :]

    def answer(self, number: int, future: Future[Answer]) -> None:
        """Say what became of an image."""
        with self.told():
            done, fresh = future.result()
            self.say({"n": number, "done": asdict(done), "fresh": fresh})

    @contextmanager
    def told(self) -> Iterator[None]:
        """Report an error of the run, or a bug, to the parent."""
        try:
            yield
        except EdgeSegError as error:
            self.say({"error": [type(error).__name__, error.what, error.why, error.fix]})
        except Exception:
            self.say({"bug": traceback.format_exc()})


def limit_memory(most: int | None) -> None:
    """Refuse this process more memory than that, by default a share of the machine's.

    An image that needs more fails; without a limit the system would begin to swap, or kill something else.
    """
    if most is None:
        most = int(SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))
