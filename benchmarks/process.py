"""Child processes: started, asked, and ended with all that they started, whatever happens here."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import edge_runtime
from edge_runtime.errors import EngineError

MODULE = "benchmarks.child"
LIMIT_S = 1800.0  # for one answer; a full-size net on a small board takes seconds an image
LAST_WORDS_S = 10.0  # for a command to clean up after SIGTERM

Reply = dict[str, Any]


class Child:
    """A process that measures one model; see benchmarks.child for what it can be asked."""

    def __init__(self, key: str, python: str, work: Path) -> None:
        self.key, self.noise = key, work / f"{key}.noise"
        with self.noise.open("wb") as noise:
            try:
                self.process = subprocess.Popen(
                    [python, "-P", "-m", MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=noise,
                    env=make_environment(python, work),
                    start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the whole group
                )
            except OSError as error:
                raise EngineError(key, f"{python} does not start ({error.strerror})", "check --peer-python") from None

    def ask(self, do: str, **fields: Any) -> Reply:
        """Return the answer to a request. Raises: EngineError if it is not "ok", or none comes."""
        answer = self.exchange({"do": do, **fields})
        if "ok" not in answer:
            raise EngineError(self.key, answer.get("failed") or f"it is not installed ({answer['absent']})")
        reply: Reply = answer["ok"]
        return reply

    def exchange(self, request: Reply) -> Reply:
        """Return the answer to a request, whatever it is. Raises: EngineError if none comes."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], LIMIT_S)[0]:
                raise EngineError(self.key, f"no answer to {request['do']!r} within {LIMIT_S:.0f} s")
            answer: Reply = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise EngineError(self.key, f"its process ended while asked to {request['do']} ({self.tell()})") from None
        return answer

    def tell(self) -> str:
        """Return why the process ended: its signal, or the last line that it wrote."""
        code = self.process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else read_last_line(self.noise)

    def end(self) -> None:
        """End the process and what it started."""
        end_group(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:  # what was still to be written has no reader
                    continue


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_last_line(path: Path) -> str:
    """Return the last line of a file; "no word" where there is none."""
    lines = path.read_text("utf-8", "replace").strip().splitlines() if path.is_file() else []
    return lines[-1][:300] if lines else "no word"


def run_command(command: list[str], work: Path, python: str = sys.executable) -> tuple[int, str]:
    """Run a command of ours, its output into a file in `work`; return its exit status and its last line."""
    noise = work / "command.noise"
    with noise.open("wb") as file:
        process = subprocess.Popen(
            [python, "-P", "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=make_environment(python, work),
            start_new_session=True,
        )
    try:
        return process.wait(), read_last_line(noise)
    except BaseException:
        process.terminate()  # first politely: it may have children of its own
        try:
            process.wait(LAST_WORDS_S)
        finally:
            end_group(process)
        raise


def make_environment(python: str, work: Path) -> dict[str, str]:
    """Return an environment in which `python` finds our packages.

    This interpreter also finds all that we find; another one nothing but ours, or it would import NumPy built for us.
    """
    links = work / "packages"
    if not links.is_dir():
        links.mkdir(parents=True)
        for package in (Path(__file__).parent, Path(str(edge_runtime.__file__)).parent):
            (links / package.name).symlink_to(package.resolve())
    own = [entry or str(Path.cwd()) for entry in sys.path] if python == sys.executable else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(links), *own])}
