"""Watches the machine while a run goes on: a state for each round, and how much of the processors went to others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .machine import ROOT, read_text
from .state import State, look, look_for, percent, read_counters

BEFORE_S, AFTER_S = 2.0, 1.0  # of doing nothing, to see what others do
NOTABLE_PERCENT = 5.0  # of the processors, above which the busiest other program is named


class Watch:
    """The states of a result's `machine`; `pids` tells which processes are the benchmark's own."""

    def __init__(self, pids: Callable[[], Sequence[int]], root: Path = ROOT) -> None:
        self.pids, self.root = pids, root
        self.before = look_for(root, BEFORE_S)
        self.during: list[State] = []
        self.begin()

    def begin(self) -> None:
        """Count from now on: what came before, conversion above all, is not the run."""
        self.started = time.monotonic()
        self.counters, self.ticks, self.others = read_counters(self.root), self.read_own(), read_others(self.pids())

    def look(self, *_: Any) -> None:
        """Note the state since the last look."""
        before, ticks, others = self.counters, self.ticks, self.others
        state, self.counters = look(self.root, before)
        self.ticks, self.others = self.read_own(), read_others(self.pids())
        own = sum(number - ticks.get(pid, 0) for pid, number in self.ticks.items())
        busy = self.counters.busy - before.busy
        share = percent(max(0, busy - own), self.counters.total - before.total)
        name = find_busiest(others, self.others) if (share or 0) > NOTABLE_PERCENT else ""
        state |= {"others_percent": share} | ({"busiest_other": name} if name else {})
        self.during.append({"at_s": round(time.monotonic() - self.started, 1)} | state)

    def read_own(self) -> dict[int, int]:
        """Return the clock ticks that each of our processes has used."""
        return {pid: read_ticks(self.root / f"proc/{pid}/stat") for pid in (os.getpid(), *self.pids())}

    def end(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return a result's `machine`."""
        return {"facts": facts, "before": self.before, "during": self.during, "after": look_for(self.root, AFTER_S)}


def read_ticks(path: Path) -> int:
    """Return the clock ticks that a process has used, from its /proc/PID/stat; 0 where it is gone."""
    fields = read_text(path).rpartition(")")[2].split()  # a program's name may hold spaces
    return int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0


def read_others(own: Sequence[int]) -> dict[int, tuple[str, float]]:
    """Return (name, seconds of processor time) of every process that is not ours; nothing without psutil."""
    try:
        import psutil
    except ImportError:
        return {}
    found = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times and process.pid != os.getpid() and process.pid not in own:
            found[process.pid] = (process.info["name"], times.user + times.system)
    return found


def find_busiest(before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]) -> str:
    """Return the name of the process that used most since; "" where none is known."""
    spent = {pid: seconds - before.get(pid, ("", seconds))[1] for pid, (_, seconds) in after.items()}
    most = max(spent, key=lambda pid: spent[pid], default=None)
    return after[most][0] if most is not None and spent[most] > 0 else ""
