"""The table after a run shows what decides whether a mask is empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_runtime.cli.table import to_table
from edge_runtime.folder.records.run_json import describe_page
from edge_runtime.models import DEFAULT

FACTS: dict[str, Any] = {
    "counts": {"inputs": 1, "ok": 1, "failed": 0, "kept": 0},
    "images_per_second": 1.0,
    "flags": {},
    "mask_rule": "threshold",
    "threshold": 0.5,
}
ROW = {
    **{"file": "a.png", "status": "ok", "width": "9", "height": "9", "lesion_fraction": "0", "components": "0"},
    **{"max_probability": "0.7040", "flags": "empty", "read_ms": "1", "infer_ms": "1", "write_ms": "1"},
}


def find_cells(facts: dict[str, Any], row: dict[str, str]) -> dict[str, str]:
    """The first row's cells by their heads; a head is one word, or two with one space."""
    head, line = to_table([row], facts, Path("out"), gallery=True).splitlines()[:2]
    ends = {name: head.index(name) + len(name) for name in ("max p", "label p", "backgr.") if name in head}
    return {name: line[:end].split()[-1] for name, end in ends.items()}


def test_where_the_largest_class_decides_both_are_shown() -> None:
    """Not 0.70 beside an empty mask, but the label's probability, the background's, and that no threshold decides."""
    facts = {**FACTS, "mask_rule": "largest class", "threshold": None}
    row = {**ROW, "label_probability": "0.2450", "background_probability": "0.2960"}
    assert find_cells(facts, row) == {"label p": "0.24", "backgr.": "0.30"}
    assert "no threshold" in to_table([row], facts, Path("out"), gallery=True)
    close = {**ROW, "label_probability": "0.2961", "background_probability": "0.2960"}
    cells = find_cells(facts, close)
    assert float(cells["label p"]) > float(cells["backgr."])
    assert find_cells(facts, {**ROW, "label_probability": "", "background_probability": ""})["backgr."] == "0"


@pytest.mark.parametrize(("highest", "shown"), [("0.7040", "0.70"), ("0.4960", "0.496"), ("0.5000", "0.50")])
def test_where_a_threshold_decides_rounding_does_not_hide_it(highest: str, shown: str) -> None:
    """A highest probability below the threshold is shown below it."""
    assert find_cells(FACTS, {**ROW, "max_probability": highest}) == {"max p": shown}


def test_the_gallery_names_what_decides() -> None:
    """The header has the threshold, or that there is none."""
    facts = {
        **FACTS,
        **{
            "model": {"id": "m", "version": "1", "sha256": "0", "path": "m.tflite"},
            "engine": {"used": "litert"},
            "threads": 1,
        },
        **{"started": "", "versions": {"edge-seg": "1"}, "intended_use": "", "input_scale_from": "told"},
    }
    assert describe_page(facts)["threshold"] == 0.5
    assert describe_page({**facts, "mask_rule": "largest class"})["threshold"] == "none: the largest class decides"


def test_misses_of_the_embedded_model_are_explained() -> None:
    """Where the embedded model found nothing in an image, a line says what it misses, in the gallery too."""
    empty = {"flags": {"empty": 2}}
    own = {"model": {"id": "m", "version": "1", "sha256": "0", "path": "m.tflite"}}
    embedded = {"model": {**own["model"], "path": ""}}
    line = "note: The embedded model misses faint gliomas: see its card, edge_runtime/models/MODEL_CARD.md."
    for model, flags, shown in ((embedded, empty, True), (embedded, {}, False), (own, empty, False)):
        assert (line in to_table([], {**FACTS, **model, **flags}, Path("out"), True).splitlines()) == shown
    more = {"engine": {"used": "litert"}, "threads": 1, "started": "", "versions": {"edge-seg": "1"}}
    facts = {**FACTS, **more, "intended_use": "", "input_scale_from": "told"}
    assert [bool(describe_page({**facts, **model})["limits"]) for model in (embedded, own)] == [True, False]
    card = DEFAULT.with_name("MODEL_CARD.md").read_text("utf-8")
    assert "glioma" in card and DEFAULT.parent.parts[-2:] == ("edge_runtime", "models")
