"""What does run.json hold, and the header of the gallery?"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edge_runtime.system.machine import describe_host, format_local_time

if TYPE_CHECKING:
    from edge_runtime.contract.fields import Contract


ASSUMED_INPUT = (
    "which values the model's input takes was assumed when it was converted; its masks may be wrong until it is "
    "converted with scale and offset, or checked with true masks"
)
EMBEDDED_LIMITS = "The embedded model misses faint gliomas: see its card, edge_runtime/models/MODEL_CARD.md."
THRESHOLD, LARGEST_CLASS = "threshold", "largest class"  # what decides which pixels are a lesion


@dataclass(frozen=True)
class Counts:
    """How many inputs a run had, how many were segmented, failed, or kept."""

    inputs: int
    ok: int
    failed: int
    kept: int  # of the ok ones, from an earlier run


def describe_run(
    args: argparse.Namespace, contract: Contract, facts: Mapping[str, Any], counts: Counts, seconds: float
) -> dict[str, Any]:
    """Return what run.json holds; facts: the pool's engine and packages, the reason for that engine, and workers."""
    model, engine = contract.model, facts["engine"]
    return {
        "versions": facts["versions"],
        "model": {"id": model.id, "version": model.version, "sha256": model.sha256, "path": str(args.model or "")},
        "threshold": None if contract.output.activation == "softmax" else facts["threshold"],
        "mask_rule": LARGEST_CLASS if contract.output.activation == "softmax" else THRESHOLD,
        "input_scale_from": contract.input.scale_from,
        "intended_use": contract.intended_use,
        "engine": {"asked": args.engine, "used": engine["name"], "reason": facts["reason"]},
        "threads": engine["threads"],
        "workers": facts["workers"],
        "counts": asdict(counts),
        "images_per_second": round((counts.inputs - counts.kept) / seconds, 3),
        "started": format_local_time(-seconds),
        "seconds": round(seconds, 3),
        "host": describe_host(),
        "arguments": [str(item) for item in args.inputs]
        + [f"{key}={value}" for key, value in sorted(vars(args).items()) if key != "inputs" and value],
    }


def count_flags(rows: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """Return how many rows have each flag, the most frequent first."""
    return dict(Counter(flag for row in rows for flag in row["flags"].split(";") if flag).most_common())


def describe_page(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the gallery's header shows of a run."""
    return {
        "model_id": facts["model"]["id"],
        "model_version": facts["model"]["version"],
        "model_sha256": facts["model"]["sha256"],
        "threshold": facts["threshold"] if facts["mask_rule"] == THRESHOLD else f"none: the {LARGEST_CLASS} decides",
        "engine": facts["engine"]["used"],
        "threads": facts["threads"],
        "ok": facts["counts"]["ok"],
        "failed": facts["counts"]["failed"],
        "images_per_second": facts["images_per_second"],
        "started": facts["started"],
        "version": facts["versions"]["edge-seg"],
        "intended_use": facts["intended_use"],
        "warning": f"Warning: {ASSUMED_INPUT}." if facts["input_scale_from"] == "assumed" else "",
        "limits": "" if facts["model"]["path"] else EMBEDDED_LIMITS,
    }
