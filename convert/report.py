"""A conversion in words: the JSON that holds everything, and the table for people, made of the JSON alone."""

from __future__ import annotations

import math
from dataclasses import asdict
from statistics import median
from typing import Any

from edge_runtime.contract import Contract

from .account import to_rows
from .candidate import Candidate

FORMAT = "edge-seg-conversion/2"
Report = dict[str, Any]


def to_report(candidate: Candidate, facts: dict[str, Any], sha256: str) -> Report:
    """Return the report as plain data. sha256 is of the stamped file; milliseconds are raw samples, taken in turns."""
    audit, contract = candidate.audit, candidate.contract
    return {
        "format": FORMAT,
        "model": {"id": contract.model.id, "version": contract.model.version, "sha256": sha256},
        "recipe": contract.recipe,
        "size_bytes": audit.size_bytes,
        "fp32_bytes": audit.fp32_bytes,
        "fraction_of_fp32": round(audit.size_bytes / audit.fp32_bytes, 4),
        "parameters": facts["weights"],
        "macs": sum(cost.macs for cost in audit.costs),
        "audit": asdict(audit),
        "checks": {name: spell(value) for name, value in asdict(candidate.checks).items()},
        "clock_ms": candidate.clock,
        "speed_ratio": candidate.ratio,
        "choice": asdict(candidate.choice),
        "rewritten": candidate.rewritten,
        "tidied": facts["tidied"],
        "calibration": None if contract.calibration is None else asdict(contract.calibration),
        "source": asdict(contract.source),
        "kind": facts["kind"],
        "input": {**asdict(contract.input), "why": say_scale(contract, facts["scale_why"])},
        "output": asdict(contract.output),
        "classes": None if contract.classes is None else asdict(contract.classes),
        "threshold": {"value": contract.threshold.value, "from": contract.threshold.from_},
        "triage": None if contract.triage is None else asdict(contract.triage),
        "notes": facts["notes"],
        "allowed": list(contract.allowed),
    }


def say_scale(contract: Contract, why: str) -> str:
    """Return where scale and offset come from; those of an int8 input count its own steps."""
    return f"{why}; in steps of the int8 input" if contract.input.dtype == "int8" else why


def spell(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinity by name, never as a number."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def to_table(report: Report) -> str:
    """Return the table that the command prints."""
    audit, checks, given = report["audit"], report["checks"], report["input"]
    rows = [
        ("size", f"{report['size_bytes'] / 1e6:.2f} MB, {report['fraction_of_fp32']:.1%} of static FP32"),
        ("operations", f"{sum(audit['operations'].values())}: " + join_counts(audit["operations"])),
        ("weight tensors", say_weights(audit["weights"])),
        ("upsampling", say_upsampling(report)),
        *([("tidied", say_tidied(report))] if report["tidied"] else []),
        *([("arithmetic", say_proofs(audit["proofs"]))] if audit["proofs"] else []),
        *([("calibration", say_calibration(report["calibration"]))] if report["calibration"] else []),
        ("XNNPACK", say_partitions(audit)),
        ("against Keras", f"largest difference {say_number(checks['largest_difference'])}, "
         f"{checks['changed_pixels']:.3%} of pixels changed, on {checks['images']} drawn images"),
        *([("speed", say_clock(report))] if report["speed_ratio"] is not None else []),
        *to_rows(report),
        *([("layout", say_choice(report["choice"]))] if report["choice"]["table"] else []),
        ("input", f"{given['colour']} {say_shape(given['shape'])} {given['dtype']}, pixel * "
         f"{given['scale']:.6g} + {given['offset']:g} ({given['why']})"),
        ("output", f"{report['output']['activation']} {say_shape(report['output']['shape'])}: "
         + ", ".join(label["name"] for label in report["output"]["labels"])),
        *([("classes", f"{report['classes']['activation']}: {', '.join(report['classes']['labels'])}")]
          if report["classes"] else []),
        ("threshold", f"{report['threshold']['value']:g} (from {report['threshold']['from']})"),
        *([("flags", say_triage(report["triage"]))] if report.get("triage") else []),
        *([("notes", "; ".join(report["notes"]))] if report["notes"] else []),
        *([("allowed", ", ".join(report["allowed"]))] if report["allowed"] else []),
    ]  # fmt: skip
    return "\n".join(f"{name:<15} {text}" for name, text in rows)


def say_triage(triage: Any) -> str:
    """Return what the device can tell of an input, and from what."""
    if triage["ranges"]:
        return f"inputs unlike {triage['count']} measured images, implausible results"
    return "blank and saturated inputs, implausible results; images of [triage] in the TOML file would tell more"


def say_number(value: Any) -> str:
    """Return a number that `spell` may have spelled."""
    return value if isinstance(value, str) else f"{value:.2g}"


def say_shape(sides: Any) -> str:
    """Return a shape as 1x224x224x3."""
    return "x".join(map(str, sides))


def join_counts(counts: dict[str, int]) -> str:
    """Return 'CONV_2D 12, ADD 4'."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def say_weights(weights: Any) -> str:
    """Return how many weight tensors have which type, and why some stayed float."""
    types = [weight["dtype"].lower() for weight in weights]
    counts = ", ".join(f"{types.count(kind)} {kind}" for kind in dict.fromkeys(sorted(types)))
    reasons = [weight["reason"] for weight in weights if weight["reason"]]
    why = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    return (counts or "none") + (f" ({why})" if why and len(reasons) < len(weights) else "")


def say_upsampling(report: Report) -> str:
    """Return what became of the transposed convolutions."""
    kept = report["audit"]["operations"].get("TRANSPOSE_CONV", 0)
    forms = [report["choice"]["forms"].get(name, "") for name in report["rewritten"]]
    if not forms and not kept:
        return "no transposed convolution"
    said = [f"{forms.count(form)} rewritten as {form}" for form in dict.fromkeys(forms)]
    return "transposed convolutions: " + ", ".join([*said, f"{kept} kept"])


def say_tidied(report: Report) -> str:
    """Return what else was rewritten, exactly."""
    return ", ".join(f"{count} {what}" for what, count in report["tidied"].items())


def say_proofs(proofs: Any) -> str:
    """Return what was proven of the weights."""
    wrong = [proof for proof in proofs if not proof["holds"]]
    integers = [proof for proof in proofs if proof["dtype"] == "int8"]
    if wrong:
        return f"{len(wrong)} of {len(proofs)} weight tensors do not hold; the first: {wrong[0]['why']}"
    if not integers:
        return f"{len(proofs)} weight tensors are the float32 file's, rounded to their type at most"
    most = max(proof["largest_error"] for proof in integers)
    filters = sum(proof["scales"] for proof in integers)
    return (
        f"{len(integers)} int8 weight tensors: {filters} scales max |w| / 127, integers in [-127, 127], each within "
        f"{most:.2f} steps of its weight"
    )


def say_calibration(calibration: Any) -> str:
    """Return on how many images the activations' ranges were measured, and which."""
    return f"{calibration['count']} images, SHA-256 {calibration['sha256'][:12]}…"


def say_partitions(audit: Any) -> str:
    """Return in how many pieces XNNPACK takes the graph, and what it leaves out."""
    if audit["partitions"] is None:
        return "unknown"
    text, outside = f"{audit['partitions']} partition" + "s" * (audit["partitions"] != 1), audit["outside"]
    if not outside:
        return f"{text}, nothing outside"
    more = f" and {len(outside) - 4} more" if len(outside) > 4 else ""
    return f"{text}; {len(outside)} operations outside: {', '.join(outside[:4])}{more}"


def say_clock(report: Report) -> str:
    """Return the ratio, with the quarter and three quarters of the rounds; milliseconds alone mean little."""
    clock = report["clock_ms"]
    ratios = sorted(a / b for a, b in zip(clock["result"], clock["fp32"], strict=True))
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    return (
        f"{report['speed_ratio']:.2f} of static FP32's time (half of {len(ratios)} rounds: {low:.2f} to {high:.2f}; "
        f"{median(clock['result']):.3g} against {median(clock['fp32']):.3g} ms, 2 threads)"
    )


def say_choice(choice: Any) -> str:
    """Return what was tried, fastest first."""
    tried = sorted(choice["table"], key=lambda row: row["ratio"])
    rows = ", ".join(f"{row['what']} {row['ratio']:.2f} ({row['bytes'] / 1e6:.2f} MB)" for row in tried[:4])
    return f"{choice['why']}: {rows}; {len(choice['kept'])} layers left float"
