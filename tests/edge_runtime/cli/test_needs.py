"""Too little memory, and libraries that do not import, are one line with the cause and what to do, in every mode."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge_runtime.system.needs import describe_limits, describe_shortage, is_shortage, to_shortage

COMMAND = [sys.executable, "-m", "edge_runtime.cli"]
MODES = ("run", "watch", "info", "selftest", "doctor", "no-isolation")
LINE = re.compile(r"edge-seg: error: [^:]+: .+; .+\n")
LITERT = find_spec("ai_edge_litert") is not None
# Too little to load a model; then what may be enough for that, but not for an image. Where one ends depends on engine
# and cores: the legacy engine loads below 300 MB, LiteRT near 400 on two cores.
TOO_LITTLE_MB, LITTLE_MB = ((100, 200, 300), (400,)) if LITERT else ((100, 200), (300, 400))
BROKEN = {
    "a library that is missing": "raise ImportError('libGL.so.1: cannot open shared object file')",
    "an older NumPy's": "raise AttributeError('_ARRAY_API not found')",
    "half a package": "",
    "several lines": "raise ImportError('one\\ntwo\\nthree')",
}


def run(
    mode: str, folder: Path, out: Path, *options: object, address_mb: int = 0, **environment: str
) -> tuple[int, str, str]:
    arguments = {
        "run": [folder, "-o", out, "--quiet"],
        "watch": ["--watch", folder, "-o", out, "--quiet"],
        "info": ["--info"],
        "selftest": ["--selftest", "--quiet"],
        "doctor": ["--doctor"],
        "no-isolation": [folder, "-o", out, "--quiet", "--no-isolation"],
    }[mode]

    def limit() -> None:
        if address_mb:
            resource.setrlimit(resource.RLIMIT_AS, (address_mb * 1_000_000,) * 2)

    done = subprocess.run(
        [*COMMAND, *map(str, [*arguments, *options])],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit,
        env={**os.environ, **environment},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("address_mb", TOO_LITTLE_MB)
@pytest.mark.parametrize("mode", MODES)
def test_too_little_address_space_is_one_line(folder: Path, tmp_path: Path, mode: str, address_mb: int) -> None:
    """Under `ulimit -v` each mode ends with a line that says memory, the limit and what to do; OUT is not begun."""
    status, out, error = run(mode, folder, tmp_path / "out", address_mb=address_mb)
    if mode == "info":
        assert (status, error) == (0, "")
    elif mode == "doctor":
        assert (status, error) == (1, "")
        problems = [line for line in out.splitlines() if line.startswith("problem")]
        assert problems and "Traceback" not in out
        assert any(f"ulimit -v of {address_mb} MB" in line and "raise it" in line for line in problems)
    else:
        assert status == 1
        assert LINE.fullmatch(error), error
        assert "memory" in error and f"ulimit -v of {address_mb} MB" in error and "raise it" in error
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("limit", [1, 60])
@pytest.mark.parametrize("mode", ["run", "watch"])
def test_too_little_max_memory_is_one_line(folder: Path, tmp_path: Path, mode: str, limit: int) -> None:
    """So it is under --max-memory, which limits the processes that segment."""
    status, _, error = run(mode, folder, tmp_path / "out", "--max-memory", limit)
    assert status == 1
    assert LINE.fullmatch(error), error
    assert f"--max-memory of {limit} MB" in error and "raise it" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("limit", [150, 300])
def test_little_max_memory_ends_with_lines_that_name_it(folder: Path, tmp_path: Path, limit: int) -> None:
    """Where a model may load and images may lack memory, which depends on engine and cores, what fails says so."""
    status, _, error = run("run", folder, tmp_path / "out", "--max-memory", limit)
    assert status in (0, 1, 3) and bool(status) == bool(error)
    for line in error.splitlines():
        assert "memory" in line and "--max-memory" in line and "raise" in line, line


@pytest.mark.parametrize("address_mb", LITTLE_MB)
@pytest.mark.parametrize("mode", ["run", "no-isolation", "doctor"])
def test_little_memory_ends_with_lines_that_name_the_limit(
    folder: Path, tmp_path: Path, mode: str, address_mb: int
) -> None:
    """A model that does not load is one line; one that loads and lacks memory for images is a line for each."""
    status, out, error = run(mode, folder, tmp_path / "out", address_mb=address_mb)
    found = out if mode == "doctor" else error
    lines = [line for line in found.splitlines() if mode != "doctor" or line.startswith("problem")]
    assert status in ({1} if mode == "doctor" else {1, 3}) and lines
    for line in lines:
        assert "memory" in line and "ulimit -v" in line and "raise" in line, line
    assert status == 3 or LINE.fullmatch(error) or mode == "doctor", error


@pytest.mark.parametrize("module", ["cv2", "numpy"])
@pytest.mark.parametrize("kind", list(BROKEN))
@pytest.mark.parametrize("mode", MODES)
def test_a_broken_library_is_named_with_its_error(
    folder: Path, tmp_path: Path, mode: str, kind: str, module: str
) -> None:
    """The import's own error is shown, and which package to install again; no other engine is advised."""
    (tmp_path / "broken" / module).mkdir(parents=True)
    (tmp_path / "broken" / module / "__init__.py").write_text(BROKEN[kind])
    path = f"{tmp_path / 'broken'}:{Path(__file__).parents[3]}"
    status, out, error = run(mode, folder, tmp_path / "out", PYTHONPATH=path)
    if mode == "info":
        assert (status, error) == (0, "")
        return
    text = next(line for line in out.splitlines() if "does not import" in line) if mode == "doctor" else error
    package = {"cv2": "opencv-python-headless", "numpy": "numpy"}[module]
    assert status == 1
    assert mode == "doctor" or LINE.fullmatch(error), error
    assert package in text and f"; pip install --force-reinstall {package}" in text
    assert {"a library that is missing": "libGL.so.1", "an older NumPy's": "_ARRAY_API", "half a package": "attribute",
            "several lines": "three"}[kind] in text  # fmt: skip
    assert "--engine" not in text and not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["run", "selftest"])
def test_a_library_that_ends_the_process_is_one_line(folder: Path, tmp_path: Path, mode: str) -> None:
    """A wheel for another processor ends its process: the line says how, and which command finds the part."""
    (tmp_path / "broken" / "cv2").mkdir(parents=True)
    (tmp_path / "broken" / "cv2" / "__init__.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    path = f"{tmp_path / 'broken'}:{Path(__file__).parents[3]}"
    status, _, error = run(mode, folder, tmp_path / "out", PYTHONPATH=path)
    assert status == 1
    assert LINE.fullmatch(error), error
    assert "SIGILL" in error and "--doctor" in error
    _, out, _ = run("doctor", folder, tmp_path / "out", PYTHONPATH=path)
    assert any("SIGILL" in line and "opencv-python-headless" in line for line in out.splitlines())


def test_what_means_too_little_memory() -> None:
    """Errors by which libraries say so, and others that do not."""
    short = [MemoryError(), OSError(12, "Cannot allocate memory"), RuntimeError("can't start new thread")]
    short += [ImportError("x.so: failed to map segment from shared object"), RuntimeError("std::bad_alloc")]
    assert all(map(is_shortage, short))
    assert not any(map(is_shortage, (OSError(2, "No such file"), RuntimeError("it failed"), ImportError("libGL.so.1"))))
    line = str(to_shortage(describe_shortage(short[2]), describe_limits(60_000_000)))
    assert line.startswith("memory: --max-memory of 60 MB") and "can't start new thread" in line
    assert "close other programs" in str(to_shortage("MemoryError", ""))
