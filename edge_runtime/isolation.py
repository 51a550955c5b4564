"""A crew of processes: an image that brings a decoder or an engine down costs that image, not the run.

The parent holds nothing but names and answers; NumPy, OpenCV and the engine live in the children, one for each image at
a time. Processes rather than threads, since some engines hold Python's lock while they run; packed weights that are
mapped from a file are shared. Each child has a few images under way. When one dies or keeps silent for too long, a new
one gets its unanswered images one by one: the one that it dies of again is marked as failed, the others are done, and
the run goes on as before.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from .contract import read_contract
from .errors import ImageError
from .folder import Options, discard_outputs
from .inputs import Input
from .journal import Done, Row
from .models import DEFAULT
from .parent import Answer, Child, Died, Job
from .results import columns

EACH = 4  # images that a child has: one is being read, one segmented, one written, one waits
AHEAD = 16  # images a child, that may be under way or answered before their turn


class IsolatedCrew:
    """Segments in children, which are replaced when they die."""

    def __init__(self, job: Job, options: Options, beat: Callable[[], None] = lambda: None) -> None:
        """Load the model in a child, and have the others load it. beat: called at least once a second during work.

        Raises: ModelError, ContractError, EngineError, UsageError, as Session.load does.
        """
        self.job, self.options, self.beat = job, options, beat
        self.children: list[Child] = []
        try:
            self.children += (Child(job, options) for _ in range(options.workers))
            self.contract = read_contract(job.model or DEFAULT, verify=True)
            first, *others = self.children
            first.load()
            while first.facts is None:
                first.read()
            self.facts: Mapping[str, Any] = first.facts
            for child in others:  # the first has packed the weights that they all map
                child.load()
        except BaseException:
            self.close()
            raise

    def work(self, inputs: Iterator[Input], out: Path, earlier: Mapping[str, Done]) -> Generator[Answer]:
        """Yield what is known of each input, in order. The children read `earlier` in OUT's journal by themselves."""
        for child in self.children:
            child.begin(out, bool(earlier))
        held: deque[int] = deque()  # in order: asked, not yielded
        answers: dict[int, Answer] = {}
        numbered, more = enumerate(inputs), True
        try:
            while more or held:
                while more and len(held) < AHEAD * len(self.children) and (free := self.find_free()):
                    number, item = next(numbered, (-1, None))
                    if item is None:
                        more = False
                        break
                    held.append(number)
                    free.ask(number, item)
                if held and held[0] in answers:
                    yield answers.pop(held.popleft())
                elif held or more:
                    answers.update(self.listen(out))
        finally:
            if any(child.held for child in self.children):  # interrupted: nobody waits for what is under way
                self.close()

    def find_free(self) -> Child | None:
        """Return the child with the fewest images under way, None where all have enough."""
        ready = (child for child in self.children if child.has_room(EACH))
        return min(ready, key=lambda child: len(child.held), default=None)

    def listen(self, out: Path) -> dict[int, Answer]:
        """Wait at most a second for answers; go on where a child died or is silent. Raises: what a child reports."""
        self.beat()
        end = min(child.end() for child in self.children)
        ready, _, _ = select.select(self.children, (), (), max(0.0, min(1.0, end - time.monotonic())))
        answers: dict[int, Answer] = {}
        for child in self.children:
            try:
                if child in ready:
                    answers.update(child.read())
                elif time.monotonic() >= child.end():
                    child.kill()
                    raise Died(
                        f"it took longer than {self.options.max_seconds:g} s; raise --max-seconds if that is right"
                    )
            except Died as death:
                answers.update(self.replace(child, str(death), out))
            child.ask_suspect()
        return answers

    def replace(self, child: Child, why: str, out: Path) -> dict[int, Answer]:
        """Put a new process where one died: what it had alone has failed, what it had together is suspect."""
        answers: dict[int, Answer] = {}
        if child.alone:
            answers = {number: (self.fail(item, why, out), True) for number, item in child.held.items()}
        else:
            child.suspects.extend(child.held.items())
        child.restart()
        return answers

    def fail(self, item: Input, why: str, out: Path) -> Done:
        """Return what is known of an image that cost a child."""
        row: Row = dict.fromkeys(columns(self.contract), "")
        row.update(file=item.file, status="failed", error=str(ImageError(item.file, why, "take it out")))
        discard_outputs(out, item, ())
        return Done("", row, {})

    def close(self) -> None:
        """End the children, which have nothing left to do."""
        for child in self.children:
            child.kill()
