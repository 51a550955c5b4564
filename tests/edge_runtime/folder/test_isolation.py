"""An image that kills, hangs or bloats the process that segments it costs one row; the rest of the run is done."""

from __future__ import annotations

import csv
import os
import struct
import subprocess
import sys
import time
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge_runtime.errors import EngineError, ModelError
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.pools.child_process import SessionOptions
from edge_runtime.folder.pools.processes import ProcessPool

# Stands in for a decoder's own faults: the child imports it before anything else.
FAULTS = """
import os, signal, sys, time
import cv2
decode = cv2.imdecode

def faulty(data, flags):
    found = data.tobytes()
    if b"fault:crash" in found:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"fault:leave" in found:
        os._exit(7)
    if b"fault:hang" in found:
        time.sleep(1000)
    if b"fault:eat" in found:
        bytearray(3_000_000_000)
    return decode(data, flags)

cv2.imdecode = faulty
"""


def plant(path: Path, image: Path, fault: str) -> None:
    """Write a PNG with a text chunk that triggers a fault of the decoder above."""
    text = b"tEXtComment\0fault:" + fault.encode()
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    data = image.read_bytes()
    path.write_bytes(data[:33] + chunk + data[33:])  # after the IHDR


def start(folder: Path, tmp_path: Path, *more: str) -> subprocess.Popen[str]:
    (tmp_path / "faults").mkdir(exist_ok=True)
    (tmp_path / "faults" / "sitecustomize.py").write_text(FAULTS)
    command = [sys.executable, "-m", "edge_runtime.cli", "--threads", "1", "--quiet", str(folder), "-o"]
    folders = [str(tmp_path / "faults"), os.environ["PYTHONPATH"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, str(tmp_path / "out"), *more], stdout=pipe, stderr=pipe, text=True, env=environment
    )


def run(folder: Path, tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    with start(folder, tmp_path, *more) as process:
        words, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, words, errors)


def read_results(out: Path) -> dict[str, dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("workers", ["1", "3"])
def test_images_that_kill_the_process_cost_a_row_each(folder: Path, tmp_path: Path, workers: str) -> None:
    """Among good images, each that kills has failed with how it killed; the others have masks, in order."""
    for name, fault in (("0", "crash"), ("aa", "leave"), ("ab", "crash"), ("d", "crash")):
        plant(folder / f"{name}.png", folder / "a.png", fault)
    done = run(folder, tmp_path, "--workers", workers)
    assert done.returncode == 3, done.stderr
    rows = read_results(tmp_path / "out")
    assert list(rows) == ["0.png", "a.png", "aa.png", "ab.png", "b.jpg", "c.tif", "d.png"]
    assert "died (SIGSEGV)" in rows["0.png"]["error"]
    assert "left with exit status 7" in rows["aa.png"]["error"]
    good = [name for name, row in rows.items() if row["status"] == "ok"]
    assert good == ["a.png", "b.jpg", "c.tif"]
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 3
    assert len(done.stderr.splitlines()) == 4
    assert not list((tmp_path / "out").rglob(".tmp*"))


def test_an_image_that_hangs_or_needs_too_much_costs_a_row(folder: Path, tmp_path: Path) -> None:
    """A decoder that never ends is stopped after --max-seconds, one that needs more than --max-memory fails."""
    plant(folder / "hang.png", folder / "a.png", "hang")
    plant(folder / "eat.png", folder / "a.png", "eat")
    done = run(folder, tmp_path, "--max-seconds", "3", "--max-memory", "2000")
    assert done.returncode == 3, done.stderr
    rows = read_results(tmp_path / "out")
    assert "it took longer than 3 s" in rows["hang.png"]["error"]
    assert rows["eat.png"]["status"] == "failed"
    assert [row["status"] for row in rows.values()] == ["ok", "ok", "ok", "failed", "failed"]


def test_an_earlier_runs_outputs_of_a_killer_are_removed(folder: Path, tmp_path: Path) -> None:
    """A mask that was computed from other bytes does not stay beside a failed row."""
    assert run(folder, tmp_path).returncode == 0
    mask = tmp_path / "out" / "masks" / "a.png"
    assert mask.exists()
    plant(tmp_path / "new.png", folder / "a.png", "crash")
    (tmp_path / "new.png").replace(folder / "a.png")
    assert run(folder, tmp_path).returncode == 3
    assert not mask.exists()
    assert (tmp_path / "out" / "masks" / "b.jpg.png").exists()


def test_with_and_without_isolation_the_outputs_are_the_same(folder: Path, tmp_path: Path) -> None:
    """--no-isolation segments in the one process, and gives the same bytes."""
    command = [sys.executable, "-m", "edge_runtime.cli", "--threads", "1", str(folder), "-o"]
    for name in ("isolation", "no-isolation"):
        subprocess.run([*command, str(tmp_path / name), f"--{name}"], check=True, capture_output=True)
    one, two = tmp_path / "isolation", tmp_path / "no-isolation"
    for path in (*one.glob("masks/*"), *one.glob("overlays/*"), *one.glob("gallery/*")):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def test_the_parent_holds_neither_numpy_nor_opencv(folder: Path, tmp_path: Path) -> None:
    """The parent stays small: the heavy packages are loaded in the child alone."""
    code = """
import sys
from edge_runtime.cli import main
code = main(sys.argv[1:])
assert not {"numpy", "cv2", "ai_edge_litert"} & set(sys.modules), sys.modules
sys.exit(code)
"""
    command = [sys.executable, "-c", code, str(folder), "-o", str(tmp_path / "out"), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_child_ends_with_its_parent(folder: Path, tmp_path: Path) -> None:
    """A parent that is killed leaves no process behind, also while an image is under way."""
    plant(folder / "a.png", folder / "a.png", "hang")
    process = start(folder, tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "journal.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (child,) = children.read_text().split()
    process.kill()
    process.communicate()
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_are_processes_that_are_replaced(folder: Path, tmp_path: Path) -> None:
    """Each worker is a child; each image has one outcome; children that die between two runs are replaced."""
    items = [Input(folder / name, f"{i}-{name}") for i in range(4) for name in ("a.png", "b.jpg", "c.tif")]
    pool = ProcessPool(SessionOptions(None, "auto", 1, None), Options(workers=2))
    try:
        pids = {child.process.pid for child in pool.children}
        assert len(pids) == 2
        for round_ in range(2):
            outcomes = list(pool.process(iter(items), tmp_path / "out", {}))
            assert sorted(outcome.entry.row["file"] for outcome in outcomes) == sorted(item.file for item in items)
            assert {outcome.entry.row["status"] for outcome in outcomes} == {"ok"}, round_
            for child in pool.children:
                child.process.kill()
        assert not pids & {child.process.pid for child in pool.children}
    finally:
        pool.close()


def test_others_go_on_while_one_hangs(folder: Path, tmp_path: Path) -> None:
    """One process hangs with the few images that it has; the other one does all the rest before it is given up."""
    plant(folder / "0.png", folder / "a.png", "hang")
    for i in range(10):
        (folder / f"z{i}.png").write_bytes((folder / "a.png").read_bytes())
    done = run(folder, tmp_path, "--workers", "2", "--max-seconds", "8")
    assert done.returncode == 3, done.stderr
    rows = read_results(tmp_path / "out")
    assert [row["status"] for row in rows.values()] == ["failed"] + ["ok"] * 13
    assert "took longer than 8 s" in rows["0.png"]["error"]
    given_up = (tmp_path / "out" / "results.csv").stat().st_mtime
    early = [path for path in (tmp_path / "out" / "masks").iterdir() if path.stat().st_mtime < given_up - 5]
    assert len(early) >= 13 - 3


def test_what_is_done_while_the_first_hangs_is_kept(folder: Path, tmp_path: Path) -> None:
    """Killed while the first image hangs, a run has the others, whose rows wait for the first's, in its journal."""
    plant(folder / "0.png", folder / "a.png", "hang")
    for i in range(20):
        (folder / f"z{i:02}.png").write_bytes((folder / "a.png").read_bytes())
    journal = tmp_path / "out" / "journal.jsonl"
    deadline = time.monotonic() + 60
    with start(folder, tmp_path, "--workers", "2") as process:
        while not journal.exists() or len(journal.read_text().splitlines()) < 23 - 3:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        process.kill()
    assert len(journal.read_text().splitlines()) >= 23 - 3


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    """The child's errors are the parent's: a model that is none, an engine that is not there."""
    (tmp_path / "none.tflite").write_bytes(b"no model")
    with pytest.raises(ModelError, match="none"):
        ProcessPool(SessionOptions(tmp_path / "none.tflite", "auto", 1, None), Options())
    absent = "tflite-runtime" if find_spec("tflite_runtime") is None else "litert"
    with pytest.raises(EngineError, match=absent):
        ProcessPool(SessionOptions(None, absent, 1, None), Options())
