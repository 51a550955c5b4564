"""Which file is taken: that of one recipe, or of `auto` the fastest that passes the audit, the timing and the policy?

Each recipe's file is made, audited and timed. Then the fastest is checked on the images, and so on to the most
accurate, until one meets the policy. Where a quantized file does not, the layers that cause the loss are left float,
and the mixed file is one more candidate.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from convert.flatbuffer.edit import unpack
from convert.quantize.integer_ops import read_nodes
from convert.quantize.recipes import RECIPES
from convert.quantize.weights import list_weights, plan_weights, quantize_weights
from convert.verify.compare_on_images import ImageSetCheck, ReferenceImages, open_session
from convert.verify.iou_policy import PolicyVerdict, judge_policy
from edge_runtime.errors import AuditError, EdgeSegError, ModelError, PolicyError
from evidence.scores import find_intervals, find_scores

from .candidate import Candidate, make_candidate, refuse_findings
from .float_layers import Build, FloatLayers, Plan, find_float_layers
from .job import Job
from .options import ORDER
from .race import rewrite_forms

CLEARLY_FASTER = 1.1  # ratio of two files' times from which on one counts as faster
MAX_MIXED_SHARE = 0.5  # of the float32 file's size, with layers left float: a larger one is worse than fp16's
SCREENING_IMAGES = 6  # to find the layers that cause the loss: those that lost most
MIXED_KINDS = ("int8", "weight-only", "integer")  # of recipes that have layers to leave float
UNFAITHFUL = "unfaithful"  # a finding that such layers may cause


@dataclass(frozen=True)
class TriedFile:
    """One file that was tried, and the outcome; None where it was not measured."""

    recipe: str
    kept: int  # layers left float because of the policy
    outcome: str  # "taken" | "lost" | "not needed"
    why: str
    size_bytes: int | None = None
    ratio: float | None = None  # of static float32's time
    ms: float | None = None  # median, of a moment on this machine
    drop: float | None = None  # of mean IoU
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """The file that was taken, its check on the images, and all that was tried."""

    candidate: Candidate
    check: ImageSetCheck | None
    verdict: PolicyVerdict | None
    tried: tuple[TriedFile, ...]
    float_layers: Mapping[str, FloatLayers]  # {recipe: the layers found}


class RecipeSearch:
    """The files of one conversion, tried one after the other on images (or none) and a policy (or none)."""

    def __init__(self, job: Job, reference: ReferenceImages | None) -> None:
        self.job, self.reference = job, reference
        self.limit, self.strict = job.options.max_iou_drop, job.options.sure
        self.alone = len(job.options.recipes) == 1  # an error ends the search, instead of rejecting one recipe
        self.waiting: list[Candidate] = []
        self.tried: list[TriedFile] = []
        self.float_layers: dict[str, FloatLayers] = {}

    def run(self) -> SearchResult:
        """Return the file to take.

        Raises:
            AuditError: a finding that was not allowed; of several recipes, in each one's file.
            PolicyError: no file meets the policy.
        """
        for name in self.job.options.recipes:
            self.add_candidate(self.job, name)
        while self.waiting:
            candidate = pick_fastest(self.waiting)
            self.waiting.remove(candidate)
            result = self.evaluate(candidate)
            if result is not None:
                return result
        raise self.explain_rejection()

    def add_candidate(self, job: Job, name: str, max_size_ratio: float = 0.0) -> None:
        """Make a recipe's file and add it to those waiting; one that does not pass is rejected, or ends the search."""
        recipe = RECIPES[name]
        recipe = replace(recipe, max_size_ratio=max(recipe.max_size_ratio, max_size_ratio))
        if self.limit is not None and recipe.kind in MIXED_KINDS and name not in self.float_layers:
            job = replace(job, allow=(*job.allow, UNFAITHFUL))  # for now: layers left float may remove it
        try:
            self.waiting.append(make_candidate(job, recipe))
        except (AuditError, ModelError) as error:
            if self.alone:
                raise
            self.notify(f"{name} is rejected: {error.why}")
            self.tried.append(TriedFile(name, self.count_kept(name), "lost", error.why))

    def evaluate(self, candidate: Candidate) -> SearchResult | None:
        """Check a file on the images; return the result if it is taken, else reject it."""
        check, verdict = self.check(candidate)
        if check is not None and verdict is not None and verdict.known and not verdict.met:
            self.reject(candidate, check, verdict)
            return None
        try:
            candidate = add_findings(self.job, candidate, check)
        except AuditError as error:
            if self.alone:
                raise
            self.record(candidate, "lost", error.why, verdict)
            return None
        if verdict is not None and not verdict.known:  # nor would another file's be
            fix = "no file was written; give more images, or leave --max-iou-drop out"
            raise PolicyError(str(self.job.options.model), f"the policy cannot be met: {verdict.why}", fix)
        self.record(candidate, "taken", verdict.why if verdict else "no policy was asked for", verdict)
        for other in self.waiting:
            self.record(other, "not needed", f"{candidate.recipe.name} was taken", None)
        return SearchResult(candidate, check, verdict, tuple(self.tried), self.float_layers)

    def check(self, candidate: Candidate) -> tuple[ImageSetCheck | None, PolicyVerdict | None]:
        """Return the check of a file on the images, and the policy's verdict."""
        if self.reference is None:
            return None, None
        self.notify(f"checking {candidate.recipe.name} on {len(self.reference.images)} images")
        check = self.reference.check(self.write(candidate.flatbuffer), candidate.contract)
        return check, None if self.limit is None else judge_policy(check, self.limit, self.strict)

    def reject(self, candidate: Candidate, check: ImageSetCheck, verdict: PolicyVerdict) -> None:
        """Record that a file does not meet the policy, and leave layers float where that may help."""
        self.record(candidate, "lost", verdict.why, verdict)
        self.notify(f"{candidate.recipe.name} does not meet the policy: {verdict.why}")
        new = candidate.recipe.name not in self.float_layers and candidate.recipe.kind in MIXED_KINDS
        known = not math.isnan(check.iou.low)
        if new and known and self.limit is not None and check.iou.keras - check.iou.fp32 <= self.limit:
            self.leave_layers_float(candidate, check, self.limit)

    def record(self, candidate: Candidate, outcome: str, why: str, verdict: PolicyVerdict | None) -> None:
        """Add a file to those tried."""
        name, size = candidate.recipe.name, len(candidate.flatbuffer)
        ms = median(candidate.times["result"]) if candidate.times else None
        numbers = (verdict.drop, verdict.low, verdict.high) if verdict else (None, None, None)
        self.tried.append(TriedFile(name, self.count_kept(name), outcome, why, size, candidate.ratio, ms, *numbers))

    def count_kept(self, name: str) -> int:
        """Return how many layers of a recipe's file are left float because of the policy."""
        return len(self.float_layers[name].kept) if name in self.float_layers else 0

    def leave_layers_float(self, candidate: Candidate, check: ImageSetCheck, limit: float) -> None:
        """Find the layers that cause the loss, and add the mixed file, if there is one that meets the policy."""
        name = candidate.recipe.name
        self.notify(f"looking for the layers of {name} that cause the loss")
        found = self.float_layers[name] = self.find_layers(candidate, check, limit)
        text = format_float_layers(found, self.strict)
        if not found.met:
            self.notify(f"{name} cannot meet the policy: {text}")
            return
        self.notify(f"{name} can meet the policy: {text}")
        kept = (*candidate.choice.kept, *found.kept)
        choice = replace(candidate.choice, kept=kept, why=f"{candidate.choice.why}; the policy kept more float")
        self.add_candidate(replace(self.job, choice=choice), name, MAX_MIXED_SHARE + 0.05)

    def find_layers(self, candidate: Candidate, check: ImageSetCheck, limit: float) -> FloatLayers:
        """Return the layers of a file to leave float, measured on the images."""
        plan, build, cost = plan_layers(self.job, candidate)
        lossy = sorted(range(check.images), key=lambda i: -check.rows[i].changed_pixels)[:SCREENING_IMAGES]
        return find_float_layers(
            plan,
            build,
            self.measure_drop,
            limit,
            measure_damage=lambda data: self.measure_changed(data, lossy),
            cost=cost,
            max_bytes=MAX_MIXED_SHARE * len(self.job.graph),
        )

    def measure_drop(self, flatbuffer: bytes) -> float:
        """Return a file's drop of mean IoU on all images; its interval's upper end, where the policy is strict."""
        assert self.reference is not None
        keras, labels = self.reference.keras, self.reference.labels
        result = self.reference.run_session(open_session(self.write(flatbuffer), self.job.contract)).truth
        if self.strict:
            return find_intervals(keras, result, labels)["mean_iou"][1]
        before, after = (find_scores(one, labels) for one in (keras, result))
        return float(before["mean_iou"][0] - after["mean_iou"][0])

    def measure_changed(self, flatbuffer: bytes, indices: Sequence[int]) -> float:
        """Return the share of pixels on some images that have another label than in Keras' masks."""
        assert self.reference is not None
        session = open_session(self.write(flatbuffer), self.job.contract)
        counts = self.reference.run_session(session, indices).keras
        return float(1 - counts[:, :, 0].sum() / counts[:, :, 1].sum())

    def write(self, flatbuffer: bytes) -> Path:
        """Write a file to be run; return its path."""
        path = self.job.work / "run.tflite"
        path.unlink(missing_ok=True)  # not truncated: an interpreter may still have it mapped
        path.write_bytes(flatbuffer)
        return path

    def notify(self, text: str) -> None:
        """Report progress."""
        self.job.options.notify(text)

    def explain_rejection(self) -> EdgeSegError:
        """Return the error for a search that takes no file."""
        checked = [tried for tried in self.tried if tried.drop is not None]
        what, fix = str(self.job.options.model), "no file was written"
        if not checked:
            why = "; ".join(f"{tried.recipe}: {tried.why}" for tried in self.tried)
            return AuditError(what, f"no recipe's file passed the audit: {why}", fix)
        if len(self.tried) == 1:
            mixed = [format_float_layers(found, self.strict) for found in self.float_layers.values() if found.kept]
            reached = (f"the best reached: {text}" for text in mixed)
            why = "; ".join([f"the policy is not met by {checked[0].recipe}: {checked[0].why}", *reached])
            return PolicyError(what, why, f"{fix}; try --recipe auto")
        drops = ", ".join(f"{format_tried(tried)} {tried.drop:.2g}" for tried in checked)
        why = f"no recipe meets the policy, a drop of mean IoU of at most {self.limit:g}: {drops}"
        return PolicyError(what, why, fix)


def format_tried(tried: TriedFile) -> str:
    """Return a recipe's name, and how many layers the policy left float."""
    return tried.recipe + (f" with {tried.kept} layer{'s' * (tried.kept != 1)} float" if tried.kept else "")


def format_float_layers(found: FloatLayers, strict: bool) -> str:
    """Return how many layers are left float, and what that costs and gains."""
    larger = (found.size_bytes - found.before_bytes) / 1e6
    drop = f"drops {'surely by no more than' if strict else 'by'} {found.drop:.2g}"
    return f"{len(found.kept)} of {found.layers} layers float, {larger:.2f} MB more, mean IoU {drop}"


def plan_layers(job: Job, candidate: Candidate) -> tuple[Plan, Build, dict[str, int]]:
    """Return which layers a file quantizes, how to make it with another plan, and each one's bytes more in float.

    Of a full-integer file, these are all operations that compute on integers, by the names of weights or outputs; its
    variants have float inputs and outputs.
    """
    graph, _ = rewrite_forms(job.graph, candidate.choice.forms)
    cost = {weight.name: 3 * weight.elements for weight in list_weights(graph)}  # four bytes instead of one
    integer = candidate.recipe.kind == "integer"
    planned = plan_integers(graph, cost) if integer else plan_weights(graph, candidate.recipe.kind)
    plan = {name: kind for name, kind in planned.items() if name not in candidate.choice.kept}
    build = build_integers(job, graph, candidate.choice.kept) if integer else build_weights(job, graph)
    return plan, build, cost


def plan_integers(graph: bytes, weights: Collection[str]) -> dict[str, str]:
    """Return {name: "int8"} of the operations that can compute on integers, by their weights, else by their outputs."""
    nodes = (node for node in read_nodes(unpack(graph)) if node.supported)
    return {sorted(node.names, key=lambda name: name not in weights)[0]: "int8" for node in nodes}


def build_weights(job: Job, graph: bytes) -> Build:
    """Return how to make a file with quantized weights from a plan."""
    return lambda plan: quantize_weights(graph, plan, per_tensor_dense=job.options.target == "tflite-runtime")


def build_integers(job: Job, graph: bytes, kept: Sequence[str]) -> Build:
    """Return how to make a full-integer file, with float inputs and outputs, from a plan; `kept` are float anyway."""
    assert job.quantizer is not None
    quantizer = job.quantizer.with_float_io()

    def build(plan: Plan) -> bytes:
        try:
            return quantizer.quantize(graph, [*kept, *(name for name, kind in plan.items() if kind == "float32")])
        except ModelError:  # nothing is left that computes on integers
            return graph

    return build


def pick_fastest(waiting: Sequence[Candidate]) -> Candidate:
    """Return the fastest file; of those that are about as fast, the first in ORDER."""

    def rank(candidate: Candidate) -> tuple[int, int]:
        steps = math.log(candidate.ratio or 1.0) / math.log(CLEARLY_FASTER)
        return int(np.rint(steps)), ORDER.index(candidate.recipe.name)

    return min(waiting, key=rank)


def add_findings(job: Job, candidate: Candidate, check: ImageSetCheck | None) -> Candidate:
    """Return a file with the findings of its check.

    Raises:
        AuditError: one of its findings was not allowed.
    """
    findings = (*candidate.audit.findings, *(check.findings if check is not None else ()))
    audit = replace(candidate.audit, findings=findings)
    refuse_findings(job, audit)
    allowed = {*candidate.contract.allowed, *(finding.name for finding in findings)}
    contract = replace(candidate.contract, allowed=tuple(sorted(allowed)))
    return replace(candidate, audit=audit, contract=contract)
