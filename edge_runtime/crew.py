"""A crew of threads in this process: reading, segmenting and writing overlap, images stay in their order.

Each step of an image is a task in its step's own pool, queued when the image arrives and waiting for the step before.
OpenCV, the interpreters, hashing and file writing release Python's lock, so the steps run side by side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .contract import Contract
from .folder import Options
from .inputs import Input
from .journal import Done
from .session import Session
from .summary import own_version
from .worker import Worker

Answer = tuple[Done, bool]
AHEAD = 3  # images beyond those that are being segmented: read already, or being written


class ThreadCrew:
    """Segments in this process; an image that brings the process down takes the run with it."""

    def __init__(self, load: Callable[[], Session], options: Options) -> None:
        self.load, self.options = load, options
        self.session = load()  # before anything is written: a model that fails leaves no folder behind
        self.contract: Contract = self.session.contract
        self.facts: Mapping[str, Any] = describe_session(self.session)

    def work(self, inputs: Iterator[Input], out: Path, earlier: Mapping[str, Done]) -> Generator[Answer]:
        """Yield what is known of each input, in order; only a few wait in memory."""
        line = Line(Worker(out, self.session, self.load, self.options, earlier), self.options.workers)
        waiting: deque[Future[Answer]] = deque()
        try:
            for item in inputs:
                waiting.append(line.put(item))
                if len(waiting) > self.options.workers + AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            line.close()

    def close(self) -> None:
        """Nothing is held between runs."""


class Line:
    """The steps of a Worker, each with threads of its own."""

    def __init__(self, worker: Worker, workers: int) -> None:
        self.worker = worker
        self.pools = [ThreadPoolExecutor(count) for count in (1, workers, max(1, workers))]

    def put(self, item: Input) -> Future[Answer]:
        """Queue an image; its last step's result is the answer."""
        reading, segmenting, writing = self.pools
        read = reading.submit(self.worker.read, item)
        segmented = segmenting.submit(lambda: self.worker.segment(read.result()))
        return writing.submit(lambda: self.worker.finish(segmented.result()))

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        for pool in self.pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in self.pools:
            pool.shutdown()


def describe_session(session: Session) -> dict[str, Any]:
    """Return what a run says of its engine and packages."""
    import platform

    import cv2
    import numpy as np

    engine = session.engine
    versions = {
        "python": platform.python_version(),
        "edge-seg": own_version(),
        engine.name: engine.version,
        "numpy": np.__version__,
        "opencv": cv2.__version__,  # by whichever of its packages it came
    }
    about = {"name": engine.name, "version": engine.version, "threads": engine.threads}
    return {"engine": about, "threshold": session.threshold, "versions": versions}
