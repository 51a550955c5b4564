"""How fast is every candidate, and how much memory does it take? Each in its own process, timed in rounds.

One child computes at a time; the others wait for a request. Rounds alternate their order (A B C, C B A, ...), so that
a slow drift, mainly by heat, affects all alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure.child.process import Child
from benchmarks.subjects.candidates import Candidate, describe_file
from edge_runtime.errors import EngineError

from .timing_statistics import compare_rounds, summarize_latency

ROUNDS = 30  # fewer pairs make wide intervals
MIN_SAMPLES = 30
MIN_WARM_UP, MAX_WARM_UP, MAX_WARM_UP_S = 10, 100, 30.0
# A runtime's threads spin for some milliseconds after their work is done, and would slow the next child.
SPIN_S = 0.02
SINGLE_STREAM_S = 60.0

Subject = dict[str, Any]
Samples = list[tuple[int, float]]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Mode:
    """How much is measured of each subject, and which figure the report states first."""

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
class RunningCandidate:
    """A candidate loaded in its child process, and its measurements so far."""

    candidate: Candidate
    child: Child
    loaded: dict[str, Any]
    warm: dict[str, Any] = field(default_factory=dict)
    samples: Samples = field(default_factory=list)
    memories: list[dict[str, Any]] = field(default_factory=list)


def start_candidate(candidate: Candidate, tensors: Path, work: Path) -> RunningCandidate | Subject:
    """Return a candidate loaded and warmed up in its child, or an unmeasured subject with the reason."""
    if candidate.why_not:
        return to_unmeasured_subject(candidate, "failed" if candidate.failed else "absent", candidate.why_not)
    child: Child | None = None
    try:
        child = Child(candidate.key, candidate.python, work)
        running = load_candidate(candidate, child, tensors)
    except EngineError as error:
        if child:
            child.end()
        return to_unmeasured_subject(candidate, "failed", error.why)
    except BaseException:
        if child:
            child.end()
        raise
    if isinstance(running, dict):
        child.end()
    return running


def load_candidate(candidate: Candidate, child: Child, tensors: Path) -> RunningCandidate | Subject:
    """Load and warm up a candidate; without its package it is an absent subject. Raises: EngineError."""
    fields = {"path": str(candidate.path), "threads": candidate.threads, "trust": candidate.trust}
    answer = child.exchange({"do": "load", "engine": candidate.engine, "tensors": str(tensors), **fields})
    if "ok" not in answer:
        status = "absent" if "absent" in answer else "failed"
        return to_unmeasured_subject(candidate, status, answer[status])
    running = RunningCandidate(candidate, child, answer["ok"])
    running.warm = child.request("warm", least=MIN_WARM_UP, most=MAX_WARM_UP, most_s=MAX_WARM_UP_S)
    return running


def to_unmeasured_subject(candidate: Candidate, status: str, reason: str) -> Subject:
    """Return the subject of a candidate that was not measured."""
    subject = {"name": candidate.name, "role": candidate.role, "engine": candidate.engine}
    return {**subject, "status": status, "reason": " ".join(reason.split())}


def count_samples_per_round(running: RunningCandidate, mode: Mode, samples: int) -> int:
    """Return the number of samples of a subject in each round."""
    by_time: float = mode.seconds * 1000 * 1.1 / max(running.warm["last_ms"], 1e-3)
    return math.ceil(max(samples, by_time) / ROUNDS)


def run_rounds(
    group: list[RunningCandidate], mode: Mode, samples: int, after_round: Callable[[int], None]
) -> dict[str, Subject]:
    """Time all subjects in turns until each has its samples and its seconds; return those that failed, by key.

    A subject whose child fails is removed from `group`.
    """
    counts = {running.candidate.key: count_samples_per_round(running, mode, samples) for running in group}
    failed: dict[str, Subject] = {}
    number = 0
    while group and (number < ROUNDS or not all(has_enough(running, mode, samples) for running in group)):
        for running in list(group if number % 2 == 0 else reversed(group)):
            try:
                run_turn(running, number, counts[running.candidate.key])
            except EngineError as error:
                failed[running.candidate.key] = to_unmeasured_subject(running.candidate, "failed", error.why)
                running.child.end()
                group.remove(running)
        number += 1
        after_round(number)
    return failed


def run_turn(running: RunningCandidate, number: int, count: int) -> None:
    """Time a subject's samples of one round. Raises: EngineError."""
    time.sleep(SPIN_S)
    running.samples += [(number, ms) for ms in running.child.request("run", n=count)["ms"]]
    running.memories.append(running.child.request("memory"))


def has_enough(running: RunningCandidate, mode: Mode, samples: int) -> bool:
    """Return whether a subject has its samples and its seconds."""
    return len(running.samples) >= samples and sum(ms for _, ms in running.samples) >= 1000 * mode.seconds


def to_subject(running: RunningCandidate) -> Subject:
    """Return a result's subject from a candidate's measurements."""
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
        "latency": summarize_latency(running.samples),
        "memory": to_memory(running),
        "parameters": loaded["parameters"],
    }
    return subject | ({"notes": loaded["notes"]} if loaded["notes"] else {})


def to_memory(running: RunningCandidate) -> dict[str, Any]:
    """Return a subject's `memory`; the kernel keeps no peak of PSS, so that is the highest of the readings."""
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


def make_pairs(group: Sequence[RunningCandidate]) -> list[dict[str, Any]]:
    """Return a result's `pairs`: every subject and peer with every baseline of the same number of threads."""
    return [
        {"subject": one.candidate.key, "baseline": other.candidate.key, **compare_rounds(one.samples, other.samples)}
        for one in group
        for other in group
        if one.candidate.role != "baseline"
        and other.candidate.role == "baseline"
        and one.candidate.threads == other.candidate.threads
    ]
