"""The report as Markdown: made of the JSON alone, whole tables whatever the names, nothing said that was not found."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from convert.report.markdown import to_markdown

SCORES = [
    {"name": "mean_iou", "keras": 0.81, "fp32": 0.81, "result": 0.8096, "drop": 0.0004, "low": -0.0001, "high": 0.0009},
    {"name": "iou_lesion", "keras": 0.63, "fp32": 0.63, "result": 0.629, "drop": 0.001, "low": -0.0002, "high": 0.002},
    {
        "name": "false_alarms",
        "keras": "nan",
        "fp32": "nan",
        "result": "nan",
        "drop": "nan",
        "low": "nan",
        "high": "nan",
    },
]
REPORT: dict[str, Any] = {
    "warnings": [],
    "format": "edge-seg-conversion/2",
    "model": {"id": "net", "version": "3", "sha256": "b" * 64},
    "recipe": "drq",
    "size_bytes": 3_470_000,
    "fp32_bytes": 12_470_000,
    "fraction_of_fp32": 0.2783,
    "parameters": 3_117_113,
    "macs": 439_000_000,
    "audit": {
        "costs": [
            {"operation": "CONV_2D", "count": 85, "macs": 439_000_000, "constant_bytes": 3_251_100},
            {"operation": "ADD", "count": 43, "macs": 0, "constant_bytes": 0},
        ],
        "versions": {"CONV_2D": 5, "ADD": 1},
        "weights": [
            {"dtype": "INT8", "reason": "", "elements": 4096},
            {"dtype": "FLOAT32", "reason": "fewer than 1024 weights", "elements": 100},
        ],
        "partitions": 2,
        "outside": ["MAX_POOL_2D of layer 'skip'"],
        "findings": [],
        "operations": {"CONV_2D": 85, "ADD": 43, "TRANSPOSE_CONV": 1},
        "proofs": [{"dtype": "int8", "holds": True, "scales": 64, "largest_error": 0.5}],
    },
    "tidied": {"strided pooling": 3},
    "rewritten": {"up": 0},
    "calibration": {"count": 120, "sha256": "c" * 64},
    "checks": {"images": 6, "largest_difference": 0.15, "changed_pixels": 0.0002},
    "clock_ms": {"fp32": [30.0, 31.0, 32.0, 33.0], "result": [20.0, 21.0, 22.0, 23.0]},
    "speed_ratio": 0.68,
    "choice": {
        "table": [{"what": "rewritten", "bytes": 3_390_000, "kept": 0, "ratio": 0.7}],
        "why": "measured",
        "kept": [],
        "forms": {"up": "phases"},
    },
    "source": {"sha256": "a" * 64, "versions": {"keras": "3.15.1"}},
    "kind": "keras",
    "isolation": "files by Landlock 7",
    "input": {"colour": "grey", "shape": [1, 192, 192, 1], "dtype": "float32", "scale": 1 / 255, "offset": 0.0,
              "intensity": {"images": "bit-depth", "series": "slice-min-max"}, "why": "nothing says"},
    "output": {"activation": "sigmoid", "shape": [1, 192, 192, 1], "dtype": "float32", "labels": [{"name": "lesion"}]},
    "threshold": {"value": 0.5, "from": "default"},
    "notes": ["rebuilt in float32"],
    "allowed": [],
    "check": {
        "truth": "masks",
        "images": 80,
        "lesions": 70,
        "absent": [],
        "scores": SCORES,
        "fp32": {"changed_pixels": 0.0, "mean_iou": 1.0},
        "result": {"changed_pixels": 0.0001, "mean_iou": 0.996},
        "rows": [{"file": "a.png", "drop": 0.01, "dice": {"keras": 0.9, "result": 0.89}, "changed_pixels": 0.002}],
        "worst": [{"row": 0, "picture": "net.worst/01-a.png"}],
        "left_out": [{"file": "b.png", "why": "it has no mask b.png"}],
    },
    "policy": {"met": True, "strict": False, "why": "mean IoU drops by 0.0004"},
    "tournament": [
        {"recipe": "drq", "kept": 0, "outcome": "lost", "why": "drops", "size_bytes": 3_350_000, "ratio": 0.6,
         "ms": 19.0, "drop": 0.02},
        {"recipe": "drq", "kept": 1, "outcome": "taken", "why": "met", "size_bytes": 3_470_000, "ratio": 0.68,
         "ms": 21.5, "drop": 0.0004},
        {"recipe": "fp16", "kept": 0, "outcome": "lost", "why": "refused", "size_bytes": None, "ratio": None,
         "ms": None, "drop": None},
    ],
    "drill_down": {
        "drq": {
            "kept": ["net/conv_7"], "met": True, "drop": 0.0004, "size_bytes": 3_470_000, "before_bytes": 3_350_000,
            "layers": 58,
            "trials": [{"names": ["net/conv_7"], "damage": 0.02}, {"names": ["net/a", "net/b"], "damage": 0.0}],
            "steps": [{"kept": 0, "size_bytes": 3_350_000, "drop": 0.02, "met": False},
                      {"kept": 1, "size_bytes": 3_470_000, "drop": 0.0004, "met": True}],
        }
    },
}  # fmt: skip


@pytest.fixture
def report() -> dict[str, Any]:
    return copy.deepcopy(REPORT)


def check_tables(words: str) -> None:
    """Assert that every row of a table has as many cells as its head."""
    for block in words.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1, block


def test_it_says_what_the_json_says(report: dict[str, Any]) -> None:
    """Size, speed with its spread, scores with intervals, the files tried, the layers kept and their cost are there."""
    words = to_markdown(json.loads(json.dumps(report)))
    check_tables(words)
    for said in (
        "# `net` as drq",
        "3.47 MB, 27.8% of the float32 file; 0.68 of its time",
        "Mean IoU 0.8096 against Keras' 0.8100, on 80 images.",
        "The policy is met: mean IoU drops by 0.0004.",
        "| mean IoU | 0.8100 | 0.8100 | 0.8096 | +0.00040 | −0.00010 to +0.00090 |",
        "half of the rounds lie between 0.68 and 0.70",
        "| [a.png](net.worst/01-a.png) | +0.01000 | 0.9000 | 0.8900 | 0.200% |",
        "- `b.png`: it has no mask b.png",
        "1 of 58 layers kept float, for 0.12 MB more, 0.68 instead of 0.60 of static FP32's time",
        "| `net/conv_7` | 2.000% | kept float |",
        "| `CONV_2D` | 85 | v5 | 439.0 | 100.0% | 3,251.1 |",
        "- MAX_POOL_2D of layer 'skip'",
        "| Source SHA-256 | `" + "a" * 64,
        "- rebuilt in float32",
        "- proven of the weights: 1 int8 weight tensors: 64 scales",
        "- rewritten, exactly: 3 strided pooling",
        "- transposed convolutions: 1 rewritten as phases, 1 kept",
        "| Calibration | 120 images, SHA-256 `" + "c" * 64,
    ):
        assert said in words, said
    assert "false alarms" not in words  # no image without lesion: nothing to say
    assert not re.search(r"\bnan\b", words)


def test_nothing_is_said_of_what_was_not_done(report: dict[str, Any]) -> None:
    """Without images, policy, times, layout, notes and layers left float there are no sections of theirs."""
    nothing = ("check", "policy", "speed_ratio", "calibration")
    report |= dict.fromkeys(nothing) | {what: {} for what in ("drill_down", "clock_ms", "tidied", "rewritten")}
    report |= {"tournament": report["tournament"][:1], "notes": []}
    report["choice"] |= {"table": [], "forms": {}}
    report["audit"] |= {"partitions": None, "proofs": [], "operations": {}}
    words = to_markdown(report)
    check_tables(words)
    assert "It was not checked on images." in words
    for title in ("Files tried", "Layers kept", "layout", "Notes", "Where it lost"):
        assert f"## {title}" not in words
    assert "is not known" in words
    assert "On 6 drawn images" in words


def test_names_break_no_table_and_run_nothing(report: dict[str, Any]) -> None:
    """Pipes, backticks, newlines, links and HTML in names and reasons stay text."""
    hostile = "a|b`c\n## d <script>alert(1)</script> [x](http://y) *z*"
    report["model"]["id"] = hostile
    report["notes"] = [hostile]
    report["output"]["labels"] = [{"name": hostile}]
    report["check"]["rows"][0]["file"] = hostile
    report["check"]["left_out"] = [{"file": hostile, "why": hostile}]
    report["audit"]["outside"] = [hostile]
    report["audit"]["findings"] = [{"name": "size", "where": hostile}]
    report["drill_down"]["drq"]["trials"][0]["names"] = [hostile]
    words = to_markdown(report)
    check_tables(words)
    outside_code = re.sub(r"`[^`\n]*`", "", words)
    assert "<script" not in outside_code
    assert not re.search(r"(?<!\\)\[x", outside_code)
    assert "\n## d" not in words
