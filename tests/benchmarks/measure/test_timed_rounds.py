"""Real child processes of known speed and faults: rounds, memory, verdicts, and failed subjects."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import make_contract

from benchmarks.measure.child import process
from benchmarks.measure.child.process import Child
from benchmarks.measure.long_runs import run_soak
from benchmarks.measure.rounds import (
    MODES,
    Mode,
    RunningCandidate,
    count_samples_per_round,
    make_pairs,
    run_rounds,
    start_candidate,
    to_subject,
)
from benchmarks.subjects.candidates import Candidate
from edge_runtime.errors import EngineError

SHORT = Mode("standard", 30, 0.0, "p50_ms")
Start = Callable[..., RunningCandidate]


@pytest.fixture(autouse=True)
def use_sleepy_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children know the tests' engines too."""
    monkeypatch.setattr(process, "MODULE", "sleepy")


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    path = tmp_path / "tensors.npy"
    np.save(path, np.linspace(0, 1, 3 * 64, dtype=np.float32).reshape(3, 1, 8, 8, 1))
    return path


def make(tmp_path: Path, key: str, engine: str, model: str, role: str = "subject", python: str = "") -> Candidate:
    path = tmp_path / f"{key}.tflite"
    path.write_text(model)
    return Candidate(key, f"the {key}", role, engine, 1, "fp32", path, path.name, make_contract(8),
                     python or sys.executable)  # fmt: skip


@pytest.fixture
def running(tmp_path: Path, tensors: Path) -> Iterator[Start]:
    """Starts candidates, and ends their children after the test."""
    started: list[RunningCandidate] = []

    def begin(*args: Any, **more: Any) -> RunningCandidate:
        found = start_candidate(make(tmp_path, *args, **more), tensors, tmp_path)
        assert isinstance(found, RunningCandidate), found
        started.append(found)
        return found

    yield begin
    for one in started:
        one.child.end()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_that_sleeps_longer_is_slower(running: Start) -> None:
    """4 ms against 8 ms, in turns: the ratio, its interval and its verdict; an equal one is no difference."""
    group = [running("drq", "sleepy", "8"), running("fp32", "sleepy", "4", "baseline"), running("twin", "sleepy", "4")]
    assert run_rounds(group, SHORT, 30, lambda number: None) == {}
    slow, same = make_pairs(group)
    assert (slow["subject"], slow["baseline"], slow["verdict"]) == ("drq", "fp32", "slower")
    assert 1.3 < slow["interval"][0] <= slow["ratio_p50"] <= slow["interval"][1]
    assert same["verdict"] != "slower" or same["ratio_p50"] < 1.3  # sleeping is as exact as the machine is quiet
    subject = to_subject(group[0])
    assert subject["latency"]["least_ms"] >= 8 and subject["latency"]["n"] == 30
    assert sorted({number for number, _ in subject["latency"]["samples"]}) == list(range(30))
    assert (subject["warm_up"]["runs"] > 10, subject["first_ms"] >= 8, subject["parameters"]) == (True, True, 7)
    assert subject["file"]["bytes"] == 1


def test_rounds_go_forth_and_back(running: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A B, B A, A B: a drift hits both alike."""
    group, order = [running("a", "sleepy", "0"), running("b", "sleepy", "0")], []
    request = Child.request

    def listen(self: Child, do: str, **fields: Any) -> Any:
        order.append(self.key) if do == "run" else None
        return request(self, do, **fields)

    monkeypatch.setattr(Child, "request", listen)
    run_rounds(group, SHORT, 30, lambda number: None)
    assert "".join(order[:8]) == "abbaabba"


def test_memory_is_that_of_the_process(running: Start) -> None:
    """After 30 runs that keep 1 MB each, the peak has grown by them and the kernel agrees; the baseline has not."""
    one = running("leaking", "leaking", str(1 << 20))
    run_rounds([one], SHORT, 30, lambda number: None)
    memory = to_subject(one)["memory"]
    status = Path(f"/proc/{one.child.process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    assert memory["peak_rss_bytes"] == pytest.approx(peak, abs=2 << 20)
    assert memory["peak_rss_bytes"] - memory["loaded_rss_bytes"] > 30 << 20
    assert 10 << 20 < memory["baseline_rss_bytes"] <= memory["loaded_rss_bytes"]
    assert memory["peak_pss_bytes"] <= memory["peak_rss_bytes"]


@pytest.mark.parametrize(("size", "verdict"), [((1 << 20) // 100, "grows"), (0, "flat")])
def test_a_soak_finds_a_leak_of_a_megabyte_in_a_hundred_runs(running: Start, size: int, verdict: str) -> None:
    """In a real process, by the kernel's figures."""
    child = running("leaking", "leaking", str(size)).child
    found = run_soak(
        lambda n: child.request("run", n=n, warm_caches=False)["ms"], lambda: child.request("memory")["rss"], 800
    )
    assert found["verdict"] == verdict, found["slope_bytes_per_run"]
    if verdict == "grows":
        assert found["slope_bytes_per_run"] == pytest.approx(size, rel=0.3)


def test_what_libraries_print_is_no_answer(running: Start) -> None:
    """Output on the child's stdout is redirected."""
    assert len(running("noisy", "noisy", "0").child.request("run", n=3)["ms"]) == 3


@pytest.mark.parametrize(
    ("engine", "status", "reason"),
    [
        ("nan", "failed", "not finite"),
        ("crashing", "failed", "signal SIGSEGV"),
        ("lacking", "absent", "a_package_that_is_not_there"),
        ("unknown", "failed", "KeyError"),
    ],
)
def test_what_cannot_be_measured_has_a_reason(
    tmp_path: Path, tensors: Path, engine: str, status: str, reason: str
) -> None:
    """NaN, a crash, a missing package: a subject with a reason of one line, and nothing that looks like a figure."""
    found = start_candidate(make(tmp_path, "x", engine, "1"), tensors, tmp_path)
    assert isinstance(found, dict)
    assert found["status"] == status and reason in found["reason"] and "\n" not in found["reason"]
    assert set(found) == {"name", "role", "engine", "status", "reason"}


def test_a_missing_interpreter_is_reported(tmp_path: Path, tensors: Path) -> None:
    """As a failure of that subject alone."""
    found = start_candidate(make(tmp_path, "x", "sleepy", "1", python=str(tmp_path / "python")), tensors, tmp_path)
    assert isinstance(found, dict) and "does not start" in found["reason"]


def test_a_child_that_dies_in_the_rounds_leaves_the_others(running: Start) -> None:
    """It becomes a failed subject; the rest is measured to the end."""
    group = [running("a", "sleepy", "0"), running("b", "sleepy", "0")]

    def kill_b(number: int) -> None:
        if number == 3:
            group[1].child.process.kill()

    left = run_rounds(group, SHORT, 30, kill_b)
    assert left["b"]["status"] == "failed" and "signal SIGKILL" in left["b"]["reason"]
    assert [one.candidate.key for one in group] == ["a"] and len(group[0].samples) == 30


def test_an_answer_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensors: Path) -> None:
    """A runtime that hangs fails after a limit, and its process is gone."""
    monkeypatch.setattr(process, "LIMIT_S", 0.8)
    pids: list[int] = []
    end = Child.end
    monkeypatch.setattr(Child, "end", lambda self: (pids.append(self.process.pid), end(self)))
    found = start_candidate(make(tmp_path, "x", "hanging", "1"), tensors, tmp_path)
    assert isinstance(found, dict) and "no answer" in found["reason"]
    assert pids and not is_alive(pids[0])


def test_a_child_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    """Its requests end: so does it."""
    child = Child("x", sys.executable, tmp_path)
    assert child.process.stdin
    child.process.stdin.close()
    assert child.process.wait(20) == 0
    child.end()


def test_a_child_that_is_gone_cannot_be_asked(tmp_path: Path) -> None:
    """The reason is its last line, or its signal."""
    child = Child("x", sys.executable, tmp_path)
    child.end()
    with pytest.raises(EngineError, match="signal SIGKILL"):
        child.request("memory")


@pytest.mark.parametrize(
    ("mode", "last_ms", "share"),
    [("standard", 20.0, 2), ("single-stream", 100.0, 35), ("single-stream", 5.0, 440), ("paper", 20.0, 17)],
)
def test_a_mode_decides_how_much_is_measured(tmp_path: Path, mode: str, last_ms: float, share: int) -> None:
    """At least 1,024 queries and 60 s in single-stream, whatever the speed; 500 passes in the paper's."""
    fast = RunningCandidate(make(tmp_path, "x", "sleepy", "1"), None, {}, {"last_ms": last_ms})  # type: ignore[arg-type]
    assert count_samples_per_round(fast, MODES[mode], MODES[mode].samples) == share
    assert 30 * share * last_ms >= 1000 * MODES[mode].seconds


def test_rounds_are_added_until_the_seconds_are_full(running: Start) -> None:
    """A warm-up slower than the rest makes the plan fall short: more rounds follow."""
    one = running("a", "sleepy", "1")
    one.warm["last_ms"] = 50.0
    began = time.monotonic()
    run_rounds([one], Mode("single-stream", 30, 0.2, "p90_ms"), 30, lambda number: None)
    assert sum(ms for _, ms in one.samples) >= 200 and time.monotonic() - began < 20
