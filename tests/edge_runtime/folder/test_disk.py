"""Disks that are full, fail or were tampered with: one clear line, the right exit code, no torn file."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from folder_runs import (
    OPTIONS,
    assert_nothing_torn,
    assert_one_line,
    assert_same,
    count_masks,
    draw_folder,
    list_files,
    read_outputs,
    read_rows,
    read_stamps,
    run,
    run_apart,
    start,
    wait_until,
)

IMAGES = 6


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("disk") / "in", IMAGES)


@pytest.fixture(scope="module")
def whole(images: Path) -> Path:
    """An undisturbed run's OUT."""
    out = images.parent / "whole"
    assert run(images, "-o", out) == (0, "")
    return out


def assert_stopped_and_resumed(images: Path, out: Path, whole: Path, found: tuple[int, str], *words: str) -> None:
    """Exit 1 and one line, nothing torn, no temporary file; and with the cause gone the same command does the rest."""
    status, errors = found
    assert status == 1, errors
    assert_one_line(errors, *words)
    assert_nothing_torn(out, read_outputs(whole))
    assert not out.exists() or not [name for name in list_files(out) if ".tmp" in name]
    assert run(images, "-o", out) == (0, "")
    assert_same(out, whole)


# --- full and failing disks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, 200, 1500, 9000])
def test_files_that_may_not_grow(images: Path, whole: Path, tmp_path: Path, most: int) -> None:
    """Under a limit on a file's length (EFBIG) a run stops in one line, whichever of its files hits it."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    found = run_apart(images, "-o", tmp_path / "out", preexec_fn=limit)
    assert_stopped_and_resumed(images, tmp_path / "out", whole, found, "File too large")


FAILING = """
import errno, os, sys
name, code, turn = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
real, calls = getattr(os, name), []
def fail(*args, **kwargs):
    if any(".tmp-" in str(arg) for arg in args) or name == "fsync":
        calls.append(1)
        if len(calls) >= turn:
            raise OSError(code, os.strerror(code))
    return real(*args, **kwargs)
setattr(os, name, fail)
from edge_runtime.cli import main
sys.exit(main(sys.argv[4:]))
"""


@pytest.mark.parametrize("turn", [1, 9, 20])
@pytest.mark.parametrize("code", [errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_at_a_flush(images: Path, whole: Path, tmp_path: Path, code: int, turn: int) -> None:
    """A quota or a dying card that shows only at a flush, the first or a later one, stops the run in one line."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-c",
        FAILING,
        "fsync",
        str(code),
        str(turn),
        str(images),
        "-o",
        str(out),
        *OPTIONS,
        "--no-isolation",
    ]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert_stopped_and_resumed(images, out, whole, (found.returncode, found.stderr), os.strerror(code))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a disk of a size, or changes it; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(options: str) -> Path:
        first = not folder.is_mount()
        command = (
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder] if first else ["mount", "-o", options, folder]
        )
        try:
            done = subprocess.run(command, check=False, capture_output=True).returncode == 0
        except OSError:
            done = False
        if not done:
            pytest.skip("mounting a small disk needs root")
        return folder

    yield resize
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kilobytes", [4, 12, 32, 60, 84, 112])
def test_a_disk_that_is_full_at_any_moment(
    images: Path, whole: Path, small_disk: Callable[[str], Path], kilobytes: int
) -> None:
    """A disk of any size that is too small stops the run in one line; with room the same command does the rest."""
    out = small_disk(f"size={kilobytes}k") / "out"
    found = run(images, "-o", out)
    small_disk("remount,size=50m")
    assert_stopped_and_resumed(images, out, whole, found, "No space left")


def test_a_disk_without_names_to_give(images: Path, whole: Path, small_disk: Callable[[str], Path]) -> None:
    """A disk that has room but no more files (inodes) is full too."""
    out = small_disk("size=50m,nr_inodes=12") / "out"
    found = run(images, "-o", out)
    small_disk("remount,nr_inodes=1000")
    assert_stopped_and_resumed(images, out, whole, found, "No space left")


def test_a_read_only_disk(images: Path, whole: Path, small_disk: Callable[[str], Path]) -> None:
    """A read-only disk is one line, and so is one that became read-only after a run."""
    folder = small_disk("size=50m,ro")
    status, errors = run(images, "-o", folder / "out")
    assert status == 1
    assert_one_line(errors, "Read-only file system")
    small_disk("remount,rw")
    assert run(images, "-o", folder / "out") == (0, "")
    small_disk("remount,ro")
    status, errors = run(images, "-o", folder / "out")
    assert status == 1
    assert_one_line(errors, "Read-only file system")
    assert_same(folder / "out", whole)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(images: Path, whole: Path, tmp_path: Path) -> None:
    """A folder without permission is one line."""
    tmp_path.chmod(0o500)
    found = run(images, "-o", tmp_path / "out")
    tmp_path.chmod(0o700)
    assert_stopped_and_resumed(images, tmp_path / "out", whole, found, "Permission denied")


# --- other files where outputs are to be written ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["results.csv", "run.json", "index.html", "journal.jsonl", ".lock"])
def test_a_folder_where_a_file_should_be(images: Path, whole: Path, tmp_path: Path, name: str) -> None:
    """A folder under the name of an output is one line, removed by no run, and once it is gone the run goes on."""
    out = tmp_path / "out"
    assert run(images, "-o", out) == (0, "")
    (out / name).unlink()
    (out / name / "mine").mkdir(parents=True)
    status, errors = run(images, "-o", out, *(["--force"] if name == "journal.jsonl" else []))
    assert status == 1
    assert_one_line(errors, name.split("/")[-1] if name != ".lock" else str(out))
    assert (out / name / "mine").is_dir()
    (out / name / "mine").rmdir()
    (out / name).rmdir()
    assert run(images, "-o", out, *(["--force"] if name == "journal.jsonl" else [])) == (0, "")
    assert_same(out, whole)


@pytest.mark.parametrize("name", ["masks", "overlays", "gallery"])
def test_a_file_where_a_folder_should_be(images: Path, whole: Path, tmp_path: Path, name: str) -> None:
    """A file under the name of a folder of outputs is one line, and is not removed."""
    out = tmp_path / "out"
    assert run(images, "-o", out) == (0, "")
    shutil.rmtree(out / name)
    (out / name).write_text("mine")
    status, errors = run(images, "-o", out)
    assert status == 1
    assert_one_line(errors, name)
    assert (out / name).read_text() == "mine"
    (out / name).unlink()
    assert run(images, "-o", out) == (0, "")
    assert_same(out, whole)


def test_masks_on_another_disk(images: Path, whole: Path, tmp_path: Path) -> None:
    """A link to another folder in place of masks/ is one line and not followed; OUT itself may be such a link."""
    out = tmp_path / "out"
    assert run(images, "-o", out) == (0, "")
    (out / "masks").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "02.png").unlink()
    for target in ("elsewhere", "nowhere"):
        (out / "masks").symlink_to(tmp_path / target)
        status, errors = run(images, "-o", out)
        assert status == 1
        assert_one_line(errors, "masks", "a symbolic link")
        assert not (tmp_path / "elsewhere" / "02.png").exists()
        (out / "masks").unlink()
    (tmp_path / "elsewhere").rename(out / "masks")
    (tmp_path / "link").symlink_to(out)
    assert run(images, "-o", tmp_path / "link") == (0, "")
    assert (tmp_path / "link").is_symlink()
    assert_same(out, whole)


def test_an_output_that_is_a_link_is_replaced_not_followed(images: Path, whole: Path, tmp_path: Path) -> None:
    """A link in place of a mask is replaced: what it points to is not overwritten."""
    out = tmp_path / "out"
    assert run(images, "-o", out) == (0, "")
    (tmp_path / "thesis.txt").write_text("mine")
    (out / "masks" / "01.png").unlink()
    (out / "masks" / "01.png").symlink_to(tmp_path / "thesis.txt")
    assert run(images, "-o", out) == (0, "")
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert not (out / "masks" / "01.png").is_symlink()
    assert_same(out, whole)


def test_out_is_no_folder(images: Path, tmp_path: Path) -> None:
    """A file, a device, a pipe, a link to nowhere or to itself in place of OUT: one line, and it is left as it was."""
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "file" / "none")
    (tmp_path / "loop").symlink_to("loop")
    before = {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    for name in [*before, "/dev/null", "file/out", "n" * 300]:
        status, errors = run(images, "-o", tmp_path / name)
        assert status == 1
        assert_one_line(errors)
    assert {path.name: path.lstat().st_mode for path in tmp_path.iterdir()} == before
    assert (tmp_path / "file").read_text() == "mine"


# --- the journal -------------------------------------------------------------------------------------------------


def test_a_journal_that_was_tampered_with(images: Path, whole: Path, tmp_path: Path) -> None:
    """Cut, emptied, another program's, noise, one huge line: work may be done again, never left undone."""
    out = tmp_path / "out"
    assert run(images, "-o", out) == (0, "")
    journal = out / "journal.jsonl"
    good = journal.read_bytes()
    for text in (
        b"",
        good[: len(good) // 2],
        good[:-1],
        good[5:],
        b"\0" * 5000,
        b'{"event":"started"}\n' * 1000,
        b"x" * 20_000_000,
        good * 500,
        good.replace(b"masks/0", b"../../0"),
        bytes(byte ^ 0x80 for byte in good),
    ):
        journal.write_bytes(text)
        assert run(images, "-o", out) == (0, "")
        assert_same(out, whole)


def test_a_journal_of_another_folder_is_not_believed(images: Path, whole: Path, tmp_path: Path) -> None:
    """A journal and masks of the same names, but of other images, are not used for this run."""
    other, out = draw_folder(tmp_path / "other", 2 * IMAGES), tmp_path / "out"
    for k in range(IMAGES):
        (other / f"{k + IMAGES:02}.png").replace(other / f"{k:02}.png")
    assert run(other, "-o", out) == (0, "")
    assert read_outputs(out) != read_outputs(whole)
    assert run(images, "-o", out) == (0, "")
    assert_same(out, whole)


# --- inputs that change, names that fool -------------------------------------------------------------------------


def test_a_folder_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """A file that vanishes is a failed row, one that changes is read as it is then, a new one is the next run's."""
    folder, out = draw_folder(tmp_path / "in", 20), tmp_path / "out"
    process = start(folder, "-o", out)
    assert wait_until(lambda: count_masks(out) >= 1, process)
    process.send_signal(signal.SIGSTOP)
    (folder / "19.png").unlink()
    (folder / "18.png").write_bytes((folder / "00.png").read_bytes())
    (folder / "17.png").write_bytes(b"now a text")
    (folder / "20.png").write_bytes((folder / "01.png").read_bytes())
    process.send_signal(signal.SIGCONT)
    words, errors = process.communicate(timeout=60)
    assert (process.returncode, words) == (3, "")
    assert len(errors.splitlines()) == 2
    rows = {row["file"]: row for row in read_rows(out)}
    assert set(rows) == {f"{k:02}.png" for k in range(20)}
    assert rows["18.png"]["input_sha256"] == rows["00.png"]["input_sha256"]
    assert (out / "masks" / "18.png").read_bytes() == (out / "masks" / "00.png").read_bytes()
    assert "No such file" in rows["19.png"]["error"]
    assert "not a PNG" in rows["17.png"]["error"]
    assert not (out / "masks" / "19.png").exists()
    status, errors = run(folder, "-o", out)
    assert status == 3
    assert_one_line(errors, "17.png")
    assert {row["file"] for row in read_rows(out)} == {f"{k:02}.png" for k in (*range(19), 20)}


NAMES = (
    "line\nbreak.png", "carriage\rreturn.png", "tab\there.png", 'quo"te.png',
    "a, comma.png", "'single'.png", "-o.png", "--help.png", "$(rm -rf x).png", "%s%n.png",
    "semi;colon.png", "back\\slash.png", "star*.png", "é.png", "日本語.png", "שלום.png",
    "\u202egnp.exe.png", "\U0001f9e0\U0001f3fd.png", "\u2028\u2029.png",
    "\x1b[31mred.png", "\x7f.png", "=cmd|' '!A0.png", "CON.png", "dot..png", " .png",
    "x" * 251 + ".png", "é" * 125 + "x.png", "UPPER.PNG",
    os.fsdecode(b"\xff\xfe\x80.png"), os.fsdecode(b"half\xe2\x82.png"),
)  # fmt: skip


def test_names_that_fool_programs(images: Path, tmp_path: Path) -> None:
    """Newlines, quotes, dashes, scripts of every direction, emoji, no UTF-8, 255 bytes: each is done, and kept."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes((images / "00.png").read_bytes())
    assert run(folder, "-o", out) == (0, "")
    rows = read_rows(out)
    assert [row["file"] for row in rows] == [f"'{name}" if name[0] in "=-" else name for name in sorted(NAMES)]
    assert {row["status"] for row in rows} == {"ok"}
    for name in NAMES:
        mask = name if name.endswith(".png") else f"{name}.png"
        assert (out / "masks" / mask).read_bytes() == (out / "masks" / "-o.png").read_bytes()
    stamps = read_stamps(out)
    assert run(folder, "-o", out) == (0, "")
    assert read_stamps(out) == stamps
    status, errors = run_apart("--", "-o.png", "--help.png", cwd=folder)
    assert (status, errors) == (0, "")
    assert [row["file"] for row in read_rows(folder / "-o.png-seg")] == ["'-o.png", "'--help.png"]


def test_folders_that_lead_in_circles(images: Path, tmp_path: Path) -> None:
    """Links that lead to a parent, to themselves or to each other do not keep --recursive busy."""
    folder = tmp_path / "in"
    shutil.copytree(images, folder / "a" / "b")
    (folder / "a" / "up").symlink_to("..")
    (folder / "a" / "self").symlink_to("self")
    (folder / "a" / "x").symlink_to("y")
    (folder / "a" / "y").symlink_to("x")
    assert run(folder, "-o", tmp_path / "out", "--recursive") == (0, "")
    assert [row["file"] for row in read_rows(tmp_path / "out")] == [f"a/b/{k:02}.png" for k in range(IMAGES)]


# --- two runs, and clocks ----------------------------------------------------------------------------------------


def test_a_second_run_is_told_who_has_the_folder(images: Path, whole: Path, tmp_path: Path) -> None:
    """Two runs into one OUT: the second is exit 1, one line with the first one's process; the first ends well."""
    out = tmp_path / "out"
    first = start(images, "-o", out)
    assert wait_until(lambda: count_masks(out) >= 1, first)
    first.send_signal(signal.SIGSTOP)
    try:
        for more in ((), ("--force",)):
            status, errors = run(images, "-o", out, *more)
            assert status == 1
            assert_one_line(errors, f"process {first.pid}")
        (tmp_path / "link").symlink_to(out)
        status, errors = run(images, "-o", tmp_path / "link")
        assert_one_line(errors, f"process {first.pid}")
    finally:
        first.send_signal(signal.SIGCONT)
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert_same(out, whole)


CLOCK = """
import itertools, sys, time
steps = itertools.count()
time.time = lambda: 4e9 - 86400 * next(steps)
time.time_ns = lambda: int(time.time() * 1e9)
from edge_runtime.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_clock_that_jumps(images: Path, whole: Path, tmp_path: Path) -> None:
    """A clock that goes back a day at each look, and files from the future and from 1970, change nothing."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", CLOCK, str(images), "-o", str(out), *OPTIONS, "--no-isolation"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    assert_same(out, whole)
    for k, path in enumerate(sorted(path for path in out.rglob("*") if path.is_file())):
        os.utime(path, (4e9, 4e9) if k % 2 else (0, 0))
    stamps = read_stamps(out)
    assert run(images, "-o", out) == (0, "")
    assert read_stamps(out) == stamps
    facts = json.loads((out / "run.json").read_text())
    assert facts["counts"]["kept"] == IMAGES
    assert facts["seconds"] >= 0
