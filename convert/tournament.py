"""Which file is taken: of one recipe, or of `auto` the fastest that passes audit, clock and policy.

Each recipe's file is made, audited and timed; then the fastest is checked on the images, and so on down to the most
faithful, until one meets the policy. A quantized file that does not is drilled: the layers that hurt stay float, and
the mixed file takes its own place in the order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from edge_runtime.contract import Contract
from edge_runtime.errors import AuditError, EdgeSegError, ModelError, PolicyError

from .candidate import Candidate, Job, make_candidate, refuse
from .check import Check, Evidence, open_session
from .domain import read_nodes
from .drill import Build, Drill, Plan, drill_down
from .policy import Verdict, judge
from .quantize import list_weights, plan_weights, quantize_weights
from .recipes import RECIPES
from .scores import find_intervals, find_scores
from .surgery import unpack
from .tune import rewrite

AUTO = "auto"
ORDER = ("int8", "drq", "weight-only", "fp16", "fp32")  # from fastest to most faithful, where the clock sees no winner
CLEARLY = 1.1  # a file counts as faster than another from this ratio of their times on
MOST_MIXED = 0.5  # of the float32 file: above, fp16 is both smaller and more faithful
SCREENED = 6  # images that the drill-down looks at first: those that lost most
DRILLED = ("int8", "weight-only", "integer")  # kinds of recipes that have layers to be left float
UNFAITHFUL = "unfaithful"  # the finding that such layers may cause


@dataclass(frozen=True)
class Entry:
    """One file that was tried, and what became of it; None where it did not come to that."""

    recipe: str
    kept: int  # layers that the policy left float
    outcome: str  # "taken" | "lost" | "not needed"
    why: str
    size_bytes: int | None = None
    ratio: float | None = None  # of static float32's time
    ms: float | None = None  # median, of a moment on this machine
    drop: float | None = None  # of mean IoU
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Outcome:
    """The file that was taken, what the images said of it, and all that was tried; drills by recipe."""

    candidate: Candidate
    check: Check | None
    verdict: Verdict | None
    entries: tuple[Entry, ...]
    drills: dict[str, Drill]


def list_recipes(name: str, calibrated: bool) -> list[str]:
    """Return the recipes that a name on the command line stands for."""
    if name != AUTO:
        return [name]
    return [one for one in ORDER if one in RECIPES and (one != "int8" or calibrated)]


class Tournament:
    """The files of one conversion, tried one after the other against images (or none) and a policy (or none)."""

    def __init__(self, job: Job, evidence: Evidence | None, limit: float | None, strict: bool = False) -> None:
        """strict: the drop's whole interval has to be at most the limit."""
        self.job, self.evidence, self.limit, self.strict = job, evidence, limit, strict
        self.waiting: list[Candidate] = []
        self.entries: list[Entry] = []
        self.drills: dict[str, Drill] = {}

    def run(self, recipes: Sequence[str]) -> Outcome:
        """Return the file to take.

        Raises:
            AuditError: a finding that was not allowed; of several recipes, in each one's file.
            PolicyError: no file meets the policy.
        """
        for name in recipes:
            self.make(self.job, name, alone=len(recipes) == 1)
        while self.waiting:
            candidate = pick_fastest(self.waiting)
            self.waiting.remove(candidate)
            outcome = self.hear(candidate, alone=len(recipes) == 1)
            if outcome is not None:
                return outcome
        raise self.explain_loss()

    def make(self, job: Job, name: str, alone: bool, most_of_fp32: float = 0.0) -> None:
        """Make a recipe's file and let it wait; one that is refused has lost, or is the end if it is alone."""
        recipe = RECIPES[name]
        recipe = replace(recipe, most_of_fp32=max(recipe.most_of_fp32, most_of_fp32))
        if self.limit is not None and recipe.kind in DRILLED and name not in self.drills:
            job = replace(job, allow=(*job.allow, UNFAITHFUL))  # for now: drilling may mend it
        try:
            self.waiting.append(make_candidate(job, recipe))
        except (AuditError, ModelError) as error:
            if alone:
                raise
            self.job.say(f"{name} is out: {error.why}")
            self.entries.append(Entry(name, self.count_kept(name), "lost", error.why))

    def hear(self, candidate: Candidate, alone: bool) -> Outcome | None:
        """Check a file on the images; return the outcome if it is taken, else drill it where that may help."""
        check, verdict = self.check(candidate)
        if check is not None and verdict is not None and verdict.known and not verdict.met:
            self.lose(candidate, check, verdict, alone)
            return None
        try:
            candidate = admit(self.job, candidate, check)
        except AuditError as error:
            if alone:
                raise
            self.enter(candidate, "lost", error.why, verdict)
            return None
        if verdict is not None and not verdict.known:  # nor would another file's be
            fix = "no file was written; give more images, or leave --max-iou-drop out"
            raise PolicyError(str(self.job.model), f"the policy cannot be met: {verdict.why}", fix)
        return self.take(candidate, check, verdict)

    def lose(self, candidate: Candidate, check: Check, verdict: Verdict, alone: bool) -> None:
        """Write a file down as lost to the policy, and drill it where that may help."""
        self.enter(candidate, "lost", verdict.why, verdict)
        self.job.say(f"{candidate.recipe.name} does not meet the policy: {verdict.why}")
        if self.can_drill(candidate, check):
            self.drill(candidate, check, alone)

    def check(self, candidate: Candidate) -> tuple[Check | None, Verdict | None]:
        """Return what the images and the policy say of a file."""
        if self.evidence is None:
            return None, None
        self.job.say(f"checking {candidate.recipe.name} on {len(self.evidence.cases)} images")
        check = self.evidence.check(self.write(candidate.flatbuffer), candidate.contract)
        return check, None if self.limit is None else judge(check, self.limit, self.strict)

    def take(self, candidate: Candidate, check: Check | None, verdict: Verdict | None) -> Outcome:
        """Return the outcome with a file taken; those still waiting were not needed."""
        self.enter(candidate, "taken", verdict.why if verdict else "no policy was asked for", verdict)
        for other in self.waiting:
            self.enter(other, "not needed", f"{candidate.recipe.name} was taken", None)
        return Outcome(candidate, check, verdict, tuple(self.entries), self.drills)

    def enter(self, candidate: Candidate, outcome: str, why: str, verdict: Verdict | None) -> None:
        """Write a file into the table."""
        name, size, clock = candidate.recipe.name, len(candidate.flatbuffer), candidate.clock
        ms = median(clock["result"]) if "result" in clock else None
        numbers = (verdict.drop, verdict.low, verdict.high) if verdict else (None, None, None)
        self.entries.append(Entry(name, self.count_kept(name), outcome, why, size, candidate.ratio, ms, *numbers))

    def count_kept(self, name: str) -> int:
        """Return how many layers the drill-down has left float in a recipe's file."""
        return len(self.drills[name].kept) if name in self.drills else 0

    def can_drill(self, candidate: Candidate, check: Check) -> bool:
        """Tell whether leaving layers float might help: not where float32 throughout fails the policy too."""
        fresh = candidate.recipe.name not in self.drills and candidate.recipe.kind in DRILLED
        known = not math.isnan(check.iou.low)
        return fresh and known and self.limit is not None and check.iou.keras - check.iou.fp32 <= self.limit

    def drill(self, candidate: Candidate, check: Check, alone: bool) -> None:
        """Find the layers that hurt and let the mixed file wait, if there is one that meets the policy."""
        name = candidate.recipe.name
        self.job.say(f"looking for the layers that hurt in {name}")
        drill = self.drills[name] = self.find_culprits(candidate, check)
        if not drill.met:
            self.job.say(f"{name} cannot be mended: {explain(drill, self.strict)}")
            return
        self.job.say(f"{name} can be mended: {explain(drill, self.strict)}")
        kept = (*candidate.choice.kept, *drill.kept)
        choice = replace(candidate.choice, kept=kept, why=f"{candidate.choice.why}; the policy kept more float")
        self.make(replace(self.job, choice=choice), name, alone, MOST_MIXED + 0.05)

    def find_culprits(self, candidate: Candidate, check: Check) -> Drill:
        """Return the drill-down of a file on these images."""
        assert self.evidence is not None and self.limit is not None
        plan, build, cost = plan_layers(self.job, candidate)
        places = sorted(range(check.images), key=lambda i: -check.rows[i].changed_pixels)[:SCREENED]
        contract = self.evidence.contract
        return drill_down(
            plan,
            build,
            lambda data: self.find_drop(data, contract),
            self.limit,
            screen=lambda data: self.find_changed(data, contract, places),
            cost=cost,
            most_bytes=MOST_MIXED * len(self.job.graph),
        )

    def find_drop(self, flatbuffer: bytes, contract: Contract) -> float:
        """Return the drop of mean IoU of a file on all images; the most that it may be, where the policy is strict."""
        assert self.evidence is not None
        tally = self.evidence.examine(open_session(self.write(flatbuffer), contract))
        if self.strict:
            return find_intervals(self.evidence.keras, tally.truth, self.evidence.labels)["mean_iou"][1]
        before, after = (find_scores(one, self.evidence.labels) for one in (self.evidence.keras, tally.truth))
        return float(before["mean_iou"][0] - after["mean_iou"][0])

    def find_changed(self, flatbuffer: bytes, contract: Contract, places: Sequence[int]) -> float:
        """Return the share of pixels on some images that get another label than Keras gave them."""
        assert self.evidence is not None
        counts = self.evidence.examine(open_session(self.write(flatbuffer), contract), places).keras
        return float(1 - counts[:, :, 0].sum() / counts[:, :, 1].sum())

    def write(self, flatbuffer: bytes) -> Path:
        """Write a file to be looked at; return its path."""
        path = self.job.work / "looked-at.tflite"
        path.unlink(missing_ok=True)  # not truncated: an interpreter may still have it mapped
        path.write_bytes(flatbuffer)
        return path

    def explain_loss(self) -> EdgeSegError:
        """Return the error for a tournament without a winner."""
        heard = [entry for entry in self.entries if entry.drop is not None]
        what, fix = str(self.job.model), "no file was written"
        if not heard:
            why = "; ".join(f"{entry.recipe}: {entry.why}" for entry in self.entries)
            return AuditError(what, f"the audit refused every recipe: {why}", fix)
        if len(self.entries) == 1:
            mixed = [explain(drill, self.strict) for drill in self.drills.values() if drill.kept]
            reached = (f"the best reached: {words}" for words in mixed)
            why = "; ".join([f"the policy is not met by {heard[0].recipe}: {heard[0].why}", *reached])
            return PolicyError(what, why, f"{fix}; try --recipe auto")
        drops = ", ".join(f"{say_entry(entry)} {entry.drop:.2g}" for entry in heard)
        why = f"no recipe meets the policy, a drop of mean IoU of at most {self.limit:g}: {drops}"
        return PolicyError(what, why, fix)


def say_entry(entry: Entry) -> str:
    """Return a recipe's name, and how many layers the policy kept float."""
    return entry.recipe + (f" with {entry.kept} layer{'s' * (entry.kept != 1)} float" if entry.kept else "")


def plan_layers(job: Job, candidate: Candidate) -> tuple[Plan, Build, dict[str, int]]:
    """Return which layers a file quantizes, how to make it with another plan, and each one's bytes more in float.

    Of a full-integer file, these are all operations that compute on integers, by the names of weights or results; its
    variants have float inputs and outputs.
    """
    graph, _ = rewrite(job.graph, candidate.choice.forms)
    cost = {weight.name: 3 * weight.elements for weight in list_weights(graph)}  # four bytes for one
    integer = candidate.recipe.kind == "integer"
    planned = plan_integers(graph, cost) if integer else plan_weights(graph, candidate.recipe.kind)
    plan = {name: kind for name, kind in planned.items() if name not in candidate.choice.kept}
    build = build_integers(job, graph, candidate.choice.kept) if integer else build_weights(job, graph)
    return plan, build, cost


def plan_integers(graph: bytes, weights: Collection[str]) -> dict[str, str]:
    """Return {name: "int8"} of the operations that can compute on integers: of their weights, else of their results."""
    names = (
        sorted(node.names, key=lambda name: name not in weights) for node in read_nodes(unpack(graph)) if node.able
    )
    return {name[0]: "int8" for name in names}


def build_weights(job: Job, graph: bytes) -> Build:
    """Return how to make a file of weights from a plan."""
    return lambda plan: quantize_weights(graph, plan, per_tensor_dense=job.target == "tflite-runtime")


def build_integers(job: Job, graph: bytes, kept: Sequence[str]) -> Build:
    """Return how to make a full-integer file, with float inputs and outputs, from a plan; `kept` are float anyway."""
    assert job.integers is not None
    integers = job.integers.floating()

    def build(plan: Plan) -> bytes:
        try:
            return integers.store(graph, [*kept, *(name for name, kind in plan.items() if kind == "float32")])
        except ModelError:  # nothing is left that computes on integers
            return graph

    return build


def pick_fastest(waiting: Sequence[Candidate]) -> Candidate:
    """Return the fastest file; of those that are about as fast, the first in ORDER."""

    def place(candidate: Candidate) -> tuple[int, int]:
        steps = math.log(candidate.ratio or 1.0) / math.log(CLEARLY)
        return int(np.rint(steps)), ORDER.index(candidate.recipe.name)

    return min(waiting, key=place)


def admit(job: Job, candidate: Candidate, check: Check | None) -> Candidate:
    """Return a file with the findings of its check.

    Raises:
        AuditError: one of its findings was not allowed.
    """
    findings = (*candidate.audit.findings, *(check.findings if check is not None else ()))
    audit = replace(candidate.audit, findings=findings)
    refuse(job, audit)
    allowed = {*candidate.contract.allowed, *(finding.name for finding in findings)}
    contract = replace(candidate.contract, allowed=tuple(sorted(allowed)))
    return replace(candidate, audit=audit, contract=contract)


def explain(drill: Drill, strict: bool) -> str:
    """Return in words what a drill-down reached."""
    larger = (drill.size_bytes - drill.before_bytes) / 1e6
    drop = f"drops {'surely by no more than' if strict else 'by'} {drill.drop:.2g}"
    return f"{len(drill.kept)} of {drill.layers} layers float, {larger:.2f} MB more, mean IoU {drop}"
