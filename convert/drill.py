"""Which layers a quantization hurts by, and the fewest of them that must stay float for a policy to be met.

A layer's damage is measured with that layer alone quantized. The other way, all quantized but one, shows nothing where
two layers hurt: freeing either leaves the other. Most layers hurt not at all, so groups are measured first, and only
groups that hurt are halved: of 80 layers, one culprit is found in some 14 trials. Then the worst layers are kept float,
as many as it takes, and those of them that turn out not to be needed are quantized again, the largest first.

The search is bounded by counts, not by the clock: the same model on the same images gives the same file.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Plan = Mapping[str, str]  # weight tensor's name: a kind of quantize.KINDS
Build = Callable[[Plan], bytes]
Judge = Callable[[bytes], float]

MOST_TRIALS = 40  # files with a few layers quantized, looked at on a few images
MOST_FILLED = 6  # files looked at on all images, where the worst layers together are too large
MOST_PRUNED = 4  # and to see which kept layers need not be
TOGETHER = 0.5  # of a group's damage: where its halves do less between them, they hurt by what they are together
NEGLIGIBLE = 0.02  # of the damage that all layers do together: a group below it is left alone


@dataclass(frozen=True)
class Trial:
    """The damage that some layers do when they alone are quantized."""

    names: tuple[str, ...]
    damage: float


@dataclass(frozen=True)
class Step:
    """A file with some layers float: how many, its size, and its drop on all images."""

    kept: int
    size_bytes: int
    drop: float
    met: bool


@dataclass(frozen=True)
class Drill:
    """What the search found; `kept` are the layers to leave float: of the best file, where none meets the limit."""

    kept: tuple[str, ...]
    met: bool
    drop: float
    size_bytes: int
    before_bytes: int  # with all layers quantized
    trials: tuple[Trial, ...]  # the worst first
    steps: tuple[Step, ...]  # in the order they were looked at
    layers: int  # how many there were to choose from


def drill_down(
    plan: Plan,
    build: Build,
    judge: Judge,
    limit: float,
    *,
    screen: Judge | None = None,
    cost: Mapping[str, int] | None = None,
    most_bytes: float = math.inf,
    most_trials: int = MOST_TRIALS,
) -> Drill:
    """Return which layers of a plan to leave float so that `judge`, the drop of a file, is at most `limit`.

    build makes a file of a plan. screen is a cheaper, finer judge of damage, for finding the layers; judge itself if
    there is none. cost is what a layer costs when it is left float. A file larger than most_bytes is not considered.
    """
    trials = find_damage(plan, build, screen or judge, most_trials)
    search = Search(plan, build, judge, limit, most_bytes)
    ranked = [trial.names for trial in trials if trial.damage > 0 or math.isnan(trial.damage)]
    kept = search.prune(search.shorten(ranked), cost or {})
    if kept is None:
        kept = min(search.steps, key=lambda names: worst_last(search.steps[names].drop))
    best, steps = search.steps[kept], tuple(search.steps.values())
    order = tuple(name for name in plan if name in kept)
    return Drill(order, best.met, best.drop, best.size_bytes, steps[0].size_bytes, trials, steps, len(plan))


def find_damage(plan: Plan, build: Build, screen: Judge, most_trials: int) -> tuple[Trial, ...]:
    """Return the layers, or groups of them, with the damage they do alone, the worst first.

    Groups are halved, always the one that does most damage, until single layers are left, or groups whose damage is
    negligible, or there were enough trials. Where the halves do far less than the whole, layers on both sides of the
    cut hurt together only: the group's middle is looked at too, and the group itself stays in the list.
    """

    def try_group(names: Sequence[str]) -> Trial:
        kinds = {name: kind if name in names else "float32" for name, kind in plan.items()}
        return Trial(tuple(names), screen(build(kinds)))

    done: list[Trial] = []
    whole = try_group(tuple(plan))
    floor = 0.0 if math.isnan(whole.damage) else NEGLIGIBLE * whole.damage
    waiting, count = [(worst_first(whole.damage), 0, whole)], 1
    while waiting:
        _, _, trial = heapq.heappop(waiting)
        small = trial.damage <= floor  # false for NaN: that is looked into
        if small or len(trial.names) == 1 or count + 3 > most_trials:
            done.append(trial)
            continue
        parts = [try_group(half) for half in halve(trial.names)]
        if hurts_together(trial, parts):
            done.append(trial)
            parts += [try_group(middle(trial.names))] if len(trial.names) > 3 else []
        for part in parts:
            heapq.heappush(waiting, (worst_first(part.damage), count, part))
            count += 1
    return tuple(sorted(done, key=lambda trial: (worst_first(trial.damage), len(trial.names))))


def halve(names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the two halves of a group."""
    return names[: len(names) // 2], names[len(names) // 2 :]


def middle(names: Sequence[str]) -> Sequence[str]:
    """Return the middle half of a group: what lies around the cut between its halves."""
    return names[len(names) // 4 : len(names) - len(names) // 4]


def hurts_together(whole: Trial, parts: Sequence[Trial]) -> bool:
    """Tell whether the parts do less than half the damage of the whole; no number is as bad as can be."""
    damages = [math.inf if math.isnan(trial.damage) else trial.damage for trial in (whole, *parts)]
    return sum(damages[1:]) < TOGETHER * damages[0]


def worst_first(damage: float) -> float:
    """Return a sort key: large damage first, no number before all."""
    return -math.inf if math.isnan(damage) else -damage


def worst_last(drop: float) -> float:
    """Return a sort key: a small drop first, no number after all."""
    return math.inf if math.isnan(drop) else drop


class Search:
    """Files with layers left float, each looked at once: {names: step}, the first with none."""

    def __init__(self, plan: Plan, build: Build, judge: Judge, limit: float, most_bytes: float) -> None:
        self.plan, self.build, self.judge, self.limit, self.most_bytes = plan, build, judge, limit, most_bytes
        self.steps: dict[frozenset[str], Step] = {}
        self.look(frozenset())

    def look(self, kept: frozenset[str]) -> Step | None:
        """Return how the file with these layers float does; None where it is too large."""
        if kept not in self.steps:
            file = self.build({name: "float32" if name in kept else kind for name, kind in self.plan.items()})
            if kept and len(file) > self.most_bytes:
                return None
            drop = self.judge(file)
            self.steps[kept] = Step(len(kept), len(file), drop, drop <= self.limit)
        return self.steps[kept]

    def shorten(self, ranked: Sequence[Sequence[str]]) -> frozenset[str] | None:
        """Return the shortest start of the ranked groups that meets the limit: doubled until it does, then bisected."""

        def start(count: int) -> frozenset[str]:
            return frozenset(name for group in ranked[:count] for name in group)

        enough, short = 0, 0
        if self.steps[start(0)].met:
            return start(0)
        while not enough:
            count = min(max(1, 2 * short), len(ranked))
            step = self.look(start(count))
            if step is not None and step.met:
                enough = count
            elif step is None or count == len(ranked):
                return self.fill(ranked, short)
            else:
                short = count
        while enough - short > 1:
            middle = (enough + short) // 2
            step = self.look(start(middle))
            enough, short = (middle, short) if step is not None and step.met else (enough, middle)
        return start(enough)

    def fill(self, ranked: Sequence[Sequence[str]], short: int) -> frozenset[str] | None:
        """Return what meets the limit when the groups that still fit are added one after the other, the worst first."""
        kept = frozenset(name for group in ranked[:short] for name in group)
        for group in ranked[short : short + MOST_FILLED]:
            step = self.look(kept | frozenset(group))
            if step is not None:
                kept = kept | frozenset(group)
                if step.met:
                    return kept
        return None

    def prune(self, kept: frozenset[str] | None, cost: Mapping[str, int]) -> frozenset[str] | None:
        """Return what is left of the layers after quantizing again those without which the limit is met as well."""
        if kept is None or len(kept) < 2:
            return kept
        order = sorted((name for name in self.plan if name in kept), key=lambda name: -cost.get(name, 0))
        for name in order[:MOST_PRUNED]:
            step = self.look(kept - {name})
            kept = kept - {name} if step is not None and step.met else kept
        return kept
