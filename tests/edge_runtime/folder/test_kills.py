"""Runs that are killed, interrupted and stopped at any moment: what is done stays, the rest is done, nothing is torn.

What is compared with an undisturbed run: the set of files; each mask, overlay and gallery picture byte for byte;
results.csv without read_ms, infer_ms and write_ms. run.json and index.html hold times, and are only to be whole.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from folder_runs import (
    assert_nothing_torn,
    assert_same,
    count_masks,
    draw_folder,
    list_files,
    read_outputs,
    read_stamps,
    run,
    run_apart,
    start,
    wait_until,
)

IMAGES = 20
AHEAD = 4  # images that one worker has at a time: done, at most these are not in the journal yet

Reached = Callable[[], bool]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("kills") / "in", IMAGES)


@pytest.fixture(scope="module")
def whole(images: Path) -> Path:
    """An undisturbed run's OUT."""
    out = images.parent / "whole"
    assert run(images, "-o", out) == (0, "")
    return out


def plan_moments(out: Path, seed: int, kills: int) -> Iterator[tuple[Reached, float]]:
    """When to stop each run of a chain: what must have appeared, and how many seconds later.

    By progress, so that it means the same on any machine: masks that were not there before, a temporary file at work;
    a little time on top, so that it hits between the steps too; and one in four by time alone, for the first moments.
    """
    rng = np.random.default_rng(seed)
    for _ in range(kills):
        before = count_masks(out)
        wanted = min(before + int(rng.integers(1, 4)), IMAGES)
        kind = int(rng.integers(0, 4))
        if kind == 0:
            yield (lambda: True), 0.5 * rng.random()
        elif kind == 1:
            yield (lambda: list_temporary(out) != []), 0.0
        else:
            yield (lambda wanted=wanted: count_masks(out) >= wanted), float(rng.choice([0, 0.002, 0.03])) * rng.random()


def list_temporary(out: Path) -> list[str]:
    found: list[str] = []
    for folder in (out, out / "masks", out / "overlays", out / "gallery"):
        with suppress(OSError):
            found += [name for name in os.listdir(folder) if name.startswith(".tmp")]  # noqa: PTH208 - quick
    return found


def stop(images: Path, out: Path, how: int, moment: tuple[Reached, float], *args: object) -> tuple[int, str]:
    """Start a run, stop it at a moment, and return its exit status and stderr."""
    reached, later = moment
    process = start(images, "-o", out, *args)
    if wait_until(reached, process):
        time.sleep(later)
        process.send_signal(how)
    words, errors = process.communicate(timeout=60)
    assert words == ""
    return process.returncode, errors


def test_killed_fifty_times_runs_are_whole_in_the_end(images: Path, whole: Path, tmp_path: Path) -> None:
    """Five folders, ten SIGKILLs each: nothing is torn, finished masks are kept, the outputs are as of a run alone."""
    with ThreadPoolExecutor(2) as pool:
        chains = [
            pool.submit(kill_ten_times, images, whole, tmp_path / str(seed), seed, 1 + seed % 2) for seed in range(5)
        ]
        killed = [chain.result() for chain in chains]
    assert sum(killed) >= 25  # the others came too late: that run was through


def kill_ten_times(images: Path, whole: Path, out: Path, seed: int, workers: int) -> int:
    """Kill a run and its resumptions; return how many of ten were still at work."""
    finished, killed = read_outputs(whole), 0
    for moment in plan_moments(out, seed, 10):
        before = read_stamps(out)
        status, _ = stop(images, out, signal.SIGKILL, moment, "--workers", workers)
        killed += status == -signal.SIGKILL
        assert status in (-signal.SIGKILL, 0)
        assert_nothing_torn(out, finished)
        after = read_stamps(out)
        assert before.keys() <= after.keys()
        assert sum(after[name] != stamp for name, stamp in before.items()) <= AHEAD * workers
    before = read_stamps(out)
    assert run_apart(images, "-o", out, "--workers", workers) == (0, "")
    after = read_stamps(out)
    assert sum(after[name] != stamp for name, stamp in before.items()) <= AHEAD * workers
    assert_same(out, whole)
    return killed


@pytest.mark.parametrize("name", ["results.csv", "index.html", "run.json"])
def test_killed_while_the_last_files_are_written(images: Path, whole: Path, tmp_path: Path, name: str) -> None:
    """Killed when the results, the page or the facts appear, no mask is done again and each file is whole or absent."""
    out = tmp_path / "out"
    stop(images, out, signal.SIGKILL, (lambda: (out / name).exists(), 0.0))
    stamps = read_stamps(out)
    assert len(stamps) == IMAGES
    for path in (out / "results.csv", out / "index.html", out / "run.json"):
        path.unlink(missing_ok=True)
    # All is kept now: the last files are all that a run has to do.
    stop(images, out, signal.SIGKILL, (lambda: (out / name).exists() or bool(list_temporary(out)), 0.0))
    for path, end in ((out / "results.csv", "\n"), (out / "index.html", "</html>\n"), (out / "run.json", "}\n")):
        assert not path.exists() or path.read_text().endswith(end)
    assert run(images, "-o", out) == (0, "")
    assert read_stamps(out) == stamps
    assert_same(out, whole)
    assert json.loads((out / "run.json").read_text())["counts"] == {
        "inputs": IMAGES,
        "ok": IMAGES,
        "failed": 0,
        "kept": IMAGES,
    }


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_again_and_again_a_run_is_whole_in_the_end(
    images: Path, whole: Path, tmp_path: Path, how: int, workers: int
) -> None:
    """Ctrl-C or a service's stop at any moment is exit 130 and one line, leaves no temporary file, and is resumed."""
    out, finished = tmp_path / "out", read_outputs(whole)
    stopped = 0
    rng = np.random.default_rng(how)
    while (before := count_masks(out)) < IMAGES - 3 and stopped < 4:
        wanted = before + int(rng.integers(1, 4))  # before its first new mask a run may not yet listen
        moment = (lambda wanted=wanted: count_masks(out) >= wanted, 0.02 * rng.random())
        status, errors = stop(images, out, how, moment, "--workers", workers)
        assert status in (130, 0)
        stopped += 1
        assert errors == ("edge-seg: interrupted; the same command goes on where it stopped\n" if status else "")
        assert not [name for name in list_files(out) if ".tmp" in name]
        assert_nothing_torn(out, finished)
    assert run(images, "-o", out, "--workers", workers) == (0, "")
    assert_same(out, whole)


def test_an_impatient_user_loses_nothing(images: Path, whole: Path, tmp_path: Path) -> None:
    """Ctrl-C pressed five times in a row tears nothing, and the run can be resumed."""
    out = tmp_path / "out"
    process = start(images, "-o", out)
    assert wait_until(lambda: count_masks(out) >= 3, process)
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert_nothing_torn(out, read_outputs(whole))
    assert run(images, "-o", out) == (0, "")
    assert_same(out, whole)
