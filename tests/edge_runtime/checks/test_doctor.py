"""The page on a machine: a Pi 4, a Pi 5 short of voltage, 32-bit programs, an old C library, a laptop, this machine."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from planted import plant, plant_laptop, plant_pi4, plant_pi5, plant_vcgencmd

from edge_runtime.checks import doctor
from edge_runtime.checks.doctor import DoctorLine, RunNeeds, RuntimeFacts, examine_machine, to_text, try_engine
from edge_runtime.cli import main
from edge_runtime.system.machine import Machine, Throttled, read_machine, read_throttled

NOW = 1_800_000_000.0  # in 2027


def process(folder: Path, **changes: Any) -> RuntimeFacts:
    usual = RuntimeFacts(bits=64, architecture="aarch64", glibc="2.36", python=(3, 11), now=NOW, folder=folder)
    return dataclasses.replace(usual, **changes)


def examined(root: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, DoctorLine]:
    """The page's lines by what they are about; engines are not tried."""
    monkeypatch.setattr(doctor, "try_engine", lambda name: DoctorLine("ok", f"engine {name}", "usable, 1.0"))
    return {line.what: line for line in examine_machine(None, read_machine(root), process(root, **changes))}


def levels(lines: dict[str, DoctorLine]) -> dict[str, str]:
    return {what: line.level for what, line in lines.items() if line.level != "ok"}


def test_a_healthy_pi_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No problem: 64 bit, dot products, enough of everything."""
    lines = examined(plant_pi5(tmp_path), monkeypatch)
    assert levels(lines) == {}
    assert "Raspberry Pi 5 Model B" in lines["system"].finding and "trixie" in lines["system"].finding
    assert lines["processor"].finding == "NEON, dot products"
    assert lines["temperature"].finding == "52 °C"
    assert (lines["governor"].finding, lines["throttling"].finding) == ("performance", "none")
    assert to_text(list(lines.values())).endswith("all is well")


def test_a_pi_5_short_of_voltage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under-voltage now is a problem, with the supply as its fix; once it is over, a warning."""
    plant_vcgencmd(plant_pi5(tmp_path), {"get_throttled": "throttled=0x50001"})
    lines = examined(tmp_path, monkeypatch)
    assert levels(lines) == {"throttling": "problem"}
    assert lines["throttling"].finding == "now: under-voltage" and "power supply" in lines["throttling"].fix
    plant_vcgencmd(tmp_path, {"get_throttled": "throttled=0x50000"})
    lines = examined(tmp_path, monkeypatch)
    assert levels(lines) == {"throttling": "warning"}
    assert lines["throttling"].finding == "since boot: under-voltage, throttled"


def test_a_hot_pi_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs, without dot products; it is hot and throttled, and each line has a fix."""
    lines = examined(plant_pi4(tmp_path, throttled="0x4"), monkeypatch)
    assert levels(lines) == {"temperature": "warning", "throttling": "warning"}
    assert "without int8 dot products" in lines["processor"].finding
    assert lines["temperature"].finding == "82 °C" and "fan" in lines["temperature"].fix
    assert lines["throttling"].finding == "now: throttled"


def test_a_laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AVX2 and VNNI; heat slowed it down once; powersave is a problem only without a driver that scales."""
    lines = examined(plant_laptop(tmp_path), monkeypatch, architecture="x86_64")
    assert lines["processor"].finding == "12th Gen Intel(R) Core(TM) i5-1240P: AVX2, VNNI"
    assert levels(lines) == {"throttling": "warning", "governor": "warning"}
    assert lines["throttling"].finding == "slowed down by heat 12 times since boot"
    assert lines["temperature"].finding == "73 °C"
    plant(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "intel_pstate\n"})
    assert "governor" not in levels(examined(tmp_path, monkeypatch, architecture="x86_64"))


def test_32_bit_programs_on_a_64_bit_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old Raspberry Pi OS: the kernel is aarch64, and no wheel can be installed."""
    line = examined(plant_pi4(tmp_path, throttled="0x0"), monkeypatch, bits=32)["system"]
    assert line.level == "problem" and "the kernel is 64-bit, the programs are not" in line.finding
    assert "64-bit system" in line.fix
    assert examined(tmp_path, monkeypatch, bits=32, architecture="armv7l")["system"].level == "problem"
    assert examined(tmp_path, monkeypatch, architecture="riscv64")["system"].level == "problem"


@pytest.mark.parametrize(
    ("glibc", "level"), [("2.26", "problem"), ("2.9", "problem"), ("2.27", "ok"), ("2.41", "ok"), ("", "problem")]
)
def test_the_c_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, glibc: str, level: str) -> None:
    """2.27 is the first that will do; versions are numbers, not texts; none is musl."""
    assert examined(plant_pi5(tmp_path), monkeypatch, glibc=glibc)["glibc"].level == level


@pytest.mark.parametrize(
    ("changes", "what", "level"),
    [
        ({"python": (3, 10)}, "python", "problem"),
        ({"python": (3, 13)}, "python", "ok"),
        ({"python": (3, 14)}, "python", "problem"),
        ({"now": 0.0}, "clock", "warning"),
        ({"now": 1_700_000_000.0}, "clock", "warning"),
        ({"now": 4_000_000_000.0}, "clock", "warning"),
    ],
)
def test_python_and_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], what: str, level: str
) -> None:
    """Pythons without wheels, and dates that cannot be."""
    assert examined(plant_pi5(tmp_path), monkeypatch, **changes)[what].level == level


@pytest.mark.parametrize(("free", "level"), [(60_000, "problem"), (150_000, "warning"), (900_000, "ok")])
def test_free_memory_against_the_models_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    """About 100 MB for the embedded model; free is what programs could get."""
    plant(plant_pi5(tmp_path), {"proc/meminfo": f"MemTotal: 1000000 kB\nMemAvailable: {free} kB\n"})
    assert examined(tmp_path, monkeypatch)["memory"].level == level


def test_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is gone is a problem, one that takes no file a warning, a full disk a problem."""
    plant_pi5(tmp_path)
    gone = {line.what: line for line in examine_in(tmp_path / "gone", tmp_path, monkeypatch)}
    assert gone["disk"].level == "problem"

    def refuse(**_: Any) -> Any:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    lines = {line.what: line for line in examine_in(tmp_path, tmp_path, monkeypatch)}
    assert (lines["disk"].level, lines["folder"].level) == ("problem", "warning")
    assert "Read-only file system" in lines["folder"].finding and "-o" in lines["folder"].fix


def examine_in(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[DoctorLine]:
    monkeypatch.setattr(doctor, "try_engine", lambda name: DoctorLine("ok", f"engine {name}", "usable, 1.0"))
    return examine_machine(None, read_machine(root), process(folder))


def test_no_engine_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not installed is no news where another is usable; none at all is a problem with its fix."""
    absent = DoctorLine("ok", "engine x", "not installed", "pip install x")
    monkeypatch.setattr(doctor, "try_engine", lambda name: absent)
    lines = examine_machine(None, read_machine(plant_pi5(tmp_path)), process(tmp_path))
    assert [(line.level, line.fix) for line in lines if line.what == "engines"] == [
        ("problem", "pip install ai-edge-litert")
    ]


def test_an_engine_that_brings_its_process_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Illegal instructions, a hang and a refusal are each a line; the doctor goes on."""
    monkeypatch.setattr(doctor, "TRY_ENGINE", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    line = try_engine("litert")
    assert line.level == "warning" and "status -4" in line.finding
    monkeypatch.setattr(doctor, "TRY_ENGINE", "print('refused', 'it needs x (no module)'); print('pip install x')")
    assert try_engine("litert") == DoctorLine("ok", "engine litert", "not installed", "pip install x")

    def hang(command: list[str], **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr(doctor.subprocess, "run", hang)
    assert "did not load" in try_engine("litert").finding


def test_a_model_that_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's model is verified; the embedded one is no concern of a run with another."""
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"\x1c\0\0\0TFL3")
    monkeypatch.setattr(doctor, "try_engine", lambda name: DoctorLine("ok", f"engine {name}", "usable, 1.0"))
    lines = {x.what: x for x in examine_machine(RunNeeds(bad), read_machine(plant_pi5(tmp_path)), process(tmp_path))}
    assert (lines["model"].level, lines["model"].finding) == ("problem", "it has no contract")
    assert "embedded model" not in lines
    plain = examined(tmp_path, monkeypatch)
    assert plain["embedded model"].level == "ok" and "verified" in plain["embedded model"].finding


ABSENT = DoctorLine("ok", "engine", "not installed", "pip install it")
BROKEN = DoctorLine("warning", "engine", "there is no GPU here", "install its driver")
USABLE = DoctorLine("ok", "engine", "usable, 1.0")


@pytest.mark.parametrize(
    ("found", "asked", "levels_found"),
    [
        ({"litert": USABLE, "gpu": BROKEN}, "auto", {}),  # no GPU, and none is asked for
        ({"litert": USABLE, "gpu": BROKEN}, "gpu", {"engine gpu": "problem"}),
        ({"litert": USABLE, "openvino": ABSENT}, "openvino", {"engine openvino": "problem"}),
        ({"litert": BROKEN, "openvino": USABLE}, "auto", {}),
        ({"litert": BROKEN, "openvino": USABLE}, "litert", {"engine litert": "problem"}),
        (dict.fromkeys(("litert", "gpu"), BROKEN), "auto",
         {"engine litert": "warning", "engine gpu": "warning", "engines": "problem"}),
    ],
)  # fmt: skip
def test_only_the_runs_own_engine_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: dict[str, DoctorLine], asked: str, levels_found: Any
) -> None:
    """An engine that the run does not take is no warning; the one that it asks for is a problem with its fix."""
    monkeypatch.setattr(
        doctor, "try_engine", lambda name: dataclasses.replace(found.get(name, ABSENT), what=f"engine {name}")
    )
    lines = examine_machine(RunNeeds(engine=asked), read_machine(plant_pi5(tmp_path)), process(tmp_path))
    assert {line.what: line.level for line in lines if line.level != "ok"} == levels_found
    assert all(line.fix for line in lines if line.level != "ok")


def test_memory_and_folder_of_the_runs_own_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --workers 1 memory for one will do; with -o that folder counts, made or not, and not this one."""
    monkeypatch.setattr(doctor, "try_engine", lambda name: USABLE)
    plant(plant_pi5(tmp_path), {"proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 150000 kB\n"})

    def level_of(what: str, needs: RunNeeds) -> str:
        lines = examine_machine(needs, read_machine(tmp_path), process(tmp_path / "gone"))
        return next(line.level for line in lines if line.what == what)

    assert [level_of("memory", RunNeeds(workers=count)) for count in (None, 1, 2)] == ["warning", "ok", "problem"]
    assert level_of("disk", RunNeeds()) == "problem"
    assert level_of("folder", RunNeeds(output=tmp_path / "new" / "out")) == "ok"


def test_an_empty_tree_is_unknown_not_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known is never a problem."""
    assert read_machine(tmp_path) == Machine(None, None, None, frozenset(), {}, None, None, None, 0, None, None)
    assert set(levels(examined(tmp_path, monkeypatch)).values()) <= {"warning"}


@pytest.mark.parametrize("answer", ["", "throttled=", 'error=1 error_msg="x"', "throttled=0xzz"])
def test_firmware_without_a_valid_answer(tmp_path: Path, answer: str) -> None:
    """Without an answer throttling is unknown; sysfs comes first where it exists."""
    plant_vcgencmd(tmp_path, {"get_throttled": answer})
    assert read_throttled(tmp_path) == Throttled(None, None)
    plant(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "80008\n"})
    assert read_throttled(tmp_path) == Throttled(["soft temperature limit"], ["soft temperature limit"])


def test_the_command_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each condition, one engine usable; the exit status is 0 if there is no problem."""
    status = main(["--doctor", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert status == (0 if said["ok"] else 1)
    whats = [line["what"] for line in said["lines"]]
    assert whats[:5] == ["system", "glibc", "python", "processor", "packages"]
    assert any(line["what"].startswith("engine ") and "usable" in line["finding"] for line in said["lines"])
    assert all(line["fix"] for line in said["lines"] if line["level"] != "ok")
