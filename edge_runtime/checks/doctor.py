"""Is this machine fit to run edge-seg? One page, a line for each condition, with a fix where it is not met.

ok: nothing to do. warning: it will run, slower or with a risk that is named. problem: it will not run, or not for long.
What the run in question does without, such as an engine that it does not take, is at most stated.
"""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import EdgeSegError
from edge_runtime.models import DEFAULT
from edge_runtime.system.cache import find_cache_fault
from edge_runtime.system.machine import Machine, read_machine
from edge_runtime.system.needs import LIBRARIES, RAISE_LIMIT, describe_limits, is_shortage, try_to_load
from edge_runtime.system.process import (
    describe_status,
    end_with_parent,
    find_last_line,
    module_command,
    package_environment,
)
from edge_runtime.system.versions import read_versions

OK, WARNING, PROBLEM = "ok", "warning", "problem"
ARCHITECTURES = ("x86_64", "aarch64")
GLIBC = (2, 27)  # of ai-edge-litert's wheels, manylinux_2_27
PYTHONS = ((3, 11), (3, 13))  # first and last that wheels exist for
PACKAGES = (
    *("edge-seg", "numpy", "opencv-python-headless", "opencv-python"),
    *("ai-edge-litert", "tflite-runtime", "openvino"),
)
EARLIEST_TIME = time.mktime((2026, 11, 1, 0, 0, 0, 0, 0, 0))  # this program was built later
LATEST_YEARS = 20
HOT_C, TOO_HOT_C = 80.0, 90.0  # a Raspberry Pi slows down from 80, stops at 85 from rising
LOW_DISK_BYTES, MIN_DISK_BYTES = 1_000_000_000, 50_000_000  # a slice with all its pictures takes about 0.2 MB
# Peak memory of a run: 95 to 99 MB with the embedded model of 3.7 MB, 189 MB with one of 34 MB, images of 512 x 512.
RUN_BYTES, MODEL_TIMES = 90_000_000, 3
ENGINE_LIMIT_S = 60.0
TRY_ENGINE = (
    "import sys; from pathlib import Path; from edge_runtime.inference.engines.registry import load_engine; "
    "from edge_runtime.errors import EdgeSegError\n"
    "try: print('usable', load_engine(sys.argv[1], Path(sys.argv[2]), 1).version)\n"
    "except EdgeSegError as error: print('refused', error.why); print(error.fix)"
)
# A black image of 512 x 512 pixels, written without the libraries that may not load: file header, info header, BGR.
BLACK_BMP = struct.pack("<2sI4xIIiiHHIIiiII", b"BM", 54 + 786432, 54, 40, 512, 512, 1, 24, 0, 786432, 0, 0, 0, 0)
BLACK_BMP += bytes(786432)


@dataclass(frozen=True)
class DoctorLine:
    """One line of the page."""

    level: str
    what: str
    finding: str
    fix: str = ""


@dataclass(frozen=True)
class RuntimeFacts:
    """The Python process and its surroundings; tests give others."""

    bits: int = struct.calcsize("P") * 8
    architecture: str = field(default_factory=platform.machine)  # the kernel's
    glibc: str = field(default_factory=lambda: platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "")
    python: tuple[int, int] = sys.version_info[:2]
    now: float = field(default_factory=time.time)
    folder: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True)
class RunNeeds:
    """What the run in question takes, as its command line says."""

    model: Path | None = None  # None: the embedded one
    engine: str = "auto"
    workers: int | None = None
    output: Path | None = None  # None: a folder in the working directory


def examine_machine(
    needs: RunNeeds | None = None, machine: Machine | None = None, process: RuntimeFacts | None = None
) -> list[DoctorLine]:
    """Return the page's lines for a run."""
    needs, machine, process = needs or RunNeeds(), machine or read_machine(), process or RuntimeFacts()
    model = needs.model or DEFAULT
    return [
        check_system(machine, process),
        check_glibc(process),
        check_python(process),
        check_processor(machine, process),
        *check_packages(),
        *check_engines(needs.engine),
        check_model(model),
        check_memory(machine, model, needs.workers),
        *check_limits(needs.model),
        *check_disk(process, needs.output),
        check_cache(),
        check_clock(process),
        check_temperature(machine),
        check_throttling(machine),
        check_governor(machine),
    ]


def check_system(machine: Machine, process: RuntimeFacts) -> DoctorLine:
    """Check for 64 bit, and a processor that there are wheels for."""
    where = " on ".join(filter(None, (machine.system, machine.board)))
    finding = f"{process.bits}-bit {process.architecture}" + (f", {where}" if where else "")
    if process.bits != 64:
        both = " (the kernel is 64-bit, the programs are not)" if process.architecture in ARCHITECTURES else ""
        return DoctorLine(
            PROBLEM, "system", finding + both, "install the 64-bit system: no interpreter has 32-bit wheels"
        )
    if process.architecture not in ARCHITECTURES:
        return DoctorLine(PROBLEM, "system", finding, f"take a machine with {' or '.join(ARCHITECTURES)}")
    return DoctorLine(OK, "system", finding)


def check_glibc(process: RuntimeFacts) -> DoctorLine:
    """Check for the C library that the wheels were built for."""
    wanted = ".".join(map(str, GLIBC))
    fix = f"take a system with glibc {wanted} or newer: Debian 10, Ubuntu 18.04, Raspberry Pi OS 10, or later ones"
    if not process.glibc:
        return DoctorLine(PROBLEM, "glibc", "none found: the wheels do not run on other C libraries such as musl", fix)
    found = tuple(int(part) for part in process.glibc.split(".")[:2] if part.isdigit())
    if found < GLIBC:
        return DoctorLine(PROBLEM, "glibc", f"{process.glibc}, older than the {wanted} that ai-edge-litert needs", fix)
    return DoctorLine(OK, "glibc", f"{process.glibc} ({wanted} is needed)")


def check_python(process: RuntimeFacts) -> DoctorLine:
    """Check for a Python that there are wheels for."""
    first, last = (".".join(map(str, one)) for one in PYTHONS)
    found = ".".join(map(str, process.python))
    if PYTHONS[0] <= process.python <= PYTHONS[1]:
        return DoctorLine(OK, "python", found)
    return DoctorLine(PROBLEM, "python", found, f"take Python {first} to {last}: there are wheels for these")


def check_processor(machine: Machine, process: RuntimeFacts) -> DoctorLine:
    """Check for the instructions that decide how fast convolutions are."""
    has = machine.features
    name = f"{machine.processor}: " if machine.processor else ""
    if not has:
        return DoctorLine(WARNING, "processor", f"{name}its features cannot be read", "look at /proc/cpuinfo")
    if process.architecture == "x86_64":
        if "avx2" not in has:
            fix = "it will be slow: take a processor with AVX2 (since 2013)"
            return DoctorLine(WARNING, "processor", f"{name}no AVX2", fix)
        dot = {"avx512_vnni", "avx_vnni"} & has
        words = ["AVX2", *(["VNNI"] if dot else []), *(["AMX"] if "amx_int8" in has else [])]
    else:
        if not {"asimd", "neon"} & has:
            return DoctorLine(
                PROBLEM, "processor", f"{name}no NEON", "take an ARMv8 processor, such as a Raspberry Pi 4's or 5's"
            )
        dot = {"asimddp"} & has
        words = ["NEON", *(["dot products"] if dot else []), *(["int8 matrices"] if "i8mm" in has else [])]
    slow = "" if dot else "; without int8 dot products quantized models gain less"
    return DoctorLine(OK, "processor", name + ", ".join(words) + slow)


def check_packages() -> Iterator[DoctorLine]:
    """List the packages that are installed; check those without which nothing runs."""
    versions = read_versions(PACKAGES)
    yield DoctorLine(
        OK, "packages", ", ".join(f"{name} {found}" for name, found in versions.items()) or "none installed"
    )
    for module, (package, name) in LIBRARIES.items():
        why = try_import(module, name)
        limits = describe_limits()
        if why and limits and (is_shortage(RuntimeError(why)) or why.startswith("SIG")):
            yield DoctorLine(PROBLEM, package, f"it does not import within {limits} of memory ({why})", RAISE_LIMIT)
        elif why:
            yield DoctorLine(
                PROBLEM, package, f"it does not import ({why})", f"pip install --force-reinstall {package}"
            )


def try_import(module: str, name: str) -> str:
    """Import a library in a process of its own, which it may end; return the error, "" where there is none."""
    command = [sys.executable, "-P", "-c", f"import {module}; {module}.{name}"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=ENGINE_LIMIT_S, env=package_environment(), check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode < 0:
        return describe_status(done.returncode)
    return find_last_line(done.stderr.decode("utf-8", "replace")) if done.returncode else ""


def check_engines(engine: str) -> Iterator[DoctorLine]:
    """Try each engine on the embedded model; a problem where the run's is not usable, or for "auto" none is."""
    try:
        from edge_runtime.inference.engines.registry import ENGINES
    except ImportError:  # NumPy is missing, which has its own line
        return
    lines = {name: try_engine(name) for name in ENGINES}
    usable = [name for name, line in lines.items() if line.level == OK and line.finding.startswith("usable")]
    wanted = usable if engine == "auto" else [engine]
    for name, line in lines.items():
        if name in wanted and name not in usable:
            yield replace(line, level=PROBLEM)
        elif line.level == WARNING and wanted:
            yield DoctorLine(OK, line.what, f"not needed, and not usable: {line.finding}")
        else:
            yield line
    if not usable:
        yield DoctorLine(PROBLEM, "engines", "none is usable: nothing can be segmented", "pip install ai-edge-litert")


def run_child(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of this package. Raises: subprocess.TimeoutExpired."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=ENGINE_LIMIT_S,
        env=package_environment(),
        preexec_fn=end_with_parent(),
    )


def try_engine(name: str) -> DoctorLine:
    """Load the embedded model on an engine, in a process of its own: a wheel for other processors ends in SIGILL."""
    what, command = f"engine {name}", [sys.executable, "-P", "-c", TRY_ENGINE, name, str(DEFAULT)]
    try:
        done = run_child(command)
    except subprocess.TimeoutExpired:
        return DoctorLine(
            WARNING, what, f"it did not load the embedded model in {ENGINE_LIMIT_S:.0f} s", "take another --engine"
        )
    verdict, _, rest = done.stdout.strip().partition(" ")
    if verdict == "usable":
        return DoctorLine(OK, what, f"usable, {rest}")
    why, _, fix = rest.partition("\n")
    if verdict == "refused" and "it needs" in why:
        return DoctorLine(OK, what, "not installed", fix)
    limits = describe_limits()
    cause = f"perhaps for want of memory: {limits}" if limits else "its wheel may be for other processors"
    ended = f"it ended its process (status {done.returncode}, {describe_status(done.returncode)}): {cause}"
    return DoctorLine(WARNING, what, why or ended, fix or "take another --engine")


def check_model(path: Path) -> DoctorLine:
    """Check the model's contract and SHA-256."""
    what = "embedded model" if path == DEFAULT else "model"
    try:
        facts = read_contract(path, verify=True).model
    except EdgeSegError as error:
        fix = "reinstall edge-seg" if path == DEFAULT else error.fix
        return DoctorLine(PROBLEM, what, error.why, fix)
    return DoctorLine(OK, what, f"{facts.id} {facts.version}, verified by its SHA-256")


def check_limits(model: Path | None) -> Iterator[DoctorLine]:
    """Segment an image as a run does, where this process has limits of memory: each part alone may fit."""
    limits = describe_limits()
    if not limits:
        return
    try:
        try_to_load(model, "auto", None)
        contract = read_contract(model or DEFAULT)
    except EdgeSegError as error:
        yield DoctorLine(PROBLEM, "limits", error.why, error.fix)
        return
    with tempfile.TemporaryDirectory(prefix="edge-seg-") as folder:
        image = Path(folder, "black.bmp")
        image.write_bytes(BLACK_BMP)
        options = ["--model", str(model)] if model else []
        command = module_command("edge_runtime.cli", image, "-o", Path(folder, "out"), "--quiet", *options)
        try:
            done = run_child(command)
        except subprocess.TimeoutExpired:
            yield DoctorLine(WARNING, "limits", f"{limits}: a run did not end in {ENGINE_LIMIT_S:.0f} s", RAISE_LIMIT)
            return
    if done.returncode and contract.input.depth is None:
        yield DoctorLine(PROBLEM, "limits", f"{find_last_line(done.stderr)}, with {limits}", RAISE_LIMIT)


def check_memory(machine: Machine, model: Path, workers: int | None) -> DoctorLine:
    """Compare the free memory with what a run takes, of two workers where their number is open."""
    free = machine.memory.get("MemAvailable")
    size = model.stat().st_size if model.is_file() else 0
    need = RUN_BYTES + MODEL_TIMES * size
    if free is None:
        return DoctorLine(WARNING, "memory", "how much is free cannot be read", "look at /proc/meminfo")
    finding = f"{free / 1e6:.0f} MB free, a run takes about {need / 1e6:.0f} MB for each worker"
    if free < need * (workers or 1):
        return DoctorLine(PROBLEM, "memory", finding, "close other programs, or take a machine with more memory")
    if workers is None and free < 2 * need:
        return DoctorLine(WARNING, "memory", finding, "run with --workers 1, and close other programs")
    return DoctorLine(OK, "memory", finding)


def check_disk(process: RuntimeFacts, output: Path | None) -> Iterator[DoctorLine]:
    """Check the free space where the run writes, and that it may write there: into -o, which it makes, or here."""
    folder = process.folder if output is None else process.folder / output
    if output is not None:
        folder = next((path for path in (folder, *folder.parents) if path.is_dir()), folder)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield DoctorLine(PROBLEM, "disk", f"{folder}: {error.strerror}", "go to a folder that exists")
        return
    level = PROBLEM if free < MIN_DISK_BYTES else WARNING if free < LOW_DISK_BYTES else OK
    fix = "" if level == OK else "make room, or write elsewhere with -o"
    yield DoctorLine(level, "disk", f"{free / 1e9:.1f} GB free in {folder}", fix)
    name = "the working directory" if output is None else str(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield DoctorLine(OK, "folder", f"{name} is writable")
    except OSError as error:
        level, fix = (WARNING, "give a folder with -o") if output is None else (PROBLEM, "give another with -o")
        yield DoctorLine(level, "folder", f"{name} is not writable ({error.strerror})", fix)


def check_cache() -> DoctorLine:
    """Check that no one else may write to what is kept for the next start."""
    fault, _, fix = find_cache_fault().partition("; ")
    return DoctorLine(WARNING, "cache", fault, fix) if fault else DoctorLine(OK, "cache", "nothing against it")


def check_clock(process: RuntimeFacts) -> DoctorLine:
    """Check that the date is plausible: boards without a battery start in 1970, or when they were last switched off."""
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(process.now))
    fix = "set it: sudo date -s '2027-01-31 12:00', or let it be set by a network's time"
    if process.now < EARLIEST_TIME:
        return DoctorLine(WARNING, "clock", f"{shown}, before this program was built: times in results are wrong", fix)
    if process.now > EARLIEST_TIME + LATEST_YEARS * 365.25 * 86400:
        return DoctorLine(WARNING, "clock", f"{shown}, not plausible: times in results are wrong", fix)
    return DoctorLine(OK, "clock", shown)


def check_temperature(machine: Machine) -> DoctorLine:
    """Check how hot the processor is."""
    heat = machine.temperature_c
    if heat is None:
        return DoctorLine(OK, "temperature", "no sensor")
    level = PROBLEM if heat >= TOO_HOT_C else WARNING if heat >= HOT_C else OK
    fix = "" if level == OK else "cool it: a heat sink and a fan, and room around it"
    return DoctorLine(level, "temperature", f"{heat:.0f} °C", fix)


def check_throttling(machine: Machine) -> DoctorLine:
    """Check whether voltage or heat slows the processor down, now or since boot."""
    now, since = machine.throttled_now or [], machine.throttled_since_boot or []
    power = "take the power supply made for this board, and a short cable"
    cool = "cool it: a heat sink and a fan, and room around it"
    if now:
        voltage = "under-voltage" in now
        return DoctorLine(
            PROBLEM if voltage else WARNING, "throttling", f"now: {', '.join(now)}", power if voltage else cool
        )
    if since:
        return DoctorLine(
            WARNING, "throttling", f"since boot: {', '.join(since)}", power if "under-voltage" in since else cool
        )
    if machine.heat_events:
        return DoctorLine(WARNING, "throttling", f"slowed down by heat {machine.heat_events} times since boot", cool)
    return DoctorLine(OK, "throttling", "none" if machine.throttled_now is not None else "none known of")


def check_governor(machine: Machine) -> DoctorLine:
    """Check which rule sets the processor's frequency."""
    if machine.governor is None:
        return DoctorLine(OK, "governor", "none to choose")
    own = (machine.driver or "").startswith(("intel_pstate", "amd-pstate", "amd_pstate"))  # its powersave does scale
    if "powersave" in machine.governor and not own:
        fix = "for speed: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        return DoctorLine(WARNING, "governor", f"{machine.governor}: the lowest frequency, always", fix)
    return DoctorLine(OK, "governor", machine.governor)


def to_fields(lines: list[DoctorLine]) -> dict[str, Any]:
    """Return the page's JSON."""
    rows = [{"level": x.level, "what": x.what, "finding": x.finding, "fix": x.fix} for x in lines]
    return {"ok": all(line.level != PROBLEM for line in lines), "lines": rows}


def to_text(lines: list[DoctorLine]) -> str:
    """Return the page as text."""
    rows = [f"{x.level:<8} {x.what:<22} {x.finding}{f'; {x.fix}' if x.fix else ''}" for x in lines]
    counts = {level: sum(line.level == level for line in lines) for level in (PROBLEM, WARNING)}
    last = ", ".join(f"{number} {level}{'s' * (number != 1)}" for level, number in counts.items() if number)
    return "\n".join([*rows, last or "all is well"])
