"""A full temporary disk is one line that says where; any other trouble keeps its own name."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from messages import make_request

from convert.source.process import run_source_process
from convert.source.work_folder import PREFIX, open_work_folder
from edge_runtime.errors import ModelError, OutputError

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_the_folder_is_gone_afterwards(tmp_path: Path) -> None:
    """It is empty at first, and nothing of it is left, whatever happens in it."""
    with pytest.raises(ModelError), open_work_folder() as work:
        assert not list(work.iterdir())
        (work / "a").write_text("b")
        raise ModelError("a model", "it is none")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """No space left becomes an error with a way out; another system error is not taken for it."""
    with pytest.raises(OutputError, match=r"its disk is full; make room, or set TMPDIR") as caught, open_work_folder():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(PermissionError), open_work_folder():
        raise PermissionError(errno.EACCES, "no")


def test_a_child_that_the_full_disk_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that could not write its result down is not blamed on the model when there was no room for it."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match="converter failed"), open_work_folder() as work:
        run_source_process(work, make_request(Path("m.keras")))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1, 1, 0))
    with pytest.raises(OutputError, match="disk is full"), open_work_folder() as work:
        (work / "result.json").write_text('{"na')
        run_source_process(work, make_request(Path("m.keras")))


HOLD = """
import sys, time
from convert.source.work_folder import PREFIX, open_work_folder
with open_work_folder() as work:
    (work / "deep").mkdir()
    (work / "deep/file").write_text("x")
    print(work, flush=True)
    time.sleep(60)
"""


def hold_in_child(place: Path) -> tuple[subprocess.Popen[str], Path]:
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip())


def test_a_killed_conversion_leaves_no_folder(tmp_path: Path) -> None:
    """Soon after SIGKILL the folder is gone; that of a conversion that goes on stays, and so do others' files."""
    living, kept = hold_in_child(tmp_path)
    killed, left = hold_in_child(tmp_path)
    (tmp_path / f"{PREFIX}other").mkdir()
    try:
        assert left.is_dir()
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        deadline = time.monotonic() + 30
        while left.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (kept / "deep/file").is_file() and (tmp_path / f"{PREFIX}other").is_dir()
    finally:
        living.kill()
        living.wait()


def test_nobody_is_left_when_a_conversion_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the usual end there is neither the folder nor the process that would have removed it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text().split()
    with open_work_folder():
        assert len(children.read_text().split()) == len(before) + 1
    assert children.read_text().split() == before
    assert list(tmp_path.iterdir()) == []
