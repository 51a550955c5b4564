"""A crew in a process of its own: an image that brings a decoder or an engine down costs that image, not the run.

The parent holds nothing but names and answers; NumPy, OpenCV and the engine live in the child. A few images are under
way at a time. When the child dies or keeps silent for too long, a new one gets the unanswered images one by one: the
one that it dies of again is marked as failed, the others are done, and the run goes on as before.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import errors
from .contract import read_contract
from .errors import EdgeSegError, EngineError, ImageError
from .folder import Options, discard_outputs
from .inputs import Input
from .journal import Done, Row
from .models import DEFAULT
from .results import columns

Answer = tuple[Done, bool]
AHEAD = 4  # images that are under way beside those that are being segmented
START = "import sys; root = sys.argv[1]; root in sys.path or sys.path.insert(0, root)"
START += "; from edge_runtime.child import main; main()"


@dataclass(frozen=True)
class Job:
    """What a child is to load."""

    model: Path | None
    engine: str
    threads: int | None
    threshold: float | None


class Died(Exception):
    """The child is gone; the text says how."""


class IsolatedCrew:
    """Segments in a child, which is replaced when it dies."""

    def __init__(self, job: Job, options: Options, beat: Callable[[], None] = lambda: None) -> None:
        """Load the model in a child. beat: called at least once a second while images are under way.

        Raises: ModelError, ContractError, EngineError, UsageError, as Session.load does.
        """
        self.job, self.options, self.beat = job, options, beat
        self.last = time.monotonic()  # when an image was sent, or answered
        self.place: tuple[Path, bool] | None = None  # what the child was told of the outputs
        self.process = start_child()  # its imports take longer than what follows
        try:
            self.contract = read_contract(job.model or DEFAULT, verify=True)
            self.facts: Mapping[str, Any] = self.load()
        except BaseException:
            self.kill()
            raise

    def load(self) -> Mapping[str, Any]:
        """Have the child load the model; return what it says of its engine."""
        self.buffer = b""
        job = {**asdict(self.job), "model": self.job.model and str(self.job.model)}
        self.send({"job": job, "options": asdict(self.options)})
        while b"\n" not in self.buffer:
            if self.wait(1.0) and not self.take():
                why = f"the process that loads the model {self.say_end()}"
                raise EngineError(f"engine {self.job.engine}", why, "try another --engine")
        (facts,) = self.messages()
        return dict(facts["ready"])

    def work(self, inputs: Iterator[Input], out: Path, earlier: Mapping[str, Done]) -> Generator[Answer]:
        """Yield what is known of each input, in order. The child reads `earlier` in OUT's journal by itself."""
        self.begin(out, bool(earlier))
        held: deque[tuple[int, Input]] = deque()  # in order: asked, not yielded
        answers: dict[int, Answer] = {}
        count, most = 0, self.options.workers + AHEAD
        try:
            while True:
                while len(held) < most and (item := next(inputs, None)) is not None:
                    held.append((count, item))
                    self.ask(count, item)
                    count += 1
                if not held:
                    return
                if held[0][0] in answers:
                    number, _ = held.popleft()
                    yield answers.pop(number)
                    continue
                try:
                    self.listen(answers)
                except Died:
                    self.replace()
                    self.find_culprits([pair for pair in held if pair[0] not in answers], answers, out)
        finally:
            if len(held) > len(answers):  # interrupted: nobody waits for what is under way
                self.kill()

    def find_culprits(self, suspects: list[tuple[int, Input]], answers: dict[int, Answer], out: Path) -> None:
        """Answer for images one by one; what the child dies of once more has failed."""
        for number, item in suspects:
            self.ask(number, item)
            try:
                while number not in answers:
                    self.listen(answers)
            except Died as death:
                answers[number] = self.fail(item, str(death), out), True
                self.replace()

    def fail(self, item: Input, why: str, out: Path) -> Done:
        """Return what is known of an image that cost a child."""
        row: Row = dict.fromkeys(columns(self.contract), "")
        row.update(file=item.file, status="failed", error=str(ImageError(item.file, why, "take it out")))
        discard_outputs(out, item, ())
        return Done("", row, {})

    def listen(self, answers: dict[int, Answer]) -> None:
        """Wait for answers. Raises: Died; whatever error the child reports of the run."""
        end = self.last + self.options.max_seconds
        while True:
            self.beat()
            if self.wait(max(0.0, min(1.0, end - time.monotonic()))):
                if not self.take():
                    raise Died(f"the process that segmented it {self.say_end()}")
                found = {message["n"]: message for message in self.messages()}
                if found:
                    answers.update({n: (Done(**m["done"]), bool(m["fresh"])) for n, m in found.items()})
                    self.last = time.monotonic()
                    return
            elif time.monotonic() >= end:
                self.kill()
                raise Died(f"it took longer than {self.options.max_seconds:g} s; raise --max-seconds if that is right")

    def ask(self, number: int, item: Input) -> None:
        """Send an image to the child."""
        self.last = time.monotonic()
        self.send({"n": number, "path": str(item.path), "file": item.file, "name": item.name})

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line to the child; that it is gone is found when its answer is read."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")  # ASCII: any file name survives

    def wait(self, seconds: float) -> bool:
        """Tell whether the child says something within that time, or its end."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def take(self) -> bool:
        """Read what the child says; tell whether it lives."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        self.buffer += data
        return bool(data)

    def messages(self) -> list[dict[str, Any]]:
        """Return the whole lines read so far. Raises: what the child reports of the run."""
        *lines, self.buffer = self.buffer.split(b"\n")
        found = [json.loads(line) for line in lines]
        for message in found:
            if "error" in message:
                kind, *words = message["error"]
                raise getattr(errors, kind)(*words)
            if "bug" in message:
                raise RuntimeError(f"in the child:\n{message['bug']}")
        return found

    def begin(self, out: Path, resume: bool) -> None:
        """Tell the child where the outputs go, unless it knows."""
        if self.place != (out, resume):
            self.place = out, resume
            self.send({"out": str(out), "resume": resume})

    def replace(self) -> None:
        """Start a new child where the old one is gone."""
        place, self.place = self.place, None
        self.kill()
        self.process = start_child()
        self.load()
        if place is not None:
            self.begin(*place)
        self.last = time.monotonic()

    def say_end(self) -> str:
        """Say how the child ended."""
        code = self.process.wait()
        if code >= 0:
            return f"left with exit status {code}"
        with suppress(ValueError):
            return f"died ({signal.Signals(-code).name})"
        return f"died (signal {-code})"

    def kill(self) -> None:
        """End the child now; what it has begun is a temporary file that the run sweeps."""
        with suppress(OSError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def close(self) -> None:
        """End the child, which has nothing left to do."""
        self.kill()


def start_child() -> subprocess.Popen[bytes]:
    """Return a child that waits for its job; it inherits stderr."""
    command = [sys.executable, "-P", "-c", START, str(Path(__file__).parents[1])]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    except OSError as error:
        raise EdgeSegError("a process for the images", error.strerror or str(error), "try --no-isolation") from None
    if hasattr(fcntl, "F_SETPIPE_SZ") and process.stdin is not None:
        with suppress(OSError):  # room for all that is under way, however long the names
            fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, 1 << 20)
    return process
