"""What this machine is and how it is doing: read from /proc and /sys below a `root`, which tests plant themselves.

Everything is None, empty or {} where the system does not tell.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
CPU = "sys/devices/system/cpu"
VCGENCMD = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd", "usr/local/bin/vcgencmd")
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
# Bits of get_throttled; the same 16 higher: since boot. Source: Raspberry Pi documentation, vcgencmd.
THROTTLES = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
TIMEOUT_S = 5.0
PROCESSOR = re.compile(r"cpu|soc|x86_pkg|core|tctl", re.I)  # among the names of sensors
CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
PLAUSIBLE_C = (-40.0, 150.0)  # sensors that are not wired read 0 K or 255


@dataclass(frozen=True)
class Machine:
    """The facts and the state at this moment."""

    board: str | None
    system: str | None
    processor: str | None
    features: frozenset[str]  # that all cores have
    memory: Mapping[str, int]  # of /proc/meminfo, bytes
    temperature_c: float | None  # of the hottest of the processor's sensors
    throttled_now: Sequence[str] | None  # a Raspberry Pi's words
    throttled_since_boot: Sequence[str] | None
    heat_events: int  # times that heat slowed an x86 processor down since boot
    governor: str | None
    driver: str | None  # of the frequencies


def read_machine(root: Path = ROOT) -> Machine:
    """Return what the tree below `root` says."""
    cores = read_cores(root)
    now, since = read_throttled(root)
    events = (root / CPU).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    return Machine(
        board=read_text(root / "proc/device-tree/model") or read_text(root / "sys/class/dmi/id/product_name") or None,
        system=find(r'^PRETTY_NAME="?([^"\n]*)', read_text(root / "etc/os-release")),
        processor=next((core["model name"] for core in cores if core.get("model name")), None),
        features=find_features(cores),
        memory=read_memory(root),
        temperature_c=read_temperature(root),
        throttled_now=now,
        throttled_since_boot=since,
        heat_events=sum(read_number(path) or 0 for path in events),
        governor=join_words(root, "scaling_governor"),
        driver=join_words(root, "scaling_driver"),
    )


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


def find(pattern: str, text: str) -> str | None:
    """Return a pattern's first group in a text."""
    found = re.search(pattern, text, re.M)
    return found[1] if found else None


def read_cores(root: Path) -> list[dict[str, str]]:
    """Return /proc/cpuinfo as {key: value} of each processor."""
    cores: list[dict[str, str]] = []
    for line in read_text(root / "proc/cpuinfo").splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key == "processor":
            cores.append({})
        if colon and cores:
            cores[-1][key] = value
    return cores


def find_features(cores: Sequence[Mapping[str, str]]) -> frozenset[str]:
    """Return the features that all cores have."""
    sets = [frozenset((core.get("flags") or core.get("Features") or "").split()) for core in cores]
    return frozenset.intersection(*sets) if sets else frozenset()


def read_memory(root: Path) -> dict[str, int]:
    """Return /proc/meminfo in bytes."""
    found = re.findall(r"^(\w+):\s+(\d+) kB", read_text(root / "proc/meminfo"), re.M)
    return {name: int(kilobytes) * 1024 for name, kilobytes in found}


def join_words(root: Path, name: str) -> str | None:
    """Return the different texts of all processors' cpufreq files of a name."""
    found = {read_text(path) for path in (root / CPU).glob(f"cpu[0-9]*/cpufreq/{name}")}
    return ", ".join(sorted(found - {""})) or None


def read_temperature(root: Path) -> float | None:
    """Return the hottest of the processor's sensors, of all thermal zones where none is named as the processor's."""
    zones = [
        (read_text(zone / "type"), read_number(zone / "temp")) for zone in list_places(root, "thermal/thermal_zone")
    ]
    chips = [
        (read_text(chip / "name"), read_number(path))
        for chip in list_places(root, "hwmon/hwmon")
        for path in sorted(chip.glob("temp*_input"))
    ]
    own = [value for name, value in zones if PROCESSOR.search(name)]
    own += [value for name, value in chips if name in CHIPS]
    found = [value / 1000 for value in own or [value for _, value in zones] if value is not None]
    return max((value for value in found if PLAUSIBLE_C[0] < value < PLAUSIBLE_C[1]), default=None)


def list_places(root: Path, name: str) -> list[Path]:
    """Return the folders of /sys/class whose names begin so."""
    return sorted((root / "sys/class").glob(f"{name}*"))


def read_throttled(root: Path) -> tuple[list[str] | None, list[str] | None]:
    """Return what a Raspberry Pi's firmware says is throttled now, and was since boot."""
    said = read_text(root / FIRMWARE) or ask_firmware(root)
    found = find(r"^(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})$", said)
    if found is None:
        return None, None
    bits = int(found, 16)
    now, since = ([word for at, word in enumerate(THROTTLES) if bits >> (at + shift) & 1] for shift in (0, 16))
    return now, since


def ask_firmware(root: Path) -> str:
    """Return what `vcgencmd get_throttled` prints; "" where there is no such command, or it does not answer."""
    command = next((root / name for name in VCGENCMD if (root / name).is_file()), None)
    if command is None:
        return ""
    try:
        done = subprocess.run([str(command), "get_throttled"], capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip()
