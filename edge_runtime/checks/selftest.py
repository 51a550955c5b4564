"""Does each stage give here what it gave where the model was converted? The model's golden vectors show it.

decode → preprocess → infer → postprocess, case by case. The input of a stage is the output of the one before it, which
was found right here, that of postprocess is `golden_vectors.draw_ramp`: so the first stage that diverges is the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.contract.tail import read_contract, read_golden
from edge_runtime.errors import ContractError, EdgeSegError, ModelError
from edge_runtime.images.read import decode_image
from edge_runtime.inference.session import Session
from edge_runtime.models import DEFAULT

from .golden_vectors import GoldenCase, Sample, from_json, hash_pixels, run_model, segment_ramp, to_input

STAGES = ("load", "decode", "preprocess", "infer", "postprocess")
FIXES = {
    "load": "copy the model again from its source, or convert it again",
    "decode": "reinstall opencv-python-headless, or take another version of it",
    "preprocess": "reinstall edge-seg and opencv-python-headless",
    "infer": "try another --engine, or reinstall this one",
    "postprocess": "reinstall edge-seg and opencv-python-headless",
}


@dataclass(frozen=True)
class StageCheck:
    """One stage of one case, and how it differs; "" if it does not."""

    case: str
    stage: str
    differs: str


@dataclass(frozen=True)
class SelftestReport:
    """The result of a self-test; `steps` in the order in which they were run."""

    model: str  # the file
    id: str
    version: str
    engine: str
    steps: tuple[StageCheck, ...]

    @property
    def diverged(self) -> StageCheck | None:
        """The earliest stage that diverged, in the order of stages; None if none did."""
        wrong = [step for step in self.steps if step.differs]
        return min(wrong, key=lambda step: STAGES.index(step.stage), default=None)


def run_selftest(path: Path | None, engine: str = "auto", threads: int | None = None) -> SelftestReport:
    """Run a stamped model's golden vectors, the embedded default's without `path`.

    Raises: ContractError if it has none, or its contract cannot be read; EngineError if the engine is not installed.
    """
    path = DEFAULT if path is None else path
    contract, golden = read_contract(path), read_golden(path)
    if golden is None:
        raise ContractError(
            str(path), "it has no golden vectors to test with", "convert it again, or python -m convert.restamp"
        )
    cases = from_json(golden)
    try:
        session = Session.load(path, engine, threads)
    except (ContractError, ModelError) as error:  # of the file: its SHA-256, its graph
        return SelftestReport(
            str(path), contract.model.id, contract.model.version, engine, (StageCheck("", "load", error.why),)
        )
    used = f"{session.engine.name} {session.engine.version}"
    steps = [StageCheck("", "load", ""), *(step for case in cases for step in run_case(session, case))]
    return SelftestReport(str(path), contract.model.id, contract.model.version, used, tuple(steps))


def run_case(session: Session, case: GoldenCase) -> Iterator[StageCheck]:
    """Yield the check of each stage, up to the first that diverges."""
    made: dict[str, Any] = {}
    for stage, check in zip(STAGES[1:], (decode, preprocess, infer, postprocess), strict=True):
        if stage in ("infer", "postprocess") and getattr(case, stage) is None:
            return
        try:
            differs = check(session, case, made)
        except EdgeSegError as error:
            differs = error.why
        yield StageCheck(case.name, stage, differs)
        if differs:
            return


def decode(session: Session, case: GoldenCase, made: dict[str, Any]) -> str:
    """Decode the file; return how its pixels differ."""
    image = made["image"] = decode_image(case.file, case.name)
    if isinstance(case.decode, Sample):
        return case.decode.compare(image)
    found = hash_pixels(image)
    wrong = [name for name in ("shape", "dtype", "sha256") if found[name] != case.decode[name]]
    names = {"shape": "size", "dtype": "type", "sha256": "pixels"}
    return f"the image's {names[wrong[0]]} is not what was saved without loss" if wrong else ""


def preprocess(session: Session, case: GoldenCase, made: dict[str, Any]) -> str:
    """Make the tensor; return how it differs."""
    made["tensor"] = session.preprocess(to_input(made["image"], session.contract))
    return case.preprocess.compare(made["tensor"])


def infer(session: Session, case: GoldenCase, made: dict[str, Any]) -> str:
    """Run the model; return how its outputs differ."""
    outputs = run_model(session, made["tensor"])
    wanted = case.infer or ()
    if len(outputs) != len(wanted):
        return f"{len(outputs)} outputs, not {len(wanted)}"
    return ", ".join(filter(None, (one.compare(output) for one, output in zip(wanted, outputs, strict=True))))


def postprocess(session: Session, case: GoldenCase, made: dict[str, Any]) -> str:
    """Segment the ramp; return how its probability and labels differ."""
    assert case.postprocess is not None
    labels, probability = segment_ramp(session, made["image"])
    differs = str(case.postprocess["probability"].compare(probability))
    pairs = [(old, new) for old, new in zip(case.postprocess["labels"], labels, strict=True) if -1 not in (old, new)]
    wrong = sum(old != new for old, new in pairs)
    return differs or (f"{wrong} of {len(pairs)} pixels of the mask have another label" if wrong else "")


def to_fields(report: SelftestReport) -> dict[str, Any]:
    """Return the report's JSON."""
    first = report.diverged
    return {
        "model": {"path": report.model, "id": report.id, "version": report.version},
        "engine": report.engine,
        "ok": first is None,
        "diverged": first and {"stage": first.stage, "case": first.case, "why": first.differs},
        "steps": [{"case": step.case, "stage": step.stage, "differs": step.differs} for step in report.steps],
    }


def to_text(report: SelftestReport) -> str:
    """Return the report as text, a line for each case."""
    lines = [f"{report.id} {report.version} on {report.engine}"]
    for name in dict.fromkeys(step.case for step in report.steps):
        stages = [f"{step.stage} {'DIVERGED' if step.differs else 'ok'}" for step in report.steps if step.case == name]
        lines.append(f"{name or 'the file':<14} {' · '.join(stages)}")
    return "\n".join(lines)


def to_error(report: SelftestReport) -> ModelError | None:
    """Return the error that names the stage that diverged; None if none did."""
    first = report.diverged
    if first is None:
        return None
    where = f" on {first.case}" if first.case else ""
    why = f"the self-test failed: the stage {first.stage} diverged{where} ({first.differs})"
    return ModelError(report.model, why, FIXES[first.stage])
