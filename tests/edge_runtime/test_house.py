"""The house rules: who may import whom, what the device pulls in, and that nothing evaluates text."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("reference", "convert", "edge_runtime", "benchmarks", "deploy")
HEAVY = ("tensorflow", "keras", "matplotlib", "PIL", "psutil", "jinja2", "scipy", "pandas", "torch", "onnxruntime")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
DEVICE = [path for path in FILES if path.relative_to(ROOT).parts[0] == "edge_runtime"]


def list_imports(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere in it, also for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level >= len(path.relative_to(ROOT).parts):
            found.add("beyond the room")
    return found


def test_there_are_files_to_check() -> None:
    """The rules below look at something."""
    assert len(DEVICE) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_the_device_only(path: Path) -> None:
    """reference, convert, benchmarks and deploy import edge_runtime and never each other; edge_runtime none of ours."""
    room = path.relative_to(ROOT).parts[0]
    allowed = {room} if room == "edge_runtime" else {room, "edge_runtime"}
    assert list_imports(path) & {*ROOMS, "tests", "beyond the room"} <= allowed


@pytest.mark.parametrize("path", DEVICE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_device_imports_numpy_opencv_and_interpreters_alone(path: Path) -> None:
    """No training framework, not even as a fallback; interpreters in their engine's file only."""
    allowed = {"numpy", "cv2", "edge_runtime", *sys.stdlib_module_names}
    if path.parent.name == "engines":
        allowed |= {"ai_edge_litert", "tflite_runtime", "openvino"}
    assert list_imports(path) <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_evaluates_text_or_unpickles(path: Path) -> None:
    """No eval, exec or compile of text, no pickle, no shell: a model or an image is data."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__"), f"line {node.lineno}"
        if isinstance(node, ast.keyword):
            assert not (node.arg == "shell" and getattr(node.value, "value", True)), f"line {node.value.lineno}"
    assert not list_imports(path) & {"pickle", "marshal", "shelve"}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_importing_the_session_pulls_in_nothing_heavy() -> None:
    """`import edge_runtime; edge_runtime.Session` loads none of the frameworks, even where they are installed."""
    found = run_python("import edge_runtime, sys; edge_runtime.Session; print(*sys.modules)").split()
    assert "edge_runtime.session" in found
    assert not {name.split(".")[0] for name in found} & set(HEAVY)


def test_a_whole_run_pulls_in_nothing_heavy(tmp_path: Path) -> None:
    """Neither does loading the embedded model, segmenting an image and writing all outputs."""
    code = f"""
import sys, numpy, cv2
from edge_runtime.cli import main
cv2.imwrite({str(tmp_path / "a.png")!r}, numpy.zeros((20, 30), numpy.uint8))
assert main([{str(tmp_path / "a.png")!r}, "-o", {str(tmp_path / "out")!r}, "--quiet", "--threads", "1"]) == 0
print(*sys.modules)
"""
    assert not {name.split(".")[0] for name in run_python(code).split()} & set(HEAVY)


def test_help_waits_for_neither_numpy_nor_opencv() -> None:
    """`edge-seg --help` and a bare `import edge_runtime` load the standard library alone."""
    code = "import edge_runtime.cli, sys; edge_runtime.cli.make_parser().format_help(); print(*sys.modules)"
    assert not {name.split(".")[0] for name in run_python(code).split()} & {"numpy", "cv2", "ai_edge_litert"}


def test_the_import_brings_little_beside_numpy_and_opencv() -> None:
    """`import edge_runtime; edge_runtime.Session` loads no interpreter, no network, no second way to run code."""
    slow = {"ai_edge_litert", "asyncio", "email", "http", "importlib.metadata", "ssl", "unittest", "xml"}
    without = set(run_python("import numpy, cv2, sys; print(*sys.modules)").split())
    found = set(run_python("import edge_runtime, sys; edge_runtime.Session; print(*sys.modules)").split())
    assert not (found - without) & slow
