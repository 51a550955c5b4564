"""docs/api.md keeps step with the code: written by its tool, complete, and its example runs."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from edge_runtime.models import DEFAULT
from reference.data.phantom import draw_phantom

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_page", ROOT / "tools" / "api_page.py")
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    importlib.sys.modules["api_page"] = tool  # type: ignore[attr-defined] # dataclasses look their module up
    spec.loader.exec_module(tool)
    return tool


def test_the_page_is_what_the_docstrings_say() -> None:
    """`python tools/api_page.py` would change nothing."""
    assert load_tool().make_page() == PAGE


@pytest.mark.parametrize("package", ["edge_runtime", "edge_runtime.images", "convert"])
def test_every_public_name_is_on_the_page(package: str) -> None:
    """What a package exports is on the page, with each parameter that the function itself has."""
    module = importlib.import_module(package)
    for name in (name for name in module.__all__ if name != "__version__"):
        assert f"`from {package} import {name}`" in PAGE
        section = PAGE.split(f"\n## `{name}`")[1].split("\n## ")[0]
        value = getattr(module, name)
        if inspect.isfunction(value):
            functions = [value]
        else:
            methods = re.findall(r"### `\w+\.(\w+)`", section)
            public = [key for key, item in vars(value).items() if key[0] != "_" and callable(getattr(value, key, None))]
            assert name == "Session" or set(public) <= set(methods)
            functions = [getattr(value, key) for key in methods]
        for parameter in (item for one in functions for item in inspect.signature(one).parameters if item != "self"):
            assert re.search(rf"\b{parameter}: ", section), (name, parameter)


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's Python lines work as printed, given a model and a slice of those names."""
    monkeypatch.chdir(tmp_path)
    Path("model.drq.tflite").write_bytes(DEFAULT.read_bytes())
    cv2.imwrite("slice.png", draw_phantom(np.random.default_rng(0), "meningioma", 128).image)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(block, names)
    assert names["picture"].shape == (128, 128, 3)  # type: ignore[attr-defined]
    assert Path("mask.png").is_file()
