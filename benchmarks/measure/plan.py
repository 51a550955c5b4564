"""What is a run asked to measure, and what has it measured so far?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.subjects.candidates import Notify
from benchmarks.subjects.images import ImageSet
from benchmarks.subjects.peers import PEERS_PYTHON
from edge_runtime.errors import UsageError
from edge_runtime.inference.engines.registry import count_cores

from .rounds import MIN_SAMPLES, MODES, RunningCandidate, Subject


@dataclass(frozen=True)
class RunPlan:
    """What a run measures, and how."""

    models: tuple[Path, ...]
    images: Path
    masks: Path | None
    engines: tuple[str, ...]
    threads: tuple[int, ...]
    mode: str
    samples: int
    peers: bool
    pythons: dict[str, str]  # by engine; "" for all
    calibrate: Path | None
    sustain_minutes: float | None
    soak_runs: int | None
    meter: Path | None
    price: float | None
    currency: str | None
    studies_per_day: float | None
    trust: str
    pictures: bool
    command: tuple[str, ...]


@dataclass
class RunState:
    """The state of a run: its loaded candidates, and the subjects that could not be measured."""

    group: list[RunningCandidate]
    subjects: dict[str, Subject]
    data: ImageSet
    work: Path
    show: Notify

    @property
    def main(self) -> RunningCandidate:
        """Return the main subject: the first model's with the most threads, on the first engine."""
        first = self.group[0].candidate
        same = [one for one in self.group if (one.candidate.path, one.candidate.engine) == (first.path, first.engine)]
        return max(same, key=lambda one: one.candidate.threads)


def make_plan(options: Mapping[str, Any], command: tuple[str, ...]) -> RunPlan:
    """Return the plan for the options of `run`, checked.

    Raises: UsageError for too few samples, for a path that does not exist, and for a sustained test that is too short.
    """
    mode, common = MODES[options["mode"]], os.environ.get(PEERS_PYTHON)
    samples = options["samples"] or mode.samples
    if samples < max(MIN_SAMPLES, mode.samples if mode.name == "single-stream" else 0):
        raise UsageError(f"--samples {samples}", "too few for a result", "30 or more, 1024 in single-stream")
    if options["meter"] and not options["meter"].is_file():
        raise UsageError(f"--meter {options['meter']}", "no such file", "start the meter's log first")
    if options["masks"] and not options["masks"].is_dir():
        raise UsageError(f"--masks {options['masks']}", "no such folder", "give a folder of masks")
    if options["masks"] and options["images"].is_dir() and options["masks"].samefile(options["images"]):
        raise UsageError(f"--masks {options['masks']}", "it is the folder of --images", "give the folder of masks")
    minutes = options["sustain_minutes"]
    if minutes and minutes < 2:
        raise UsageError(f"--sustain {minutes:g}", "the last minute is compared with the first", "2 or more")
    if common and not os.access(common, os.X_OK):
        raise UsageError(f"{PEERS_PYTHON}={common}", "it is not a program", "name an interpreter, or unset it")
    given = {field.name: options[field.name] for field in fields(RunPlan)}
    made = {
        "models": tuple(options["models"]),
        "threads": options["threads"] or (count_cores(),),
        "samples": samples,
        "pythons": {**({"": common} if common else {}), **dict(options["pythons"])},
        "command": command,
    }
    return RunPlan(**given | made)
