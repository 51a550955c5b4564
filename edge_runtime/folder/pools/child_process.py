"""How does the parent start one child process, send it images and read their outcomes? The child is `child_main`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_runtime import errors
from edge_runtime.errors import EngineError
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.records.journal import JournalEntry, Outcome
from edge_runtime.system.needs import RAISE_LIMIT, SEE_DOCTOR, describe_limits
from edge_runtime.system.process import describe_status, end_process

from .start import start_process

# Of a child until its model is loaded, or --max-seconds where that is more. Fifteen times what 100 MB of packages take
# from a card of 10 MB/s; enough for packing weights (ended after 120 s) or a GPU's first shaders (90 s in a trial).
# Below the 180 s after which systemd ends the kit's unit: the command's own line, which names the cause, comes first.
MAX_LOAD_S = 150.0


@dataclass(frozen=True)
class SessionOptions:
    """The arguments of Session.load."""

    path: Path | None
    engine: str
    threads: int | None
    threshold: float | None


class ChildDied(Exception):
    """The child process has ended; the text says how."""


class ChildProcess:
    """One process that segments one image at a time, with others pending in it."""

    def __init__(
        self, session: SessionOptions, options: Options, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        """process: from `start_process`, if one was started already; one that ended since is replaced."""
        self.session, self.options = session, replace(options, workers=1)
        self.output: tuple[Path, bool] | None = None  # OUT, and whether the child reads its journal
        self.suspects: deque[tuple[int, Input]] = deque()  # a child died of one of them: now one by one
        self.start(process if process and process.poll() is None else start_process())

    def start(self, process: subprocess.Popen[bytes]) -> None:
        """Begin with a new process."""
        self.process = process
        self.facts: Mapping[str, Any] | None = None  # until the model is loaded
        self.loads = False  # whether it was asked to
        self.pending: dict[int, Input] = {}  # submitted, without outcome; in order
        self.tests_suspect = False  # whether the one pending image is a suspect
        self.buffer, self.last = b"", time.monotonic()

    def load(self) -> None:
        """Have the process load the model; `facts` are set when it has."""
        self.loads, self.last = True, time.monotonic()
        session = {**asdict(self.session), "path": self.session.path and str(self.session.path)}
        self.send({"session": session, "options": asdict(self.options)})
        self.send_output()

    def set_output(self, out: Path, resume: bool) -> None:
        """Set OUT, unless it is set already. resume: whether the child reads its journal."""
        if self.output != (out, resume):
            self.output = out, resume
            self.send_output()

    def send_output(self) -> None:
        """Send OUT, once it is set."""
        if self.output is not None:
            self.send({"out": str(self.output[0]), "resume": self.output[1]})

    def submit(self, number: int, item: Input) -> None:
        """Send an image."""
        self.pending[number] = item
        self.last = time.monotonic()
        place = {"slice": asdict(item.slice)} if item.slice else {}
        self.send({"n": number, "path": str(item.path), "file": item.file, **place})

    def submit_suspect(self) -> None:
        """Send one of the suspects, when no other image is pending."""
        if self.suspects and not self.pending and self.facts is not None:
            self.submit(*self.suspects.popleft())
            self.tests_suspect = True

    @property
    def busy(self) -> bool:
        """Whether images wait for this child, pending or suspects."""
        return bool(self.pending or self.suspects)

    def has_room(self, limit: int) -> bool:
        """Tell whether fewer than `limit` images are pending, and another may be submitted."""
        return self.facts is not None and not self.suspects and not self.tests_suspect and len(self.pending) < limit

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line; that the child is dead is found when its answer is read."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")  # ASCII: any file name survives

    def fileno(self) -> int:
        """Return the descriptor that its outcomes come from, for `select`."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read_outcomes(self) -> list[Outcome]:
        """Return the outcomes that the child has written; blocks until there is something to read.

        Raises: ChildDied; EngineError if it dies while it loads the model; whatever error it reports of the run.
        """
        data = os.read(self.fileno(), 1 << 16)
        if not data and self.facts is None:
            why = f"the process that loads the model {self.describe_end()}"
            limits = describe_limits(self.options.max_memory)
            if limits:  # libraries end the process where they get no memory
                raise EngineError("memory", f"{why}, perhaps for want of memory: {limits}", RAISE_LIMIT)
            raise EngineError(f"engine {self.session.engine}", why, SEE_DOCTOR)
        if not data:
            raise ChildDied(f"the process that segmented it {self.describe_end()}")
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        outcomes: list[Outcome] = []
        for message in map(json.loads, lines):
            if "error" in message:
                kind, *texts = message["error"]
                raise getattr(errors, kind)(*texts)
            if "bug" in message:
                raise RuntimeError(f"in the child:\n{message['bug']}")
            if "ready" in message:
                self.facts, self.last = message["ready"], time.monotonic()
                continue
            del self.pending[message["n"]]
            self.tests_suspect = False
            outcomes.append(Outcome(JournalEntry(**message["entry"]), message["fresh"]))
            self.last = time.monotonic()
        return outcomes

    def deadline(self) -> float:
        """Return the time, on the monotonic clock, at which the model is loaded or the next outcome is due."""
        if self.facts is None:
            return self.last + self.max_load_s() if self.loads else float("inf")
        return self.last + self.options.max_seconds if self.pending else float("inf")

    def max_load_s(self) -> float:
        """Return how many seconds loading may take: a slow machine is given more by --max-seconds."""
        return max(MAX_LOAD_S, self.options.max_seconds)

    def give_up(self) -> ChildDied | EngineError:
        """End the process, whose deadline is over; return what is to be raised."""
        self.kill()
        if self.facts is None:
            why = f"the process that loads the model took longer than {self.max_load_s():g} s"
            return EngineError(f"engine {self.session.engine}", why, "try another --engine, or raise --max-seconds")
        return ChildDied(f"it took longer than {self.options.max_seconds:g} s; raise --max-seconds if that is right")

    def restart(self) -> None:
        """Start a new process in place of this one, and have it load the model."""
        self.kill()
        self.start(start_process())
        self.load()

    def describe_end(self) -> str:
        """Return how the process ended."""
        status = self.process.wait()
        return f"left with {describe_status(status)}" if status >= 0 else f"died ({describe_status(status)})"

    def kill(self) -> None:
        """End the process now; a file that it was writing is a temporary one, which the run removes."""
        end_process(self.process)
