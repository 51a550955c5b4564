"""One model on one engine in a process of its own: reads JSON lines, does what each says, answers with one line.

    {"do": "load", engine, path, threads, tensors, trust}   import, then load; memory before and after
    {"do": "warm", least, most, most_s}                     run until settled
    {"do": "run", n, settle}                                n timed runs, by default after one that is not counted
    {"do": "memory"}
    {"do": "infer", tensors, out}                           (N, 1, H, W, C) to (N, 1, h, w, K), as .npy files
    {"do": "stages", model, engine, threads, images, out}   the whole way from file to files
    {"do": "quit"}

An answer is {"ok": ...}, {"absent": why} or {"failed": why}. It ends when its parent does: reading then meets the end.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from .engines import Array, Opened, import_engine, open_model
from .samples import is_settled

Reply = dict[str, Any]


def main() -> int:
    """Answer requests until told to quit."""
    with take_stdout() as answers:
        bench = Bench()
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "quit":
                break
            answers.write(json.dumps(answer(bench, request)) + "\n")
            answers.flush()
    return 0


def take_stdout() -> IO[str]:
    """Return the pipe to the parent; what libraries print goes to stderr from here on."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return pipe


def answer(bench: Bench, request: Reply) -> Reply:
    """Return the answer to one request."""
    try:
        return {"ok": getattr(bench, request.pop("do"))(**request)}
    except ImportError as error:
        return {"absent": first_line(error)}
    except Exception as error:  # whatever a foreign runtime raises is its answer, and its parent's to tell
        return {"failed": first_line(error)}


def first_line(error: BaseException) -> str:
    """Return an error as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


class Bench:
    """The model of this process and the tensors that it is timed on, taken in turn: one input again and again would
    find its data in the caches, which real use does not."""

    opened: Opened
    tensors: Array  # (N, 1, H, W, C)

    def __init__(self) -> None:
        self.at = 0

    def load(self, engine: str, path: str, threads: int, tensors: str, trust: str = "") -> Reply:
        """Import the engine's libraries, then load the model."""
        started = time.perf_counter()
        versions = import_engine(engine)
        imported = time.perf_counter()
        self.tensors = np.load(tensors, allow_pickle=False)
        baseline = self.memory()
        began = time.perf_counter()
        self.opened = open_model(engine, Path(path), threads, trust)
        loaded = time.perf_counter()
        times = {"import_ms": to_ms(imported - started), "load_ms": to_ms(loaded - began)}
        facts = {"versions": versions, "parameters": self.opened.parameters, "notes": list(self.opened.notes)}
        return {**times, **facts, "baseline": baseline, "loaded": self.memory()}

    def warm(self, least: int, most: int, most_s: float) -> Reply:
        """Run until the times settle, at least `least` runs after the first; stop at a limit and say so.

        Raises: ValueError if the output is not finite, which no speed makes up for.
        """
        first = self.once(check=True)
        times: list[float] = []
        end = time.monotonic() + most_s
        while len(times) < least or not is_settled(times):
            if len(times) >= most or time.monotonic() > end:
                break
            times.append(self.once(check=len(times) < len(self.tensors)))
        settled = is_settled(times)
        return {"first_ms": first, "runs": len(times) + 1, "stable": settled, "last_ms": times[-1] if times else first}

    def run(self, n: int, settle: bool = True) -> Reply:
        """Return n milliseconds; `settle`: after a run that finds another process's data in the caches, not counted."""
        if settle:
            self.once()
        return {"ms": [self.once() for _ in range(n)]}

    def once(self, check: bool = False) -> float:
        """Return the milliseconds of one inference."""
        tensor = self.tensors[self.at % len(self.tensors)]
        self.at += 1
        started = time.perf_counter()
        output = self.opened.infer(tensor)
        spent = time.perf_counter() - started
        if check and not np.isfinite(output).all():
            raise ValueError("its output holds values that are not finite")
        return to_ms(spent)

    def memory(self) -> Reply:
        """Return this process's resident and proportional set size and the highest resident one, in bytes."""
        status = read_kilobytes("/proc/self/status")
        rollup = read_kilobytes("/proc/self/smaps_rollup")
        return {"rss": status.get("VmRSS"), "peak_rss": status.get("VmHWM"), "pss": rollup.get("Pss")}

    def infer(self, tensors: str, out: str) -> Reply:
        """Write the outputs for a file of tensors."""
        np.save(out, np.stack([self.opened.infer(tensor) for tensor in np.load(tensors, allow_pickle=False)]))
        return {}

    def stages(self, model: str, engine: str, threads: int, images: list[str], out: str) -> Reply:
        """Time the way from image files to output files, stage by stage."""
        from .stages import time_stages  # with OpenCV, which the timing of the model alone does without

        return time_stages(Path(model), engine, threads, [Path(image) for image in images], Path(out))


def read_kilobytes(path: str) -> dict[str, int]:
    """Return the sizes in a /proc file in bytes; none where there is no such file."""
    try:
        text = Path(path).read_text()
    except OSError:
        return {}
    return {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}


def to_ms(seconds: float) -> float:
    """Return milliseconds, to a tenth of a microsecond."""
    return round(1000 * seconds, 4)


if __name__ == "__main__":
    sys.exit(main())
