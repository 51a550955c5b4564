"""How do child processes segment a run's images, so that one that crashes a decoder or an engine fails alone?

The parent holds nothing but names and outcomes; NumPy, OpenCV and the engine are loaded in the children. Processes
rather than threads, since some engines hold Python's lock while they run; packed weights that are mapped from a file
are shared. Each child has a few images pending. When one dies or does not answer for too long, a new one gets its
pending images one by one: the one that it dies of again is marked as failed, the others are segmented, and the run
goes on as before. Loading has a limit too: a child that exceeds it, also one that replaces another, ends the run.
"""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import ImageError
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.outputs import Options, discard_outputs
from edge_runtime.folder.records.journal import JournalEntry, Outcome
from edge_runtime.folder.records.results_csv import make_row
from edge_runtime.models import DEFAULT

from .child_process import ChildDied, ChildProcess, SessionOptions

MAX_PENDING = 4  # images of a child: one is being read, one segmented, one written, one waits


class ProcessPool:
    """Segments in child processes, which are replaced when they die."""

    def __init__(
        self,
        session: SessionOptions,
        options: Options,
        beat: Callable[[], None] = lambda: None,
        first: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Load the model in a child, then in the others.

        first: the first child's process, from `start_process`, if it was started already.
        beat: called at least once a second while a model is loaded and during `process`; what it raises ends the pool.
        Raises: ModelError, ContractError, EngineError, UsageError, as Session.load does.
        """
        self.options, self.beat = options, beat
        self.children: list[ChildProcess] = []
        try:
            self.children.append(ChildProcess(session, options, first))
            self.children += (ChildProcess(session, options) for _ in range(options.workers - 1))
            self.contract = read_contract(session.path or DEFAULT, verify=True)
            leader, *others = self.children
            leader.load()
            while leader.facts is None:
                self.beat()
                if select.select([leader], (), (), wait_seconds(leader.deadline()))[0]:
                    leader.read_outcomes()
                elif time.monotonic() >= leader.deadline():
                    raise leader.give_up()
            self.facts: Mapping[str, Any] = leader.facts
            for child in others:  # the first has packed the weights that they all map
                child.load()
        except BaseException:
            self.close()
            raise

    def process(self, inputs: Iterator[Input], out: Path, earlier: Mapping[str, JournalEntry]) -> Generator[Outcome]:
        """Yield the outcomes as they come. The children read `earlier` from OUT's journal themselves."""
        for child in self.children:
            child.set_output(out, bool(earlier))
        numbered, more = enumerate(inputs), True
        try:
            while more or any(child.busy for child in self.children):
                while more and (free := self.find_free()):
                    number, item = next(numbered, (-1, None))
                    if item is None:
                        more = False
                        break
                    free.submit(number, item)
                yield from self.wait_for_outcomes(out)
        finally:
            if any(child.busy for child in self.children):  # interrupted: the pending outcomes are not read
                self.close()

    def describe_loading(self) -> str:
        """Return for how long no image can be segmented since all children load the model; "" where one has."""
        if any(child.facts is not None for child in self.children):
            return ""
        seconds = time.monotonic() - min(child.last for child in self.children)
        return f"the model is being loaded again, for {seconds:.0f} s, since the process that had it ended"

    def find_free(self) -> ChildProcess | None:
        """Return the child with the fewest pending images, None where all have enough."""
        ready = (child for child in self.children if child.has_room(MAX_PENDING))
        return min(ready, key=lambda child: len(child.pending), default=None)

    def wait_for_outcomes(self, out: Path) -> list[Outcome]:
        """Wait at most a second for outcomes; replace a child that died or hangs. Raises: what a child reports."""
        self.beat()
        deadline = min(child.deadline() for child in self.children)
        ready, _, _ = select.select(self.children, (), (), wait_seconds(deadline))
        outcomes: list[Outcome] = []
        for child in self.children:
            try:
                if child in ready:
                    outcomes.extend(child.read_outcomes())
                elif time.monotonic() >= child.deadline():
                    raise child.give_up()
            except ChildDied as death:
                outcomes.extend(self.replace(child, str(death), out))
            child.submit_suspect()
        return outcomes

    def replace(self, child: ChildProcess, why: str, out: Path) -> list[Outcome]:
        """Start a new process for one that died: a single pending image has failed, several are suspects."""
        outcomes: list[Outcome] = []
        if child.tests_suspect:
            outcomes = [self.record_failure(item, why, out) for item in child.pending.values()]
        else:
            child.suspects.extend(child.pending.items())
        child.restart()
        return outcomes

    def record_failure(self, item: Input, why: str, out: Path) -> Outcome:
        """Return the outcome of an image that a child died of."""
        discard_outputs(out, item, ())
        error = ImageError(item.file, why, "take it out")
        return Outcome(JournalEntry("", make_row(self.contract, item.file, str(error)), {}), fresh=True)

    def close(self) -> None:
        """End the children, whatever they are doing."""
        for child in self.children:
            child.kill()


def wait_seconds(deadline: float) -> float:
    """Return how long to wait for a deadline, at most a second: `beat` is called between."""
    return max(0.0, min(1.0, deadline - time.monotonic()))
