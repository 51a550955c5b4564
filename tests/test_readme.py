"""The README keeps its word: its commands parse, its Python runs, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import options as edge_bench
from convert import __main__ as edge_convert
from convert.quantize.recipes import RECIPES
from deploy import __main__ as edge_deploy
from edge_runtime.cli import __main__ as edge_seg
from edge_runtime.contract.findings import FINDINGS
from edge_runtime.models import DEFAULT
from reference import __main__ as edge_reference
from reference.data.phantom import draw_phantom

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    DEFAULT.with_name("MODEL_CARD.md"),
    ROOT / "docs" / "operate.md",
    ROOT / "docs" / "evaluate.md",
)
PARSERS = {
    "edge-seg": edge_seg.make_parser,
    "python -m convert": edge_convert.build_parser,
    "python -m reference": edge_reference.make_parser,
    "python -m benchmarks": edge_bench.make_parser,
    "python -m deploy": edge_deploy.build_parser,
    "edge-deploy": edge_deploy.build_parser,
}


def read_blocks(language: str) -> list[str]:
    return [block for page in PAGES for block in re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S)]


def read_commands() -> list[str]:
    lines = "\n".join(read_blocks("sh")).replace("\\\n", " ").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.startswith(tuple(PARSERS))]


@pytest.mark.parametrize("command", read_commands())
def test_each_command_parses(command: str) -> None:
    """Every command of ours in the README, the model card and the pages is one that its program takes."""
    program = next(name for name in PARSERS if command.startswith(name))
    assert PARSERS[program]().parse_args(shlex.split(command.removeprefix(program)))


def test_commands_are_found() -> None:
    """The test above sees the commands of all programs."""
    assert {name for name in PARSERS for command in read_commands() if command.startswith(name)} == set(PARSERS)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's Python lines work as printed, given a model and a slice of those names."""
    monkeypatch.chdir(tmp_path)
    Path("model.drq.tflite").write_bytes(DEFAULT.read_bytes())
    image = draw_phantom(np.random.default_rng(0), "meningioma", 128).image
    cv2.imwrite("slice.png", image)
    names: dict[str, object] = {}
    for block in read_blocks("python"):
        exec(block, names)
    result = names["result"]
    assert result.mask.shape == result.probability.shape == (128, 128)  # type: ignore[attr-defined]


def test_links_lead_somewhere() -> None:
    """Every relative link of the README is a file of the project."""
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[0].read_text("utf-8"))
    assert links and all((ROOT / link).exists() for link in links)


def test_the_conversions_page_is_complete() -> None:
    """The page on conversion names every finding with its meaning, every recipe and every option."""
    page = (ROOT / "docs" / "convert.md").read_text("utf-8")
    for name, meaning in FINDINGS.items():
        assert f"| `{name}` | {meaning} |" in page
    for recipe in RECIPES:
        assert f"`{recipe}`" in page
    options = {option for action in edge_convert.build_parser()._actions for option in action.option_strings}
    everyday = {"-h", "--help", "-o", "--recipe", "--contract", "--force", "--json"}
    assert [option for option in sorted(options - everyday) if option not in page] == []


def test_the_numbers_come_from_the_committed_result() -> None:
    """The README's table of the embedded model is what tools/readme_table.py makes of the committed result."""
    spec = importlib.util.spec_from_file_location("numbers_of_docs", ROOT / "tools" / "readme_table.py")
    assert spec and spec.loader
    numbers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(numbers)
    page, result = PAGES[0].read_text("utf-8"), json.loads(numbers.RESULT.read_text("utf-8"))
    assert numbers.replace_block(page, numbers.to_table(result)) == page
