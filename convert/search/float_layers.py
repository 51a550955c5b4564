"""Which layers must stay float, as few as possible, so that a quantized file meets the policy?

A layer's damage is measured with that layer alone quantized. With all quantized but one, nothing would be seen where
two layers do damage: leaving one float leaves the damage of the other. Most layers do none, so groups are measured
first, and only groups with damage are halved: among 80 layers, a single one is found in some 14 trials. Then the layers
with most damage are kept float, as many as necessary, and those that turn out not to be needed are quantized again, the
largest first.

The search is limited by counts, not by time: the same model on the same images gives the same file.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Plan = Mapping[str, str]  # weight tensor's name: a kind of quantize.KINDS
Build = Callable[[Plan], bytes]
Measure = Callable[[bytes], float]

MAX_TRIALS = 40  # files with a few layers quantized, measured on a few images
MAX_ADDED_GROUPS = 6  # files measured on all images, where the layers with most damage are too large together
MAX_PRUNED = 4  # files measured on all images, to find kept layers that are not needed
JOINT_SHARE = 0.5  # of a group's damage: where its halves do less in sum, layers do damage only in combination
NEGLIGIBLE = 0.02  # of the damage of all layers: a group below it is not divided further


@dataclass(frozen=True)
class LayerTrial:
    """The damage of some layers when only they are quantized."""

    names: tuple[str, ...]
    damage: float


@dataclass(frozen=True)
class MixedFile:
    """A file with some layers float: how many, its size, and its drop on all images."""

    kept: int
    size_bytes: int
    drop: float
    met: bool


@dataclass(frozen=True)
class FloatLayers:
    """The layers to leave float, `kept`: those of the best file, where none meets the limit."""

    kept: tuple[str, ...]
    met: bool
    drop: float
    size_bytes: int
    before_bytes: int  # with all layers quantized
    trials: tuple[LayerTrial, ...]  # largest damage first
    steps: tuple[MixedFile, ...]  # in the order of measurement
    layers: int  # how many there were to choose from


def find_float_layers(
    plan: Plan,
    build: Build,
    measure_drop: Measure,
    limit: float,
    *,
    measure_damage: Measure | None = None,
    cost: Mapping[str, int] | None = None,
    max_bytes: float = math.inf,
    max_trials: int = MAX_TRIALS,
) -> FloatLayers:
    """Return which layers of a plan to leave float so that a file's drop is at most `limit`.

    build makes a file of a plan. measure_damage: faster and finer than the drop, to rank layers; default: the drop.
    cost: bytes that a layer adds when it is left float. A file larger than max_bytes is not considered.
    """
    trials = find_damage(plan, build, measure_damage or measure_drop, max_trials)
    search = FloatLayerSearch(plan, build, measure_drop, limit, max_bytes)
    ranked = [trial.names for trial in trials if trial.damage > 0 or math.isnan(trial.damage)]
    kept = search.prune(search.find_shortest(ranked), cost or {})
    if kept is None:
        kept = min(search.steps, key=lambda names: rank_drop(search.steps[names].drop))
    best, steps = search.steps[kept], tuple(search.steps.values())
    order = tuple(name for name in plan if name in kept)
    return FloatLayers(order, best.met, best.drop, best.size_bytes, steps[0].size_bytes, trials, steps, len(plan))


def find_damage(plan: Plan, build: Build, measure_damage: Measure, max_trials: int) -> tuple[LayerTrial, ...]:
    """Return the layers, or groups of them, with the damage they do alone, the largest damage first.

    The group with most damage is halved, again and again, until there are only single layers, groups of negligible
    damage, or max_trials are used. Where the halves do far less damage than the whole, layers of both halves do damage
    only in combination: the group's middle is measured too, and the group stays in the list.
    """

    def measure_group(names: Sequence[str]) -> LayerTrial:
        kinds = {name: kind if name in names else "float32" for name, kind in plan.items()}
        return LayerTrial(tuple(names), measure_damage(build(kinds)))

    done: list[LayerTrial] = []
    whole = measure_group(tuple(plan))
    floor = 0.0 if math.isnan(whole.damage) else NEGLIGIBLE * whole.damage
    waiting, count = [(rank_damage(whole.damage), 0, whole)], 1
    while waiting:
        _, _, trial = heapq.heappop(waiting)
        small = trial.damage <= floor  # false for NaN: such a group is divided
        if small or len(trial.names) == 1 or count + 3 > max_trials:
            done.append(trial)
            continue
        groups = [measure_group(half) for half in split(trial.names)]
        if hurt_together(trial, groups):
            done.append(trial)
            groups += [measure_group(take_middle(trial.names))] if len(trial.names) > 3 else []
        for group in groups:
            heapq.heappush(waiting, (rank_damage(group.damage), count, group))
            count += 1
    return tuple(sorted(done, key=lambda trial: (rank_damage(trial.damage), len(trial.names))))


def split(names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the two halves of a group."""
    return names[: len(names) // 2], names[len(names) // 2 :]


def take_middle(names: Sequence[str]) -> Sequence[str]:
    """Return the middle half of a group: the layers around the cut between its halves."""
    return names[len(names) // 4 : len(names) - len(names) // 4]


def hurt_together(whole: LayerTrial, groups: Sequence[LayerTrial]) -> bool:
    """Return whether the halves do less than JOINT_SHARE of the whole's damage; NaN counts as infinite."""
    damages = [math.inf if math.isnan(trial.damage) else trial.damage for trial in (whole, *groups)]
    return sum(damages[1:]) < JOINT_SHARE * damages[0]


def rank_damage(damage: float) -> float:
    """Return a sort key: large damage first, NaN before all."""
    return -math.inf if math.isnan(damage) else -damage


def rank_drop(drop: float) -> float:
    """Return a sort key: a small drop first, NaN after all."""
    return math.inf if math.isnan(drop) else drop


class FloatLayerSearch:
    """Files with layers left float, each measured once: {names: file}, the first with none."""

    def __init__(self, plan: Plan, build: Build, measure_drop: Measure, limit: float, max_bytes: float) -> None:
        self.plan, self.build, self.measure_drop, self.limit, self.max_bytes = (
            plan,
            build,
            measure_drop,
            limit,
            max_bytes,
        )
        self.steps: dict[frozenset[str], MixedFile] = {}
        self.evaluate(frozenset())

    def evaluate(self, kept: frozenset[str]) -> MixedFile | None:
        """Return the measured file with these layers float; None where it is too large."""
        if kept not in self.steps:
            file = self.build({name: "float32" if name in kept else kind for name, kind in self.plan.items()})
            if kept and len(file) > self.max_bytes:
                return None
            drop = self.measure_drop(file)
            self.steps[kept] = MixedFile(len(kept), len(file), drop, drop <= self.limit)
        return self.steps[kept]

    def find_shortest(self, ranked: Sequence[Sequence[str]]) -> frozenset[str] | None:
        """Return the fewest of the ranked groups that meet the limit: doubled until they do, then bisected."""

        def start(count: int) -> frozenset[str]:
            return frozenset(name for group in ranked[:count] for name in group)

        enough, short = 0, 0
        if self.steps[start(0)].met:
            return start(0)
        while not enough:
            count = min(max(1, 2 * short), len(ranked))
            step = self.evaluate(start(count))
            if step is not None and step.met:
                enough = count
            elif step is None or count == len(ranked):
                return self.add_groups(ranked, short)
            else:
                short = count
        while enough - short > 1:
            middle = (enough + short) // 2
            step = self.evaluate(start(middle))
            enough, short = (middle, short) if step is not None and step.met else (enough, middle)
        return start(enough)

    def add_groups(self, ranked: Sequence[Sequence[str]], short: int) -> frozenset[str] | None:
        """Return the groups that meet the limit, adding one after the other those that still fit; None if none do."""
        kept = frozenset(name for group in ranked[:short] for name in group)
        for group in ranked[short : short + MAX_ADDED_GROUPS]:
            step = self.evaluate(kept | frozenset(group))
            if step is not None:
                kept = kept | frozenset(group)
                if step.met:
                    return kept
        return None

    def prune(self, kept: frozenset[str] | None, cost: Mapping[str, int]) -> frozenset[str] | None:
        """Return the layers without those that can be quantized again while the limit is still met."""
        if kept is None or len(kept) < 2:
            return kept
        order = sorted((name for name in self.plan if name in kept), key=lambda name: -cost.get(name, 0))
        for name in order[:MAX_PRUNED]:
            step = self.evaluate(kept - {name})
            kept = kept - {name} if step is not None and step.met else kept
        return kept
