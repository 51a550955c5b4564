"""Energy per image from a sensor or a meter. Where there is none the answer is null and why, never an estimate.

A meter marks moments and tells the joules between two of them. What it covers is in its `source`: the processor and
memory (RAPL), the rails behind the Pi 5's power chip (PMIC), a GPU (NVML), or what an external meter is plugged into.
"""

from __future__ import annotations

import csv
import io
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.errors import EdgeSegError

from .firmware import read_rails_watts
from .machine import ROOT, read_number, read_text

POWERCAP = "sys/class/powercap"
COUNTED_ZONES = ("package", "dram")  # "core" and "uncore" are parts of package, "psys" holds it
IDLE_S, BUSY_S = 10.0, 30.0
LEAST_READINGS = 3  # of a meter's file within the time that is measured
LATE_S = 15.0  # for which a meter's file is waited for

Power = list[tuple[float, float]]  # (seconds since 1970, watts), by time


class Meter(Protocol):
    """Something that knows the energy between two moments."""

    source: str

    def mark(self) -> Any:
        """Return this moment."""
        ...

    def joules(self, begin: Any, end: Any) -> float:
        """Return the joules between two moments. Raises: EdgeSegError if it cannot tell."""
        ...


class Rapl:
    """Intel's and AMD's energy counters, by way of Linux' powercap."""

    def __init__(self, zones: dict[Path, str]) -> None:
        self.zones = zones
        names = ", ".join(sorted(set(zones.values())))
        self.source = f"RAPL: {names} (the processor and its memory, not the whole device)"

    def mark(self) -> dict[Path, int]:
        """Return every zone's counter in microjoules."""
        return {zone: read_number(zone / "energy_uj") or 0 for zone in self.zones}

    def joules(self, begin: dict[Path, int], end: dict[Path, int]) -> float:
        """Return the joules between two readings; a counter that came round is set right."""
        total = 0
        for zone, first in begin.items():
            spent = end[zone] - first
            total += spent if spent >= 0 else spent + (read_number(zone / "max_energy_range_uj") or 0)
        return total / 1e6


class Nvml:
    """An NVIDIA GPU's energy counter, in millijoules."""

    def __init__(self, library: Any) -> None:
        self.library, self.device = library, library.nvmlDeviceGetHandleByIndex(0)
        self.source = "NVML: the GPU alone, not the processor beside it"

    def mark(self) -> float:
        """Return the counter."""
        return float(self.library.nvmlDeviceGetTotalEnergyConsumption(self.device))

    def joules(self, begin: float, end: float) -> float:
        """Return the joules between two readings."""
        return (end - begin) / 1000


class Pmic:
    """The Raspberry Pi 5's power chip, asked a few times a second from a thread of its own."""

    source = "Pi 5 PMIC: the rails behind the power chip, without its own losses and USB devices"
    every_s = 0.25

    def __init__(self, root: Path) -> None:
        self.power: Power = [(time.time(), read_rails_watts(root) or 0.0)]
        self.root = root
        threading.Thread(target=self.sample, daemon=True).start()

    def sample(self) -> None:
        """Read the power for as long as the process lives."""
        while (watts := read_rails_watts(self.root)) is not None:
            self.power.append((time.time(), watts))
            time.sleep(self.every_s)

    def mark(self) -> float:
        """Return the time."""
        return time.time()

    def joules(self, begin: float, end: float) -> float:
        """Return the joules between two times."""
        if self.power[-1][0] < end:
            time.sleep(4 * self.every_s)  # the reading after the end is on its way
        return integrate(self.power, begin, end, "the PMIC")


class MeterFile:
    """An external meter's log, a CSV of `time,watts` that grows while the run goes on or is complete after it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = f"external meter, {path.name}"

    def mark(self) -> float:
        """Return the time."""
        return time.time()

    def joules(self, begin: float, end: float) -> float:
        """Return the joules between two times, once the file reaches that far."""
        patience = time.time() + LATE_S
        while not (power := read_power(self.path)) or power[-1][0] < end:
            if time.time() > patience:
                break
            time.sleep(0.5)
        return integrate(power, begin, end, str(self.path))


def find_meter(root: Path = ROOT, log: Path | None = None, engine: str = "") -> tuple[Meter | None, str]:
    """Return the meter to use, or why there is none; the file that was asked for goes before any sensor."""
    if log is not None:
        return MeterFile(log), ""
    if read_rails_watts(root) is not None:
        return Pmic(root), ""
    zones, why = find_zones(root)
    if zones:
        return Rapl(zones), ""
    if engine.startswith("gpu"):  # a GPU that stands idle says nothing about a processor's work
        with suppress(Exception):  # pynvml is not there, or has errors of its own for every driver's state
            import pynvml

            pynvml.nvmlInit()
            return Nvml(pynvml), ""
    return None, f"no sensor: {why}, no Pi 5 power chip, and no --meter file was given"


def find_zones(root: Path) -> tuple[dict[Path, str], str]:
    """Return RAPL's zones that count, with their names, or why there are none."""
    zones = {zone: read_text(zone / "name") for zone in sorted((root / POWERCAP).glob("*rapl:*"))}
    counted = {zone: name for zone, name in zones.items() if name.startswith(COUNTED_ZONES)}
    readable = {zone: name for zone, name in counted.items() if read_number(zone / "energy_uj") is not None}
    if counted and not readable:
        return {}, "RAPL's counters are for root alone (sudo chmod +r /sys/class/powercap/*/energy_uj)"
    return readable, "" if readable else "no RAPL"


def read_power(path: Path) -> Power:
    """Read a meter's CSV: `time,watts` a line, time in seconds since 1970 or ISO 8601 (UTC unless it says otherwise).

    Raises: EdgeSegError naming the line that is wrong. A last line without its end is still being written.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise EdgeSegError(str(path), f"it cannot be read ({why})", "check --meter") from None
    power = []
    for number, row in enumerate(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])), 1):
        if not row or (number == 1 and row[0].strip().lower() == "time"):
            continue
        try:
            when, watts = row[0].strip(), float(row[1])
            power.append((parse_time(when), watts))
        except (ValueError, IndexError):
            why = f"line {number} is not `time,watts`"
            raise EdgeSegError(str(path), why, "time in seconds since 1970 or ISO 8601") from None
    return sorted(power)


def parse_time(text: str) -> float:
    """Return seconds since 1970."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def integrate(power: Sequence[tuple[float, float]], begin: float, end: float, name: str) -> float:
    """Return the joules between two times, power taken as straight between readings.

    Raises: EdgeSegError if the readings do not reach over that time, or are too few within it.
    """
    times = [moment for moment, _ in power]
    inside = [reading for reading in power if begin < reading[0] < end]
    if not times or times[0] > begin or times[-1] < end or len(inside) < LEAST_READINGS:
        why = f"{len(inside)} readings within the {end - begin:.0f} s that were measured"
        raise EdgeSegError(name, why, "log at least once a second, from before the run until after it")
    path = [(begin, power_at(power, times, begin)), *inside, (end, power_at(power, times, end))]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(path))


def power_at(power: Sequence[tuple[float, float]], times: Sequence[float], moment: float) -> float:
    """Return the power at a moment between two readings."""
    after = min(bisect_right(times, moment), len(times) - 1)
    (t0, w0), (t1, w1) = power[after - 1], power[after]
    return w0 + (w1 - w0) * (moment - t0) / (t1 - t0) if t1 > t0 else w1


def measure_energy(
    meter: Meter, run_for: Callable[[float], int], idle_s: float = IDLE_S, busy_s: float = BUSY_S
) -> dict[str, Any]:
    """Return a result's `energy` but for its subject: the whole energy while it runs, and idle power to compare with.

    run_for: works that many seconds and returns the number of images. Raises: EdgeSegError if the meter cannot tell.
    """
    resting = meter.mark()
    time.sleep(idle_s)
    begin = meter.mark()
    images = run_for(busy_s)
    end = meter.mark()
    idle, busy = meter.joules(resting, begin), meter.joules(begin, end)
    return {
        "source": meter.source,
        "joules_per_image": round(busy / images, 6),
        "idle_watts": round(idle / idle_s, 4),
        "samples": {"images": images, "busy_joules": round(busy, 4), "idle_joules": round(idle, 4), "idle_s": idle_s},
    }
