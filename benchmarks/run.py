"""A whole run: candidates, rounds, accuracy, the whole way, the long runs; then what it all amounts to."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.contract import to_json
from edge_runtime.errors import EngineError
from edge_runtime.summary import own_version

from .accuracy import count_labels
from .candidates import Candidate, Grid, Say, Source, list_candidates
from .data import Data, check_calibration, check_masks, choose_timed, read_data, write_tensors
from .judge import judge_run
from .machine import read_facts
from .measure import MODES, ROUNDS, Running, Subject, make_pairs, start, take_rounds, to_subject
from .parts import Bench, Wish, measure_accuracy_of, measure_end_to_end, measure_energy_of, measure_long
from .peers import Kitchen, choose_peers, find_python, gather_files, make_peer
from .results import Result
from .samples import SEED
from .shape import FORMAT
from .state import tell_time
from .watch import Watch


def run(wish: Wish, say: Say, show: Say) -> Result:
    """Measure all that is wished; return the result, its `id` still to come.

    say: told what begins; show: told how far it is. Raises: EdgeSegError if the first model cannot be measured.
    """
    created = tell_time()
    pythons = {engine: find_engine(engine, wish.pythons) for engine in wish.engines}
    data = read_data(wish.images, wish.masks)
    if wish.calibrate:
        check_calibration(wish.calibrate, data)
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        work = Path(folder)
        grid = Grid(wish.engines, wish.threads, pythons, wish.trust)
        candidates, sources = list_candidates(wish.models, grid, work, say)
        check_masks(data, count_labels(candidates[0]))
        candidates += list_others(wish, candidates[0], sources, data, work, say)
        bench = Bench([], {}, data, work, show)
        try:
            watch = Watch(lambda: [running.child.process.pid for running in bench.group])
            result = measure_all(wish, candidates, bench, watch, say)
        finally:
            for running in bench.group:
                running.child.end()
    return {"format": FORMAT, "created": created, "finished": tell_time()} | result


def find_engine(engine: str, pythons: dict[str, str]) -> str:
    """Return the interpreter for an engine that was asked for. Raises: EngineError if none has it."""
    python, why = find_python(engine, pythons)
    if why:
        raise EngineError(f"engine {engine}", why)
    return python


def list_others(
    wish: Wish, subject: Candidate, sources: Sequence[Source], data: Data, work: Path, say: Say
) -> list[Candidate]:
    """Return the baselines and, with --peers, the peers of the first trained model, or of the subject alone."""
    source = sources[0] if sources else None
    tensors = write_tensors(choose_timed(data), subject.contract, work / "timed.npy")
    calibration = None
    if wish.calibrate:
        images = check_calibration(wish.calibrate, data)
        calibration = write_tensors(images, subject.contract, work / "calibration.npy")
    kitchen = Kitchen(
        files=gather_files(source, subject),
        file=source.file if source else subject.file,
        contract=subject.contract,
        append=source.append if source else "",
        threads=max(wish.threads),
        pythons=wish.pythons,
        trust=wish.trust,
        tensors=tensors,
        calibration=calibration,
        work=work,
        say=say,
    )
    return [make_peer(peer, role, kitchen) for peer, role in choose_peers(wish.peers, source, wish.engines)]


def measure_all(wish: Wish, candidates: Sequence[Candidate], bench: Bench, watch: Watch, say: Say) -> Result:
    """Return a result's parts after measuring them all."""
    say(f"loading and warming up, each in its own process: {len(candidates)}")
    load_all(candidates, bench)
    keys = [candidate.key for candidate in candidates]
    first = bench.subjects.get(keys[0])
    if first:
        raise EngineError(first["name"], first["reason"], "nothing was measured")
    watch.begin()
    say(f"measuring in {ROUNDS} rounds")
    take_all(wish, bench, watch)
    machine = watch.end(read_facts())
    measured = {running.candidate.key: to_subject(running) for running in bench.group}
    subjects = {**bench.subjects, **measured}
    result = {
        "project": {"version": own_version(), "commit": find_commit()},
        "command": list(wish.command),
        "settings": describe_wish(wish, 1 + max(number for number, _ in bench.main.samples)),
        "machine": machine,
        "data": bench.data.describe(),
        "model": describe_model(bench.main.candidate, subjects),
        "subjects": {key: subjects[key] for key in keys},
        "pairs": make_pairs(bench.group),
        **measure_accuracy_of(wish, bench, say),
        **measure_end_to_end(bench, say),
        **measure_long(wish, bench, say),
        **measure_energy_of(wish, bench, say),
    }
    sources = {candidate.key: candidate.contract.source.sha256 for candidate in candidates}
    return result | {"validity": judge_run(result, sources)}


def load_all(candidates: Sequence[Candidate], bench: Bench) -> None:
    """Start every candidate; those that cannot be measured become subjects at once."""
    for candidate in candidates:
        bench.show(f"loading {candidate.name}")
        tensors = write_tensors(choose_timed(bench.data), candidate.contract, bench.work / f"{candidate.key}.npy")
        started = start(candidate, tensors, bench.work)
        if isinstance(started, Running):
            bench.group.append(started)
        else:
            bench.subjects[candidate.key] = started


def take_all(wish: Wish, bench: Bench, watch: Watch) -> None:
    """Take all rounds. Raises: EngineError if the main subject fails in them."""
    main = bench.main

    def after_round(number: int) -> None:
        watch.look()
        bench.show(f"round {number} of {ROUNDS}")

    bench.subjects.update(take_rounds(bench.group, MODES[wish.mode], wish.samples, after_round))
    if main not in bench.group:
        raise EngineError(main.candidate.name, bench.subjects[main.candidate.key]["reason"])


def describe_wish(wish: Wish, rounds: int) -> dict[str, Any]:
    """Return a result's `settings`."""
    return {
        "mode": wish.mode,
        "samples": wish.samples,
        "threads": list(wish.threads),
        "engines": list(wish.engines),
        "rounds": rounds,
        "seed": SEED,
        "sustain_minutes": wish.sustain_minutes,
        "soak_runs": wish.soak_runs,
        "peers": wish.peers,
        "headline": MODES[wish.mode].headline,
        "price": wish.price,
        "studies_per_day": wish.studies_per_day,
    }


def describe_model(main: Candidate, subjects: dict[str, Subject]) -> dict[str, Any]:
    """Return a result's `model`; the number of parameters comes from Keras, where it was measured too."""
    contract = main.contract
    counted = [subject.get("parameters") for key, subject in subjects.items() if key.startswith("keras")]
    return {
        "id": contract.model.id,
        "version": contract.model.version,
        "source_sha256": contract.source.sha256,
        "recipe": contract.recipe,
        "input_shape": list(contract.input.shape),
        "parameters": next((number for number in counted if number), None),
        "contract": json.loads(to_json(contract)),
    }


def find_commit() -> str | None:
    """Return the commit of the checkout that this runs from, with "-dirty" if it was changed; None where it is none."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # an environment inside another checkout is not that checkout's
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
