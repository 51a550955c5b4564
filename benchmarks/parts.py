"""What follows the rounds of a run: accuracy, the whole way, the long runs, energy; each null where it cannot be, with
the reason."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.engines import ENGINES
from edge_runtime.errors import EdgeSegError, EngineError

from .accuracy import draw_worst, measure_accuracy
from .candidates import Say
from .data import Data
from .energy import find_meter, measure_energy
from .measure import Running, Subject
from .process import Child
from .results import Result
from .state import read_state
from .sustain import soak, sustain

ASK_AT_A_TIME_S = 1.0


@dataclass(frozen=True)
class Wish:
    """What a run is asked to do."""

    models: tuple[Path, ...]
    images: Path
    masks: Path | None
    engines: tuple[str, ...]
    threads: tuple[int, ...]
    mode: str = "standard"
    samples: int = 60
    peers: bool = False
    pythons: dict[str, str] = field(default_factory=dict)
    calibrate: Path | None = None
    sustain_minutes: float | None = None
    soak_runs: int | None = None
    meter: Path | None = None
    price: float | None = None
    studies_per_day: float | None = None
    trust: str = ""
    pictures: bool = True
    command: tuple[str, ...] = ()


@dataclass
class Bench:
    """What is on the bench during a run; `main` is the subject that the long runs are of."""

    group: list[Running]
    subjects: dict[str, Subject]
    data: Data
    work: Path
    show: Say

    @property
    def main(self) -> Running:
        """Return the first model's subject with the most threads, on the first engine."""
        first = self.group[0].candidate
        same = [one for one in self.group if (one.candidate.path, one.candidate.engine) == (first.path, first.engine)]
        return max(same, key=lambda one: one.candidate.threads)


def measure_accuracy_of(wish: Wish, bench: Bench, say: Say) -> Result:
    """Return `accuracy` and `worst`: one entry for each file and engine, by its subject with the most threads."""
    by_file: dict[tuple[Path, str], Running] = {}
    for running in sorted(bench.group, key=lambda one: one.candidate.threads):
        by_file[running.candidate.path, running.candidate.engine] = running
    asked = [(running.candidate, running.child) for running in bench.group if running in by_file.values()]
    reference = find_reference(bench)
    if not reference and not bench.data.masks:
        return {"accuracy": None, "accuracy_why": "neither masks nor an FP32 baseline to compare with", "worst": []}
    say(f"segmenting {len(bench.data.images)} images with each of {len(asked)}")
    total = len(bench.data.images)
    entries = measure_accuracy(asked, reference, bench.data, bench.work, lambda n: bench.show(f"image {n} of {total}"))
    main = bench.main
    entry = entries.get(main.candidate.key)
    asking = (main.candidate, main.child)
    worst = draw_worst(asking, entry, bench.data, bench.work) if entry and wish.pictures else []
    return {"accuracy": entries, "worst": worst}


def find_reference(bench: Bench) -> str:
    """Return the key of the FP32 baseline that masks are compared with: LiteRT's, or else Keras'; "" without any."""
    found = [
        one.candidate for one in bench.group if one.candidate.recipe == "fp32" and one.candidate.role == "baseline"
    ]
    found.sort(key=lambda candidate: (candidate.engine == "keras", -candidate.threads))
    return found[0].key if found else ""


def measure_end_to_end(bench: Bench, say: Say) -> Result:
    """Return `end_to_end`, or why there is none."""
    main = bench.main
    if main.candidate.engine not in ENGINES or main.candidate.python != sys.executable:
        return {"end_to_end": None, "end_to_end_why": f"edge-seg cannot run {main.candidate.engine} here"}
    say("the whole way, from file to files")
    candidate, images = main.candidate, [str(path) for path in bench.data.images]
    out = str(bench.work / "segmented")
    fields = {"model": str(candidate.path), "engine": candidate.engine, "threads": candidate.threads}
    child = Child("end-to-end", candidate.python, bench.work)  # a process as edge-seg's, for its memory too
    try:
        found = child.ask("stages", images=images, out=out, **fields)
        peak = child.ask("memory")["peak_rss"]
    except EngineError as error:
        return {"end_to_end": None, "end_to_end_why": error.why}
    finally:
        child.end()
    return {"end_to_end": {"subject": candidate.key, **found, "peak_rss_bytes": peak}}


def measure_long(wish: Wish, bench: Bench, say: Say) -> Result:
    """Return `sustained` and `soak`, where they are wished."""
    found: Result = {"sustained": None, "soak": None}
    main = bench.main
    if wish.sustain_minutes:
        say(f"sustained for {wish.sustain_minutes:g} minutes")
        found["sustained"] = {"subject": main.candidate.key} | sustain(
            lambda n: run_times(main, n), wish.sustain_minutes, read_state, progress=bench.show
        )
    if wish.soak_runs:
        say(f"soaking for {wish.soak_runs} runs")
        found["soak"] = {"subject": main.candidate.key} | soak(
            lambda n: run_times(main, n), lambda: main.child.ask("memory")["rss"] or 0, wish.soak_runs, bench.show
        )
    return found


def run_times(running: Running, n: int) -> list[float]:
    """Return n milliseconds of a subject that runs without a pause."""
    times: list[float] = running.child.ask("run", n=n, settle=False)["ms"]
    return times


def measure_energy_of(wish: Wish, bench: Bench, say: Say) -> Result:
    """Return `energy`, or `energy_why` there is none."""
    main = bench.main
    meter, why = find_meter(log=wish.meter, engine=main.candidate.engine)
    if meter is None:
        return {"energy": None, "energy_why": why}
    say(f"energy by {meter.source}")
    try:
        return {"energy": {"subject": main.candidate.key} | measure_energy(meter, lambda s: run_for(main, s))}
    except EdgeSegError as error:
        return {"energy": None, "energy_why": str(error)}


def run_for(running: Running, seconds: float) -> int:
    """Run a subject for some seconds; return how many images that were."""
    turn = max(1, round(1000 * ASK_AT_A_TIME_S / max(running.warm["last_ms"], 1e-3)))
    images, spent = 0, 0.0
    while spent < 1000 * seconds:
        spent += sum(run_times(running, turn))
        images += turn
    return images
