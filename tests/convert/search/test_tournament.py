"""The order in which files are tried, and which layers a plan has to choose from; files stand for themselves here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from convert.quantize.recipes import RECIPES
from convert.search.options import AUTO, ORDER, list_recipes
from convert.search.tournament import pick_fastest


@dataclass
class File:
    """What `pick_fastest` looks at."""

    name: str
    ratio: float | None

    @property
    def recipe(self) -> Any:
        return RECIPES[self.name]


def order(*files: File) -> list[str]:
    """The names of files in the order in which they are tried."""
    waiting, names = list(files), []
    while waiting:
        fastest: Any = pick_fastest(waiting)  # type: ignore[arg-type]
        names.append(fastest.name)
        waiting.remove(fastest)
    return names


def test_every_recipe_has_its_place() -> None:
    """auto stands for all recipes but int8, which needs calibration; a name stands for itself."""
    assert set(RECIPES) <= set(ORDER)
    assert list_recipes("drq", False) == ["drq"]
    assert "int8" not in list_recipes(AUTO, False)
    assert list_recipes(AUTO, False) == ["drq", "weight-only", "fp16", "fp32"]


@pytest.mark.parametrize("ratios", [(0.5, 1.0, 1.02, None), (0.5, 1.03, 0.99, None), (0.5, 0.98, 1.0, None)])
def test_the_fastest_first_and_the_smaller_of_equals(ratios: tuple[float | None, ...]) -> None:
    """Where times differ by noise alone, the order is the usual one: the smaller file first."""
    files = [File(name, ratio) for name, ratio in zip(("drq", "weight-only", "fp16", "fp32"), ratios, strict=True)]
    assert order(*reversed(files)) == ["drq", "weight-only", "fp16", "fp32"]


def test_times_have_precedence_over_the_usual_order() -> None:
    """A quantized file that is clearly slower than a float one is tried after it."""
    assert order(File("drq", 1.3), File("fp16", 1.0), File("fp32", None)) == ["fp16", "fp32", "drq"]
    assert order(File("drq", 0.9), File("fp32", 0.6)) == ["fp32", "drq"]
