"""Shares of the processors during a run: the benchmark's, other programs', the host's; on counters set by the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from planted import plant, plant_vm

from benchmarks.machine import watch
from benchmarks.machine.watch import Monitor, find_busiest, read_processes

PID = 4711


def write_counters(root: Path, busy: int, ours: int, steal: int = 0) -> None:
    """10,000 ticks and the stolen ones; of the busy ones so many are ours."""
    plant_vm(root, busy=busy, steal=steal)
    plant(root, {f"proc/{PID}/stat": f"{PID} (a (strange) name) S 1 2 3 4 5 6 7 8 9 10 {ours} 0 0 0\n"})


@pytest.fixture
def monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Monitor:
    monkeypatch.setattr(watch, "BEFORE_S", 0.0)
    monkeypatch.setattr(watch, "AFTER_S", 0.0)
    write_counters(tmp_path, busy=1000, ours=100)
    return Monitor(lambda: [PID], tmp_path)


def test_others_are_what_is_busy_and_not_ours(monitor: Monitor, tmp_path: Path) -> None:
    """Of 1,000 ticks in a round 600 busy, 450 of them ours: 15 % others'."""
    plant(tmp_path, {"proc/stat": "cpu  1600 0 0 9400 0 0 0 0 0 0\n"})
    plant(tmp_path, {f"proc/{PID}/stat": f"{PID} (a (strange) name) S 1 2 3 4 5 6 7 8 9 10 500 50 0 0\n"})
    monitor.record()
    (state,) = monitor.during
    assert (state["busy_percent"], state["others_percent"], state["steal_percent"]) == (60.0, 15.0, 0.0)
    assert state["at_s"] >= 0


def test_each_record_counts_from_the_last(monitor: Monitor, tmp_path: Path) -> None:
    """A quiet round after a busy one is quiet."""
    for busy, idle in ((1900, 9100), (1900, 10100)):
        plant(tmp_path, {"proc/stat": f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n"})
        monitor.record()
    assert [state["others_percent"] for state in monitor.during] == [90.0, 0.0]


def test_a_machine_has_states_before_during_and_after(monitor: Monitor, tmp_path: Path) -> None:
    """In the fields of a result."""
    monitor.record()
    machine = monitor.finish({"cpu": "x"})
    assert set(machine) == {"facts", "before", "during", "after"} and len(machine["during"]) == 1
    assert machine["before"]["at"].endswith("Z") and machine["after"]["governor"] is None


def test_the_busiest_other_is_named() -> None:
    """By the ticks used since; a new one counts from its first reading."""
    before = {1: ("idle", 5), 2: ("backup", 1)}
    assert find_busiest(before, {1: ("idle", 5), 2: ("backup", 4), 3: ("new", 90)}) == "backup"
    assert find_busiest(before, before) == "" and find_busiest({}, {}) == ""


def test_we_are_not_others(monitor: Monitor, tmp_path: Path) -> None:
    """This process and its children are left out."""
    assert find_busiest({1: ("ours", 5), 2: ("other", 1)}, {1: ("ours", 90), 2: ("other", 2)}, {1}) == "other"
    for pid, ticks in ((PID, 900), (os.getpid(), 900), (99, 101)):
        plant(tmp_path, {f"proc/{pid}/stat": f"{pid} (program {pid}) S 1 2 3 4 5 6 7 8 9 10 {ticks} 0 0 0\n"})
    monitor.start()
    for pid, ticks in ((PID, 1200), (os.getpid(), 1200), (99, 102)):
        plant(tmp_path, {f"proc/{pid}/stat": f"{pid} (program {pid}) S 1 2 3 4 5 6 7 8 9 10 {ticks} 0 0 0\n"})
    plant(tmp_path, {"proc/stat": "cpu  1900 0 0 9100 0 0 0 0 0 0\n"})
    monitor.record()
    (state,) = monitor.during
    assert (state["others_percent"], state["busiest_other"]) == (30.0, "program 99")


def test_a_process_that_is_gone_used_nothing(tmp_path: Path) -> None:
    """It is not listed, without an error; one that lives is, with its name."""
    plant(
        tmp_path, {"proc/1/stat": "", f"proc/{PID}/stat": f"{PID} (a (strange) name) S 1 2 3 4 5 6 7 8 9 10 5 2 0 0\n"}
    )
    assert read_processes(tmp_path) == {PID: ("a (strange) name", 7)}
    assert read_processes(Path("/"))[os.getpid()][1] >= 0
