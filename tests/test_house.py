"""The house rules: who may import whom, how much a folder holds, what the device pulls in, and that no text is run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import FILES, ROOT, draw_graph, find_circle, list_files, list_modules

HEAVY = (
    "tensorflow",
    "keras",
    "matplotlib",
    "PIL",
    "psutil",
    "jinja2",
    "scipy",
    "pandas",
    "torch",
    "onnxruntime",
    "pydicom",
    "highdicom",
    "nibabel",
)
READERS = {  # of edge_runtime/hospital, run in child processes alone
    "dicom.py": {"pydicom"},
    "dicom_pixels.py": {"pydicom"},
    "sources.py": {"pydicom"},
    "segmentation.py": {"pydicom", "highdicom"},
    "capture.py": {"pydicom", "highdicom"},
    "nifti.py": {"nibabel"},
    "nifti_pixels.py": {"nibabel"},
    "nifti_mask.py": {"nibabel"},
}
DEVICE = [path for path in FILES if path.parts[0] == "edge_runtime"]
MOST_ENTRIES = 10

# Who may import whom: a folder or file, and what it may import besides itself. A room's own face may import the room.
ARROWS: dict[str, tuple[str, ...]] = {
    "edge_runtime/cli": (
        "checks",
        "folder",
        "hospital",
        "inference",
        "images",
        "contract",
        "system",
        "models",
        "errors.py",
    ),
    "edge_runtime/checks": ("folder", "inference", "images", "contract", "system", "models", "errors.py"),
    "edge_runtime/folder": ("hospital", "inference", "images", "contract", "system", "models", "errors.py"),
    "edge_runtime/hospital": ("inference", "images", "contract", "system", "errors.py"),
    "edge_runtime/inference": ("images", "contract", "system", "models", "errors.py"),
    "edge_runtime/images": ("contract", "system", "errors.py"),
    "edge_runtime/contract": ("errors.py",),
    "edge_runtime/system": ("errors.py",),
    "edge_runtime/models": (),
    "edge_runtime/errors.py": (),
    "evidence": ("edge_runtime/errors.py",),
    "convert/conversion.py": ("report", "search", "verify", "quantize", "source", "flatbuffer", "stamp"),
    "convert/restamp.py": ("stamp",),
    "convert/report": ("search", "verify", "quantize", "source", "flatbuffer"),
    "convert/search": ("verify", "quantize", "source", "flatbuffer", "stamp"),
    "convert/verify": ("quantize", "source", "flatbuffer"),
    "convert/quantize": ("flatbuffer",),
    "convert/source": ("flatbuffer",),
    "convert/flatbuffer": (),
    "convert/stamp": (),
    "benchmarks/options.py": ("verdicts", "subjects"),
    "benchmarks/run.py": ("verdicts", "measure", "subjects", "machine", "result"),
    "benchmarks/report": ("verdicts", "measure", "subjects", "machine", "result"),
    "benchmarks/verdicts": ("measure", "result"),
    "benchmarks/measure": ("subjects", "machine", "result"),
    "benchmarks/subjects": ("result",),
    "benchmarks/machine": ("result",),
    "benchmarks/result": (),
    "reference/options.py": ("paper_table", "training", "recipe.py", "paper.py"),
    "reference/paper_table": ("training", "evaluation", "nets", "data", "recipe.py", "paper.py"),
    "reference/training": ("evaluation", "nets", "data", "recipe.py", "paper.py"),
    "reference/evaluation": ("nets", "data"),
    "reference/public_sets": ("data",),
    "reference/nets": ("recipe.py",),
    "reference/data": (),
    "reference/recipe.py": (),
    "reference/paper.py": ("recipe.py",),
    "deploy/fleet": ("files.py",),
    "deploy/device": ("kit", "files.py"),
    "deploy/kit": ("installer.py", "files.py"),
    "deploy/files.py": (),
    "deploy/installer.py": (),
    "deploy/clock.py": (),
}
FACES = ("__init__.py", "__main__.py")  # of a room: they may import all of it
OTHER_ROOMS = {room: {"edge_runtime", "evidence"} for room in ("convert", "benchmarks", "reference", "deploy")}


def list_imports(path: Path) -> set[str]:
    """Return the top-level packages that a file imports anywhere in it, also for types only."""
    return {name.split(".")[0] for name in list_modules(path)}


def may_import(path: Path, target: Path) -> bool:
    """Tell whether the table of arrows allows an import."""
    room, place = path.parts[0], "/".join(path.parts[:2])
    key = room if room in ARROWS else place
    allowed = ARROWS.get(key, ())
    if target.parts[0] != room:
        return target.parts[0] in OTHER_ROOMS.get(room, ()) or str(target) in allowed
    if path.parts[1] in FACES or target.parts[1] in ("__init__.py", path.parts[1]) or key == room:
        return True
    return target.parts[1] in allowed


def test_there_are_files_to_check() -> None:
    """The rules below look at something."""
    assert len(DEVICE) > 10


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_follow_the_arrows(path: Path) -> None:
    """Each import is one that the table of arrows allows; a room imports edge_runtime and evidence, no other room."""
    assert [str(target) for target in sorted(list_files(path)) if not may_import(path, target)] == []


def test_every_folder_has_its_arrows() -> None:
    """The table names every folder and file of every room but its faces, and nothing else."""
    places = {"/".join(path.parts[:2]) for path in FILES if path.parts[0] not in ARROWS and path.parts[1] not in FACES}
    assert places == {name for name in ARROWS if "/" in name}


@pytest.mark.parametrize("depth", [None, 1, 2, 3], ids=["files", "rooms", "folders", "inner folders"])
def test_no_import_leads_back(depth: int | None) -> None:
    """Neither files nor folders, at any depth, import each other in a circle."""
    assert find_circle(draw_graph(depth)) == []


def test_a_circle_is_found() -> None:
    """The search above finds one: a to b to c and back to b."""
    assert find_circle({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b")}) == ["b", "c"]


FOLDERS = sorted({parent for path in FILES for parent in path.parents if parent.parts})


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_folder_holds_ten_entries_at_most(folder: Path) -> None:
    """Beside `__init__.py` and `py.typed`, so that one look takes them in."""
    beside = {"__init__.py", "py.typed", "__pycache__"}
    assert len([entry for entry in (ROOT / folder).iterdir() if entry.name not in beside]) <= MOST_ENTRIES


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_folder_says_what_it_answers(folder: Path) -> None:
    """Each package's `__init__.py` begins with one sentence."""
    if folder.parts[:2] != ("deploy", "fleet") or len(folder.parts) == 2:
        text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text("utf-8")))
        assert text and text.splitlines()[0][-1] in ".?;:,`)" and len(text.splitlines()[0]) < 130


@pytest.mark.parametrize("path", DEVICE, ids=str)
def test_the_device_imports_numpy_opencv_and_interpreters_alone(path: Path) -> None:
    """No training framework, not even as a fallback; interpreters and readers of series in their own file only."""
    allowed = {"numpy", "cv2", "edge_runtime", *sys.stdlib_module_names}
    if path.parent.name == "engines":
        allowed |= {"ai_edge_litert", "tflite_runtime", "openvino"}
    if path.parent.parts[:2] == ("edge_runtime", "hospital"):
        allowed |= READERS.get(path.name, set())
    assert list_imports(path) <= allowed


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_evaluates_text_or_unpickles(path: Path) -> None:
    """No eval, exec or compile of text, no pickle, no shell: a model or an image is data."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
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
    assert "edge_runtime.inference.session" in found
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
    code = (
        "import sys; from edge_runtime.cli.options import make_parser; make_parser().format_help(); print(*sys.modules)"
    )
    assert not {name.split(".")[0] for name in run_python(code).split()} & {"numpy", "cv2", "ai_edge_litert"}


def test_the_import_brings_little_beside_numpy_and_opencv() -> None:
    """`import edge_runtime; edge_runtime.Session` loads no interpreter, no network, no second way to run code."""
    slow = {"ai_edge_litert", "asyncio", "email", "http", "importlib.metadata", "ssl", "unittest", "xml"}
    without = set(run_python("import numpy, cv2, sys; print(*sys.modules)").split())
    found = set(run_python("import edge_runtime, sys; edge_runtime.Session; print(*sys.modules)").split())
    assert not (found - without) & slow


def test_each_test_file_has_a_name_of_its_own() -> None:
    """pytest imports them by their names alone: of two with one name, one is not run."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
