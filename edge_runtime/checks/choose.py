"""Which engine is the fastest on this machine for this model? It is measured, and the verdict kept in the user's cache.

Every engine that imports runs a few drawn images in a child process. One whose masks are not the reference's (LiteRT's
on the CPU, or those of the first engine installed), or that needs too much memory, is rejected with the reason; of the
others the fastest is chosen. A run of few images does not wait for that: it uses a kept verdict, or the first engine
unmeasured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_runtime.inference.engine_verdict import (
    EngineTrial,
    EngineVerdict,
    keep_verdict,
    make_unmeasured_verdict,
    read_verdict,
    share_cores,
)
from edge_runtime.inference.engines.registry import ACCELERATED, ENGINES, count_cores, find_first_engine, is_installed
from edge_runtime.system.machine import read_free_memory

from .trial import LIMIT_S, TrialMasks, try_engine

MIN_IMAGES = 100  # of a run, to be worth measuring: that takes some three seconds, as long as a few dozen images
MIN_AGREEMENT = 0.999  # share of pixels with the reference's label
MAX_DIFFERENCE = 0.01  # of the probability, on average: masks that are empty agree whatever the engine computes
MIN_SPEEDUP = 1.1  # of another engine over the preferred one: less is noise


def choose(
    model: Path,
    sha256: str,
    count: int,
    engine: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    retune: bool = False,
) -> EngineVerdict:
    """Return what to run `count` images with; an engine, threads or workers that are given are kept.

    Raises: EngineError if no engine is installed.
    """
    if engine != "auto":
        verdict = EngineVerdict(engine, count_cores(), 1, None)
    else:
        kept = None if retune else read_verdict(sha256)
        measured = retune or count >= MIN_IMAGES
        verdict = kept or (measure_engines(model, sha256) if measured else make_unmeasured_verdict())
    if threads is None and workers is None:
        return verdict if not 0 < count < verdict.workers else share_cores(verdict, count)
    workers = workers or 1
    return replace(verdict, threads=threads or max(1, count_cores() // workers), workers=workers)


def measure_engines(model: Path, sha256: str, limit_s: float = LIMIT_S, free: int | None = None) -> EngineVerdict:
    """Try every engine, and keep the verdict if one passed. Raises: EngineError if no engine is installed."""
    first = find_first_engine()
    names = [first, *(name for name in ENGINES if name != first and is_installed(name))]
    cores = count_cores()
    if names == [first] and cores == 1:
        return make_unmeasured_verdict("the only engine installed here, on one core")
    free = read_free_memory() if free is None else free
    verdict = choose_fastest(try_all(model, names, cores, limit_s), None if free is None else free // 2)
    if any(not trial.why_not for trial in verdict.table):  # what failed all of them may be this process's own limits
        keep_verdict(sha256, verdict)
    return verdict


def try_all(model: Path, names: Sequence[str], cores: int, limit_s: float) -> list[EngineTrial]:
    """Return the trials of all engines; the first one's masks are the reference."""
    trials: list[EngineTrial] = []
    reference: TrialMasks | None = None
    for name in names:
        found, masks = try_engine(model, EngineTrial(name, cores, 1), limit_s)
        reference = reference or masks
        trials.append(compare_masks(found, masks, reference))
        if reference is None:
            break  # without a reference no other can be trusted
        if cores > 1 and name not in ACCELERATED and not trials[-1].why_not:
            found, masks = try_engine(model, EngineTrial(name, 1, cores), limit_s)
            trials.append(compare_masks(found, masks, reference))
    return trials


def compare_masks(trial: EngineTrial, masks: TrialMasks | None, reference: TrialMasks | None) -> EngineTrial:
    """Return a trial with its agreement, rejected where that is too small."""
    if trial.why_not or masks is None or reference is None:
        return trial
    if masks.labels.shape != reference.labels.shape:
        return replace(trial, why_not="its masks are of another size than the reference's")
    agreement = float((masks.labels == reference.labels).mean())
    difference = float(abs(masks.probability - reference.probability).mean())
    trial = replace(trial, agreement=round(agreement, 6))
    if agreement < MIN_AGREEMENT:
        return replace(trial, why_not=f"its masks agree with the reference's on {agreement:.2%} of the pixels only")
    if not difference <= MAX_DIFFERENCE:
        return replace(trial, why_not=f"its probabilities are {difference:.2g} from the reference's, on average")
    return trial


def choose_fastest(trials: Sequence[EngineTrial], budget: int | None) -> EngineVerdict:
    """Return the fastest trial that is not rejected and within the budget in bytes, another engine if clearly faster.

    Where all are rejected it is the first one.
    """
    table = [check_memory(trial, budget) for trial in trials]
    passed = [trial for trial in table if not trial.why_not]
    if not passed:
        first = trials[0]
        return EngineVerdict(
            first.engine, first.threads, first.workers, f"no engine passed; {table[0].why_not}", tuple(table)
        )
    best = passed[0]
    for trial in passed[1:]:
        if trial.images_per_second > best.images_per_second * (1 if trial.engine == best.engine else MIN_SPEEDUP):
            best = trial
    why = f"the fastest here, {best.images_per_second:g} images a second on drawn ones"
    if len(passed) == 1:
        why = "the only one here that passed"
    return EngineVerdict(best.engine, best.threads, best.workers, why, tuple(table))


def check_memory(trial: EngineTrial, budget: int | None) -> EngineTrial:
    """Return a trial, rejected if it needs more memory than the budget."""
    if trial.why_not or budget is None or trial.peak_rss_bytes <= budget:
        return trial
    needs, has = trial.peak_rss_bytes / 1e6, budget / 1e6
    return replace(trial, why_not=f"it needs {needs:.0f} MB, more than half of the free memory, {has:.0f} MB")
