"""What is this machine and in what state is it: processor, memory, temperature, throttling?

All of it is read from /proc and /sys below a `root`, which tests replace by a tree of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/")
CPU = "sys/devices/system/cpu"
CGROUP = "sys/fs/cgroup"
# Keys of /proc/cpuinfo that name the processor and its instructions, and do not change from second to second.
IDENTITY = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "Features",
    "CPU part",
    "CPU variant",
)
VCGENCMD = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd", "usr/local/bin/vcgencmd")
VCGENCMD_LIMIT_S = 5.0
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
# Bits of get_throttled; the same 16 higher: since boot. Source: Raspberry Pi documentation, vcgencmd.
THROTTLES = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
PROCESSOR_ZONES = re.compile(r"cpu|soc|x86_pkg|core|tctl", re.I)
PROCESSOR_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
PLAUSIBLE_C = (-40.0, 150.0)  # sensors that are not wired read 0 K or 255


@dataclass(frozen=True)
class Throttled:
    """What slows a Raspberry Pi down, in words of THROTTLES; None on other machines."""

    now: Sequence[str] | None
    since_boot: Sequence[str] | None


@dataclass(frozen=True)
class Machine:
    """The facts and the state at this moment."""

    board: str | None
    system: str | None
    processor: str | None
    features: frozenset[str]  # that all cores have
    memory: Mapping[str, int]  # of /proc/meminfo, bytes
    temperature_c: float | None  # of the hottest of the processor's sensors
    throttled_now: Sequence[str] | None
    throttled_since_boot: Sequence[str] | None
    heat_events: int  # times that heat slowed an x86 processor down since boot
    governor: str | None
    driver: str | None  # of the frequencies


def read_machine(root: Path = ROOT) -> Machine:
    """Return the facts and the state of the machine whose files lie below `root`."""
    cores, throttled = read_cores(root), read_throttled(root)
    return Machine(
        board=read_text(root / "proc/device-tree/model") or read_text(root / "sys/class/dmi/id/product_name") or None,
        system=read_system(root),
        processor=next((core["model name"] for core in cores if core.get("model name")), None),
        features=find_features(cores),
        memory=read_memory(root),
        temperature_c=read_temperature(root),
        throttled_now=throttled.now,
        throttled_since_boot=throttled.since_boot,
        heat_events=count_heat_events(root),
        governor=read_governor(root),
        driver=read_cpufreq(root, "scaling_driver"),
    )


# --- files -------------------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """Return a small file's text without white space and zero bytes around it; "" where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip(" \n\0")
    except OSError:
        return ""


def read_number(path: Path) -> int | None:
    """Return a file's whole number; None where there is none."""
    found = read_text(path)
    return int(found) if re.fullmatch(r"-?\d{1,18}", found) else None


def find_match(pattern: str, text: str) -> str | None:
    """Return a pattern's first group in a text."""
    found = re.search(pattern, text, re.M)
    return found[1] if found else None


# --- processor ---------------------------------------------------------------------------------------------------


def read_cores(root: Path = ROOT) -> list[dict[str, str]]:
    """Return /proc/cpuinfo as {key: value} of each processor."""
    cores: list[dict[str, str]] = []
    for line in read_text(root / "proc/cpuinfo").splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key == "processor":
            cores.append({})
        if colon and cores:
            cores[-1][key] = value
    return cores


def identify_cpu(root: Path = ROOT) -> str:
    """Return a text that differs where kernels, and so packed weights and speeds, would differ."""
    first: Mapping[str, str] = next(iter(read_cores(root)), {})
    return f"{os.uname().machine if hasattr(os, 'uname') else os.name} {[first.get(key) for key in IDENTITY]}"


def find_features(cores: Sequence[Mapping[str, str]]) -> frozenset[str]:
    """Return the features that all cores have, as Linux spells them: avx2, avx512_vnni, amx_bf16, asimddp ..."""
    sets = [frozenset((core.get("flags") or core.get("Features") or "").split()) for core in cores]
    return frozenset.intersection(*sets) if sets else frozenset()


def read_governor(root: Path = ROOT) -> str | None:
    """Return the frequency governor, several of them as "performance, powersave"."""
    return read_cpufreq(root, "scaling_governor")


def read_cpufreq(root: Path, name: str) -> str | None:
    """Return the different texts of all processors' cpufreq files of that name, sorted and joined by ", "."""
    found = {read_text(path) for path in (root / CPU).glob(f"cpu[0-9]*/cpufreq/{name}")}
    return ", ".join(sorted(found - {""})) or None


# --- memory ------------------------------------------------------------------------------------------------------


def read_memory(root: Path = ROOT) -> dict[str, int]:
    """Return /proc/meminfo in bytes."""
    found = re.findall(r"^(\w+):\s+(\d+) kB", read_text(root / "proc/meminfo"), re.M)
    return {name: int(kilobytes) * 1024 for name, kilobytes in found}


def read_free_memory(root: Path = ROOT) -> int | None:
    """Return the bytes that may still be used, by the machine and by this process's control group."""
    limit, used = (read_number(root / CGROUP / name) for name in ("memory.max", "memory.current"))  # "max": no limit
    free = [read_memory(root).get("MemAvailable"), None if limit is None or used is None else limit - used]
    return min((value for value in free if value is not None), default=None)


# --- heat and throttling -----------------------------------------------------------------------------------------


def read_temperature(root: Path = ROOT) -> float | None:
    """Return the hottest of the processor's sensors in °C, of all thermal zones where none is the processor's."""
    folder = root / "sys/class"
    zones = [
        (read_text(zone / "type"), read_number(zone / "temp")) for zone in sorted(folder.glob("thermal/thermal_zone*"))
    ]
    chips = [
        (read_text(chip / "name"), read_number(path))
        for chip in sorted(folder.glob("hwmon/hwmon*"))
        for path in sorted(chip.glob("temp*_input"))
    ]
    own = [value for name, value in zones if PROCESSOR_ZONES.search(name)]
    own += [value for name, value in chips if name in PROCESSOR_CHIPS]
    found = [value / 1000 for value in own or [value for _, value in zones] if value is not None]
    return max((value for value in found if PLAUSIBLE_C[0] < value < PLAUSIBLE_C[1]), default=None)


def count_heat_events(root: Path = ROOT) -> int:
    """Return how often heat slowed an x86 processor down since boot."""
    events = (root / CPU).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    return sum(read_number(path) or 0 for path in events)


def read_throttled(root: Path = ROOT) -> Throttled:
    """Return what a Raspberry Pi's firmware reports as throttled now, and since boot."""
    text = read_text(root / FIRMWARE) or run_vcgencmd(root, "get_throttled")
    found = find_match(r"^(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})$", text)
    return Throttled(None, None) if found is None else decode_throttled(int(found, 16))


def decode_throttled(bits: int) -> Throttled:
    """Return the words of a get_throttled value such as 0x50005."""
    now, since = ([word for at, word in enumerate(THROTTLES) if bits >> (at + shift) & 1] for shift in (0, 16))
    return Throttled(now, since)


def run_vcgencmd(root: Path, command: str) -> str:
    """Return what `vcgencmd COMMAND` prints; "" where there is no such program, or it fails."""
    program = next((root / name for name in VCGENCMD if (root / name).is_file()), None)
    if program is None:
        return ""
    try:
        done = subprocess.run([program, command], capture_output=True, text=True, timeout=VCGENCMD_LIMIT_S, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: it printed no UTF-8
        return ""
    return done.stdout.strip()


# --- system and time ---------------------------------------------------------------------------------------------


def read_system(root: Path = ROOT) -> str | None:
    """Return the operating system's name."""
    return find_match(r'^PRETTY_NAME="?([^"\n]*)', read_text(root / "etc/os-release"))


def format_local_time(seconds: float = 0.0) -> str:
    """Return the local time, so many seconds from now, with its offset: 2026-01-31T12:00:00+0100."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() + seconds))


def format_utc_time() -> str:
    """Return the time of day in UTC: 2026-01-31T11:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def describe_host() -> dict[str, Any]:
    """Return what distinguishes one machine from another, without its name or its user."""
    import platform

    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    facts = {"system": platform.platform(), "machine": platform.machine(), "cores": os.cpu_count()}
    return {**facts, "memory_bytes": memory}
