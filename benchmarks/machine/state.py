"""In which state is the machine? Load, steal, swap, temperature, frequency, throttling.

A state of a result; what the system does not provide is null:

    at                 UTC; `at_s` instead in `during`, seconds since the run began
    load_1m            runnable processes, the kernel's mean over a minute
    busy_percent       of all processors' time since the state before: in use by any program
    others_percent     of it, by other programs than the benchmark's; in `during` only
    steal_percent      of it, taken by the host of a virtual machine
    swapped_pages      pages swapped in or out since the state before
    free_memory_bytes  available to programs; swap_used_bytes
    temperature_c      the hottest sensor of the processor
    mhz                mean of the processors' frequencies; governor
    throttled          true while heat, voltage or a quota slows the processor down; `throttled_by` [..]
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from edge_runtime.system.machine import (
    CPU,
    ROOT,
    count_heat_events,
    format_utc_time,
    read_cores,
    read_governor,
    read_memory,
    read_number,
    read_temperature,
    read_text,
    read_throttled,
)

State = dict[str, Any]


@dataclass(frozen=True)
class Counters:
    """Counters since boot: processor time in clock ticks, pages swapped, times that the processor was slowed down."""

    busy: int
    stolen: int
    total: int
    swapped: int
    slowed: dict[str, int]  # by cause


def read_counters(root: Path = ROOT) -> Counters:
    """Return the counters; zeros where the system does not provide them."""
    line = read_text(root / "proc/stat").partition("\n")[0].split()[1:9]
    ticks = [int(part) for part in line] + [0] * (8 - len(line))  # user nice system idle iowait irq softirq steal
    total, waiting, stolen = sum(ticks), ticks[3] + ticks[4], ticks[7]
    pages = re.findall(r"^pswp(?:in|out) (\d+)", read_text(root / "proc/vmstat"), re.M)
    return Counters(total - waiting - stolen, stolen, total, sum(map(int, pages)), read_slowed(root))


def read_slowed(root: Path) -> dict[str, int]:
    """Return how often the processor was slowed down, by cause: heat (x86), a control group's quota."""
    quota = re.search(r"^nr_throttled (\d+)", read_text(root / "sys/fs/cgroup/cpu.stat"), re.M)
    return {"heat": count_heat_events(root), "the control group's quota": int(quota[1]) if quota else 0}


def read_state(root: Path = ROOT) -> State:
    """Return the state at this moment, without the fields that need two readings."""
    memory = read_memory(root)
    load = read_text(root / "proc/loadavg").split()
    swap = memory.get("SwapTotal"), memory.get("SwapFree")
    now = read_throttled(root).now
    return {
        "load_1m": float(load[0]) if load else None,
        "free_memory_bytes": memory.get("MemAvailable"),
        "swap_used_bytes": swap[0] - swap[1] if swap[0] is not None and swap[1] is not None else None,
        "temperature_c": read_temperature(root),
        "mhz": read_frequency(root),
        "governor": read_governor(root),
        "throttled": bool(now),
        "throttled_by": now or [],
    }


def compare_counters(before: Counters, after: Counters) -> State:
    """Return the fields that need two readings."""
    ticks = after.total - before.total
    slowed = [cause for cause, number in after.slowed.items() if number > before.slowed.get(cause, 0)]
    return {
        "busy_percent": to_percent(after.busy - before.busy, ticks),
        "steal_percent": to_percent(after.stolen - before.stolen, ticks),
        "swapped_pages": after.swapped - before.swapped,
        "slowed_by": slowed,
    }


def to_percent(part: float, whole: float) -> float | None:
    """Return a share in per cent; None where the whole is 0."""
    return round(100 * part / whole, 2) if whole > 0 else None


def read_state_since(root: Path, before: Counters) -> tuple[State, Counters]:
    """Return the state with the changes since `before`, and the present counters."""
    counters = read_counters(root)
    state = read_state(root) | compare_counters(before, counters)
    causes = state["throttled_by"] + state.pop("slowed_by")
    return state | {"throttled": bool(causes), "throttled_by": causes}, counters


def read_idle_state(root: Path, seconds: float) -> State:
    """Return the state over some seconds without work, with the time of day."""
    before = read_counters(root)
    time.sleep(seconds)
    state, _ = read_state_since(root, before)
    return {"at": format_utc_time()} | state


def read_frequency(root: Path) -> float | None:
    """Return the mean of the processors' present frequencies in MHz."""
    found = [read_number(path) for path in (root / CPU).glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    mhz = [kilohertz / 1000 for kilohertz in found if kilohertz]
    mhz = mhz or [float(core["cpu MHz"]) for core in read_cores(root) if "cpu MHz" in core]
    return round(fmean(mhz), 1) if mhz else None
