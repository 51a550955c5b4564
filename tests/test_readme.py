"""The README keeps its word: its commands parse, its Python runs, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from itertools import pairwise
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
    "edge-convert": edge_convert.build_parser,
    "edge-bench": edge_bench.make_parser,
    "edge-deploy": edge_deploy.build_parser,
    "python -m reference": edge_reference.make_parser,
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
    """The test above sees the commands of all programs, by the names that are taught."""
    assert {name for name in PARSERS for command in read_commands() if command.startswith(name)} == set(PARSERS)


SHADOWED = ("convert", "benchmarks", "deploy")  # a file of that name in the user's folder would run instead


def test_the_readme_teaches_the_commands() -> None:
    """No block of the README runs a room by `python -m`, but the one that has no command of its own."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", PAGES[0].read_text("utf-8"), re.S))
    assert not [name for name in SHADOWED if f"python -m {name}" in blocks]


def test_the_readme_follows_a_first_hour() -> None:
    """Demo, own model, own folder, what came out, then the rest; each link within the page leads to a heading."""
    page = PAGES[0].read_text("utf-8")
    headings = re.findall(r"^## (.+)$", page, re.M)
    assert headings[:4] == ["See it in two commands", "Your own model", "Your own folder", "What came out"]
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors


def test_a_pasted_line_finds_what_it_reads(tmp_path: Path) -> None:
    """Every file that a command of the README reads is one that the page has made, or says how to make."""
    made = {"net.keras", "drawn", "edge_runtime/models/default.tflite", "docs/examples/Dockerfile"}
    made |= {"net.drq.tflite", "report", "embedded", "vendor", "vendor.pub", "model.kit", "edge-deploy.pyz", "net.run"}
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", PAGES[0].read_text("utf-8"), re.S)).replace("\\\n", " ")
    for line in blocks.splitlines():
        if line.startswith(("edge-", "python -m reference")):
            words = shlex.split(line, comments=True)
            paths = [word for before, word in pairwise(words) if ("/" in word or "." in word) and before != "-o"]
            read = [path for path in paths if not path.startswith(("-", "/")) and not re.fullmatch(r"[\d.]+", path)]
            assert [path for path in read if path not in made and path.split("/")[0] not in made] == [], line


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's Python lines work as printed, given a model and a slice of those names."""
    monkeypatch.chdir(tmp_path)
    Path("net.drq.tflite").write_bytes(DEFAULT.read_bytes())
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
    everyday |= {"--version", "--log-level", "--completion"}  # of all commands: in the README
    assert [option for option in sorted(options - everyday) if option not in page] == []


def test_the_numbers_come_from_the_committed_result() -> None:
    """The README's table of the embedded model is what tools/readme_table.py makes of the committed result."""
    spec = importlib.util.spec_from_file_location("numbers_of_docs", ROOT / "tools" / "readme_table.py")
    assert spec and spec.loader
    numbers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(numbers)
    page, result = PAGES[0].read_text("utf-8"), json.loads(numbers.RESULT.read_text("utf-8"))
    assert numbers.replace_block(page, numbers.to_table(result)) == page
