"""Joules by simulated sensors: counters that wrap around, rails, a meter's log; null with the reason without any."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from planted import plant, plant_pi5, plant_vm

from benchmarks.measure.energy import (
    MeterFile,
    Nvml,
    Pmic,
    Rapl,
    find_meter,
    integrate,
    measure_with_meter,
    parse_time,
    read_power,
)
from edge_runtime.errors import EdgeSegError

CAP = "sys/class/powercap"


def plant_rapl(root: Path, package: int, dram: int = 0) -> Path:
    """A package with its core and memory zones, and a platform zone that holds them all."""
    zones = {
        "intel-rapl:0": ("package-0", package),
        "intel-rapl:0:0": ("core", package // 2),
        "intel-rapl:0:1": ("dram", dram),
        "intel-rapl:1": ("psys", 2 * package),
    }
    for zone, (name, energy) in zones.items():
        plant(root, {f"{CAP}/{zone}/name": f"{name}\n", f"{CAP}/{zone}/energy_uj": f"{energy}\n",
                     f"{CAP}/{zone}/max_energy_range_uj": "1000000000\n"})  # fmt: skip
    return root


def test_rapl_adds_what_does_not_overlap(tmp_path: Path) -> None:
    """Package and memory, not the core in the package nor the platform around it."""
    meter, why = find_meter(plant_rapl(tmp_path, 5_000_000, 1_000_000))
    assert isinstance(meter, Rapl) and not why
    assert "dram, package-0" in meter.source and "not the whole device" in meter.source
    begin = meter.read_counter()
    plant_rapl(tmp_path, 12_000_000, 1_500_000)
    assert meter.joules_between(begin, meter.read_counter()) == pytest.approx(7.5)


def test_a_rapl_counter_may_come_round(tmp_path: Path) -> None:
    """From just below its range to just above 0 is a little, not minus a lot."""
    meter, _ = find_meter(plant_rapl(tmp_path, 999_000_000))
    assert meter
    begin = meter.read_counter()
    plant_rapl(tmp_path, 2_000_000)
    assert meter.joules_between(begin, meter.read_counter()) == pytest.approx(3.0)


def test_a_pi_5_is_measured_by_its_power_chip(tmp_path: Path) -> None:
    """3.45 W over any time, read by a thread."""
    meter, _ = find_meter(plant_pi5(tmp_path))
    assert isinstance(meter, Pmic)
    meter.every_s = 0.02
    time.sleep(0.3)  # the first pause was of the usual length
    begin = meter.read_counter()
    time.sleep(0.5)
    end = meter.read_counter()
    assert meter.joules_between(begin, end) == pytest.approx(3.45 * (end - begin), rel=1e-6)
    meter.stopped.set()  # or it would start a program fifty times a second beside the tests that follow


def test_a_gpu_is_measured_by_nvml() -> None:
    """Its counter is in millijoules, and the source states that the processor is not in it."""
    counter = iter([1000.0, 4500.0])
    library = SimpleNamespace(
        nvmlDeviceGetHandleByIndex=lambda index: index, nvmlDeviceGetTotalEnergyConsumption=lambda device: next(counter)
    )
    meter = Nvml(library)
    assert meter.joules_between(meter.read_counter(), meter.read_counter()) == 3.5
    assert "not the processor" in meter.source


def test_without_a_sensor_there_is_a_reason_and_no_number(tmp_path: Path) -> None:
    """Never an estimate."""
    meter, why = find_meter(plant_vm(tmp_path))
    assert meter is None and "no RAPL" in why and "--meter" in why


def test_counters_that_only_root_may_read_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names what to do."""
    plant_rapl(tmp_path, 1)
    monkeypatch.setattr("benchmarks.measure.energy.read_number", lambda path: None)  # root, as in CI, may read all
    meter, why = find_meter(tmp_path)
    assert meter is None and "root" in why and "chmod" in why


def test_a_meter_s_log_is_integrated() -> None:
    """A ramp from 2 to 4 W over 10 s, from 2.5 s to 7.5 s: 15 J; the oracle sums a thousand slices."""
    power = [(float(t), 2 + 0.2 * t) for t in range(11)]
    slices = sum((2 + 0.2 * (2.5 + (n + 0.5) * 0.005)) * 0.005 for n in range(1000))
    assert integrate(power, 2.5, 7.5, "m") == pytest.approx(15.0) == pytest.approx(slices)


@pytest.mark.parametrize(("begin", "end"), [(-1.0, 5.0), (5.0, 11.0), (4.1, 4.9)])
def test_a_log_that_does_not_cover_the_run_gives_no_energy(begin: float, end: float) -> None:
    """Too early, too late, too few readings within."""
    with pytest.raises(EdgeSegError, match="readings within"):
        integrate([(float(t), 1.0) for t in range(11)], begin, end, "m.csv")


def test_a_log_may_have_a_head_and_iso_times(tmp_path: Path) -> None:
    """Seconds since 1970 or ISO 8601, UTC by default; a line that is still being written is left out."""
    path = tmp_path / "m.csv"
    path.write_text("time,watts\n2026-11-21T10:00:00Z,5.0\n2026-11-21T10:00:01,5.5\n2026-11-21T11:00:02+01:00,6\n1.79")
    start = parse_time("2026-11-21T10:00:00+00:00")
    assert read_power(path) == [(start, 5.0), (start + 1, 5.5), (start + 2, 6.0)]


@pytest.mark.parametrize("line", ["10:00,5", "1,five", "1", "time,watts"])
def test_a_log_s_bad_line_is_named(tmp_path: Path, line: str) -> None:
    """With its number."""
    (tmp_path / "m.csv").write_text(f"0,1\n{line}\n")
    with pytest.raises(EdgeSegError, match="line 2 is not"):
        read_power(tmp_path / "m.csv")


def test_a_log_that_still_grows_is_waited_for(tmp_path: Path) -> None:
    """The last readings arrive after the end of what is measured."""
    path, now = tmp_path / "m.csv", time.time()
    path.write_text("".join(f"{now + t / 10},2.0\n" for t in range(-10, 5)))
    late = threading.Timer(0.3, lambda: path.write_text("".join(f"{now + t / 10},2.0\n" for t in range(-10, 30))))
    late.start()
    assert MeterFile(path).joules_between(now - 0.5, now + 1.5) == pytest.approx(4.0)
    late.join()


class Counting:
    """A meter that counts 10 W at rest and 30 W at work."""

    source = "planted"

    def __init__(self) -> None:
        self.marks, self.busy = 0, 0.0

    def read_counter(self) -> int:
        self.marks += 1
        return self.marks

    def joules_between(self, begin: int, end: int) -> float:
        return {(1, 2): 0.1, (2, 3): 60.0}[begin, end]


def test_joules_per_image_are_all_that_was_used_while_it_ran() -> None:
    """60 J for 20 images are 3 J each; idle power stands beside, not taken off."""
    found = measure_with_meter(Counting(), lambda seconds: 20, idle_s=0.01, busy_s=2.0)
    assert (found["source"], found["joules_per_image"], found["idle_watts"]) == ("planted", 3.0, 10.0)
    assert found["samples"]["images"] == 20
