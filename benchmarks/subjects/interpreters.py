"""How does a module of this project run in another Python interpreter?"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import benchmarks
import edge_runtime
import evidence
from edge_runtime.system.process import inherited_environment, run_module


def run_command(command: list[str], work: Path, python: str = sys.executable) -> tuple[int, str]:
    """Run a module with its arguments; return its exit status and its last line on stderr."""
    return run_module(*command, python=python, environment=make_environment(python, work))


def make_environment(python: str, work: Path) -> dict[str, str]:
    """Return an environment in which `python` finds this project's packages.

    This interpreter also finds all modules found here. Another one does not: its NumPy is a different build.
    """
    links = work / "packages"
    if not links.is_dir():
        links.mkdir(parents=True)
        for folder in (Path(str(package.__file__)).parent for package in (benchmarks, evidence, edge_runtime)):
            (links / folder.name).symlink_to(folder.resolve())
    here = [inherited_environment()["PYTHONPATH"]] if python == sys.executable else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(links), *here])}
