"""How much energy does one image take, by a sensor or a meter? Without one the result is null, never an estimate.

A meter is read twice and returns the joules between. Its `source` names what it covers: the processor and memory
(RAPL), the rails behind the Pi 5's power chip (PMIC), a GPU (NVML), or the device behind an external meter.
"""

from __future__ import annotations

import csv
import io
import re
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from benchmarks.result.lookup import Result
from benchmarks.subjects.candidates import Notify
from edge_runtime.errors import EdgeSegError
from edge_runtime.system.machine import ROOT, read_number, read_text, run_vcgencmd

from .long_runs import run_times
from .plan import RunPlan, RunState
from .rounds import RunningCandidate

POWERCAP = "sys/class/powercap"
COUNTED_ZONES = ("package", "dram")  # "core" and "uncore" are parts of package, "psys" holds it
IDLE_S, BUSY_S = 10.0, 30.0
MIN_READINGS = 3  # of a meter's file within the time that is measured
MAX_WAIT_S = 15.0  # for a meter's file
REQUEST_S = 1.0  # of work in one request to the child

Power = list[tuple[float, float]]  # (seconds since 1970, watts), by time


class Meter(Protocol):
    """A source of energy readings."""

    source: str

    def read_counter(self) -> Any:
        """Return the reading at this moment."""
        ...

    def joules_between(self, begin: Any, end: Any) -> float:
        """Return the joules between two readings. Raises: EdgeSegError if they are unknown."""
        ...


class Rapl:
    """Intel's and AMD's energy counters, as Linux' powercap gives them."""

    def __init__(self, zones: dict[Path, str]) -> None:
        self.zones = zones
        names = ", ".join(sorted(set(zones.values())))
        self.source = f"RAPL: {names} (the processor and its memory, not the whole device)"

    def read_counter(self) -> dict[Path, int]:
        """Return every zone's counter in microjoules."""
        return {zone: read_number(zone / "energy_uj") or 0 for zone in self.zones}

    def joules_between(self, begin: dict[Path, int], end: dict[Path, int]) -> float:
        """Return the joules between two readings, also where a counter has wrapped around."""
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

    def read_counter(self) -> float:
        """Return the counter."""
        return float(self.library.nvmlDeviceGetTotalEnergyConsumption(self.device))

    def joules_between(self, begin: float, end: float) -> float:
        """Return the joules between two readings."""
        return (end - begin) / 1000


class Pmic:
    """The Raspberry Pi 5's power chip, read a few times a second by a thread."""

    source = "Pi 5 PMIC: the rails behind the power chip, without its own losses and USB devices"
    every_s = 0.25

    def __init__(self, root: Path) -> None:
        self.power: Power = [(time.time(), read_rails_watts(root) or 0.0)]
        self.root, self.stopped = root, threading.Event()
        threading.Thread(target=self.sample, daemon=True).start()

    def sample(self) -> None:
        """Read the power until stopped, or for as long as the process lives."""
        while not self.stopped.is_set() and (watts := read_rails_watts(self.root)) is not None:
            self.power.append((time.time(), watts))
            self.stopped.wait(self.every_s)

    def read_counter(self) -> float:
        """Return the time."""
        return time.time()

    def joules_between(self, begin: float, end: float) -> float:
        """Return the joules between two times."""
        if self.power[-1][0] < end:
            time.sleep(4 * self.every_s)  # for the reading after the end
        return integrate(self.power, begin, end, "the PMIC")


class MeterFile:
    """An external meter's log, a CSV of `time,watts` that grows during the run or is complete after it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = f"external meter, {path.name}"

    def read_counter(self) -> float:
        """Return the time."""
        return time.time()

    def joules_between(self, begin: float, end: float) -> float:
        """Return the joules between two times; waits until the file reaches the second."""
        deadline = time.time() + MAX_WAIT_S
        while not (power := read_power(self.path)) or power[-1][0] < end:
            if time.time() > deadline:
                break
            time.sleep(0.5)
        return integrate(power, begin, end, str(self.path))


def find_meter(root: Path = ROOT, log: Path | None = None, engine: str = "") -> tuple[Meter | None, str]:
    """Return the meter to use, or the reason why there is none; the log, if given, goes before any sensor."""
    if log is not None:
        return MeterFile(log), ""
    if read_rails_watts(root) is not None:
        return Pmic(root), ""
    zones, why = find_zones(root)
    if zones:
        return Rapl(zones), ""
    if engine.startswith("gpu"):  # an idle GPU's energy is not the processor's
        with suppress(Exception):  # pynvml is not installed, or raises its own errors
            import pynvml

            pynvml.nvmlInit()
            return Nvml(pynvml), ""
    return None, f"no sensor: {why}, no Pi 5 power chip, and no --meter file was given"


def read_rails_watts(root: Path) -> float | None:
    """Return the power of a Pi 5's rails, the sum of current x voltage of each; None where there is no such sensor.

    Source: `vcgencmd pmic_read_adc`, lines such as "3V3_SYS_A current(1)=0.05" and "3V3_SYS_V volt(9)=3.3".
    """
    found = re.findall(r"(\w+)_([AV]) \w+\(\d+\)=([\d.]+)[AV]", run_vcgencmd(root, "pmic_read_adc"))
    read = {(rail, kind): float(value) for rail, kind, value in found}
    watts = [amperes * read[rail, "V"] for (rail, kind), amperes in read.items() if kind == "A" and (rail, "V") in read]
    return sum(watts) if watts else None


def find_zones(root: Path) -> tuple[dict[Path, str], str]:
    """Return RAPL's counted zones with their names, or the reason why there are none."""
    zones = {zone: read_text(zone / "name") for zone in sorted((root / POWERCAP).glob("*rapl:*"))}
    counted = {zone: name for zone, name in zones.items() if name.startswith(COUNTED_ZONES)}
    readable = {zone: name for zone, name in counted.items() if read_number(zone / "energy_uj") is not None}
    if counted and not readable:
        return {}, "RAPL's counters are readable by root alone (sudo chmod +r /sys/class/powercap/*/energy_uj)"
    return readable, "" if readable else "no RAPL"


def read_power(path: Path) -> Power:
    """Read a meter's CSV of `time,watts` lines, time in seconds since 1970 or ISO 8601 (by default UTC).

    A last line without a line break is left out: it is still being written. Raises: EdgeSegError with the faulty line.
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
    """Return the joules between two times, the power interpolated linearly between readings.

    Raises: EdgeSegError if the readings do not cover that time, or are too few within it.
    """
    times = [moment for moment, _ in power]
    inside = [reading for reading in power if begin < reading[0] < end]
    if not times or times[0] > begin or times[-1] < end or len(inside) < MIN_READINGS:
        why = f"{len(inside)} readings within the {end - begin:.0f} s that were measured"
        raise EdgeSegError(name, why, "log at least once a second, from before the run until after it")
    path = [(begin, power_at(power, times, begin)), *inside, (end, power_at(power, times, end))]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(path))


def power_at(power: Sequence[tuple[float, float]], times: Sequence[float], moment: float) -> float:
    """Return the power at a moment, interpolated between two readings."""
    after = min(bisect_right(times, moment), len(times) - 1)
    (t0, w0), (t1, w1) = power[after - 1], power[after]
    return w0 + (w1 - w0) * (moment - t0) / (t1 - t0) if t1 > t0 else w1


def measure_with_meter(
    meter: Meter, run_for: Callable[[float], int], idle_s: float = IDLE_S, busy_s: float = BUSY_S
) -> dict[str, Any]:
    """Return a result's `energy` without its subject: the total energy during the work, and the idle power.

    run_for: works for so many seconds and returns the number of images. Raises: EdgeSegError if the meter fails.
    """
    idle_begin = meter.read_counter()
    time.sleep(idle_s)
    begin = meter.read_counter()
    images = run_for(busy_s)
    end = meter.read_counter()
    idle, busy = meter.joules_between(idle_begin, begin), meter.joules_between(begin, end)
    return {
        "source": meter.source,
        "joules_per_image": round(busy / images, 6),
        "idle_watts": round(idle / idle_s, 4),
        "samples": {"images": images, "busy_joules": round(busy, 4), "idle_joules": round(idle, 4), "idle_s": idle_s},
    }


def measure_energy(plan: RunPlan, state: RunState, notify: Notify) -> Result:
    """Return a result's `energy`, or the reason why there is none."""
    main = state.main
    meter, why = find_meter(log=plan.meter, engine=main.candidate.engine)
    if meter is None:
        return {"energy": None, "energy_why": why}
    notify(f"energy by {meter.source}")
    try:
        return {"energy": {"subject": main.candidate.key} | measure_with_meter(meter, lambda s: run_for(main, s))}
    except EdgeSegError as error:
        return {"energy": None, "energy_why": str(error)}


def run_for(running: RunningCandidate, seconds: float) -> int:
    """Run a subject for some seconds; return the number of images."""
    batch = max(1, round(1000 * REQUEST_S / max(running.warm["last_ms"], 1e-3)))
    images, spent = 0, 0.0
    while spent < 1000 * seconds:
        spent += sum(run_times(running, batch))
        images += batch
    return images
