"""The examples do what they say: notebooks run from an empty folder, the Dockerfile's commands are the README's."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.cli.options import make_parser

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
NOTEBOOKS = {"convert_and_check": ("keras", "tensorflow", "matplotlib"), "folder_in_pandas": ("pandas", "matplotlib")}
# Runs the cells as Jupyter does: in one namespace, the value of a last expression shown.
RUNNER = """
import ast, json, sys
names = {"__name__": "__main__"}
for number, cell in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))["cells"]):
    if cell["cell_type"] == "code":
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), names)
        if last is not None:
            print(repr(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)))
"""
DOCKERFILE = (EXAMPLES / "Dockerfile").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_notebook_is_run() -> None:
    """The tests below know all notebooks, and the page of the examples links all files."""
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(NOTEBOOKS)
    page = (EXAMPLES / "README.md").read_text("utf-8")
    others = {path.name for path in EXAMPLES.iterdir()} - {"README.md"}
    assert set(re.findall(r"\]\(([^)]+)\)", page)) == others


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_an_empty_folder(name: str, tmp_path: Path) -> None:
    """Every cell, in order, without an error."""
    for package in NOTEBOOKS[name]:
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", RUNNER, str(EXAMPLES / f"{name}.ipynb")]
    (tmp_path / "work").mkdir()
    done = subprocess.run(command, cwd=tmp_path / "work", capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_outputs(name: str) -> None:
    """No pictures and no paths of whoever ran it last."""
    cells = json.loads((EXAMPLES / f"{name}.ipynb").read_text("utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_the_dockerfile_installs_as_the_readme_does() -> None:
    """Its one RUN is a line of the README, its entry point a command of the project, and nothing is fetched besides."""
    lines = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S)).splitlines()
    said = {line.split("#")[0].strip() for line in blocks}
    assert [rest for word, rest in lines if word == "RUN"] == ["pip install ."] and "pip install ." in said
    assert json.loads(next(rest for word, rest in lines if word == "ENTRYPOINT")) == ["edge-seg"]
    assert {word for word, _ in lines} == {"FROM", "WORKDIR", "COPY", "RUN", "ENTRYPOINT"}
    version = next(rest for word, rest in lines if word == "FROM").split(":")[1].removesuffix("-slim")
    assert version in ("3.11", "3.12", "3.13")


def test_the_dockerfile_copies_all_that_the_wheel_is_made_of() -> None:
    """Each package of pyproject.toml, and the files that it names."""
    copied = {name for line in DOCKERFILE.splitlines() if line.startswith("COPY") for name in line.split()[1:-1]}
    packages = {name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert copied == packages | {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}


def test_the_readmes_docker_lines_fit_the_dockerfile() -> None:
    """The image is built from this Dockerfile, and what follows its name is an edge-seg command line."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S)).replace("\\\n", " ")
    build, run = (shlex.split(line, comments=True) for line in blocks.splitlines() if line.startswith("docker "))
    assert build[:2] == ["docker", "build"] and (ROOT / build[build.index("-f") + 1]) == EXAMPLES / "Dockerfile"
    image = build[build.index("-t") + 1]
    arguments = run[run.index(image) + 1 :]
    given = make_parser().parse_args(arguments)
    inside = [part.split(":")[1] for flag, part in pairwise(run) if flag == "-v"]
    for path in (*given.inputs, given.output.parent):
        assert any(Path("/data", path).is_relative_to(folder) for folder in inside), path


def test_the_table_of_extras_is_pyprojects() -> None:
    """Each extra has its row, and each row an extra."""
    rows = re.findall(r"^\| `([\w-]+)` \|", README.split("<!-- extras -->")[1].split("\n\n")[0], re.M)
    assert sorted(rows) == sorted(PROJECT["project"]["optional-dependencies"])


def test_no_hint_names_a_package_that_is_not_ours() -> None:
    """edge-seg is on no index: a hint says '.[extra]', or somebody else's package of that name would be installed."""
    files = [path for path in ROOT.rglob("*") if path.suffix in (".py", ".md", ".ipynb") and ".venv" not in path.parts]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        if path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if re.search(r"pip3? (install|download)[^`#|]* [\"']?edge-seg\b(?!-)", line)
    ]
    assert found == []
