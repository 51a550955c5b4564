"""A conversion in words: the table for people, the JSON for everything else."""

from __future__ import annotations

import math
from dataclasses import asdict
from statistics import median
from typing import Any

from edge_runtime.contract import Contract

from .audit import Audit
from .verify import Checks

FORMAT = "edge-seg-conversion/1"


def to_report(
    audit: Audit, checks: Checks, contract: Contract, clock: dict[str, list[float]], facts: dict[str, Any], sha256: str
) -> dict[str, Any]:
    """Return the report as plain data. sha256 is of the stamped file; milliseconds are raw samples, taken in turns."""
    return {
        "format": FORMAT,
        "model": {"id": contract.model.id, "version": contract.model.version, "sha256": sha256},
        "recipe": contract.recipe,
        "size_bytes": audit.size_bytes,
        "fp32_bytes": audit.fp32_bytes,
        "fraction_of_fp32": round(audit.size_bytes / audit.fp32_bytes, 4),
        "audit": asdict(audit),
        "checks": {name: spell(value) for name, value in asdict(checks).items()},
        "clock_ms": clock,
        "source": asdict(contract.source),
        "kind": facts["kind"],
        "rewritten": facts["rewritten"],
        "scale": {"scale": facts["scale"], "offset": facts["offset"], "why": facts["scale_why"]},
        "notes": facts["notes"],
        "allowed": list(contract.allowed),
    }


def spell(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinity by name, never as a number."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def to_table(
    audit: Audit, checks: Checks, contract: Contract, clock: dict[str, list[float]], facts: dict[str, Any]
) -> str:
    """Return the table that the command prints."""
    rows = [
        ("size", f"{audit.size_bytes / 1e6:.2f} MB, {audit.size_bytes / audit.fp32_bytes:.1%} of static FP32"),
        ("operations", f"{sum(audit.operations.values())}: " + join_counts(audit.operations)),
        ("weight tensors", say_weights(audit)),
        ("upsampling", say_upsampling(audit, facts)),
        ("XNNPACK", say_partitions(audit)),
        ("against Keras", f"largest difference {checks.largest_difference:.2g}, {checks.changed_pixels:.3%} of pixels "
         f"changed, on {checks.images} drawn images"),
        *([("speed", say_clock(clock))] if len(clock) > 1 else []),
        ("input", f"{contract.input.colour} {shape(contract.input.shape)} {contract.input.dtype}, pixel * "
         f"{contract.input.scale:.6g} + {contract.input.offset:g} ({facts['scale_why']})"),
        ("output", f"{contract.output.activation} {shape(contract.output.shape)}: "
         + ", ".join(label.name for label in contract.output.labels)),
        ("threshold", f"{contract.threshold.value:g} (from {contract.threshold.from_})"),
        *([("notes", "; ".join(facts["notes"]))] if facts["notes"] else []),
        *([("allowed", ", ".join(contract.allowed))] if contract.allowed else []),
    ]  # fmt: skip
    return "\n".join(f"{name:<15} {text}" for name, text in rows)


def shape(sides: tuple[int, ...]) -> str:
    """Return a shape as 1x224x224x3."""
    return "x".join(map(str, sides))


def join_counts(counts: dict[str, int]) -> str:
    """Return 'CONV_2D 12, ADD 4'."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def say_weights(audit: Audit) -> str:
    """Return how many weight tensors are int8 and float, and why."""
    small = sum(weight.reason.startswith("fewer") for weight in audit.weights)
    left = len(audit.weights) - audit.quantized
    return f"{audit.quantized} int8, {left} float" + (f" ({small} with fewer than 1024 weights)" if small else "")


def say_upsampling(audit: Audit, facts: dict[str, Any]) -> str:
    """Return what became of the Conv2DTranspose layers."""
    kept = audit.operations.get("TRANSPOSE_CONV", 0)
    rewritten = len(facts["rewritten"])
    if not rewritten and not kept:
        return "no Conv2DTranspose"
    return f"{rewritten} Conv2DTranspose rewritten as depth-to-space, {kept} kept"


def say_partitions(audit: Audit) -> str:
    """Return in how many pieces XNNPACK takes the graph, and what it leaves out."""
    if audit.partitions is None:
        return "unknown"
    text = f"{audit.partitions} partition" + "s" * (audit.partitions != 1)
    if not audit.outside:
        return f"{text}, nothing outside"
    more = f" and {len(audit.outside) - 4} more" if len(audit.outside) > 4 else ""
    return f"{text}; {len(audit.outside)} operations outside: {', '.join(audit.outside[:4])}{more}"


def say_clock(clock: dict[str, list[float]]) -> str:
    """Return the ratio of the medians; milliseconds on a shared machine mean little."""
    result, original = median(clock["result"]), median(clock["fp32"])
    return (
        f"{result / original:.2f} of static FP32's time ({result:.1f} against {original:.1f} ms, in turns, 2 threads)"
    )
