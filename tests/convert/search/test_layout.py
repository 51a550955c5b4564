"""The layout follows the times: given times lead to the layout that they call for, within its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from freezing import freeze, list_kinds
from keras_nets import build_unet, spread

from convert.flatbuffer.edit import unpack
from convert.flatbuffer.upsampling import find_transposed
from convert.quantize.recipes import RECIPES
from convert.quantize.weights import list_weights, plan_weights, quantize_weights
from convert.search import layout, race
from convert.search.kept_choice import LayoutChoice, load_or_choose
from convert.search.layer_timing import time_layers
from convert.search.layout import choose_layout, pick_forms, pick_within_size

DRQ = RECIPES["drq"]


@pytest.fixture(scope="module")
def graph() -> bytes:
    return freeze(spread(build_unet((32, 32), filters=(16, 32, 64))))


def plant(graph: bytes, slow: tuple[str, ...] = (), form: str = "keep") -> list[dict[str, Any]]:
    """Return a row for each layer: int8 twice as fast, or twice as slow where named; one form faster than others."""
    names = {one.source: one.name for one in find_transposed(unpack(graph))}
    rows = []
    for weight in list_weights(graph):
        if weight.elements >= 1024:
            row = {"name": weight.name, "op": names.get(weight.name, weight.name), "operation": weight.operation}
            row |= {"weights": weight.elements, "float_ms": 1.0, "int8_ms": 2.0 if weight.name in slow else 0.5}
            row |= {f"{name}_ms": 0.4 if name == form else 0.5 for name in ("keep", "phases", "depth-to-space")}
            rows.append(row)
    return rows


def test_layers_are_timed_alone(graph: bytes) -> None:
    """Every layer that drq quantizes has its times; layers of equal shapes share them."""
    rows = time_layers(graph, "int8")
    assert [row["name"] for row in rows] == [w.name for w in list_weights(graph) if w.elements >= 1024]
    assert all(row["float_ms"] > 0 and row["int8_ms"] > 0 for row in rows)
    forms = [row for row in rows if row["operation"] == "TRANSPOSE_CONV"]
    assert len(forms) == 3
    assert all(row[f"{form}_ms"] > 0 for row in forms for form in ("keep", "phases", "depth-to-space"))


@pytest.mark.parametrize("form", ["keep", "phases"])
def test_the_fastest_form_is_taken(graph: bytes, form: str) -> None:
    """Each transposed convolution gets the form that was fastest; an old runtime never gets the kept one."""
    layers = plant(graph, form=form)
    assert set(pick_forms(graph, layers, "litert").values()) == {form}
    assert "keep" not in pick_forms(graph, layers, "tflite-runtime").values()


def test_zero_taps_keep_to_their_budget(graph: bytes) -> None:
    """Where depth-to-space is fastest it is taken as long as its zeros are within 3 % of the weights."""
    forms = pick_forms(graph, plant(graph, form="depth-to-space"), "litert")
    extra = {one.name: one.added_weights for one in find_transposed(unpack(graph))}
    taken = sum(extra[name] for name, form in forms.items() if form == "depth-to-space")
    weights = sum(weight.elements for weight in list_weights(graph))
    assert 0 < taken <= 0.03 * weights < sum(extra.values())


def test_bytes_are_spent_on_what_gains_most(graph: bytes) -> None:
    """Layers left float fit into the share of float32's size, the best gain for its bytes first."""
    layers = plant(graph, slow=tuple(weight.name for weight in list_weights(graph)))
    quantized = len(quantize_weights(graph, plan_weights(graph, "int8")))
    names = pick_within_size(graph, layers, lambda _: True, 0.32)
    weights = {layer["name"]: layer["weights"] for layer in layers}
    assert names
    assert quantized + 3 * sum(weights[name] for name in names) <= 0.32 * len(graph)
    able = sorted(layer["weights"] for layer in layers if layer["operation"] == "CONV_2D")
    assert [weights[name] for name in names] == able[: len(names)]
    assert not pick_within_size(graph, layers, lambda _: False, 0.32)


def plant_times(monkeypatch: pytest.MonkeyPatch, layers: list[dict[str, Any]], *rounds: tuple[float, ...]) -> None:
    """Plant the times of single layers, and of whole files against the float32 file's 1 ms, race by race."""
    left = list(rounds)
    monkeypatch.setattr(layout, "time_layers", lambda *_: layers)
    monkeypatch.setattr(race, "choose_rounds", lambda *_: 3)

    def time_models(engines: dict[str, Any], *_: Any, **__: Any) -> dict[str, list[float]]:
        times = (1.0, *left.pop(0))
        assert len(times) == len(engines)
        return {name: [ms] * 3 for name, ms in zip(engines, times, strict=True)}

    monkeypatch.setattr(race, "time_models", time_models)


def choose(graph: bytes, folder: Path, **more: Any) -> LayoutChoice:
    (folder / "fp32.tflite").write_bytes(graph)
    tensor = np.zeros((1, 32, 32, 3), np.float32)
    options = {"upsample": "keep", "target": "litert", "kept": None} | more
    return choose_layout(graph, DRQ, options["upsample"], options["target"], tensor, folder, options["kept"])


def test_whole_files_have_the_last_word(graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow layer is left float only if the whole file is faster by it; every file tried is in the table."""
    stem = list_weights(graph)[1]
    layers = plant(graph, slow=(stem.name,))
    for time_ms, kept in ((0.6, (stem.name,)), (0.795, ())):  # 0.795 is no clear gain over 0.8
        plant_times(monkeypatch, layers, (0.8, time_ms))
        choice = choose(graph, tmp_path)
        assert choice.kept == kept
        assert [row["ratio"] for row in choice.table] == [0.8, time_ms]
        assert choice.layers == tuple(layers)


def test_more_bytes_only_where_nothing_else_is_faster_than_float(
    graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers that gain less than they weigh stay int8, unless no file would be faster than float32 otherwise."""
    large = max((w for w in list_weights(graph) if w.operation == "CONV_2D"), key=lambda w: w.elements)
    second = sorted((w for w in list_weights(graph) if w.operation == "CONV_2D"), key=lambda w: w.elements)[-3]
    layers = plant(graph, slow=(second.name,))
    next(row for row in layers if row["name"] == second.name).update(int8_ms=1.06)
    assert second.elements < large.elements
    plant_times(monkeypatch, layers, (0.9,))
    assert choose(graph, tmp_path).kept == ()
    plant_times(monkeypatch, layers, (1.1,), (1.1, 0.9))
    assert choose(graph, tmp_path).kept == (second.name,)


def test_what_is_asked_for_is_not_measured(graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A given form and given float layers are not timed; an old runtime has no transposed convolution left."""
    monkeypatch.setattr(layout, "time_layers", lambda *_: pytest.fail("measured"))
    choice = choose(graph, tmp_path, upsample="depth-to-space", kept=["a"])
    assert (set(choice.forms.values()), choice.kept) == ({"depth-to-space"}, ("a",))
    choice = choose(graph, tmp_path, target="tflite-runtime", kept=[])
    rewritten, _ = race.rewrite_forms(graph, choice.forms)
    assert "TRANSPOSE_CONV" not in list_kinds(rewritten)


def test_a_choice_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second conversion takes the first one's choice; a damaged or unwritable cache only measures again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = LayoutChoice({"up": "phases"}, ("stem",), "measured", ({"what": "x", "ratio": 0.5},), ({"name": "stem"},))
    calls: list[int] = []

    def measure() -> LayoutChoice:
        calls.append(1)
        return made

    assert load_or_choose("key", measure) == made
    again = load_or_choose("key", measure)
    assert (again.forms, again.kept, again.table, again.layers) == (made.forms, made.kept, made.table, made.layers)
    assert "earlier conversion" in again.why
    assert len(calls) == 1
    load_or_choose("key", measure, retune=True)
    assert len(calls) == 2
    next((tmp_path / "cache").rglob("*.json")).write_text("{")
    assert load_or_choose("key", measure) == made
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_or_choose("key", measure) == made
    assert len(calls) == 4
