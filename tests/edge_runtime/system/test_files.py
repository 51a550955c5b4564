"""Files that are written whole or not at all: on file systems without fsync, and below a folder through no link."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge_runtime.errors import OutputError
from edge_runtime.system.files import (
    hold_lock,
    open_append,
    remove_inside,
    sync_folder,
    write_file,
    write_files,
)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_fsync_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Files and folders are written where fsync says that it does not exist."""
    monkeypatch.setattr(os, "fsync", refuse(code))
    write_file(tmp_path / "a", b"1", sync_name=True)
    write_file(tmp_path / "sub" / "b", b"2", root=tmp_path)
    write_files({tmp_path / "c": b"3"})
    sync_folder(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == {
        "a": b"1",
        "b": b"2",
        "c": b"3",
    }


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EBADF])
def test_a_flush_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Any other answer of fsync means lost data: an error, and nothing is left behind."""
    monkeypatch.setattr(os, "fsync", refuse(code))
    for write in (
        lambda: write_file(tmp_path / "a", b"1"),
        lambda: write_file(tmp_path / "a", b"1", root=tmp_path),
        lambda: write_files({tmp_path / "a": b"1"}),
        lambda: sync_folder(tmp_path),
    ):
        with pytest.raises(OutputError, match=os.strerror(code)):
            write()
    assert list(tmp_path.iterdir()) == []


def refuse(code: int) -> object:
    def fsync(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    return fsync


@pytest.mark.parametrize("kind", ["link to a folder", "link to nothing", "pipe", "file"])
def test_no_folder_below_the_root_is_left_through_a_link(tmp_path: Path, kind: str) -> None:
    """What stands where a folder is to be is refused, whatever it leads to; beyond it nothing changes."""
    root, beyond = tmp_path / "root", tmp_path / "beyond"
    for folder in (root, beyond):
        folder.mkdir()
    (beyond / "a").write_text("theirs")
    plant(root / "masks", kind, beyond)
    for path in (root / "masks" / "a", root / "masks" / "inner" / "a"):
        with pytest.raises(OutputError, match="masks: it is a"):
            write_file(path, b"ours", root=root)
    with pytest.raises(OutputError, match="masks: it is a"):
        remove_inside(root / "masks" / "a", root)
    assert [(path.name, path.read_text()) for path in beyond.iterdir()] == [("a", "theirs")]


@pytest.mark.parametrize("kind", ["link to a file", "link to nothing", "pipe", "folder"])
def test_only_a_file_is_opened(tmp_path: Path, kind: str) -> None:
    """A link, a pipe or a folder under a file's name is refused, without waiting for a pipe's other end."""
    (tmp_path / "beyond").write_text("theirs")
    plant(tmp_path / "own", kind, tmp_path / "beyond")
    with pytest.raises(OutputError, match="own: it is a"):
        open_append(tmp_path / "own")
    with pytest.raises(OutputError, match="own: it is a"), hold_lock(tmp_path / "own"):
        pass
    assert (tmp_path / "beyond").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beyond", "own"]


@pytest.mark.parametrize("kind", ["link to a file", "link to nothing", "pipe"])
def test_what_is_written_whole_replaces_a_link(tmp_path: Path, kind: str) -> None:
    """A file that gets its name by a rename takes the link's place, and what that led to stays."""
    (tmp_path / "beyond").write_text("theirs")
    plant(tmp_path / "own", kind, tmp_path / "beyond")
    write_file(tmp_path / "own", b"ours", root=tmp_path)
    assert not (tmp_path / "own").is_symlink() and (tmp_path / "own").read_bytes() == b"ours"
    assert (tmp_path / "beyond").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beyond", "own"]


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    """The folder that a user gives is theirs to choose."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    write_file(tmp_path / "out" / "masks" / "a", b"1", root=tmp_path / "out")
    assert (tmp_path / "disk" / "masks" / "a").read_bytes() == b"1"
    remove_inside(tmp_path / "out" / "masks" / "a", tmp_path / "out")
    assert list((tmp_path / "disk" / "masks").iterdir()) == []


def test_a_file_with_another_name_is_not_appended_to(tmp_path: Path) -> None:
    """Appending to a hard link would change another file."""
    (tmp_path / "beyond").write_text("theirs")
    os.link(tmp_path / "beyond", tmp_path / "own")
    with pytest.raises(OutputError, match="other names"):
        open_append(tmp_path / "own")
    assert (tmp_path / "beyond").read_text() == "theirs"


def plant(path: Path, kind: str, beyond: Path) -> None:
    """Put something of a kind under a name."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "file":
        path.write_text("")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.parent / "nothing" if kind == "link to nothing" else beyond)
