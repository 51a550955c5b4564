"""Facts and states of five machines, read from trees that are planted here, and the throttling and steal in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planted import plant, plant_jetson, plant_laptop, plant_pi4, plant_pi5, plant_vm

from benchmarks.machine.facts import read_facts
from benchmarks.machine.state import compare_counters, read_counters, read_state, read_state_since
from benchmarks.measure.energy import read_rails_watts
from edge_runtime.system.machine import decode_throttled


def test_a_pi_4_is_described_with_its_throttling(tmp_path: Path) -> None:
    """Board, core, features, governor and memory; the words of get_throttled, now and since boot."""
    facts, state = read_facts(plant_pi4(tmp_path)), read_state(tmp_path)
    assert facts["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert (facts["cpu"], facts["architecture"], facts["cores"]) == ("ARM Cortex-A72", "aarch64", 4)
    assert facts["features"] == ["asimd"]
    assert (facts["max_mhz"], facts["min_mhz"], facts["governor"]) == (1800, 600, "ondemand")
    assert facts["ram_bytes"] == 3884360 * 1024
    assert facts["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert facts["virtual"] is None and facts["container"] is None
    assert facts["throttled_since_boot"] == ["under-voltage", "throttled"]
    assert state["throttled"] and state["throttled_by"] == ["under-voltage", "throttled"]
    assert (state["temperature_c"], state["mhz"], state["load_1m"]) == (81.75, 1000, 0.15)
    assert state["swap_used_bytes"] == 10000 * 1024


def test_a_pi_5_has_dot_products_and_a_power_chip(tmp_path: Path) -> None:
    """Its features decide how fast int8 is; its rails add up; it is not throttled."""
    facts, state = read_facts(plant_pi5(tmp_path)), read_state(tmp_path)
    assert (facts["board"], facts["cpu"]) == ("Raspberry Pi 5 Model B Rev 1.0", "ARM Cortex-A76")
    assert facts["features"] == ["asimd", "asimdhp", "asimddp"]
    assert facts["throttled_since_boot"] == [] and state["throttled"] is False
    assert read_rails_watts(tmp_path) == pytest.approx(0.5 * 3.3 + 2.0 * 0.9)  # EXT5V has no current: not counted


def test_a_jetson_has_zones_of_which_one_cannot_be_read(tmp_path: Path) -> None:
    """The processor's zone counts; a zone that is powered down is passed over; there is no Pi firmware."""
    facts, state = read_facts(plant_jetson(tmp_path)), read_state(tmp_path)
    assert facts["board"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert facts["cpu"] == "ARM Cortex-A78AE" and "i8mm" in facts["features"]
    assert state["temperature_c"] == 48.5
    assert facts["throttled_since_boot"] is None and read_rails_watts(tmp_path) is None


def test_a_laptop_has_dmi_hyper_threads_and_throttle_counters(tmp_path: Path) -> None:
    """The hottest of the processor's sensors; heat that slowed it down shows as a counter that grew."""
    facts = read_facts(plant_laptop(tmp_path, throttles=12))
    assert (facts["board"], facts["threads_per_core"]) == ("LENOVO 21CBCTO1WW", 2)
    assert facts["cpu"] == "12th Gen Intel(R) Core(TM) i5-1240P"
    assert facts["features"] == ["avx", "avx2", "fma", "f16c", "avx_vnni"]
    assert facts["virtual"] is None
    assert read_state(tmp_path)["temperature_c"] == 73.0
    before = read_counters(tmp_path)
    plant_laptop(tmp_path, throttles=13)
    plant(tmp_path, {"proc/vmstat": "pswpin 5\npswpout 307\n", "proc/stat": "cpu  2000 20 300 8500 100 10 20 0 0 0\n"})
    state, _ = read_state_since(tmp_path, before)
    assert state["throttled"] and state["throttled_by"] == ["heat"]
    assert state["swapped_pages"] == 300
    assert state["busy_percent"] == pytest.approx(100 * 1000 / 1500, abs=0.01)


def test_a_virtual_machine_is_described_with_its_steal(tmp_path: Path) -> None:
    """The hypervisor, the container, the time that the host took, and the quota that held it back."""
    facts = read_facts(plant_vm(tmp_path, steal=0))
    assert (facts["virtual"], facts["container"], facts["cores"]) == ("QEMU", "docker", 1)
    before = read_counters(tmp_path)
    plant_vm(tmp_path, steal=300, busy=1700)
    assert compare_counters(before, read_counters(tmp_path))["steal_percent"] == pytest.approx(100.0)
    plant(tmp_path, {"proc/stat": "cpu  1800 0 0 9100 0 0 0 100 0 0\n", "sys/fs/cgroup/cpu.stat": "nr_throttled 4\n"})
    state, _ = read_state_since(tmp_path, before)
    assert state["steal_percent"] == 10.0
    assert state["throttled_by"] == ["the control group's quota"]
    assert read_state(tmp_path)["mhz"] == 2445.4


def test_two_kinds_of_core_are_both_named(tmp_path: Path) -> None:
    """A big.LITTLE processor is named by both, and has only the features that both have."""
    from planted import arm_cpuinfo

    mixed = arm_cpuinfo(["0xd05"] * 4, "asimd asimddp") + "\n" + arm_cpuinfo(["0xd0b"] * 2, "asimd asimddp i8mm")
    facts = read_facts(plant(tmp_path, {"proc/cpuinfo": mixed}))
    assert facts["cpu"] == "4 x ARM Cortex-A55 + 2 x ARM Cortex-A76"
    assert facts["features"] == ["asimd", "asimddp"]


def test_an_empty_tree_is_all_unknown(tmp_path: Path) -> None:
    """What the system does not provide is null, never a guess, and all of it is JSON."""
    facts, state = read_facts(tmp_path), read_state(tmp_path)
    assert facts["board"] is None and facts["cpu"] is None and facts["features"] == [] and facts["ram_bytes"] is None
    assert state["temperature_c"] is None and state["mhz"] is None and state["throttled"] is False
    assert compare_counters(read_counters(tmp_path), read_counters(tmp_path))["steal_percent"] is None
    json.dumps([facts, state], allow_nan=False)


@pytest.mark.parametrize(
    ("bits", "now", "since"),
    [
        (0x0, [], []),
        (0x1, ["under-voltage"], []),
        (0x20002, ["frequency capped"], ["frequency capped"]),
        (0x80008, ["soft temperature limit"], ["soft temperature limit"]),
        (0x50000, [], ["under-voltage", "throttled"]),
    ],
)
def test_the_bits_of_get_throttled(bits: int, now: list[str], since: list[str]) -> None:
    """The four low bits are now, the same sixteen higher are since boot."""
    assert decode_throttled(bits) == type(decode_throttled(0))(now, since)


def test_this_machine_can_be_read() -> None:
    """The real tree gives facts and a state without an error."""
    assert read_facts()["cores"] >= 1
    assert set(read_state()) >= {"load_1m", "temperature_c", "mhz", "throttled"}
