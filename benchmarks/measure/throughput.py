"""How fast is a folder run beside what it cannot do without? Images a second, all measured in turns.

The engine alone runs on prepared tensors, in each setting of workers and threads. The folder run is the command as a
user runs it, from files to files, its start included. The best settings of both are compared.

The floor is what this machine could do at best: the cores divided by the processor time of a slice's decoding,
resizing, inference by an engine of one thread, threshold and encoding, while as many workers as cores do the same.
The loop is what a user writes by hand: one process, LiteRT with a thread for each core, a mask and an overlay, no hash,
journal, flag, isolation or gallery; its start is included. A result:

    format        "edge-seg-throughput/3"
    engine        {setting: [images a second, one for each round]}
    run           {setting: [..]}, run_best, engine_best: the settings with the highest medians
    ratio         of run_best to engine_best, median of the rounds; `ratios`, each round's
    steps         {step: [milliseconds of processor time a slice]}
    floor, loop   [images a second]
    of_floor      ratios of run_best to the floor; `of_loop` to the loop
    images        how many files a folder run had; `source`, of how many different ones they are
    outputs       what the run wrote of each
    machine, state, versions
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.machine.facts import read_facts
from benchmarks.machine.state import read_counters, read_state_since
from edge_runtime.checks.trial import TrialFailed, measure_together
from edge_runtime.contract.tail import read_contract
from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.images.formats import SUFFIXES
from edge_runtime.inference.engines.registry import count_cores
from edge_runtime.models import DEFAULT
from edge_runtime.system.machine import ROOT
from edge_runtime.system.process import describe_status, find_last_line, module_command, package_environment
from edge_runtime.system.versions import read_versions

FORMAT = "edge-seg-throughput/3"
Setting = tuple[int, int]  # workers, threads of each
ENGINE_LIMIT_S = 1800.0  # for all workers together


def measure_throughput(
    model: Path | None,
    images: Path,
    count: int,
    rounds: int,
    engine: str,
    gallery: bool,
    show_progress: Callable[[str], None],
) -> dict[str, Any]:
    """Return the result of so many rounds, each with all settings of engine and folder run.

    Raises: UsageError if there is no image; EdgeSegError if a run fails.
    """
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"--images {images}", "no images in it", "give a folder of images")
    cores = count_cores()
    settings = {format_setting(setting): setting for setting in sorted({(1, cores), (cores, 1), (1, 1)})}
    alone: dict[str, list[float]] = {name: [] for name in settings}
    whole: dict[str, list[float]] = {name: [] for name in settings}
    steps: dict[str, list[float]] = {}
    floor: list[float] = []
    loop: list[float] = []
    _, counters = read_state_since(ROOT, read_counters(ROOT))
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as work:
        folder = make_folder(files, count, Path(work) / "in")
        for number in range(rounds):
            for name in settings if number % 2 == 0 else reversed(settings):
                show_progress(f"round {number + 1} of {rounds}: engine alone, {name}")
                alone[name].append(measure_engine(model, engine, settings[name], files[:8]))
                show_progress(f"round {number + 1} of {rounds}: folder run, {name}")
                whole[name].append(run_folder(model, engine, settings[name], gallery, folder, Path(work) / "out"))
            show_progress(f"round {number + 1} of {rounds}: each step alone")
            found = measure_steps(model, engine, cores, gallery, files[:8])
            for step, ms in found.items():
                steps.setdefault(step, []).append(ms)
            floor.append(1000 * cores / sum(found.values()))
            show_progress(f"round {number + 1} of {rounds}: a loop written by hand")
            loop.append(run_loop(model or DEFAULT, cores, folder, Path(work) / f"loop-{number}"))
    state, _ = read_state_since(ROOT, counters)
    best_alone, best_whole = (max(found, key=lambda key: median(found[key])) for found in (alone, whole))
    ratios = [a / b for a, b in zip(whole[best_whole], alone[best_alone], strict=True)]
    return {
        "format": FORMAT,
        "engine": alone,
        "run": whole,
        "engine_best": best_alone,
        "run_best": best_whole,
        "ratio": median(ratios),
        "ratios": ratios,
        "steps": steps,
        "floor": floor,
        "loop": loop,
        "of_floor": [a / b for a, b in zip(whole[best_whole], floor, strict=True)],
        "of_loop": [a / b for a, b in zip(whole[best_whole], loop, strict=True)],
        "images": count,
        "source": len(files),
        "outputs": ["masks", "overlays", *(["gallery"] if gallery else [])],
        "machine": read_facts(ROOT),
        "state": state,
        "versions": read_versions(("edge-seg", "ai-edge-litert", "numpy", "opencv-python-headless")),
    }


def format_setting(setting: Setting) -> str:
    """Return a setting as workers x threads, such as "2 x 1"."""
    return f"{setting[0]} x {setting[1]}"


def make_folder(files: Sequence[Path], count: int, folder: Path) -> Path:
    """Return a folder of `count` links to the files, taken in turn."""
    folder.mkdir()
    for number in range(count):
        path = files[number % len(files)]
        (folder / f"{number:06}{path.suffix}").symlink_to(path.absolute())
    return folder


def measure_engine(model: Path | None, engine: str, setting: Setting, files: Sequence[Path]) -> float:
    """Return images a second of the engine alone: each worker a process, all measuring at the same time.

    Processes, as in a folder run: threads would wait for each other if an engine holds Python's lock.
    """
    workers, threads = setting
    request = {"model": model and str(model), "engine": engine, "threads": threads, "files": [str(p) for p in files]}
    found = run_together("benchmarks.measure.child.throughput_main", request, workers)
    return sum(float(worker["images_per_second"]) for worker in found)


def measure_steps(
    model: Path | None, engine: str, workers: int, gallery: bool, files: Sequence[Path]
) -> dict[str, float]:
    """Return the milliseconds of processor time that each step takes for a slice, the mean of so many workers."""
    request = {"model": model and str(model), "engine": engine, "gallery": gallery, "files": [str(p) for p in files]}
    found = [worker["steps"] for worker in run_together("benchmarks.measure.child.floor_main", request, workers)]
    return {step: mean(float(steps[step]) for steps in found) for step in found[0]}


def run_together(module: str, request: dict[str, Any], workers: int) -> list[dict[str, Any]]:
    """Return what each of so many workers printed that measured at the same time. Raises: EdgeSegError."""
    command = module_command(module, json.dumps(request))
    pipe, environment = subprocess.PIPE, package_environment()

    def start(number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)

    try:
        return measure_together(start, workers, ENGINE_LIMIT_S)
    except (TrialFailed, TimeoutError) as error:
        raise EdgeSegError("throughput", f"the engine's process failed: {error or 'it took too long'}") from None


def run_folder(model: Path | None, engine: str, setting: Setting, gallery: bool, folder: Path, out: Path) -> float:
    """Return images a second of the command on a folder. Raises: EdgeSegError with its last line if it fails."""
    workers, threads = setting
    command = module_command("edge_runtime.cli", folder, "-o", out, "--force", "--json")
    command += ["--engine", engine, "--workers", str(workers), "--threads", str(threads)]
    command += [] if gallery else ["--no-gallery"]
    command += ["--model", str(model)] if model else []
    done = subprocess.run(command, capture_output=True, text=True, env=package_environment(), check=False)
    if done.returncode:
        raise EdgeSegError("throughput", find_last_line(done.stderr) or describe_status(done.returncode))
    return float(json.loads(done.stdout)["images_per_second"])


def run_loop(model: Path, threads: int, folder: Path, out: Path) -> float:
    """Return images a second of the hand-written loop on a folder, its start included. Raises: EdgeSegError."""
    contract = read_contract(model)
    numbers = [contract.input.scale, contract.input.offset, contract.threshold.value or 0.5]
    script = Path(__file__).parent / "child" / "loop_main.py"
    command = [sys.executable, "-P", script, model, folder, out, threads, *(np.mean(number) for number in numbers)]
    started = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise EdgeSegError("throughput", f"the loop: {find_last_line(done.stderr) or describe_status(done.returncode)}")
    return len(list((out / "masks").iterdir())) / seconds


def render_table(result: dict[str, Any]) -> str:
    """Return the result as the lines that the command prints."""
    lines = [f"{'workers x threads':<20} {'engine alone':>14} {'folder run':>14}   images a second, medians"]
    for setting, found in result["engine"].items():
        lines.append(f"{setting:<20} {median(found):>14.1f} {median(result['run'][setting]):>14.1f}")
    best = f"run at {result['run_best']}, engine at {result['engine_best']}"
    lines.append(
        f"kept of the engine's speed: {describe_ratios(result['ratios'])}, in {len(result['ratios'])} rounds; {best}"
    )
    for name, key in (("floor", "of_floor"), ("loop written by hand", "of_loop")):
        ratios = result[key]
        speed = median(result[key.removeprefix("of_")])
        lines.append(f"{name}: {speed:.1f} images a second; the run makes {describe_ratios(ratios)} of it")
    steps = ", ".join(f"{step} {median(found):.1f}" for step, found in result["steps"].items())
    lines.append(f"the floor's steps, ms of processor time a slice: {steps}")
    return "\n".join(lines)


def describe_ratios(ratios: Sequence[float]) -> str:
    """Return the median and the span of ratios."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
