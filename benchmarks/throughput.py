"""How much of the engine's own speed a folder run keeps: images a second of both, in turns, on this machine.

The engine alone runs on tensors that are ready, in each setting of workers and threads; its best setting is the
measure. The folder run is the command as a user gives it, files to files, its own start included. A result:

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
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from edge_runtime.engines import count_cores
from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.images import read_image
from edge_runtime.inputs import SUFFIXES
from edge_runtime.session import Session

from .machine import ROOT, read_facts, read_versions
from .state import look, read_counters

FORMAT = "edge-seg-throughput/2"
Setting = tuple[int, int]  # workers, threads of each
LEAST_ENGINE_S = 3.0  # for one measurement of the engine alone


def measure_throughput(
    model: Path | None,
    images: Path,
    count: int,
    rounds: int,
    engine: str,
    gallery: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return the result of so many rounds, each of them all settings of engine and run.

    Raises: UsageError if there is no image; EdgeSegError if a run fails.
    """
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"--images {images}", "no images in it", "give a folder of images")
    cores = count_cores()
    settings: list[Setting] = sorted({(1, cores), (cores, 1), (1, 1)})
    alone: dict[str, list[float]] = {name(setting): [] for setting in settings}
    whole: dict[str, list[float]] = {name(setting): [] for setting in settings}
    _, counters = look(ROOT, read_counters(ROOT))
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as work:
        folder = make_folder(files, count, Path(work) / "in")
        for number in range(rounds):
            order = settings if number % 2 == 0 else settings[::-1]
            for setting in order:
                say(f"round {number + 1} of {rounds}: engine alone, {name(setting)}")
                alone[name(setting)].append(run_engine_apart(model, engine, setting, files[:8]))
                say(f"round {number + 1} of {rounds}: folder run, {name(setting)}")
                whole[name(setting)].append(run_folder(model, engine, setting, gallery, folder, Path(work) / "out"))
    state, _ = look(ROOT, counters)
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


def name(setting: Setting) -> str:
    """Return a setting in words, such as "2 x 1": workers x threads."""
    return f"{setting[0]} x {setting[1]}"


def make_folder(files: Sequence[Path], count: int, folder: Path) -> Path:
    """Return a folder of `count` links to the files, taken in turn."""
    folder.mkdir()
    for number in range(count):
        path = files[number % len(files)]
        (folder / f"{number:06}{path.suffix}").symlink_to(path.absolute())
    return folder


def run_engine_apart(model: Path | None, engine: str, setting: Setting, files: Sequence[Path]) -> float:
    """Return images a second of the engine alone: each worker a process, all measuring at the same time.

    Processes, as in a folder run: threads would wait for each other where an engine holds Python's lock.
    """
    workers, threads = setting
    request = {"model": model and str(model), "engine": engine, "threads": threads, "files": [str(p) for p in files]}
    command = [sys.executable, "-P", "-m", "benchmarks.throughput", json.dumps(request)]
    pipe, environment = subprocess.PIPE, make_environment()
    with ExitStack() as stack:
        crew = []
        for _ in range(workers):
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
            stack.callback(process.kill)
            crew.append(stack.enter_context(process))
            read_line(process)  # ready; the first one packs the weights that the others map
        for process in crew:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return sum(float(read_line(process)) for process in crew)


def read_line(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process. Raises: EdgeSegError if there is none."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise EdgeSegError("throughput", f"the engine's process left with exit status {process.wait()}")
    return line


def run_engine(
    model: Path | None, engine: str, threads: int, files: Sequence[Path], ready: Callable[[], None]
) -> float:
    """Return images a second of the engine alone on tensors that are ready; `ready` waits for the others."""
    session = Session.load(model, engine, threads)
    tensors = [session.preprocess(read_image(path)) for path in files]
    for tensor in tensors[:3]:
        session.engine.infer(tensor)
    ready()
    done, started = 0, time.perf_counter()
    while time.perf_counter() < started + LEAST_ENGINE_S:
        session.engine.infer(tensors[done % len(tensors)])
        done += 1
    return done / (time.perf_counter() - started)


def wait_for_others() -> None:
    """Say that all is loaded, and wait for the word."""
    print("ready", flush=True)
    sys.stdin.readline()


def run_folder(model: Path | None, engine: str, setting: Setting, gallery: bool, folder: Path, out: Path) -> float:
    """Return images a second of the command on a folder, into an OUT that is new to it."""
    workers, threads = setting
    command = [sys.executable, "-P", "-m", "edge_runtime.cli", str(folder), "-o", str(out), "--force", "--json"]
    command += ["--engine", engine, "--workers", str(workers), "--threads", str(threads)]
    command += [] if gallery else ["--no-gallery"]
    facts = json.loads(run_command([*command, *(["--model", str(model)] if model else [])], make_environment()))
    return float(facts["images_per_second"])


def run_command(command: Sequence[str], environment: dict[str, str]) -> str:
    """Return what a command prints. Raises: EdgeSegError with its last line if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise EdgeSegError("throughput", lines[-1])
    return done.stdout


def make_environment() -> dict[str, str]:
    """Return an environment in which the packages are found from anywhere."""
    places = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def to_table(result: dict[str, Any]) -> str:
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


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    place = asked["model"] and Path(asked["model"])
    print(run_engine(place, asked["engine"], asked["threads"], [Path(p) for p in asked["files"]], wait_for_others))
