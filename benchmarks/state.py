"""How the machine is doing: load, steal, swap, temperature, frequency, throttling; and what of it spoils a run.

A state of a result, null where the system does not tell:

    at                 UTC; `at_s` instead in `during`, seconds since the run began
    load_1m            runnable processes, the kernel's mean over a minute
    busy_percent       of all processors' time since the state before: in use, by whomever
    others_percent     of it, by other programs than the benchmark's; in `during` only
    steal_percent      of it, taken by the host of a virtual machine
    swapped_pages      pages swapped in or out since the state before
    free_memory_bytes  that programs could get; swap_used_bytes
    temperature_c      the hottest sensor of the processor
    mhz                mean of the processors' frequencies; governor
    throttled          true while the processor is slowed down against heat, voltage or a quota; `throttled_by` [..]
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from .firmware import read_throttled
from .machine import CPU, ROOT, read_governor, read_memory, read_number, read_text

State = dict[str, Any]
PLAUSIBLE_C = (-40.0, 150.0)  # sensors that are not wired read 0 K or 255
PROCESSOR_ZONES = re.compile(r"cpu|soc|x86_pkg|core|tctl", re.I)
PROCESSOR_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")


@dataclass(frozen=True)
class Counters:
    """What only grows: processor time in clock ticks, pages swapped, times that the processor was slowed down."""

    busy: int
    stolen: int
    total: int
    swapped: int
    slowed: dict[str, int]  # by what


def read_counters(root: Path = ROOT) -> Counters:
    """Return the counters; zeros where the system does not tell."""
    line = read_text(root / "proc/stat").partition("\n")[0].split()[1:9]
    ticks = [int(part) for part in line] + [0] * (8 - len(line))  # user nice system idle iowait irq softirq steal
    total, waiting, stolen = sum(ticks), ticks[3] + ticks[4], ticks[7]
    pages = re.findall(r"^pswp(?:in|out) (\d+)", read_text(root / "proc/vmstat"), re.M)
    return Counters(total - waiting - stolen, stolen, total, sum(map(int, pages)), read_slowed(root))


def read_slowed(root: Path) -> dict[str, int]:
    """Return how often the processor was slowed down, by cause: heat (x86), a control group's quota."""
    found = [read_number(path) for path in (root / CPU).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
    quota = re.search(r"^nr_throttled (\d+)", read_text(root / "sys/fs/cgroup/cpu.stat"), re.M)
    return {"heat": sum(number or 0 for number in found), "the control group's quota": int(quota[1]) if quota else 0}


def read_state(root: Path = ROOT) -> State:
    """Return the state at this moment, without what needs two."""
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
    """Return what two readings tell together."""
    ticks = after.total - before.total
    slowed = [cause for cause, number in after.slowed.items() if number > before.slowed.get(cause, 0)]
    return {
        "busy_percent": percent(after.busy - before.busy, ticks),
        "steal_percent": percent(after.stolen - before.stolen, ticks),
        "swapped_pages": after.swapped - before.swapped,
        "slowed_by": slowed,
    }


def percent(part: float, whole: float) -> float | None:
    """Return a share in per cent; None of nothing."""
    return round(100 * part / whole, 2) if whole > 0 else None


def look(root: Path, before: Counters) -> tuple[State, Counters]:
    """Return the state now with what happened since `before`, and the counters to go on from."""
    counters = read_counters(root)
    state = read_state(root) | compare_counters(before, counters)
    causes = state["throttled_by"] + state.pop("slowed_by")
    return state | {"throttled": bool(causes), "throttled_by": causes}, counters


def look_for(root: Path, seconds: float) -> State:
    """Return the state over a few seconds in which we do nothing, with the time of day."""
    before = read_counters(root)
    time.sleep(seconds)
    state, _ = look(root, before)
    return {"at": tell_time()} | state


def tell_time() -> str:
    """Return the time of day, UTC, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read_temperature(root: Path) -> float | None:
    """Return the hottest of the processor's sensors, of all sensors where none is named as the processor's."""
    zones = [(read_text(zone / "type"), read_number(zone / "temp")) for zone in list_zones(root)]
    chips = [
        (read_text(chip / "name"), read_number(path))
        for chip in sorted((root / "sys/class/hwmon").glob("hwmon*"))
        for path in sorted(chip.glob("temp*_input"))
    ]
    own = [value for name, value in zones if PROCESSOR_ZONES.search(name)]
    own += [value for name, value in chips if name in PROCESSOR_CHIPS]
    found = [value / 1000 for value in own or [value for _, value in zones] if value is not None]
    return max((value for value in found if PLAUSIBLE_C[0] < value < PLAUSIBLE_C[1]), default=None)


def list_zones(root: Path) -> list[Path]:
    """Return the thermal zones' folders."""
    return sorted((root / "sys/class/thermal").glob("thermal_zone*"))


def read_frequency(root: Path) -> float | None:
    """Return the mean of the processors' present frequencies in MHz."""
    found = [read_number(path) for path in (root / CPU).glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    mhz = [kilohertz / 1000 for kilohertz in found if kilohertz]
    told = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", read_text(root / "proc/cpuinfo"), re.M)
    mhz = mhz or [float(value) for value in told]
    return round(fmean(mhz), 1) if mhz else None
