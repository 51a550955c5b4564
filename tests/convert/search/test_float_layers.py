"""The search for layers to leave float, on models that are only numbers, so that the right result is known."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest

from convert.search.float_layers import MAX_TRIALS, FloatLayers, find_float_layers

PLAN = {f"layer{i}": "int8" for i in range(80)}


class Numbers:
    """A model whose drop is the sum of its int8 layers' damage, at most 0.5; its file lists the int8 layers."""

    def __init__(self, damage: Mapping[str, float], sizes: Mapping[str, int] | None = None) -> None:
        self.damage, self.sizes, self.judged, self.built = damage, sizes or {}, 0, 0

    def build(self, plan: Mapping[str, str]) -> bytes:
        self.built += 1
        kept = [name for name, kind in plan.items() if kind == "float32"]
        text = json.dumps([name for name in plan if name not in kept]).encode()
        return text.ljust(4000 + sum(self.sizes.get(name, 10) for name in kept))

    def measure_drop(self, file: bytes) -> float:
        self.judged += 1
        return min(0.5, sum(self.damage.get(name, 0.0) for name in json.loads(file)))


def find(model: Numbers, limit: float = 0.01, **options: float) -> FloatLayers:
    return find_float_layers(PLAN, model.build, model.measure_drop, limit, **options)  # type: ignore[arg-type]


def test_one_harmful_layer_of_eighty_is_found_in_few_trials() -> None:
    """The one layer that hurts is kept float, the others are not, and it takes nowhere near eighty trials."""
    model = Numbers({"layer37": 0.3})
    found = find(model)
    assert found.kept == ("layer37",)
    assert (found.met, found.drop) == (True, 0)
    assert found.trials[0].names == ("layer37",)
    assert found.size_bytes - found.before_bytes == 10
    assert model.judged < 20


def test_two_harmful_layers_are_found_where_one_left_float_shows_nothing() -> None:
    """Where either of two layers alone ruins the model, leaving one float changes nothing; alone, each shows."""
    model = Numbers({"layer3": 0.5, "layer60": 0.5, "layer61": 0.001})
    for name in PLAN:
        assert model.measure_drop(model.build({**PLAN, name: "float32"})) == 0.5
    found = find(model)
    assert found.kept == ("layer3", "layer60")
    assert found.met
    assert found.drop == pytest.approx(0.001)


def test_only_as_many_layers_as_needed_are_kept() -> None:
    """Of five layers that hurt, only those are kept without which the limit is not met, and not the dear ones."""
    damage = {"layer1": 0.05, "layer20": 0.04, "layer21": 0.03, "layer50": 0.02, "layer70": 0.01}
    found = find(Numbers(damage), limit=0.035)
    assert found.kept == ("layer1", "layer20", "layer21")
    assert found.drop == pytest.approx(0.03)
    dear = find_float_layers(PLAN, *each(Numbers({"layer1": 0.02, "layer2": 0.019, "layer3": 0.018})), 0.021,
                      cost={"layer1": 9000})  # fmt: skip
    assert dear.met
    assert len(dear.kept) == 2


def each(model: Numbers) -> tuple[object, object]:
    return model.build, model.measure_drop


def test_damage_spread_over_all_layers_ends_in_bounded_time() -> None:
    """Where every layer hurts a little, the search stops at its bound of trials and still meets the limit."""
    model = Numbers(dict.fromkeys(PLAN, 0.001))
    found = find(model, limit=0.04)
    assert found.met
    assert 0.03 < found.drop <= 0.04
    assert len(found.trials) <= MAX_TRIALS
    assert model.built < 2 * MAX_TRIALS


def test_a_budget_refuses_and_names_the_best_reached() -> None:
    """Where the file may not grow enough, the policy stays unmet, and the best file within the budget is named."""
    model = Numbers({"layer1": 0.2, "layer40": 0.1}, {"layer1": 5000})
    found = find(model, limit=0.01, max_bytes=6000)
    assert not found.met
    assert found.kept == ("layer40",)
    assert found.drop == pytest.approx(0.2)
    assert found.size_bytes <= 6000
    assert all(step.size_bytes <= 6000 for step in found.steps)


def test_nothing_to_be_found_is_said() -> None:
    """Where all layers quantized meet the limit none is kept; where none hurts and the drop stays, it is unmet."""
    found = find(Numbers({"layer1": 0.005}))
    assert (found.kept, found.met) == ((), True)
    stubborn = find_float_layers(PLAN, Numbers({}).build, lambda file: 0.2, 0.01, measure_damage=lambda file: 0.0)
    assert (stubborn.kept, stubborn.met, stubborn.drop) == ((), False, 0.2)


@pytest.mark.parametrize("pair", [("layer10", "layer11"), ("layer39", "layer40"), ("layer19", "layer20")])
def test_neighbours_that_hurt_together_only_are_found(pair: tuple[str, str]) -> None:
    """Two neighbours, harmless alone, are found wherever the cut falls, and one of them is kept float."""
    model = Numbers({})

    def measure_drop(file: bytes) -> float:
        return 0.3 if set(pair) <= set(json.loads(file)) else 0.0

    found = find_float_layers(PLAN, model.build, measure_drop, 0.01)
    assert found.met
    assert set(found.kept) <= set(pair)
    assert len(found.kept) == 1


def test_a_layer_that_answers_nan_is_the_first_suspect() -> None:
    """NaN is never taken for no damage: the layer that causes it is found and kept float."""

    def measure_drop(file: bytes) -> float:
        return math.nan if "layer11" in json.loads(file) else 0.0

    found = find_float_layers(PLAN, Numbers({}).build, measure_drop, 0.01)
    assert found.kept == ("layer11",)
    assert found.met


def test_the_search_is_the_same_every_time() -> None:
    """Twice the same search gives the same trials, steps and layers."""
    damage = {name: 0.0001 * (i * 37 % 11) for i, name in enumerate(PLAN)}
    assert find(Numbers(damage), limit=0.02) == find(Numbers(damage), limit=0.02)
