"""What did the machine do during a run, and which share of its processors did other programs use?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.system.machine import ROOT, read_text

from .state import State, read_counters, read_idle_state, read_state_since, to_percent

BEFORE_S, AFTER_S = 2.0, 1.0  # without work, to measure the load by other programs
NOTABLE_PERCENT = 5.0  # of the processors, above which the busiest other program is named
Processes = dict[int, tuple[str, int]]  # by pid: name, clock ticks used


class Monitor:
    """Records the states of a result's `machine`; `pids` returns the benchmark's child processes."""

    def __init__(self, pids: Callable[[], Sequence[int]], root: Path = ROOT) -> None:
        self.pids, self.root = pids, root
        self.before = read_idle_state(root, BEFORE_S)
        self.during: list[State] = []
        self.start()

    def start(self) -> None:
        """Count from now on: the conversion before does not belong to the run."""
        self.started = time.monotonic()
        self.counters, self.processes = read_counters(self.root), read_processes(self.root)

    def record(self) -> None:
        """Record the state since the last call."""
        counters, before = self.counters, self.processes
        state, self.counters = read_state_since(self.root, counters)
        self.processes, own = read_processes(self.root), {os.getpid(), *self.pids()}
        used = sum(ticks - before.get(pid, ("", 0))[1] for pid, (_, ticks) in self.processes.items() if pid in own)
        busy = self.counters.busy - counters.busy
        share = to_percent(max(0, busy - used), self.counters.total - counters.total)
        name = find_busiest(before, self.processes, own) if (share or 0) > NOTABLE_PERCENT else ""
        state |= {"others_percent": share} | ({"busiest_other": name} if name else {})
        self.during.append({"at_s": round(time.monotonic() - self.started, 1)} | state)

    def finish(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return a result's `machine`."""
        return {
            "facts": facts,
            "before": self.before,
            "during": self.during,
            "after": read_idle_state(self.root, AFTER_S),
        }


def read_processes(root: Path) -> Processes:
    """Return all processes, from their /proc/PID/stat."""
    found = {}
    for path in (root / "proc").glob("[0-9]*/stat"):
        head, _, tail = read_text(path).rpartition(")")  # a name may hold spaces and brackets
        fields = tail.split()
        if len(fields) > 12:
            found[int(path.parent.name)] = (head.partition("(")[2], int(fields[11]) + int(fields[12]))
    return found


def find_busiest(before: Processes, after: Processes, own: Collection[int] = ()) -> str:
    """Return the name of the busiest process that is not in `own`; a new one counts from its first reading."""
    spent = {pid: ticks - before.get(pid, ("", ticks))[1] for pid, (_, ticks) in after.items() if pid not in own}
    busiest = max(spent, key=lambda pid: spent[pid], default=None)
    return after[busiest][0] if busiest is not None and spent[busiest] > 0 else ""
