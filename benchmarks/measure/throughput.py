"""How much of the engine's own speed does a folder run keep? Images a second of both, measured in turns.

The engine alone runs on prepared tensors, in each setting of workers and threads. The folder run is the command as a
user runs it, from files to files, its start included. The best settings of both are compared. A result:

    format        "edge-seg-throughput/2"
    engine        {setting: [images a second, one for each round]}
    run           {setting: [..]}, run_best, engine_best: the settings with the highest medians
    ratio         of run_best to engine_best, median of the rounds; `ratios`, each round's
    images        how many files a folder run had; `source`, of how many different ones they are
    outputs       what the run wrote of each
    machine, state, versions
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine.facts import read_facts
from benchmarks.machine.state import read_counters, read_state_since
from edge_runtime.checks.trial import TrialFailed, measure_together
from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.images.formats import SUFFIXES
from edge_runtime.inference.engines.registry import count_cores
from edge_runtime.system.machine import ROOT
from edge_runtime.system.process import describe_status, find_last_line, module_command, package_environment
from edge_runtime.system.versions import read_versions

FORMAT = "edge-seg-throughput/2"
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
    _, counters = read_state_since(ROOT, read_counters(ROOT))
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as work:
        folder = make_folder(files, count, Path(work) / "in")
        for number in range(rounds):
            for name in settings if number % 2 == 0 else reversed(settings):
                show_progress(f"round {number + 1} of {rounds}: engine alone, {name}")
                alone[name].append(measure_engine(model, engine, settings[name], files[:8]))
                show_progress(f"round {number + 1} of {rounds}: folder run, {name}")
                whole[name].append(run_folder(model, engine, settings[name], gallery, folder, Path(work) / "out"))
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
    command = module_command("benchmarks.measure.child.throughput_main", json.dumps(request))
    pipe, environment = subprocess.PIPE, package_environment()

    def start(number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)

    try:
        return sum(float(found["images_per_second"]) for found in measure_together(start, workers, ENGINE_LIMIT_S))
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


def render_table(result: dict[str, Any]) -> str:
    """Return the result as the lines that the command prints."""
    lines = [f"{'workers x threads':<20} {'engine alone':>14} {'folder run':>14}   images a second, medians"]
    for setting, found in result["engine"].items():
        lines.append(f"{setting:<20} {median(found):>14.1f} {median(result['run'][setting]):>14.1f}")
    spread = f"{min(result['ratios']):.2f} to {max(result['ratios']):.2f}"
    best = f"run at {result['run_best']}, engine at {result['engine_best']}"
    lines.append(
        f"kept of the engine's speed: {result['ratio']:.2f} ({spread} in {len(result['ratios'])} rounds; {best})"
    )
    return "\n".join(lines)
