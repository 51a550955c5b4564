"""How do threads of this process segment a run's images, their order kept?

Each step of an image is a task in its step's own thread pool, queued when the image arrives and waiting for the step
before. OpenCV, the interpreters, hashing and file writing release Python's lock, so the steps run side by side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from edge_runtime.contract.fields import Contract
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.pipeline import ImageProcessor, Pipeline, describe_session
from edge_runtime.folder.records.journal import JournalEntry, Outcome
from edge_runtime.inference.session import Session

AHEAD = 3  # images beyond those that are being segmented: read already, or being written


class ThreadPool:
    """Segments in this process; an image that crashes the process ends the run."""

    def __init__(self, load: Callable[[], Session], options: Options) -> None:
        self.load, self.options = load, options
        self.session = load()  # before anything is written: a model that fails leaves no folder behind
        self.contract: Contract = self.session.contract
        self.facts: Mapping[str, Any] = describe_session(self.session)

    def process(self, inputs: Iterator[Input], out: Path, earlier: Mapping[str, JournalEntry]) -> Generator[Outcome]:
        """Yield the outcome of each input, in order; only a few wait in memory."""
        processor = ImageProcessor(out, self.session, self.load, self.options, earlier)
        pipeline = Pipeline(processor, self.options.workers)
        pending: deque[Future[Outcome]] = deque()
        try:
            for item in inputs:
                pending.append(pipeline.submit(item))
                if len(pending) > self.options.workers + AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pipeline.close()

    def describe_loading(self) -> str:
        """Return "": the model was loaded at the start."""
        return ""

    def close(self) -> None:
        """Nothing is held between runs."""
