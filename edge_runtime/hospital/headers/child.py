"""How does the parent ask a child process that reads hostile files, and go on when one of them kills it?"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from edge_runtime.errors import EdgeSegError
from edge_runtime.system.process import end_process, end_with_parent, module_command, package_environment


class ChildDied(Exception):
    """The child process has ended, or was ended since it did not answer."""


class LineChild:
    """A process that answers lines of JSON with lines of JSON; a new one takes the place of one that dies."""

    def __init__(self, module: str, greeting: Mapping[str, Any], answer_s: float) -> None:
        """module: what it runs. greeting: its first line. answer_s: how long an answer may take."""
        self.module, self.greeting, self.answer_s = module, greeting, answer_s
        self.start()

    def start(self) -> None:
        """Start the process."""
        pipe, environment = subprocess.PIPE, package_environment()
        environment["OPENBLAS_NUM_THREADS"] = "1"  # each thread's memory counts against the limit
        try:
            self.process = subprocess.Popen(
                module_command(self.module),
                env=environment,
                stdin=pipe,
                stdout=pipe,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                preexec_fn=end_with_parent(),
            )
        except OSError as error:
            raise EdgeSegError("a process for series", error.strerror or str(error), "free some memory") from None
        self.rest = b""
        self.send(self.greeting)

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line; that the child is dead is found when its answer is read."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            data = json.dumps(message).encode() + b"\n"  # ASCII: any file name survives
            while data:
                data = data[self.process.stdin.write(data) or 0 :]

    def ask_lines(self, message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the answers to a request; the last is {"unreadable"} where it kills the child."""
        self.send(message)
        try:
            while not (answer := self.read_answer()).get("done"):
                yield answer
        except ChildDied:
            self.close()
            self.start()
            yield {"unreadable": True}

    def read_answer(self) -> dict[str, Any]:
        """Return the next line of the child. Raises: ChildDied."""
        end = time.monotonic() + self.answer_s
        parts = [self.rest]
        assert self.process.stdout is not None
        while b"\n" not in parts[-1]:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not data:
                raise ChildDied
            parts.append(data)
        line, self.rest = b"".join(parts).split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        end_process(self.process)
