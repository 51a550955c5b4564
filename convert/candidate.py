"""One recipe tried on one model: laid out, stored, audited, compared with Keras, timed. Nothing is written yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edge_runtime.contract import Contract
from edge_runtime.errors import AuditError

from .audit import FINDINGS, Audit, Finding, audit_model, find_differences
from .integer import Integers, feed, fit_contract
from .quantize import list_weights
from .recipes import Recipe
from .settings import Settings, build_contract
from .tune import Choice, cache_key, check_choice, choose_layout, choose_rounds, keep_choice, pair, rewrite, store
from .verify import Checks, compare_classes, compare_outputs, open_engine, run_model, time_models

CLOCK_S = 5.0  # for one comparison with the float32 original
CLOSE, CLOSE_RACES = 0.05, 3  # a ratio this near to 1 is measured again, so many times in all


@dataclass(frozen=True)
class Job:
    """Everything that is known of a conversion once the child has loaded the model; the same for every recipe."""

    model: Path
    sha256: str  # of the model
    work: Path  # holds fp32.tflite, graph.tflite and checks.npz
    facts: dict[str, Any]
    settings: Settings
    upsample: str
    target: str
    keep_float: int | None
    choice: Choice | None  # as told with --choices
    retune: bool
    allow: Collection[str]
    say: Callable[[str], None]
    inputs: Sequence[Any] = field(repr=False, default=())  # drawn, (1, H, W, C)
    expected: Sequence[Any] = field(repr=False, default=())  # Keras' outputs for them, (1, h, w, K)
    integers: Integers | None = None  # where there are images to calibrate with

    @property
    def graph(self) -> bytes:
        """The static float32 file, tidied: what every recipe is made of."""
        return (self.work / "graph.tflite").read_bytes()


@dataclass(frozen=True)
class Candidate:
    """One recipe's file, and all that was found out about it."""

    recipe: Recipe
    flatbuffer: bytes
    choice: Choice
    rewritten: dict[str, int]  # transposed convolution: weights added
    audit: Audit
    checks: Checks
    clock: dict[str, list[float]]  # milliseconds of "fp32" and "result", taken in turns
    contract: Contract

    @property
    def ratio(self) -> float | None:
        """The result's time as a share of the float32 original's, median over rounds; None where nothing was timed."""
        return pair(self.clock["result"], self.clock["fp32"]) if "result" in self.clock else None


def make_candidate(job: Job, recipe: Recipe) -> Candidate:
    """Return a recipe's file, audited, compared and timed.

    Raises:
        AuditError: a finding that was not allowed.
    """
    choice = choose(job, recipe)
    graph, rewritten = rewrite(job.graph, choice.forms)
    if recipe.kind == "integer" and job.integers is not None:
        job.say(f"calibrating on {len(job.integers.calibrated.samples)} images")
    flatbuffer = store(graph, recipe, choice.kept, job.target, job.integers)
    path = job.work / f"{recipe.name}.candidate.tflite"
    path.write_bytes(flatbuffer)
    fp32_bytes = (job.work / "fp32.tflite").stat().st_size
    facts = job.facts | {"rewritten": rewritten}
    audit = audit_model(path, fp32_bytes, facts, recipe, job.target, choice.kept, graph)
    refuse(job, audit)
    contract = build_contract(job.facts, job.settings, job.model, recipe.name, job.sha256, ())
    if recipe.kind == "integer" and job.integers is not None:
        contract = fit_contract(contract, flatbuffer, job.integers.calibrated.calibration)
    engine, inputs = open_engine(path), [feed(flatbuffer, x) for x in job.inputs]
    checks = compare_outputs(job.expected, [run_model(engine, x) for x in inputs], contract.threshold.value)
    checks = compare_classes(checks, engine, inputs, job.work)
    same = flatbuffer == (job.work / "fp32.tflite").read_bytes()
    clock = {} if same else time_result(job, path, inputs[-1])
    findings = (*audit.findings, *find_differences(checks, recipe), *find_slowness(clock, recipe))
    audit = replace(audit, findings=findings)
    refuse(job, audit)
    # The clock differs from run to run, the bytes must not: once allowed, its finding is written down, found or not.
    named = {finding.name for finding in findings} | ({"slower"} & set(job.allow) if clock else set())
    contract = replace(contract, allowed=tuple(sorted(named)))
    return Candidate(recipe, flatbuffer, choice, rewritten, audit, checks, clock, contract)


def choose(job: Job, recipe: Recipe) -> Choice:
    """Return the layout: as told, as kept from an earlier conversion, or measured now."""
    if job.choice is not None:
        check_choice(job.choice, job.graph)
        return job.choice
    kept = None if job.keep_float is None else find_cheap(job.graph, job.keep_float)

    def measure() -> Choice:
        job.say(f"measuring layouts of {recipe.name}")
        tensor, work = job.inputs[-1], job.work
        return choose_layout(job.graph, recipe, job.upsample, job.target, tensor, work, kept, job.integers)

    facts: dict[str, Any] = {"model": job.sha256, "recipe": recipe.name, "upsample": job.upsample, "target": job.target}
    facts |= {"kept": kept, "versions": job.facts["versions"], "shape": job.facts["input_shape"]}
    return keep_choice(cache_key(facts), measure, job.retune)


def find_cheap(original: bytes, limit: int) -> list[str]:
    """Return the names of the convolutions of fewer than `limit` filters times taps."""
    names = []
    for weight in list_weights(original):
        if weight.operation in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            filters, height, width, _ = weight.shape  # (1, height, width, channels) of a DEPTHWISE_CONV_2D
            names += [weight.name] if filters * height * width < limit else []
    return names


def time_result(job: Job, path: Path, tensor: Any) -> dict[str, list[float]]:
    """Return milliseconds of the float32 original and of a result, taken in turns; a close race is run for longer.

    tensor: what the result is given, the last of the job's inputs as its own type.
    """
    engines = {"fp32": open_engine(job.work / "fp32.tflite"), "result": open_engine(path)}
    clock: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(CLOSE_RACES):
        rounds = choose_rounds(engines["fp32"], job.inputs[-1], 2, CLOCK_S)
        times = time_models(engines, {"fp32": job.inputs[-1], "result": tensor}, rounds)
        clock = {name: clock[name] + times[name] for name in engines}
        if abs(pair(clock["result"], clock["fp32"]) - 1) > CLOSE:
            break
    return clock


def find_slowness(clock: dict[str, list[float]], recipe: Recipe) -> list[Finding]:
    """Return a finding where a result took as much of the float32 original's time as its recipe must not."""
    if "result" not in clock:
        return []
    ratio = pair(clock["result"], clock["fp32"])
    if ratio < recipe.most_time:
        return []
    times = " against ".join(f"{median(clock[what]):.3g}" for what in ("result", "fp32"))
    return [Finding("slower", f"{ratio:.2f} of its time, {times} ms in {len(clock['fp32'])} rounds")]


def refuse(job: Job, audit: Audit) -> None:
    """Raise AuditError for the findings that were not allowed."""
    left = [finding for finding in audit.findings if finding.name not in job.allow]
    if left:
        why = "; ".join(f"{finding.name} ({finding.where}): {FINDINGS[finding.name]}" for finding in left)
        allowing = " ".join(f"--allow {finding.name}" for finding in left)
        what = f"the audit{' and the clock' * any(f.name == 'slower' for f in left)} refused the result"
        raise AuditError(str(job.model), f"{what}: {why}", f"no file was written; {allowing} overrides")


def read_checks(work: Path) -> tuple[list[Any], list[Any]]:
    """Return the drawn inputs and Keras' outputs for them that the child left."""
    with np.load(work / "checks.npz", allow_pickle=False) as arrays:
        count = sum(name.startswith("input") for name in arrays.files)
        return [arrays[f"input{i}"] for i in range(count)], [arrays[f"output{i}"] for i in range(count)]
