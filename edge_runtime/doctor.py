"""edge-seg --doctor: one page on this machine, a line for each thing that has to be right, with a fix where it is not.

ok: nothing to do. warning: it will run, slower or with a risk that is named. problem: it will not run, or not for long.
"""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .contract import read_contract
from .errors import EdgeSegError
from .machine import Machine, read_machine
from .models import DEFAULT

OK, WARNING, PROBLEM = "ok", "warning", "problem"
ARCHITECTURES = ("x86_64", "aarch64")
GLIBC = (2, 27)  # of ai-edge-litert's wheels, manylinux_2_27
PYTHONS = ((3, 11), (3, 13))  # first and last that wheels exist for
PACKAGES = (
    *("edge-seg", "numpy", "opencv-python-headless", "opencv-python"),
    *("ai-edge-litert", "tflite-runtime", "openvino"),
)
NEEDED = {"numpy": "numpy", "cv2": "opencv-python-headless"}  # module: package
EARLIEST = time.mktime((2026, 11, 1, 0, 0, 0, 0, 0, 0))  # this program is no older
LATEST_YEARS = 20
HOT_C, TOO_HOT_C = 80.0, 90.0  # a Raspberry Pi slows down from 80, stops at 85 from rising
LITTLE_DISK, NO_DISK = 1_000_000_000, 50_000_000  # bytes; a slice with all its pictures takes about 0.2 MB
# Peak memory of a run: 95 to 99 MB with the embedded model of 3.7 MB, 189 MB with one of 34 MB, images of 512 x 512.
RUN_BYTES, MODEL_TIMES = 90_000_000, 3
ENGINE_S = 60.0
TRY_ENGINE = (
    "import sys; from pathlib import Path; from edge_runtime.engines import load_engine; "
    "from edge_runtime.errors import EdgeSegError\n"
    "try: print('usable', load_engine(sys.argv[1], Path(sys.argv[2]), 1).version)\n"
    "except EdgeSegError as error: print('refused', error.why); print(error.fix)"
)


@dataclass(frozen=True)
class Line:
    """One line of the page."""

    level: str
    what: str
    finding: str
    fix: str = ""


@dataclass(frozen=True)
class Process:
    """What this Python says of itself; tests put others in its place."""

    bits: int = struct.calcsize("P") * 8
    architecture: str = field(default_factory=platform.machine)  # the kernel's
    glibc: str = field(default_factory=lambda: platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "")
    python: tuple[int, int] = sys.version_info[:2]
    now: float = field(default_factory=time.time)
    folder: Path = field(default_factory=Path.cwd)


def examine(model: Path | None = None, machine: Machine | None = None, process: Process | None = None) -> list[Line]:
    """Return the page's lines; `model` is looked at besides the embedded one."""
    machine, process = machine or read_machine(), process or Process()
    return [
        look_at_system(machine, process),
        look_at_glibc(process),
        look_at_python(process),
        look_at_processor(machine, process),
        *look_at_packages(),
        *look_at_engines(),
        *(look_at_model(path) for path in (DEFAULT, model) if path is not None),
        look_at_memory(machine, model or DEFAULT),
        *look_at_disk(process),
        look_at_clock(process),
        look_at_temperature(machine),
        look_at_throttling(machine),
        look_at_governor(machine),
    ]


def look_at_system(machine: Machine, process: Process) -> Line:
    """64 bit, and a processor that there are wheels for."""
    where = " on ".join(filter(None, (machine.system, machine.board)))
    finding = f"{process.bits}-bit {process.architecture}" + (f", {where}" if where else "")
    if process.bits != 64:
        both = " (the kernel is 64-bit, the programs are not)" if process.architecture in ARCHITECTURES else ""
        return Line(PROBLEM, "system", finding + both, "install the 64-bit system: no interpreter has 32-bit wheels")
    if process.architecture not in ARCHITECTURES:
        return Line(PROBLEM, "system", finding, f"take a machine with {' or '.join(ARCHITECTURES)}")
    return Line(OK, "system", finding)


def look_at_glibc(process: Process) -> Line:
    """The C library that the wheels were built for."""
    wanted = ".".join(map(str, GLIBC))
    fix = f"take a system with glibc {wanted} or newer: Debian 10, Ubuntu 18.04, Raspberry Pi OS 10, or later ones"
    if not process.glibc:
        return Line(PROBLEM, "glibc", "none found: the wheels do not run on other C libraries such as musl", fix)
    found = tuple(int(part) for part in process.glibc.split(".")[:2] if part.isdigit())
    if found < GLIBC:
        return Line(PROBLEM, "glibc", f"{process.glibc}, older than the {wanted} that ai-edge-litert needs", fix)
    return Line(OK, "glibc", f"{process.glibc} ({wanted} is needed)")


def look_at_python(process: Process) -> Line:
    """A Python that there are wheels for."""
    first, last = (".".join(map(str, one)) for one in PYTHONS)
    found = ".".join(map(str, process.python))
    if PYTHONS[0] <= process.python <= PYTHONS[1]:
        return Line(OK, "python", found)
    return Line(PROBLEM, "python", found, f"take Python {first} to {last}: there are wheels for these")


def look_at_processor(machine: Machine, process: Process) -> Line:
    """The instructions that decide how fast convolutions are."""
    has = machine.features
    name = f"{machine.processor}: " if machine.processor else ""
    if not has:
        return Line(WARNING, "processor", f"{name}its features cannot be read", "look at /proc/cpuinfo")
    if process.architecture == "x86_64":
        if "avx2" not in has:
            fix = "it will be slow: take a processor with AVX2 (since 2013)"
            return Line(WARNING, "processor", f"{name}no AVX2", fix)
        dot = {"avx512_vnni", "avx_vnni"} & has
        words = ["AVX2", *(["VNNI"] if dot else []), *(["AMX"] if "amx_int8" in has else [])]
    else:
        if not {"asimd", "neon"} & has:
            return Line(
                PROBLEM, "processor", f"{name}no NEON", "take an ARMv8 processor, such as a Raspberry Pi 4's or 5's"
            )
        dot = {"asimddp"} & has
        words = ["NEON", *(["dot products"] if dot else []), *(["int8 matrices"] if "i8mm" in has else [])]
    slow = "" if dot else "; without int8 dot products quantized models gain less"
    return Line(OK, "processor", name + ", ".join(words) + slow)


def look_at_packages() -> Iterator[Line]:
    """The packages that are installed, and those without which nothing runs."""
    versions = read_versions()
    yield Line(OK, "packages", ", ".join(f"{name} {found}" for name, found in versions.items()) or "none installed")
    for module, package in NEEDED.items():
        try:
            import_module(module)
        except ImportError as error:
            yield Line(PROBLEM, package, f"it does not import ({error})", f"pip install {package}")


def read_versions() -> Mapping[str, str]:
    """Return {package: version} of those of PACKAGES that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def look_at_engines() -> Iterator[Line]:
    """Each engine, tried on the embedded model; a problem where none is usable."""
    try:
        from .engines import ENGINES
    except ImportError:  # of NumPy, which has its own line
        return
    said = {name: try_engine(name) for name in ENGINES}
    usable = any(line.level == OK and line.finding.startswith("usable") for line in said.values())
    yield from said.values()
    if not usable:
        yield Line(PROBLEM, "engines", "none is usable: nothing can be segmented", "pip install ai-edge-litert")


def try_engine(name: str) -> Line:
    """Load the embedded model on an engine, in a process of its own: a wheel for other processors ends in SIGILL."""
    what, command = f"engine {name}", [sys.executable, "-c", TRY_ENGINE, name, str(DEFAULT)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ENGINE_S, env={**os.environ, "PYTHONPATH": path}
        )
    except subprocess.TimeoutExpired:
        return Line(WARNING, what, f"it did not load the embedded model in {ENGINE_S:.0f} s", "take another --engine")
    verdict, _, rest = done.stdout.strip().partition(" ")
    if verdict == "usable":
        return Line(OK, what, f"usable, {rest}")
    why, _, fix = rest.partition("\n")
    if verdict == "refused" and "it needs" in why:
        return Line(OK, what, "not installed", fix)
    ended = f"it ended its process (status {done.returncode}): its wheel may be for other processors"
    return Line(WARNING, what, why or ended, fix or "take another --engine")


def look_at_model(path: Path) -> Line:
    """The model's contract and SHA-256."""
    what = "embedded model" if path == DEFAULT else "model"
    try:
        facts = read_contract(path, verify=True).model
    except EdgeSegError as error:
        fix = "reinstall edge-seg" if path == DEFAULT else error.fix
        return Line(PROBLEM, what, error.why, fix)
    return Line(OK, what, f"{facts.id} {facts.version}, verified by its SHA-256")


def look_at_memory(machine: Machine, model: Path) -> Line:
    """Free memory against what a run takes."""
    free = machine.memory.get("MemAvailable")
    size = model.stat().st_size if model.is_file() else 0
    need = RUN_BYTES + MODEL_TIMES * size
    if free is None:
        return Line(WARNING, "memory", "how much is free cannot be read", "look at /proc/meminfo")
    finding = f"{free / 1e6:.0f} MB free, a run takes about {need / 1e6:.0f} MB for each worker"
    if free < need:
        return Line(PROBLEM, "memory", finding, "close other programs, or take a machine with more memory")
    if free < 2 * need:
        return Line(WARNING, "memory", finding, "run with --workers 1, and close other programs")
    return Line(OK, "memory", finding)


def look_at_disk(process: Process) -> Iterator[Line]:
    """Room, and the right to write, in the working directory."""
    try:
        free = shutil.disk_usage(process.folder).free
    except OSError as error:
        yield Line(PROBLEM, "disk", f"{process.folder}: {error.strerror}", "go to a folder that exists")
        return
    level = PROBLEM if free < NO_DISK else WARNING if free < LITTLE_DISK else OK
    fix = "" if level == OK else "make room, or write elsewhere with -o"
    yield Line(level, "disk", f"{free / 1e9:.1f} GB free in {process.folder}", fix)
    try:
        with tempfile.TemporaryFile(dir=process.folder):
            yield Line(OK, "folder", "the working directory is writable")
    except OSError as error:
        yield Line(
            WARNING, "folder", f"the working directory is not writable ({error.strerror})", "give a folder with -o"
        )


def look_at_clock(process: Process) -> Line:
    """A date that can be: boards without a battery start in 1970, or when they were last switched off."""
    said = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(process.now))
    fix = "set it: sudo date -s '2027-01-31 12:00', or let it be set by a network's time"
    if process.now < EARLIEST:
        return Line(WARNING, "clock", f"{said}, before this program was built: times in results are wrong", fix)
    if process.now > EARLIEST + LATEST_YEARS * 365.25 * 86400:
        return Line(WARNING, "clock", f"{said}, not plausible: times in results are wrong", fix)
    return Line(OK, "clock", said)


def look_at_temperature(machine: Machine) -> Line:
    """How hot the processor is."""
    heat = machine.temperature_c
    if heat is None:
        return Line(OK, "temperature", "no sensor")
    level = PROBLEM if heat >= TOO_HOT_C else WARNING if heat >= HOT_C else OK
    fix = "" if level == OK else "cool it: a heat sink and a fan, and room around it"
    return Line(level, "temperature", f"{heat:.0f} °C", fix)


def look_at_throttling(machine: Machine) -> Line:
    """Whether voltage or heat slows the processor down, now or since boot."""
    now, since = machine.throttled_now or [], machine.throttled_since_boot or []
    power = "take the power supply made for this board, and a short cable"
    cool = "cool it: a heat sink and a fan, and room around it"
    if now:
        voltage = "under-voltage" in now
        return Line(PROBLEM if voltage else WARNING, "throttling", f"now: {', '.join(now)}", power if voltage else cool)
    if since:
        return Line(
            WARNING, "throttling", f"since boot: {', '.join(since)}", power if "under-voltage" in since else cool
        )
    if machine.heat_events:
        return Line(WARNING, "throttling", f"slowed down by heat {machine.heat_events} times since boot", cool)
    return Line(OK, "throttling", "none" if machine.throttled_now is not None else "none known of")


def look_at_governor(machine: Machine) -> Line:
    """Which rule sets the processor's frequency."""
    if machine.governor is None:
        return Line(OK, "governor", "none to choose")
    own = (machine.driver or "").startswith(("intel_pstate", "amd-pstate", "amd_pstate"))  # its powersave does scale
    if "powersave" in machine.governor and not own:
        fix = "for speed: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        return Line(WARNING, "governor", f"{machine.governor}: the lowest frequency, always", fix)
    return Line(OK, "governor", machine.governor)


def to_fields(lines: list[Line]) -> dict[str, Any]:
    """Return the page as JSON has it."""
    rows = [{"level": x.level, "what": x.what, "finding": x.finding, "fix": x.fix} for x in lines]
    return {"ok": all(line.level != PROBLEM for line in lines), "lines": rows}


def to_text(lines: list[Line]) -> str:
    """Return the page for people."""
    rows = [f"{x.level:<8} {x.what:<22} {x.finding}{f'; {x.fix}' if x.fix else ''}" for x in lines]
    counts = {level: sum(line.level == level for line in lines) for level in (PROBLEM, WARNING)}
    last = ", ".join(f"{number} {level}{'s' * (number != 1)}" for level, number in counts.items() if number)
    return "\n".join([*rows, last or "all is well"])
