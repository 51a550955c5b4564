"""The parent's side of one child process: start it, give it images, read its answers; the other side is `child`."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from . import errors
from .errors import EdgeSegError, EngineError
from .folder import Options
from .inputs import Input
from .journal import Done

Answer = tuple[Done, bool]
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


class Child:
    """One process that segments one image at a time, the next ones waiting in it."""

    def __init__(self, job: Job, options: Options) -> None:
        self.job, self.options = job, replace(options, workers=1)
        self.place: tuple[Path, bool] | None = None  # where the outputs go, and whether the child reads the journal
        self.suspects: deque[tuple[int, Input]] = deque()  # a child died of one of them: now one by one
        self.start()

    def start(self) -> None:
        """Start the process, whose imports take longer than what follows."""
        self.process = start_process()
        self.facts: Mapping[str, Any] | None = None  # until the model is loaded
        self.held: dict[int, Input] = {}  # asked, not answered; in order
        self.alone = False  # whether what it holds is one suspect
        self.buffer, self.last = b"", 0.0

    def load(self) -> None:
        """Have it load the model; `facts` are there when it has."""
        job = {**asdict(self.job), "model": self.job.model and str(self.job.model)}
        self.send({"job": job, "options": asdict(self.options)})
        if self.place is not None:
            self.tell_place()

    def begin(self, out: Path, resume: bool) -> None:
        """Tell it where the outputs go, unless it knows."""
        if self.place != (out, resume):
            self.place = out, resume
            self.tell_place()

    def tell_place(self) -> None:
        """Send where the outputs go."""
        assert self.place is not None
        self.send({"out": str(self.place[0]), "resume": self.place[1]})

    def ask(self, number: int, item: Input) -> None:
        """Send it an image."""
        self.held[number] = item
        self.last = time.monotonic()
        self.send({"n": number, "path": str(item.path), "file": item.file, "name": item.name})

    def ask_suspect(self) -> None:
        """Send it one of the images that a child died of, when it holds no other."""
        if self.suspects and not self.held and self.facts is not None:
            self.ask(*self.suspects.popleft())
            self.alone = True

    def has_room(self, most: int) -> bool:
        """Tell whether it can take another image beside fewer than `most`."""
        return self.facts is not None and not self.suspects and not self.alone and len(self.held) < most

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line; that the child is gone is found when its answer is read."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")  # ASCII: any file name survives

    def fileno(self) -> int:
        """Return the descriptor that its answers come from, for `select`."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self) -> dict[int, Answer]:
        """Return what it has answered; to be called when there is something to read.

        Raises: Died; EngineError if it dies while it loads the model; whatever error it reports of the run.
        """
        data = os.read(self.fileno(), 1 << 16)
        if not data and self.facts is None:
            why = f"the process that loads the model {self.say_end()}"
            raise EngineError(f"engine {self.job.engine}", why, "try another --engine")
        if not data:
            raise Died(f"the process that segmented it {self.say_end()}")
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        answers: dict[int, Answer] = {}
        for message in map(json.loads, lines):
            if "error" in message:
                kind, *words = message["error"]
                raise getattr(errors, kind)(*words)
            if "bug" in message:
                raise RuntimeError(f"in the child:\n{message['bug']}")
            if "ready" in message:
                self.facts = message["ready"]
                continue
            del self.held[message["n"]]
            self.alone = False
            answers[message["n"]] = Done(**message["done"]), bool(message["fresh"])
            self.last = time.monotonic()
        return answers

    def end(self) -> float:
        """Return the time, on the monotonic clock, until which it may keep silent."""
        return self.last + self.options.max_seconds if self.held else float("inf")

    def restart(self) -> None:
        """Start a new process where the old one is gone, and have it load the model."""
        self.kill()
        self.start()
        self.load()

    def say_end(self) -> str:
        """Say how the process ended."""
        code = self.process.wait()
        if code >= 0:
            return f"left with exit status {code}"
        with suppress(ValueError):
            return f"died ({signal.Signals(-code).name})"
        return f"died (signal {-code})"

    def kill(self) -> None:
        """End the process now; what it has begun is a temporary file that the run sweeps."""
        with suppress(OSError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def start_process() -> subprocess.Popen[bytes]:
    """Return a process that waits for its job; it inherits stderr."""
    command = [sys.executable, "-P", "-c", START, str(Path(__file__).parents[1])]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    except OSError as error:
        raise EdgeSegError("a process for the images", error.strerror or str(error), "try --no-isolation") from None
    if hasattr(fcntl, "F_SETPIPE_SZ") and process.stdin is not None:
        with suppress(OSError):  # room for all that is under way, however long the names
            fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, 1 << 20)
    return process
