"""How does the parent start, query and end a child process that measures one model?"""

from __future__ import annotations

import json
import select
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.subjects.interpreters import make_environment
from edge_runtime.errors import EngineError
from edge_runtime.system.process import describe_status, end_group, find_last_line, module_command

MODULE = "benchmarks.measure.child.main"
LIMIT_S = 1800.0  # for one answer; a full-size net on a small board takes seconds an image

Reply = dict[str, Any]


class Child:
    """A process that measures one model; benchmarks.measure.child.main lists its requests."""

    def __init__(self, key: str, python: str, work: Path) -> None:
        self.key, self.log = key, work / f"{key}.stderr"
        with self.log.open("wb") as log:
            try:
                self.process = subprocess.Popen(
                    module_command(MODULE, python=python),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=make_environment(python, work),
                    start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the whole group
                )
            except OSError as error:
                raise EngineError(key, f"{python} does not start ({error.strerror})", "check --peer-python") from None

    def request(self, do: str, **fields: Any) -> Reply:
        """Return the "ok" of the answer to a request. Raises: EngineError if there is none."""
        answer = self.exchange({"do": do, **fields})
        if "ok" not in answer:
            raise EngineError(self.key, answer.get("failed") or f"it is not installed ({answer['absent']})")
        reply: Reply = answer["ok"]
        return reply

    def exchange(self, request: Reply) -> Reply:
        """Return the answer to a request. Raises: EngineError if there is none."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], LIMIT_S)[0]:
                raise EngineError(self.key, f"no answer to {request['do']!r} within {LIMIT_S:.0f} s")
            answer: Reply = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise EngineError(self.key, f"its process ended during {request['do']!r} ({self.describe_end()})") from None
        return answer

    def describe_end(self) -> str:
        """Return why the process ended: its signal, or its last line on stderr."""
        code = self.process.wait()
        return f"signal {describe_status(code)}" if code < 0 else find_last_line(self.log.read_text("utf-8", "replace"))

    def end(self) -> None:
        """End the process and what it started."""
        end_group(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:  # unwritten data has no reader any more
                    continue
