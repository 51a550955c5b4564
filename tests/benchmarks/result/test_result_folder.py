"""Whether a result can be written is known before a run begins, and asking leaves nothing behind."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from benchmarks.result.folder import ROOM_BYTES, check_output_file, check_output_folder
from edge_runtime.errors import EdgeSegError, OutputError

NAMES = ("result.json", "report.html")


def check(out: Path, force: bool) -> None:
    check_output_folder(out, NAMES, force)


def list_all(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    """A new folder and an empty one will do; a file never."""
    check(tmp_path / "new", False)
    check(tmp_path, False)
    (tmp_path / "x").write_text("")
    check(tmp_path, True)
    for out, force in ((tmp_path, False), (tmp_path / "x", True)):
        with pytest.raises(EdgeSegError, match="exists already"):
            check(out, force)


def test_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither the folder, nor those above it, nor a file in one that exists."""
    (tmp_path / "there").mkdir()
    for out in (tmp_path / "a/b/c", tmp_path / "there", tmp_path / "there/new"):
        check(out, False)
    check_output_file(tmp_path / "d/e.json", False)
    assert list_all(tmp_path) == ["there"]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    """A file among its parents, a file system that takes no files, a link that leads nowhere."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (tmp_path / "file/out", Path("/proc/edge-seg/out"), tmp_path / "link"):
        with pytest.raises(OutputError, match=r"choose another folder with -o"):
            check(out, False)
    assert list_all(tmp_path) == ["file", "link"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    """Before anything is measured."""
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        check(tmp_path / "out", False)


@pytest.mark.parametrize(("free", "fits"), [(ROOM_BYTES, True), (ROOM_BYTES - 1, False), (0, False)])
def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool) -> None:
    """With what is free and what may be needed; the new folder is gone again."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, free) if Path(path).is_dir() else None)
    if fits:
        check(tmp_path / "out", False)
    else:
        with pytest.raises(OutputError, match=r"MB are free on its disk, and a report may need 64 MB; make room"):
            check(tmp_path / "out", False)
    assert list_all(tmp_path) == []


def test_a_folder_of_a_report_s_name_is_refused(tmp_path: Path) -> None:
    """Also with --force: a file cannot take its place."""
    (tmp_path / "report.html").mkdir()
    with pytest.raises(EdgeSegError, match=r"report\.html: it is a folder"):
        check(tmp_path, True)


def test_a_file_is_not_overwritten_without_force(tmp_path: Path) -> None:
    """One that exists needs --force; a folder is never replaced."""
    path = tmp_path / "r.json"
    path.write_text("mine")
    check_output_file(path, True)
    for place, force in ((path, False), (tmp_path, True)):
        with pytest.raises(EdgeSegError, match="it exists already"):
            check_output_file(place, force)
    assert path.read_text() == "mine"
