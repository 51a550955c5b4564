"""What does one recipe make of a model? Quantized, audited, compared with Keras and timed; nothing is written yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from convert.flatbuffer.run import open_engine, run_model, time_models
from convert.quantize.full_integer import adapt_contract, to_model_input
from convert.quantize.recipes import Recipe
from convert.quantize.weights import list_weights
from convert.verify.audit import Audit, Finding, audit_model, find_differences
from convert.verify.drawn_images import DrawnImageCheck, compare_classes, compare_outputs
from edge_runtime.contract.fields import Contract
from edge_runtime.contract.findings import FINDINGS
from edge_runtime.errors import AuditError

from .job import Job
from .kept_choice import LayoutChoice, check_layers, load_or_choose, make_cache_key
from .layout import choose_layout
from .race import choose_rounds, median_ratio, quantize_graph, rewrite_forms

TIMING_S = 5.0  # for one comparison with the float32 file
CLOSE, MAX_TIMINGS = 0.05, 3  # a ratio this near to 1 is measured again, so many times in all
Times = dict[str, list[float]]  # milliseconds of "fp32" and "result", interleaved; empty where nothing was timed


@dataclass(frozen=True)
class Candidate:
    """One recipe's file, and all that was found out about it."""

    recipe: Recipe
    flatbuffer: bytes
    choice: LayoutChoice
    rewritten: dict[str, int]  # {transposed convolution: weights added}
    audit: Audit
    checks: DrawnImageCheck
    times: Times
    contract: Contract

    @property
    def ratio(self) -> float | None:
        """The file's time as a share of the float32 file's, median over rounds; None where nothing was timed."""
        return median_ratio(self.times["result"], self.times["fp32"]) if self.times else None


def make_candidate(job: Job, recipe: Recipe) -> Candidate:
    """Return a recipe's file, audited, compared and timed.

    Raises:
        AuditError: a finding that was not allowed.
    """
    choice, quantizer = find_choice(job, recipe), job.quantizer if recipe.kind == "integer" else None
    graph, rewritten = rewrite_forms(job.graph, choice.forms)
    if quantizer is not None:
        job.options.notify(f"calibrating on {len(quantizer.calibration.images)} images")
    flatbuffer = quantize_graph(graph, recipe, choice.kept, job.options.target, quantizer)
    path = job.work / f"{recipe.name}.candidate.tflite"
    path.write_bytes(flatbuffer)
    fp32_bytes, added = job.fp32_file.stat().st_size, sum(rewritten.values())
    audit = audit_model(path, fp32_bytes, job.facts, recipe, job.options.target, choice.kept, graph, added)
    refuse_findings(job, audit)
    contract = replace(job.contract, recipe=recipe.name)
    if quantizer is not None:
        contract = adapt_contract(contract, flatbuffer, quantizer.calibration.calibration)
    engine, inputs = open_engine(path), [to_model_input(flatbuffer, tensor) for tensor in job.drawn.inputs]
    checks = compare_outputs(job.drawn.masks, [run_model(engine, x) for x in inputs], contract.threshold.value)
    checks = compare_classes(checks, engine, inputs, job.drawn.classes)
    times = {} if flatbuffer == job.fp32_file.read_bytes() else time_result(job, path, inputs[-1])
    findings = (*audit.findings, *find_differences(checks, recipe), *find_slowness(times, recipe))
    audit = replace(audit, findings=findings)
    refuse_findings(job, audit)
    # Times differ from run to run, the bytes must not: where "slower" is allowed, the contract always says so.
    named = {finding.name for finding in findings} | ({"slower"} & set(job.allow) if times else set())
    contract = replace(contract, allowed=tuple(sorted(named)))
    return Candidate(recipe, flatbuffer, choice, rewritten, audit, checks, times, contract)


def find_choice(job: Job, recipe: Recipe) -> LayoutChoice:
    """Return the layout: of --choices, of an earlier conversion, or measured now."""
    if job.choice is not None:
        check_layers(job.choice, job.graph)
        return job.choice
    options = job.options
    kept = None if options.keep_float is None else find_small_layers(job.graph, options.keep_float)

    def measure() -> LayoutChoice:
        options.notify(f"measuring layouts of {recipe.name}")
        tensor = job.drawn.inputs[-1]
        return choose_layout(job.graph, recipe, options.upsample, options.target, tensor, job.work, kept, job.quantizer)

    source = job.contract.source
    facts: dict[str, Any] = {"model": source.sha256, "recipe": recipe.name, "upsample": options.upsample}
    facts |= {
        "target": options.target,
        "signature": options.signature,
        "kept": kept,
        "versions": source.versions,
        "shape": job.facts.input_shape,
    }
    return load_or_choose(make_cache_key(facts), measure, options.retune)


def find_small_layers(graph: bytes, limit: int) -> list[str]:
    """Return the names of the convolutions of fewer than `limit` filters times taps."""
    names = []
    for weight in list_weights(graph):
        if weight.operation in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            filters, height, width, _ = weight.shape  # (1, height, width, channels) of a DEPTHWISE_CONV_2D
            names += [weight.name] if filters * height * width < limit else []
    return names


def time_result(job: Job, path: Path, tensor: Any) -> Times:
    """Return the times of the float32 file and of a result, interleaved; longer where they are close.

    tensor: the result's input, the last drawn one in its own type.
    """
    engines = {"fp32": open_engine(job.fp32_file), "result": open_engine(path)}
    inputs = {"fp32": job.drawn.inputs[-1], "result": tensor}
    times: Times = {name: [] for name in engines}
    for _ in range(MAX_TIMINGS):
        rounds = choose_rounds(engines["fp32"], inputs["fp32"], 2, TIMING_S)
        more = time_models(engines, inputs, rounds)
        times = {name: times[name] + more[name] for name in engines}
        if abs(median_ratio(times["result"], times["fp32"]) - 1) > CLOSE:
            break
    return times


def find_slowness(times: Times, recipe: Recipe) -> list[Finding]:
    """Return a finding where a result takes too large a share of the float32 file's time for its recipe."""
    if not times:
        return []
    ratio = median_ratio(times["result"], times["fp32"])
    if ratio < recipe.time_limit_ratio:
        return []
    medians = " against ".join(f"{median(times[what]):.3g}" for what in ("result", "fp32"))
    return [Finding("slower", f"{ratio:.2f} of its time, {medians} ms in {len(times['fp32'])} rounds")]


def refuse_findings(job: Job, audit: Audit) -> None:
    """Raise AuditError for findings that were not allowed."""
    left = [finding for finding in audit.findings if finding.name not in job.allow]
    if left:
        why = "; ".join(f"{finding.name} ({finding.where}): {FINDINGS[finding.name]}" for finding in left)
        allowing = " ".join(f"--allow {finding.name}" for finding in left)
        what = f"the result did not pass the audit{' and the timing' * any(f.name == 'slower' for f in left)}"
        raise AuditError(str(job.options.model), f"{what}: {why}", f"no file was written; {allowing} overrides")
