"""Which engine to take on this machine for this model, by measuring; the verdict is kept in the user's cache.

Every engine that imports runs a few drawn images in a child process. One whose masks are not the reference's (LiteRT's
on the CPU, or the first engine's there is), or that needs too much memory, is out with the reason; the fastest of the
rest wins. A run of few images does not wait for that: it takes a kept verdict, or the first engine unmeasured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ..cache import cache_folder, forget_old, keep_text
from ..errors import EngineError, ModelError
from ..versions import find_version
from . import ACCELERATED, ENGINES, count_cores, find_first, is_installed
from .machine import identify_cpu, read_free_memory
from .trial import LIMIT_S, Masks, Trial, try_engine

WORTH_IMAGES = 100  # measuring costs some three seconds, as much as a few dozen images
LEAST_AGREEMENT = 0.999  # share of pixels with the reference's label
MOST_DIFFERENCE = 0.01  # of the probability, on average: masks that are empty anyhow agree too easily
CLEARLY_FASTER = 1.1  # less is noise, and an engine of one's own choice is not left for noise
KEPT = 32
FORMAT = 2
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Verdict:
    """What to run with and why; `table` has all that was tried, empty where nothing was measured."""

    engine: str
    threads: int
    workers: int
    why: str | None  # None where the engine was asked for by name
    table: tuple[Trial, ...] = ()


def choose(
    model: Path,
    sha256: str,
    count: int,
    engine: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    retune: bool = False,
) -> Verdict:
    """Return what to run `count` images with; what is asked for by name or number is not chosen.

    Raises: EngineError if no engine is installed.
    """
    if engine != "auto":
        verdict = Verdict(engine, count_cores(), 1, None)
    else:
        kept = None if retune else read_verdict(sha256)
        worth = retune or count >= WORTH_IMAGES
        verdict = kept or (measure(model, sha256) if worth else take_first())
    if threads is None and workers is None:
        return verdict if not 0 < count < verdict.workers else share_cores(verdict, count)
    workers = workers or 1
    return replace(verdict, threads=threads or max(1, count_cores() // workers), workers=workers)


def share_cores(verdict: Verdict, count: int) -> Verdict:
    """Return a verdict of as many workers as there are images, each with its part of the cores."""
    return replace(verdict, workers=count, threads=max(1, count_cores() // count))


def take_first(why: str = "the first engine installed here, unmeasured") -> Verdict:
    """Return the verdict without any measurement; which engine is the first is found where it is loaded."""
    return Verdict("auto", count_cores(), 1, why)


def measure(model: Path, sha256: str, limit_s: float = LIMIT_S, free: int | None = None) -> Verdict:
    """Try every engine, and keep the verdict. Raises: EngineError if no engine is installed."""
    first = find_first()
    names = [first, *(name for name in ENGINES if name != first and is_installed(name))]
    cores = count_cores()
    if names == [first] and cores == 1:
        return take_first("the only engine installed here, on one core")
    free = read_free_memory() if free is None else free
    verdict = judge(try_all(model, names, cores, limit_s), None if free is None else free // 2)
    keep_verdict(sha256, verdict)
    return verdict


def try_all(model: Path, names: Sequence[str], cores: int, limit_s: float) -> list[Trial]:
    """Return the trials of all engines; the first one's masks are the reference."""
    trials: list[Trial] = []
    reference: Masks | None = None
    for name in names:
        found, masks = try_engine(model, Trial(name, cores, 1), limit_s)
        reference = reference or masks
        trials.append(compare(found, masks, reference))
        if reference is None:
            break  # without a reference no other can be trusted
        if cores > 1 and name not in ACCELERATED and not trials[-1].why_not:
            found, masks = try_engine(model, Trial(name, 1, cores), limit_s)
            trials.append(compare(found, masks, reference))
    return trials


def compare(trial: Trial, masks: Masks | None, reference: Masks | None) -> Trial:
    """Return a trial with its agreement, and out where that is too small."""
    if trial.why_not or masks is None or reference is None:
        return trial
    if masks.labels.shape != reference.labels.shape:
        return replace(trial, why_not="its masks are of another size than the reference's")
    agreement = float((masks.labels == reference.labels).mean())
    difference = float(abs(masks.probability - reference.probability).mean())
    trial = replace(trial, agreement=round(agreement, 6))
    if agreement < LEAST_AGREEMENT:
        return replace(trial, why_not=f"its masks agree with the reference's on {agreement:.2%} of the pixels only")
    if not difference <= MOST_DIFFERENCE:
        return replace(trial, why_not=f"its probabilities are {difference:.2g} from the reference's, on average")
    return trial


def judge(trials: Sequence[Trial], budget: int | None) -> Verdict:
    """Return the fastest of the trials that are not out and within the budget in bytes, another engine if clearly so.

    The first trial stands where all others are out.
    """
    table = [refuse_large(trial, budget) for trial in trials]
    taken = [trial for trial in table if not trial.why_not]
    if not taken:
        first = trials[0]
        return Verdict(
            first.engine, first.threads, first.workers, f"no engine passed; {table[0].why_not}", tuple(table)
        )
    best = taken[0]
    for trial in taken[1:]:
        if trial.images_per_second > best.images_per_second * (1 if trial.engine == best.engine else CLEARLY_FASTER):
            best = trial
    why = f"the fastest here, {best.images_per_second:g} images a second on drawn ones"
    if len(taken) == 1:
        why = "the only one here that passed"
    return Verdict(best.engine, best.threads, best.workers, why, tuple(table))


def refuse_large(trial: Trial, budget: int | None) -> Trial:
    """Return a trial, out if it needs more memory than the budget."""
    if trial.why_not or budget is None or trial.peak_rss_bytes <= budget:
        return trial
    needs, has = trial.peak_rss_bytes / 1e6, budget / 1e6
    return replace(trial, why_not=f"it needs {needs:.0f} MB, more than half of the free memory, {has:.0f} MB")


def load_best(verdict: Verdict, load: Callable[[str, int], Loaded]) -> tuple[Loaded, Verdict]:
    """Return load(engine, threads) of the verdict's engine, or of the next best one, and the verdict that then stands.

    Raises: what `load` raises for the last of them, or for an engine that was asked for by name.
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
    """Return what a verdict depends on, as 16 digits: the model, the machine, the versions."""
    packages = ("edge-seg", "numpy", "opencv-python-headless", *(package for _, package in ENGINES.values()))
    import platform

    graphics = sorted(path.name for path in Path("/dev/dri").glob("*"))
    machine = [identify_cpu(), platform.release(), count_cores(), platform.python_version(), graphics]
    text = json.dumps([FORMAT, sha256, machine, {name: find_version(name) for name in packages}])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_verdict(sha256: str) -> Verdict | None:
    """Return the kept verdict for a model on this machine; None where there is none, or none that can be read."""
    try:
        folder = cache_folder("engines")
        if not any(folder.iterdir()):  # most machines: the key is not worth making
            return None
        return from_fields(json.loads((folder / f"{make_key(sha256)}.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def from_fields(fields: dict[str, Any]) -> Verdict:
    """Return a verdict from its JSON. Raises: ValueError, TypeError or KeyError for what is none."""
    verdict = Verdict(**{**fields, "table": tuple(Trial(**trial) for trial in fields["table"])})
    numbers = (verdict.threads, verdict.workers)
    if verdict.engine not in ENGINES or not all(isinstance(n, int) and 0 < n <= 1024 for n in numbers):
        raise ValueError("no verdict")
    return verdict


def keep_verdict(sha256: str, verdict: Verdict) -> None:
    """Keep a verdict, where this user has a cache."""
    try:
        folder = cache_folder("engines")
    except OSError:
        return
    keep_text(folder / f"{make_key(sha256)}.json", json.dumps(asdict(verdict), indent=1) + "\n")
    forget_old(folder, KEPT)


def to_lines(verdict: Verdict) -> list[str]:
    """Return a verdict as lines that a person reads."""
    lines = [f"engine: {verdict.engine}, {verdict.threads} threads, {verdict.workers} workers: {verdict.why}"]
    for trial in verdict.table:
        setting = f"{trial.engine} {trial.workers} x {trial.threads} threads"
        figures = (
            f"{trial.images_per_second:g} images a second, {trial.peak_rss_bytes / 1e6:.0f} MB, "
            f"agreement {trial.agreement:.2%}"
        )
        lines.append(f"engine.tried: {setting}: {f'out: {trial.why_not}' if trial.why_not else figures}")
    return lines
