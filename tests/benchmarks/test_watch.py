"""Whose work the processors did during a run: ours, others', the host's; on counters that the test turns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from planted import plant, plant_vm

from benchmarks import watch
from benchmarks.watch import Watch, find_busiest, read_others, read_ticks

PID = 4711


def turn(root: Path, busy: int, ours: int, steal: int = 0) -> None:
    """10,000 ticks and what is stolen on top; of the busy ones so many are ours."""
    plant_vm(root, busy=busy, steal=steal)
    plant(root, {f"proc/{PID}/stat": f"{PID} (a (strange) name) S 1 2 3 4 5 6 7 8 9 10 {ours} 0 0 0\n"})


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(watch, "BEFORE_S", 0.0)
    monkeypatch.setattr(watch, "AFTER_S", 0.0)
    turn(tmp_path, busy=1000, ours=100)
    return Watch(lambda: [PID], tmp_path)


def test_others_are_what_is_busy_and_not_ours(watching: Watch, tmp_path: Path) -> None:
    """Of 1,000 ticks in a round 600 busy, 450 of them ours: 15 % others'."""
    plant(tmp_path, {"proc/stat": "cpu  1600 0 0 9400 0 0 0 0 0 0\n"})
    plant(tmp_path, {f"proc/{PID}/stat": f"{PID} (a (strange) name) S 1 2 3 4 5 6 7 8 9 10 500 50 0 0\n"})
    watching.look()
    (state,) = watching.during
    assert (state["busy_percent"], state["others_percent"], state["steal_percent"]) == (60.0, 15.0, 0.0)
    assert state["at_s"] >= 0


def test_each_look_counts_from_the_last(watching: Watch, tmp_path: Path) -> None:
    """A quiet round after a busy one is quiet."""
    for busy, idle, ours in ((1900, 9100, 100), (1900, 10100, 100)):
        plant(tmp_path, {"proc/stat": f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n"})
        watching.look(ours)
    assert [state["others_percent"] for state in watching.during] == [90.0, 0.0]


def test_a_machine_is_told_before_during_and_after(watching: Watch, tmp_path: Path) -> None:
    """As a result holds it."""
    watching.look()
    machine = watching.end({"cpu": "x"})
    assert set(machine) == {"facts", "before", "during", "after"} and len(machine["during"]) == 1
    assert machine["before"]["at"].endswith("Z") and machine["after"]["governor"] is None


def test_the_busiest_other_is_named() -> None:
    """By what it used since; one that is new counts from when it was first seen."""
    before = {1: ("idle", 5.0), 2: ("backup", 1.0)}
    assert find_busiest(before, {1: ("idle", 5.0), 2: ("backup", 4.0), 3: ("new", 90.0)}) == "backup"
    assert find_busiest(before, before) == "" and find_busiest({}, {}) == ""


def test_we_are_not_others() -> None:
    """This process is left out, and so are those that it names."""
    assert os.getpid() not in read_others([]) and os.getppid() not in read_others([os.getppid()])


def test_a_process_that_is_gone_used_nothing(tmp_path: Path) -> None:
    """No error."""
    assert read_ticks(tmp_path / "proc/1/stat") == 0
    assert read_ticks(Path("/proc/self/stat")) >= 0
