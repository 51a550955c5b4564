"""Runs of the command as a process: started, watched by what appears in OUT, stopped, and what they left compared."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.cli import main
from reference.data.phantom import draw_phantom

COMMAND = [sys.executable, "-m", "edge_runtime.cli"]
OPTIONS = ["--threads", "1", "--quiet"]
OWN = {".lock", "journal.jsonl"}  # the run's own bookkeeping
TIMED = {"results.csv", "run.json", "index.html", *OWN}  # hold times of this very run

ORIGINAL = re.compile(r"\./\.\./[^\"]*")

Outputs = dict[str, bytes]


def draw_folder(folder: Path, count: int) -> Path:
    """A folder of so many small drawn slices, all different."""
    folder.mkdir()
    for k in range(count):
        image = draw_phantom(np.random.default_rng(k), "meningioma", (64, 64)).image
        (folder / f"{k:02}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return folder


def start(*args: object, **kwargs: object) -> subprocess.Popen[str]:
    command = [*COMMAND, *OPTIONS, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)  # type: ignore[call-overload,no-any-return]


def run(*args: object) -> tuple[int, str]:
    """Exit status and stderr of a run that is left alone, in this process: it starts faster; stdout is empty."""
    with redirect_stdout(io.StringIO()) as words, redirect_stderr(io.StringIO()) as errors:
        status = main([*OPTIONS, *map(str, args)])
    assert words.getvalue() == ""
    return status, errors.getvalue()


def run_apart(*args: object, **kwargs: object) -> tuple[int, str]:
    """The same as a process of its own."""
    process = start(*args, **kwargs)
    words, errors = process.communicate(timeout=120)
    assert words == ""
    return process.returncode, errors


def assert_one_line(errors: str, *words: str) -> None:
    """One error is one line, `edge-seg: error: WHAT: WHY; WHAT TO DO`."""
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("edge-seg: error: ")
    assert "; " in errors
    for word in words:
        assert word in errors


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Wait for something to appear in OUT; false if the run ended before."""
    until = time.monotonic() + 60
    while not reached():
        if process.poll() is not None:
            return False
        assert time.monotonic() < until
        time.sleep(0.001)
    return True


def count_masks(out: Path) -> int:
    """How many masks stand under their names."""
    try:
        return sum(not name.startswith(".") for name in os.listdir(out / "masks"))  # noqa: PTH208 - quick
    except OSError:
        return 0


def list_files(out: Path) -> set[str]:
    """All files below OUT, temporary ones too."""
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}


def read_outputs(out: Path) -> Outputs:
    """The bytes of masks, overlays and gallery pictures: what must not depend on when it was made."""
    return {name: (out / name).read_bytes() for name in list_files(out) - TIMED}


def read_rows(out: Path) -> list[dict[str, str]]:
    """results.csv without its three columns of times."""
    with (out / "results.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [{key: text for key, text in row.items() if not key.endswith("_ms")} for row in csv.DictReader(file)]


def read_stamps(out: Path) -> dict[str, tuple[int, int]]:
    """What changes when a mask is written again: (inode, time of its last change)."""
    masks = out / "masks"
    found = [path for path in masks.iterdir() if not path.name.startswith(".")] if masks.is_dir() else []
    return {path.name: ((facts := path.stat()).st_ino, facts.st_mtime_ns) for path in found}


def assert_same(out: Path, whole: Path) -> None:
    """The same files, none besides; the same bytes of every picture; the same rows but for their times."""
    assert list_files(out) == list_files(whole)
    assert read_outputs(out) == read_outputs(whole)
    assert read_rows(out) == read_rows(whole)
    page, other = ((folder / "index.html").read_text() for folder in (out, whole))
    assert page.rstrip().endswith("</html>")
    page, other = (ORIGINAL.sub("", text) for text in (page, other))  # as long as the way from this OUT to the images
    assert abs(len(page) - len(other)) < 200  # times and speeds have different digits


def assert_nothing_torn(out: Path, whole: Mapping[str, bytes]) -> None:
    """Whatever has its final name is complete, whenever the run was stopped."""
    if not out.exists():
        return
    for name in list_files(out) - TIMED:
        if ".tmp" not in name:
            assert (out / name).read_bytes() == whole[name], name
