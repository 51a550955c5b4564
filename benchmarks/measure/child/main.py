"""How fast is one model on one engine? A process of its own, which reads requests and answers, both as JSON lines.

    {"do": "load", engine, path, threads, tensors, trust}   import, then load; memory before and after
    {"do": "warm", least, most, most_s}                     run until the times are stable
    {"do": "run", n, warm_caches}                           n timed runs, by default after one untimed run
    {"do": "memory"}
    {"do": "infer", tensors, out}                           (N, 1, H, W, C) to (N, 1, h, w, K), as .npy files
    {"do": "stages", model, engine, threads, images, out}   from image files to output files
    {"do": "quit"}

An answer is {"ok": ...}, {"absent": why} or {"failed": why}. It ends at the end of stdin, as when its parent ends.
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

from benchmarks.measure.timing_statistics import is_stable
from benchmarks.subjects.runtimes import Array, LoadedModel, import_engine, load_model

Reply = dict[str, Any]


def main() -> int:
    """Answer requests until "quit" or the end of stdin."""
    with take_over_stdout() as replies:
        model = ChildModel()
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "quit":
                break
            replies.write(json.dumps(handle_request(model, request)) + "\n")
            replies.flush()
    return 0


def take_over_stdout() -> IO[str]:
    """Return the pipe to the parent; from here on libraries print to stderr."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return pipe


def handle_request(model: ChildModel, request: Reply) -> Reply:
    """Return the answer to one request."""
    try:
        return {"ok": getattr(model, request.pop("do"))(**request)}
    except ImportError as error:
        return {"absent": format_error(error)}
    except Exception as error:  # a runtime may raise anything; the parent reports it
        return {"failed": format_error(error)}


def format_error(error: BaseException) -> str:
    """Return an error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


class ChildModel:
    """This process's model and the tensors that it is timed on, in turn: a single one would stay in the caches."""

    loaded_model: LoadedModel
    tensors: Array  # (N, 1, H, W, C)

    def __init__(self) -> None:
        self.runs = 0

    def load(self, engine: str, path: str, threads: int, tensors: str, trust: str = "") -> Reply:
        """Import the engine's libraries, then load the model."""
        started = time.perf_counter()
        versions = import_engine(engine)
        imported = time.perf_counter()
        self.tensors = np.load(tensors, allow_pickle=False)
        baseline = self.memory()
        load_started = time.perf_counter()
        self.loaded_model = load_model(engine, Path(path), threads, trust)
        loaded = time.perf_counter()
        times = {"import_ms": to_ms(imported - started), "load_ms": to_ms(loaded - load_started)}
        facts = {
            "versions": versions,
            "parameters": self.loaded_model.parameters,
            "notes": list(self.loaded_model.notes),
        }
        return {**times, **facts, "baseline": baseline, "loaded": self.memory()}

    def warm(self, least: int, most: int, most_s: float) -> Reply:
        """Run until the times are stable, at least `least` runs after the first, or until a limit.

        Raises: ValueError if the output is not finite.
        """
        first = self.run_once(check=True)
        times: list[float] = []
        end = time.monotonic() + most_s
        while len(times) < least or not is_stable(times):
            if len(times) >= most or time.monotonic() > end:
                break
            times.append(self.run_once(check=len(times) < len(self.tensors)))
        settled = is_stable(times)
        return {"first_ms": first, "runs": len(times) + 1, "stable": settled, "last_ms": times[-1] if times else first}

    def run(self, n: int, warm_caches: bool = True) -> Reply:
        """Return the milliseconds of n runs; `warm_caches`: after an untimed run that fills the caches."""
        if warm_caches:
            self.run_once()
        return {"ms": [self.run_once() for _ in range(n)]}

    def run_once(self, check: bool = False) -> float:
        """Return the milliseconds of one inference."""
        tensor = self.tensors[self.runs % len(self.tensors)]
        self.runs += 1
        started = time.perf_counter()
        output = self.loaded_model.infer(tensor)
        spent = time.perf_counter() - started
        if check and not np.isfinite(output).all():
            raise ValueError("its output holds values that are not finite")
        return to_ms(spent)

    def memory(self) -> Reply:
        """Return this process's RSS, peak RSS and PSS in bytes."""
        status = read_kilobytes("/proc/self/status")
        rollup = read_kilobytes("/proc/self/smaps_rollup")
        return {"rss": status.get("VmRSS"), "peak_rss": status.get("VmHWM"), "pss": rollup.get("Pss")}

    def infer(self, tensors: str, out: str) -> Reply:
        """Write the outputs for a file of tensors."""
        np.save(out, np.stack([self.loaded_model.infer(tensor) for tensor in np.load(tensors, allow_pickle=False)]))
        return {}

    def stages(self, model: str, engine: str, threads: int, images: list[str], out: str) -> Reply:
        """Time the way from image files to output files, stage by stage."""
        from .stages import time_stages  # imports OpenCV, which timing the model alone does not need

        return time_stages(Path(model), engine, threads, [Path(image) for image in images], Path(out))


def read_kilobytes(path: str) -> dict[str, int]:
    """Return the sizes in a /proc file in bytes; empty where there is no such file."""
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
