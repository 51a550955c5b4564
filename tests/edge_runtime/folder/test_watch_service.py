"""The service: what is copied into a folder is segmented once, whatever happens meanwhile."""

from __future__ import annotations

import csv
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fakes import make_contract

from edge_runtime.contract.fields import Contract
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.records.journal import JournalEntry, Outcome
from edge_runtime.folder.records.results_csv import list_columns
from edge_runtime.folder.records.run_json import Counts
from edge_runtime.folder.watch import service as watch_module
from edge_runtime.folder.watch.inbox import Inbox
from edge_runtime.folder.watch.service import Service, Watched
from edge_runtime.folder.watch.systemd import Notifier

Save = Callable[[Path, npt.NDArray[np.generic]], None]


class RunningService:
    """A running service, its folders, and what can be waited for."""

    def __init__(self, tmp_path: Path, *more: str, environment: Mapping[str, str] | None = None) -> None:
        self.inbox, self.out = tmp_path / "inbox", tmp_path / "out"
        self.inbox.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "edge_runtime.cli", "--watch", str(self.inbox), "-o", str(self.out)]
        self.process = subprocess.Popen(
            [*command, "--threads", "1", "--settle", "0.3", *more],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def health(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.out / "health.json").read_text()))
        except FileNotFoundError:
            return {"state": "none", "done": 0, "failed": 0}

    def wait(self, met: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while not met(health := self.health()):
            assert time.monotonic() < end, (health, self.rows())
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            time.sleep(0.05)
        return health

    def wait_rows(self, count: int) -> list[dict[str, str]]:
        self.wait(lambda _: len(self.rows()) >= count)
        return self.rows()

    def rows(self) -> list[dict[str, str]]:
        try:
            with (self.out / "results.csv").open(newline="") as file:
                return list(csv.DictReader(file))
        except FileNotFoundError:
            return []

    def stop(self, how: signal.Signals = signal.SIGTERM) -> str:
        self.process.send_signal(how)
        _, err = self.process.communicate(timeout=60)
        return str(err)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., RunningService]]:
    begun: list[RunningService] = []

    def begin(*more: str, environment: Mapping[str, str] | None = None) -> RunningService:
        begun.append(RunningService(tmp_path, *more, environment=environment))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.wait()


def test_each_image_once_across_restarts(
    watch: Callable[..., RunningService], save_image: Save, drawn: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    """Copied files get masks and rows; a restart processes new and changed ones only, not one that failed."""
    (tmp_path / "inbox").mkdir()
    save_image(tmp_path / "inbox" / "a.png", drawn)
    one = watch()
    one.wait_rows(1)
    save_image(tmp_path / "inbox" / "b.png", drawn[3:])
    (tmp_path / "inbox" / "c.png").write_bytes(b"no image")
    assert [row["file"] for row in one.wait_rows(3)] == ["a.png", "b.png", "c.png"]
    words = one.stop()
    assert one.process.returncode == 0
    assert "not a PNG" in words
    assert "2 segmented, 1 failed" in words
    assert one.health()["state"] == "stopped"
    flags = [flag for row in one.rows() for flag in row["flags"].split(";") if flag]
    assert json.loads((one.out / "run.json").read_text())["flags"] == {flag: flags.count(flag) for flag in flags}
    assert (one.out / "index.html").exists()
    made = {path.name: path.stat().st_ino for path in (one.out / "masks").iterdir()}
    assert sorted(made) == ["a.png", "b.png"]

    save_image(tmp_path / "inbox" / "b.png", drawn[:, 9:])
    save_image(tmp_path / "inbox" / "d.png", drawn)
    two = watch()
    two.wait(lambda health: health["state"] == "idle" and health["done"] == 4)
    assert "not a PNG" not in two.stop()
    again = {path.name: path.stat().st_ino for path in (two.out / "masks").iterdir()}
    assert sorted(again) == ["a.png", "b (2).png", "b.png", "d.png"]
    assert again["a.png"] == made["a.png"]
    assert again["b.png"] == made["b.png"]
    three = watch()
    three.wait(lambda health: health["state"] == "idle" and health["uptime_s"] < 60)
    assert [row["file"] for row in three.rows()] == ["a.png", "b.png", "c.png", "b (2).png", "d.png"]
    three.stop()


def test_a_file_that_is_still_written_is_left_alone(
    watch: Callable[..., RunningService], save_image: Save, drawn: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    """A slow copy gets one row, after its end, and it is ok; empty and hidden files get none."""
    one = watch("--settle", "1")
    one.wait(lambda health: health["state"] == "idle")
    save_image(tmp_path / "whole.png", drawn)
    data = (tmp_path / "whole.png").read_bytes()
    (one.inbox / "empty.png").touch()
    (one.inbox / ".hidden.png").write_bytes(data)
    with (one.inbox / "slow.png").open("wb", buffering=0) as file:
        for start in range(0, len(data), len(data) // 9 + 1):
            file.write(data[start : start + len(data) // 9 + 1])
            assert not one.rows()
            time.sleep(0.25)
    (row,) = one.wait_rows(1)
    assert (row["file"], row["status"]) == ("slow.png", "ok")
    one.stop()


def test_killed_at_any_moment_nothing_is_lost_or_done_twice(
    watch: Callable[..., RunningService], save_image: Save, drawn: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    """SIGKILL after some images, twice; in the end one row an image, and no mask was made again."""
    (tmp_path / "inbox").mkdir()
    for number in range(9):
        save_image(tmp_path / "inbox" / f"{number}.png", drawn[number:])
    inodes: dict[str, int] = {}
    for count in (2, 5):
        one = watch()
        one.wait_rows(count)
        one.stop(signal.SIGKILL)
        journaled = [json.loads(line)["row"]["file"] for line in (one.out / "journal.jsonl").read_text().splitlines()]
        for name in journaled:
            inode = (one.out / "masks" / name).stat().st_ino
            assert inodes.setdefault(name, inode) == inode
    last = watch()
    last.wait(lambda health: health["done"] == 9)
    last.stop()
    assert sorted(row["file"] for row in last.rows()) == [f"{number}.png" for number in range(9)]
    assert not list(last.out.rglob(".tmp*"))


def test_the_service_manager_is_notified(
    watch: Callable[..., RunningService], save_image: Save, drawn: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    """READY when it can work, watchdog notifications as often as they are due, STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        one = watch(environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "900000"})
        heard = [manager.recv(4096).decode()]
        while sum("WATCHDOG=1" in text for text in heard) < 3:
            heard.append(manager.recv(4096).decode())
        one.stop()
        manager.settimeout(1)
        try:
            while True:
                heard.append(manager.recv(4096).decode())
        except TimeoutError:
            pass
    assert "READY=1" in heard
    assert "STOPPING=1" in heard
    assert any(text.startswith("STATUS=") for text in heard)


def test_a_watchdog_meant_for_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """WATCHDOG_PID is the process that systemd watches; damaged values are ignored."""
    for pid, microseconds, wanted in ((os.getpid(), "3000000", 1.0), (1, "3000000", 0.0), (os.getpid(), "soon", 0.0)):
        monkeypatch.setenv("WATCHDOG_PID", str(pid))
        monkeypatch.setenv("WATCHDOG_USEC", microseconds)
        assert Notifier().every_s == wanted


def test_a_folder_that_is_gone_blocks_until_it_is_back(
    watch: Callable[..., RunningService], save_image: Save, drawn: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    """A lost network folder is reported once, in health.json too, and the service goes on when it is back."""
    one = watch()
    one.wait(lambda health: health["state"] == "idle")
    one.inbox.rename(tmp_path / "away")
    assert "No such file" in one.wait(lambda health: health["state"] == "blocked")["error"]
    (tmp_path / "away").rename(one.inbox)
    save_image(one.inbox / "a.png", drawn)
    one.wait_rows(1)
    assert one.stop().count("No such file") == 1


def test_what_cannot_be_watched_is_one_line(tmp_path: Path) -> None:
    """No folder, a folder in OUT, other inputs beside it, and an OUT in use."""
    (tmp_path / "out" / "in").mkdir(parents=True)
    command = [sys.executable, "-m", "edge_runtime.cli", "--watch"]
    for arguments, code, words in (
        ([str(tmp_path / "none")], 1, "no such folder"),
        ([str(tmp_path / "out" / "in"), "-o", str(tmp_path / "out")], 2, "lies in the output folder"),
        ([str(tmp_path), "more.png"], 2, "no other inputs"),
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
        assert words in done.stderr


class FakePool:
    """Yields an outcome of each image without reading it."""

    contract = make_contract()
    facts: Mapping[str, Any] = {"engine": {"name": "fake", "version": "1", "threads": 1}}

    def process(self, inputs: Iterator[Input], out: Path, earlier: Mapping[str, JournalEntry]) -> Generator[Outcome]:
        for item in inputs:
            row = dict.fromkeys(list_columns(self.contract), "1")
            row.update(file=item.file, status="ok", error="")
            yield Outcome(JournalEntry("0" * 64, row, {f"masks/{item.name}": 1000}), fresh=True)

    def describe_loading(self) -> str:
        return ""

    def close(self) -> None:
        pass


def measure_own_memory() -> int:
    """Bytes that the device's own code holds, whatever else this process has begun."""
    ours = tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.Filter(True, f"{Path(watch_module.__file__).parent}/*")]
    )
    return sum(trace.size for trace in ours.traces)


def test_a_days_worth_of_files_does_not_grow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that come and are removed leave nothing in memory; the slope over 6,000 is below 0.1 kB an image."""
    watched = Watched(tmp_path / "in", tmp_path / "out", False, 0.0)
    watched.inbox.mkdir()
    counts: list[tuple[int, int]] = []
    made = 0

    def refill(service: Service, seconds: float) -> None:
        """Replaces the pauses: removes the files and writes new ones."""
        nonlocal made
        for path in watched.inbox.iterdir():
            path.unlink()
        if service.ok >= made:
            gc.collect()
            counts.append((service.ok, measure_own_memory()))
            if made >= 6_000:
                service.stop()
        for _ in range(400):
            (watched.inbox / f"slice-{made:06}.png").write_bytes(b"x")
            made += 1

    monkeypatch.setattr(Service, "pause", refill)
    monkeypatch.setattr("edge_runtime.folder.watch.service.PAGE_S", 0.0)  # what it needs once is needed at the start
    # A file counts as complete at the second scan, which follows at once here.
    scan = Inbox.scan
    monkeypatch.setattr(Inbox, "scan", lambda self, now: (scan(self, now), scan(self, now + 1))[1])

    def describe(pool: object, counts: Counts, seconds: float) -> dict[str, Any]:
        return {}

    service = Service(watched, Options(gallery=False), lambda beat: FakePool(), describe, print)
    tracemalloc.start()
    try:
        service.run()
    finally:
        tracemalloc.stop()
    assert service.ok >= 6_000
    done, memory = np.array(counts[len(counts) // 4 :], float).T
    slope = float(np.polyfit(done, memory, 1)[0])
    assert slope < 100, f"{slope:.0f} bytes an image"


def test_it_is_idle_only_once_it_knows_what_was_done_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a long journal is read the service's state is starting: its counts and its table are not complete yet."""
    watched = Watched(tmp_path / "in", tmp_path / "out", False, 0.0)
    watched.inbox.mkdir()
    seen = []
    restore = Service.restore

    def watched_restore(service: Service, contract: Contract) -> None:
        seen.append(json.loads((watched.out / "health.json").read_text())["state"])
        restore(service, contract)

    def pause(service: Service, seconds: float) -> None:
        seen.append(json.loads((watched.out / "health.json").read_text())["state"])
        service.stop()

    monkeypatch.setattr(Service, "restore", watched_restore)
    monkeypatch.setattr(Service, "pause", pause)
    Service(watched, Options(gallery=False), lambda beat: FakePool(), lambda *_: {}, print).run()
    assert seen == ["starting", "idle"]
