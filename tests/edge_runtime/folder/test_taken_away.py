"""OUT removed while a run writes there, and streams that are closed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from folder_runs import COMMAND, OPTIONS, assert_one_line, count_masks, draw_folder, read_rows, run, start, wait_until
from malformed import hostile_png


def remove_tree(folder: Path) -> None:
    """Remove a folder into which a few images that are under way may still be written."""
    for _ in range(1000):
        try:
            return shutil.rmtree(folder)
        except OSError:
            time.sleep(0.01)
    raise AssertionError(f"{folder} does not go")


@pytest.mark.parametrize("what", ["out", "masks", "moved", "journal"])
def test_a_run_whose_folder_is_taken_away_does_not_say_that_all_is_done(tmp_path: Path, what: str) -> None:
    """OUT, masks/ or the journal removed in the middle: exit 1 and one line, or all masks of "ok" rows are there."""
    folder, out = draw_folder(tmp_path / "in", 12), tmp_path / "out"
    process = start(folder, "-o", out)
    assert wait_until(lambda: count_masks(out) >= 4, process)
    process.send_signal(signal.SIGSTOP)
    if what == "moved":
        out.rename(tmp_path / "moved")
    elif what == "journal":
        (out / "journal.jsonl").unlink()
    else:
        remove_tree({"out": out, "masks": out / "masks"}[what])
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    if process.returncode == 0:
        missing = [row["file"] for row in read_rows(out) if not (out / "masks" / row["file"]).is_file()]
        assert missing == []
    else:
        assert process.returncode == 1
        assert_one_line(errors)
    again, words = run(folder, "-o", out)
    if again == 1:  # a folder without a journal is no run's: an error of one line
        assert_one_line(words, "--force")
        assert run(folder, "-o", out, "--force") == (0, "")
    assert count_masks(out) == 12


@pytest.mark.parametrize("closed", [">&- 2>&-", "<&- >&- 2>&-"])
def test_libraries_do_not_write_into_a_runs_files(tmp_path: Path, closed: str) -> None:
    """Started without stdout and stderr, as services are, a run's lock and journal hold nothing but its own lines."""
    folder, out = draw_folder(tmp_path / "in", 2), tmp_path / "out"
    for case in hostile_png.list_cases():
        if case.name.startswith(("extra-gamma", "extra-cicp", "extra-bkgd")):
            (folder / case.name).write_bytes(case.make())
    command = " ".join([*COMMAND, *OPTIONS, str(folder), "-o", str(out)])
    assert subprocess.run(["/bin/sh", "-c", f"{command} {closed}"], check=False).returncode in (0, 3)
    assert (out / ".lock").read_bytes().strip().isdigit()
    for line in (out / "journal.jsonl").read_bytes().splitlines():
        json.loads(line)


def test_without_stderr_errors_are_not_data(tmp_path: Path) -> None:
    """With stderr closed, stdout still holds nothing but data."""
    (tmp_path / "bad.png").write_bytes(b"")
    command = " ".join([*COMMAND, *OPTIONS, str(tmp_path / "bad.png"), "-o", str(tmp_path / "out")])
    found = subprocess.run(["/bin/sh", "-c", f"{command} 2>&-"], check=False, capture_output=True)
    assert (found.returncode, found.stdout) == (3, b"")
