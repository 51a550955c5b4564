"""Which engine, threads and workers were measured to be the best here for a model, and where is that verdict kept?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from edge_runtime.errors import EngineError, ModelError
from edge_runtime.inference.engines.registry import ENGINES, count_cores
from edge_runtime.system.cache import make_cache_folder, read_cached, remove_old_entries, write_cached_text
from edge_runtime.system.machine import identify_cpu
from edge_runtime.system.versions import find_version

MAX_KEPT = 32  # verdicts in the cache
FORMAT = 2
MAX_COUNT = 1024  # of threads, and of workers
MAX_NUMBER = 1e15
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class EngineVerdict:
    """What to run with and why; `table` has all trials, none where nothing was measured."""

    engine: str
    threads: int
    workers: int
    why: str | None  # None where the user named the engine
    table: tuple[EngineTrial, ...] = ()


def share_cores(verdict: EngineVerdict, count: int) -> EngineVerdict:
    """Return a verdict of `count` workers, each with its part of the cores."""
    return replace(verdict, workers=count, threads=max(1, count_cores() // count))


def make_unmeasured_verdict(why: str = "the first engine installed here, unmeasured") -> EngineVerdict:
    """Return the verdict without a measurement: "auto", the first engine that is installed."""
    return EngineVerdict("auto", count_cores(), 1, why)


def load_best(verdict: EngineVerdict, load: Callable[[str, int], Loaded]) -> tuple[Loaded, EngineVerdict]:
    """Return load(engine, threads) of the verdict's engine, or of the next best one, and the verdict used.

    Raises: what `load` raises for the last of them, or for an engine that the user named.
    """
    others = sorted(
        (trial for trial in verdict.table if not trial.why_not and trial.engine != verdict.engine),
        key=lambda trial: -trial.images_per_second,
    )
    left = list(dict.fromkeys(trial.engine for trial in others)) if verdict.why is not None else []
    while True:
        try:
            return load(verdict.engine, verdict.threads), verdict
        except (EngineError, ModelError) as error:
            if not left:
                raise
            why = f"the next best, since {verdict.engine} failed: {error}"
            verdict = replace(verdict, engine=left.pop(0), why=why)


def make_key(sha256: str) -> str:
    """Return 16 digits that depend on all that a verdict depends on: the model, the machine, the versions."""
    packages = ("edge-seg", "numpy", "opencv-python-headless", *(package for _, package in ENGINES.values()))
    import platform

    graphics = sorted(path.name for path in Path("/dev/dri").glob("*"))
    machine = [identify_cpu(), platform.release(), count_cores(), platform.python_version(), graphics]
    text = json.dumps([FORMAT, sha256, machine, {name: find_version(name) for name in packages}])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_verdict(sha256: str) -> EngineVerdict | None:
    """Return the kept verdict for a model on this machine; None where there is none, or none that can be used."""
    try:
        folder = make_cache_folder("engines")
        if not any(folder.iterdir()):  # on most machines: saves the time to compute the key
            return None
    except OSError:
        return None
    data = read_cached(folder / f"{make_key(sha256)}.json")
    return None if data is None else from_json(data)


def from_json(data: bytes) -> EngineVerdict | None:
    """Return a verdict from its JSON; None where a field is missing, unknown, of another type or out of range."""
    try:
        fields = json.loads(data)
        if not isinstance(fields["table"], list):
            return None
        verdict = EngineVerdict(**{**fields, "table": tuple(EngineTrial(**trial) for trial in fields["table"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    texts = ["" if verdict.why is None else verdict.why, *(trial.why_not for trial in verdict.table)]
    numbers = [number for trial in verdict.table for number in (trial.images_per_second, trial.agreement)]
    valid = (
        is_setting(verdict)
        and all(is_setting(trial) for trial in verdict.table)
        and all(isinstance(text, str) for text in texts)
        and all(type(number) in (int, float) and 0 <= number < MAX_NUMBER for number in numbers)
        and all(type(trial.peak_rss_bytes) is int and 0 <= trial.peak_rss_bytes < MAX_NUMBER for trial in verdict.table)
    )
    return verdict if valid else None


def is_setting(found: EngineVerdict | EngineTrial) -> bool:
    """Tell whether an engine, threads and workers are such."""
    counts = (found.threads, found.workers)
    known = isinstance(found.engine, str) and found.engine in ENGINES
    return known and all(type(count) is int and 0 < count <= MAX_COUNT for count in counts)


def keep_verdict(sha256: str, verdict: EngineVerdict) -> None:
    """Keep a verdict, where this user has a cache."""
    try:
        folder = make_cache_folder("engines")
    except OSError:
        return
    write_cached_text(folder / f"{make_key(sha256)}.json", json.dumps(asdict(verdict), indent=1) + "\n")
    remove_old_entries(folder, MAX_KEPT)


def to_lines(verdict: EngineVerdict) -> list[str]:
    """Return the trials of a verdict as lines of text."""
    lines = []
    for trial in verdict.table:
        setting = f"{trial.engine} {trial.workers} x {trial.threads} threads"
        figures = (
            f"{trial.images_per_second:g} images a second, {trial.peak_rss_bytes / 1e6:.0f} MB, "
            f"agreement {trial.agreement:.2%}"
        )
        lines.append(f"tried      {setting}: {f'out: {trial.why_not}' if trial.why_not else figures}")
    return lines


@dataclass(frozen=True)
class EngineTrial:
    """The figures of an engine with so many threads and workers; `why_not`, the reason it is rejected, may be empty."""

    engine: str
    threads: int
    workers: int
    images_per_second: float = 0.0
    peak_rss_bytes: int = 0
    agreement: float = 0.0  # share of pixels that have the reference's label
    why_not: str = ""
