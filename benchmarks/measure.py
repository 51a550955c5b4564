"""Latency and memory: every candidate loaded in its own child, warmed up, then timed in turns.

One child computes at a time, the others wait for a line. Rounds go forth and back (A B C, C B A, ...), so that a slow
drift, heat above all, hits all alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import EngineError

from .candidates import Candidate, describe_file
from .process import Child
from .samples import compare_rounds, describe

ROUNDS = 30  # of which pairs are made: fewer, and an interval says little
LEAST_SAMPLES = 30
WARM_LEAST, WARM_MOST, WARM_MOST_S = 10, 100, 30.0
# A runtime's threads spin for some milliseconds after their work is done, and would slow the next child.
SPIN_S = 0.02
SINGLE_STREAM_S = 60.0

Subject = dict[str, Any]
Samples = list[tuple[int, float]]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Mode:
    """How much is measured of each subject, and which figure is its headline."""

    name: str
    samples: int
    seconds: float
    headline: str


# single-stream: at least 1,024 queries and 60 s, judged by the 90th percentile. Source: MLPerf Inference rules,
# scenario SingleStream (1,024 queries); the 600 s there are for results that are submitted.
# paper: the mean of 500 passes. Source: Aprianto and Riana 2025, the paper whose nets `reference` rebuilds.
MODES = {
    "standard": Mode("standard", 60, 0.0, "p50_ms"),
    "single-stream": Mode("single-stream", 1024, SINGLE_STREAM_S, "p90_ms"),
    "paper": Mode("paper", 500, 0.0, "mean_ms"),
}


@dataclass
class Running:
    """A candidate in its child, and what was measured of it so far."""

    candidate: Candidate
    child: Child
    loaded: dict[str, Any]
    warm: dict[str, Any] = field(default_factory=dict)
    samples: Samples = field(default_factory=list)
    memories: list[dict[str, Any]] = field(default_factory=list)


def start(candidate: Candidate, tensors: Path, work: Path) -> Running | Subject:
    """Return a candidate loaded and warmed up in its child, or the subject that says why not."""
    if candidate.why_not:
        return leave_out(candidate, "failed" if candidate.failed else "absent", candidate.why_not)
    child: Child | None = None
    try:
        child = Child(candidate.key, candidate.python, work)
        running = load(candidate, child, tensors)
    except EngineError as error:
        if child:
            child.end()
        return leave_out(candidate, "failed", error.why)
    except BaseException:
        if child:
            child.end()
        raise
    if isinstance(running, dict):
        child.end()
    return running


def load(candidate: Candidate, child: Child, tensors: Path) -> Running | Subject:
    """Load and warm up a candidate; a package that its interpreter lacks makes it absent. Raises: EngineError."""
    fields = {"path": str(candidate.path), "threads": candidate.threads, "trust": candidate.trust}
    answer = child.exchange({"do": "load", "engine": candidate.engine, "tensors": str(tensors), **fields})
    if "ok" not in answer:
        status = "absent" if "absent" in answer else "failed"
        return leave_out(candidate, status, answer[status])
    running = Running(candidate, child, answer["ok"])
    running.warm = child.ask("warm", least=WARM_LEAST, most=WARM_MOST, most_s=WARM_MOST_S)
    return running


def leave_out(candidate: Candidate, status: str, reason: str) -> Subject:
    """Return the subject of a candidate that was not measured."""
    said = " ".join(reason.split())
    return {
        "name": candidate.name,
        "role": candidate.role,
        "engine": candidate.engine,
        "status": status,
        "reason": said,
    }


def plan_round(running: Running, mode: Mode, samples: int) -> int:
    """Return how many samples a subject gives in each round."""
    by_time: float = mode.seconds * 1000 * 1.1 / max(running.warm["last_ms"], 1e-3)
    return math.ceil(max(samples, by_time) / ROUNDS)


def take_rounds(
    group: list[Running], mode: Mode, samples: int, after_round: Callable[[int], None]
) -> dict[str, Subject]:
    """Time all subjects in turns until each has its samples and its seconds; one whose child fails leaves the group.

    Returns the subjects that left, by key.
    """
    shares = {running.candidate.key: plan_round(running, mode, samples) for running in group}
    left: dict[str, Subject] = {}
    number = 0
    while group and (number < ROUNDS or not all(is_enough(running, mode, samples) for running in group)):
        for running in list(group if number % 2 == 0 else reversed(group)):
            try:
                take_turn(running, number, shares[running.candidate.key])
            except EngineError as error:
                left[running.candidate.key] = leave_out(running.candidate, "failed", error.why)
                running.child.end()
                group.remove(running)
        number += 1
        after_round(number)
    return left


def take_turn(running: Running, number: int, share: int) -> None:
    """Take a subject's samples of one round. Raises: EngineError."""
    time.sleep(SPIN_S)
    running.samples += [(number, ms) for ms in running.child.ask("run", n=share)["ms"]]
    running.memories.append(running.child.ask("memory"))


def is_enough(running: Running, mode: Mode, samples: int) -> bool:
    """Tell whether a subject has its samples and its seconds."""
    return len(running.samples) >= samples and sum(ms for _, ms in running.samples) >= 1000 * mode.seconds


def to_subject(running: Running) -> Subject:
    """Return a result's subject from what was measured."""
    candidate, loaded, warm = running.candidate, running.loaded, running.warm
    subject = {
        "name": candidate.name,
        "role": candidate.role,
        "status": "ok",
        "engine": candidate.engine,
        "threads": candidate.threads,
        "recipe": candidate.recipe,
        "versions": loaded["versions"],
        "file": describe_file(candidate.path, candidate.file),
        "import_ms": loaded["import_ms"],
        "load_ms": loaded["load_ms"],
        "first_ms": warm["first_ms"],
        "warm_up": {"runs": warm["runs"], "stable": warm["stable"]},
        "latency": describe(running.samples),
        "memory": to_memory(running),
        "parameters": loaded["parameters"],
    }
    return subject | ({"notes": loaded["notes"]} if loaded["notes"] else {})


def to_memory(running: Running) -> dict[str, Any]:
    """Return a subject's `memory`; PSS has no high-water mark in the kernel, so its peak is of the readings."""
    baseline, loaded = running.loaded["baseline"], running.loaded["loaded"]
    readings = [loaded, *running.memories]
    return {
        "baseline_rss_bytes": baseline["rss"],
        "baseline_pss_bytes": baseline["pss"],
        "loaded_rss_bytes": loaded["rss"],
        "loaded_pss_bytes": loaded["pss"],
        "peak_rss_bytes": max((reading["peak_rss"] for reading in readings if reading["peak_rss"]), default=None),
        "peak_pss_bytes": max((reading["pss"] for reading in readings if reading["pss"]), default=None),
    }


def make_pairs(group: Sequence[Running]) -> list[dict[str, Any]]:
    """Return a result's `pairs`: every subject and peer against every baseline of as many threads."""
    return [
        {"subject": one.candidate.key, "baseline": other.candidate.key, **compare_rounds(one.samples, other.samples)}
        for one in group
        for other in group
        if one.candidate.role != "baseline"
        and other.candidate.role == "baseline"
        and one.candidate.threads == other.candidate.threads
    ]
