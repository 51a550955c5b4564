"""What does the command print about a conversion? One table, made of the JSON report alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .words import (
    WORDS,
    Report,
    format_calibration,
    format_flag_limits,
    format_float_layers,
    format_layout,
    format_left_out,
    format_number,
    format_partitions,
    format_proofs,
    format_scaling,
    format_score,
    format_shape,
    format_share,
    format_tidied,
    format_times,
    format_tried,
    format_upsampling,
    format_value,
    format_weights,
    join_counts,
)


def list_image_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the table's rows on check, policy and files tried; none where there was no check."""
    rows: list[tuple[str, str]] = []
    if report["check"]:
        rows += list_check_rows(report["check"])
    if report["policy"]:
        policy = report["policy"]
        rows.append(("policy", f"{'met' if policy['met'] else 'not met'}: {policy['why']}"))
    if len(report["tournament"]) > 1:
        rows += [("tried", format_tried(entry)) for entry in report["tournament"]]
    return rows + [("kept float", format_float_layers(report, name)) for name in report["drill_down"]]


def list_check_rows(check: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a check's rows: what it was done on, each score of the three models, agreement with Keras."""
    truth = "masks" if check["truth"] == "masks" else "Keras' own masks as the truth"
    rows = [
        (
            "checked on",
            f"{check['images']} images with {truth}, {check['lesions']} show a lesion{format_left_out(check)}",
        )
    ]
    names = [WORDS.get(score["name"], score["name"].replace("iou_", "IoU of ")) for score in check["scores"]]
    rows += [
        (name, format_score(score))
        for name, score in zip(names, check["scores"], strict=True)
        if not isinstance(score["keras"], str)
    ]
    changed = [check[side]["changed_pixels"] for side in ("result", "fp32")]
    text = f"{format_share(changed[0])} of pixels changed ({format_share(changed[1])} by static FP32)"
    return [*rows, ("against Keras", f"{text}; IoU of the masks {format_value(check['result']['mean_iou'])}")]


def to_table(report: Report) -> str:
    """Return the table that the command prints."""
    audit, checks, given = report["audit"], report["checks"], report["input"]
    rows = [
        *(("warning", text) for text in report["warnings"]),
        ("size", f"{report['size_bytes'] / 1e6:.2f} MB, {report['fraction_of_fp32']:.1%} of static FP32"),
        ("operations", f"{sum(audit['operations'].values())}: " + join_counts(audit["operations"])),
        ("weight tensors", format_weights(audit["weights"])),
        ("upsampling", format_upsampling(report)),
        *([("tidied", format_tidied(report))] if report["tidied"] else []),
        *([("arithmetic", format_proofs(audit["proofs"]))] if audit["proofs"] else []),
        *([("calibration", format_calibration(report["calibration"]))] if report["calibration"] else []),
        ("XNNPACK", format_partitions(audit)),
        ("against Keras", f"largest difference {format_number(checks['largest_difference'])}, "
         f"{checks['changed_pixels']:.3%} of pixels changed, on {checks['images']} drawn images"),
        *([("reference", f"the outputs of {report['reference']}")] if report.get("reference") else []),
        *([("speed", format_times(report))] if report["speed_ratio"] is not None else []),
        *list_image_rows(report),
        *([("layout", format_layout(report["choice"]))] if report["choice"]["table"] else []),
        ("input", f"{given['colour']} {format_shape(given['shape'])} {given['dtype']}, "
         f"{format_scaling(given)}"),
        ("output", f"{report['output']['activation']} {format_shape(report['output']['shape'])}: "
         + ", ".join(label["name"] for label in report["output"]["labels"])),
        *([("classes", f"{report['classes']['activation']}: {', '.join(report['classes']['labels'])}")]
          if report["classes"] else []),
        ("threshold", f"{report['threshold']['value']:g} (from {report['threshold']['from']})"),
        *([("flags", format_flag_limits(report["triage"]))] if report.get("triage") else []),
        *([("notes", "; ".join(report["notes"]))] if report["notes"] else []),
        *([("allowed", ", ".join(report["allowed"]))] if report["allowed"] else []),
    ]  # fmt: skip
    return "\n".join(f"{name:<15} {text}" for name, text in rows)
