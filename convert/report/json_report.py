"""What does the JSON report of a conversion contain?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from convert.search.job import ASSUMED, Job
from convert.search.tournament import SearchResult
from convert.verify.compare_on_images import ImageSetCheck
from edge_runtime.contract.fields import Contract
from edge_runtime.contract.findings import INPUT_SCALE

from .words import Report
from .worst_images import name_picture

FORMAT = "edge-seg-conversion/2"


def to_report(job: Job, result: SearchResult, sha256: str, pictures: str) -> Report:
    """Return the report as plain data.

    sha256: of the stamped file. pictures: the name of the folder with the worst images. Milliseconds are raw samples,
    interleaved. Fields on check, policy and layers left float are null or empty where there was none.
    """
    candidate, facts = result.candidate, job.facts
    audit, contract = candidate.audit, candidate.contract
    calibration = job.quantizer.calibration.notes if job.quantizer is not None else ()
    report: Report = {
        "format": FORMAT,
        "warnings": list_warnings(job, result),
        "model": {"id": contract.model.id, "version": contract.model.version, "sha256": sha256},
        "recipe": contract.recipe,
        "size_bytes": audit.size_bytes,
        "fp32_bytes": audit.fp32_bytes,
        "fraction_of_fp32": round(audit.size_bytes / audit.fp32_bytes, 4),
        "parameters": facts.weights,
        "macs": sum(cost.macs for cost in audit.costs),
        "audit": asdict(audit),
        "checks": asdict(candidate.checks),
        "clock_ms": candidate.times,
        "speed_ratio": candidate.ratio,
        "choice": asdict(candidate.choice),
        "rewritten": candidate.rewritten,
        "tidied": job.tidied,
        "calibration": None if contract.calibration is None else asdict(contract.calibration),
        "source": asdict(contract.source),
        "kind": facts.kind,
        "isolation": facts.isolation,
        "reference": facts.reference,
        "input": {**asdict(contract.input), "why": format_scale(contract, facts.scale_why)},
        "output": asdict(contract.output),
        "classes": None if contract.classes is None else asdict(contract.classes),
        "threshold": {"value": contract.threshold.value, "from": contract.threshold.from_},
        "triage": None if contract.triage is None else asdict(contract.triage),
        "notes": [*facts.notes, *calibration],
        "allowed": list(contract.allowed),
        "check": None if result.check is None else to_check(result.check, pictures),
        "policy": None if result.verdict is None else asdict(result.verdict),
        "tournament": [asdict(tried) for tried in result.tried],
        "drill_down": {name: asdict(found) for name, found in result.float_layers.items()},
    }
    plain: Report = to_json_value(report)
    return plain


def list_warnings(job: Job, result: SearchResult) -> list[str]:
    """Return what a reader must know first: that the original finds nothing, that its input was assumed."""
    facts, check = job.facts, result.check
    found = [describe_useless(check)] if check is not None and check.useless else []
    if facts.scale_from == "assumed":
        found.append(f"{INPUT_SCALE}: {ASSUMED}")
    return [*found, *([f"{INPUT_SCALE}, allowed: {facts.scale_conflict}"] if facts.scale_conflict else [])]


def describe_useless(check: ImageSetCheck) -> str:
    """Return that the original scores no better than an empty mask."""
    keras = next(score.keras for score in check.scores if score.name == "mean_iou")
    return (
        f"the original model is no better than an empty mask: mean IoU {keras:.4f} against {check.empty_iou:.4f}, "
        f"on {check.images} images"
    )


def to_check(check: ImageSetCheck, pictures: str) -> dict[str, Any]:
    """Return a check as plain data, each of the worst images with its picture."""
    worst = [
        {"row": index, "picture": f"{pictures}/{name_picture(rank, check.rows[index].file)}"}
        for rank, index in enumerate(check.worst, 1)
    ]
    return {**asdict(check), "worst": worst}


def format_scale(contract: Contract, why: str) -> str:
    """Return why the input has its scale and offset; those of an int8 input are in its quantization steps."""
    return f"{why}; in steps of the int8 input" if contract.input.dtype == "int8" else why


def to_json_value(value: Any) -> Any:
    """Return plain data with NaN and infinity as text, since JSON has no such numbers."""
    if isinstance(value, Mapping):
        return {key: to_json_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
