"""Links, pipes and names that somebody planted in OUT: nothing beyond OUT changes, and one line says what is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from folder_runs import assert_one_line, draw_folder, list_files, run, run_apart

NAMES = (".lock", "journal.jsonl", "results.csv", "run.json", "health.json", "index.html")
FOLDERS = ("masks", "probability", "overlays", "gallery")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_folder(tmp_path_factory.mktemp("planted") / "in", 2)
    (folder / "sub").mkdir()
    shutil.copy(folder / "00.png", folder / "sub" / "00.png")
    return folder


@pytest.fixture
def out(images: Path, tmp_path: Path) -> Path:
    """An OUT of an earlier run."""
    whole = images.parent / "whole"
    if not whole.exists():
        assert run(images, "-o", whole, "--recursive", "--probability") == (0, "")
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out"


def read_all(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in list_files(folder)}


def put_link(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["resumed", "forced"])
@pytest.mark.parametrize("name", [*NAMES, *FOLDERS])
def test_a_link_under_a_name_of_the_run_s_is_refused(
    images: Path, out: Path, tmp_path: Path, name: str, force: tuple[str, ...]
) -> None:
    """A link to the input folder or to another's file is one line, exit 1, and nothing changes anywhere."""
    (tmp_path / "theirs").write_text("theirs\n" * 100)
    put_link(out / name, images if name in FOLDERS else tmp_path / "theirs")
    before = read_all(images), read_all(out)
    status, errors = run(images, "-o", out, "--recursive", "--probability", *force)
    assert status == 1
    assert_one_line(errors, name, "a symbolic link")
    assert (read_all(images), read_all(out)) == before
    assert (tmp_path / "theirs").read_text() == "theirs\n" * 100


@pytest.mark.parametrize("name", ["masks/sub", "gallery/sub", "overlays/sub"])
def test_a_link_under_an_inner_folder_s_name_is_refused(images: Path, out: Path, name: str) -> None:
    """So is one under the name of a folder in masks/: the original images stay."""
    put_link(out / name, images)
    before = read_all(images)
    status, errors = run(images, "-o", out, "--recursive", "--force")
    assert status == 1
    assert_one_line(errors, name, "a symbolic link")
    assert read_all(images) == before


def test_what_is_discarded_is_not_beyond_a_link(images: Path, out: Path, tmp_path: Path) -> None:
    """The outputs of an image that fails now are removed, but not through a link in OUT."""
    changed = tmp_path / "in"
    shutil.copytree(images, changed)
    (changed / "sub" / "00.png").write_bytes(b"no image")
    put_link(out / "masks" / "sub", images)
    before = read_all(images)
    status, errors = run(changed, "-o", out, "--recursive")
    assert status == 1
    assert_one_line(errors, "masks/sub", "a symbolic link")
    assert read_all(images) == before


@pytest.mark.parametrize("name", [*NAMES, *FOLDERS])
def test_a_pipe_is_refused_and_does_not_hang(images: Path, out: Path, name: str) -> None:
    """A pipe under a name of the run's is one line."""
    shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink(missing_ok=True)
    os.mkfifo(out / name)
    status, errors = run_apart(images, "-o", out, "--recursive")
    assert status == 1
    if name == "journal.jsonl":  # without its journal it is no run's folder
        assert_one_line(errors, "no run's")
        status, errors = run_apart(images, "-o", out, "--recursive", "--force")
        assert status == 1
    assert_one_line(errors, name, "a pipe")


def test_a_lock_that_is_another_file_too_is_not_emptied(images: Path, out: Path, tmp_path: Path) -> None:
    """A hard link costs the process id in the lock, nothing else."""
    (tmp_path / "theirs").write_text("theirs")
    (out / ".lock").unlink()
    os.link(tmp_path / "theirs", out / ".lock")
    assert run(images, "-o", out, "--recursive", "--probability") == (0, "")
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_temporary_files_beyond_a_link_are_kept(images: Path, out: Path, tmp_path: Path) -> None:
    """Only OUT is cleaned; OUT itself may be a link."""
    beyond = tmp_path / "beyond"
    beyond.mkdir()
    (beyond / ".tmp-edge-seg-1-x").write_text("theirs")
    (out / "more").symlink_to(beyond)
    (out / "masks" / ".tmp-edge-seg-1-x").write_text("of a killed run")
    (tmp_path / "link").symlink_to(out)
    assert run(images, "-o", tmp_path / "link", "--recursive", "--probability") == (0, "")
    assert (beyond / ".tmp-edge-seg-1-x").exists()
    assert not (out / "masks" / ".tmp-edge-seg-1-x").exists()
