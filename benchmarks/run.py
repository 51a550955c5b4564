"""What does `run` measure, and in which order? Rounds, accuracy, end to end, long runs, energy; then the validity."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine.facts import read_facts
from benchmarks.machine.watch import Monitor
from benchmarks.measure.accuracy import count_labels, measure_accuracy
from benchmarks.measure.end_to_end import measure_end_to_end
from benchmarks.measure.energy import measure_energy
from benchmarks.measure.long_runs import measure_long_runs
from benchmarks.measure.plan import RunPlan, RunState
from benchmarks.measure.rounds import (
    MODES,
    ROUNDS,
    RunningCandidate,
    Subject,
    make_pairs,
    run_rounds,
    start_candidate,
    to_subject,
)
from benchmarks.result.lookup import Result
from benchmarks.result.specification import FORMAT
from benchmarks.subjects.candidates import Candidate, Grid, Notify, TrainedModel, list_candidates
from benchmarks.subjects.images import (
    ImageSet,
    check_calibration,
    check_masks,
    choose_timed,
    read_image_set,
    write_tensors,
)
from benchmarks.subjects.peers import PeerBuild, choose_peers, find_python, list_peer_files, make_peer
from benchmarks.verdicts.validity import assess_run
from edge_runtime.contract.json_text import to_json
from edge_runtime.errors import EngineError
from edge_runtime.system.machine import format_utc_time
from edge_runtime.system.versions import find_own_version
from evidence.bootstrap import SEED


def run(plan: RunPlan, notify: Notify, show: Notify) -> Result:
    """Measure everything in the plan; return the result without its `id`.

    notify: called with each step; show: with its progress. Raises: EdgeSegError if the first model cannot be measured.
    """
    created = format_utc_time()
    pythons = {engine: find_engine(engine, plan.pythons) for engine in plan.engines}
    data = read_image_set(plan.images, plan.masks)
    check_masks(data)  # before a conversion, which takes a minute; again when the model's labels are known
    if plan.calibrate:
        check_calibration(plan.calibrate, data)
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        work = Path(folder)
        grid = Grid(plan.engines, plan.threads, pythons, plan.trust)
        candidates, sources = list_candidates(plan.models, grid, work, notify)
        check_masks(data, count_labels(candidates[0]))
        candidates += build_peers(plan, candidates[0], sources, data, work, notify)
        state = RunState([], {}, data, work, show)
        try:
            monitor = Monitor(lambda: [running.child.process.pid for running in state.group])
            result = measure_all(plan, candidates, state, monitor, notify)
        finally:
            for running in state.group:
                running.child.end()
    return {"format": FORMAT, "created": created, "finished": format_utc_time()} | result


def find_engine(engine: str, pythons: dict[str, str]) -> str:
    """Return the interpreter of a given engine. Raises: EngineError if none has it."""
    python, why = find_python(engine, pythons)
    if why:
        raise EngineError(f"engine {engine}", why)
    return python


def build_peers(
    plan: RunPlan, subject: Candidate, sources: Sequence[TrainedModel], data: ImageSet, work: Path, notify: Notify
) -> list[Candidate]:
    """Return the baselines and, with --peers, the peers of the first trained model, or of the subject alone."""
    source = sources[0] if sources else None
    tensors = write_tensors(choose_timed(data), subject.contract, work / "timed.npy")
    calibration = None
    if plan.calibrate:
        images = check_calibration(plan.calibrate, data)
        calibration = write_tensors(images, subject.contract, work / "calibration.npy")
    build = PeerBuild(
        files=list_peer_files(source, subject),
        file=source.file if source else subject.file,
        contract=subject.contract,
        append=source.append if source else "",
        threads=max(plan.threads),
        pythons=plan.pythons,
        trust=plan.trust,
        tensors=tensors,
        calibration=calibration,
        work=work,
        notify=notify,
    )
    return [make_peer(peer, role, build) for peer, role in choose_peers(plan.peers, source, plan.engines)]


def measure_all(
    plan: RunPlan, candidates: Sequence[Candidate], state: RunState, monitor: Monitor, notify: Notify
) -> Result:
    """Return all measured parts of a result, with its validity."""
    notify(f"loading and warming up, each in its own process: {len(candidates)}")
    load_all(candidates, state)
    keys = [candidate.key for candidate in candidates]
    first = state.subjects.get(keys[0])
    if first:
        raise EngineError(first["name"], first["reason"], "nothing was measured")
    monitor.start()
    notify(f"measuring in {ROUNDS} rounds")
    run_all_rounds(plan, state, monitor)
    machine = monitor.finish(read_facts())
    measured = {running.candidate.key: to_subject(running) for running in state.group}
    subjects = {**state.subjects, **measured}
    result = {
        "project": {"version": find_own_version(), "commit": find_commit()},
        "command": list(plan.command),
        "settings": describe_settings(plan, 1 + max(number for number, _ in state.main.samples)),
        "machine": machine,
        "data": state.data.describe(),
        "model": describe_model(state.main.candidate, subjects),
        "subjects": {key: subjects[key] for key in keys},
        "pairs": make_pairs(state.group),
        **measure_accuracy(plan, state, notify),
        **measure_end_to_end(state, notify),
        **measure_long_runs(plan, state, notify),
        **measure_energy(plan, state, notify),
    }
    sources = {candidate.key: candidate.contract.source.sha256 for candidate in candidates}
    return result | {"validity": assess_run(result, sources)}


def load_all(candidates: Sequence[Candidate], state: RunState) -> None:
    """Load every candidate; those that cannot be measured become unmeasured subjects."""
    for candidate in candidates:
        state.show(f"loading {candidate.name}")
        tensors = write_tensors(choose_timed(state.data), candidate.contract, state.work / f"{candidate.key}.npy")
        started = start_candidate(candidate, tensors, state.work)
        if isinstance(started, RunningCandidate):
            state.group.append(started)
        else:
            state.subjects[candidate.key] = started


def run_all_rounds(plan: RunPlan, state: RunState, monitor: Monitor) -> None:
    """Run all rounds. Raises: EngineError if the main subject fails."""
    main = state.main

    def after_round(number: int) -> None:
        monitor.record()
        state.show(f"round {number} of {ROUNDS}")

    state.subjects.update(run_rounds(state.group, MODES[plan.mode], plan.samples, after_round))
    if main not in state.group:
        raise EngineError(main.candidate.name, state.subjects[main.candidate.key]["reason"])


def describe_settings(plan: RunPlan, rounds: int) -> dict[str, Any]:
    """Return a result's `settings`."""
    return {
        "mode": plan.mode,
        "samples": plan.samples,
        "threads": list(plan.threads),
        "engines": list(plan.engines),
        "rounds": rounds,
        "seed": SEED,
        "sustain_minutes": plan.sustain_minutes,
        "soak_runs": plan.soak_runs,
        "peers": plan.peers,
        "headline": MODES[plan.mode].headline,
        "price": plan.price,
        "studies_per_day": plan.studies_per_day,
        **({"currency": plan.currency} if plan.currency else {}),  # earlier readers know no such field
    }


def describe_model(main: Candidate, subjects: dict[str, Subject]) -> dict[str, Any]:
    """Return a result's `model`; the number of parameters is known if Keras was measured too."""
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
    """Return the commit of the checkout that this runs from, with "-dirty" if it was changed; None outside of one."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # installed below another project's checkout
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
