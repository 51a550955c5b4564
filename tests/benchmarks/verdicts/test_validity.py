"""What makes a run invalid or inconclusive: each reason alone in a result that is valid otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.verdicts.validity import assess_run

Result = dict[str, Any]
SOURCES = {"drq": "a" * 64, "fp32": "a" * 64, "keras": "a" * 64}


def make_state(**more: Any) -> Result:
    return {"steal_percent": 0.0, "busy_percent": 1.0, "others_percent": 2.0, "throttled_by": [], "swapped_pages": 0,
            "governor": "performance", **more}  # fmt: skip


def make_subject(role: str, recipe: str) -> Result:
    return {"status": "ok", "role": role, "recipe": recipe, "latency": {"spread": 0.02},
            "warm_up": {"stable": True, "runs": 12}}  # fmt: skip


def make_result() -> Result:
    return {
        "machine": {"before": make_state(), "during": [make_state() for _ in range(30)], "after": make_state()},
        "subjects": {"drq": make_subject("subject", "drq"), "fp32": make_subject("baseline", "fp32"),
                     "keras": make_subject("baseline", "fp32"), "peer": {"status": "absent", "role": "peer"}},
        "pairs": [{"subject": "drq", "baseline": "fp32"}],
        "end_to_end": {"wall_ms": 1000.0, "other_ms": 20.0},
        "accuracy": {"drq": {"changed_pixels": 0.02}, "keras": {"changed_pixels": 0.0}},
    }  # fmt: skip


def plant_steal(result: Result) -> None:
    for state in result["machine"]["during"][:10]:
        state["steal_percent"] = 8.0


def plant_throttling(result: Result) -> None:
    result["machine"]["during"][7]["throttled_by"] = ["under-voltage"]


def plant_swap(result: Result) -> None:
    result["machine"]["during"][3]["swapped_pages"] = 5000


def plant_governor(result: Result) -> None:
    result["machine"]["after"]["governor"] = "powersave"


def plant_failure(result: Result) -> None:
    result["accuracy"]["drq"] = {"changed_pixels": None, "failed": 3, "why": "3 of 20 images have no result: NaN"}


def plant_others(result: Result) -> None:
    for state in result["machine"]["during"]:
        state.update(others_percent=25.0, busiest_other="chromium")


def plant_busy(result: Result) -> None:
    result["machine"]["before"]["busy_percent"] = 60.0


def plant_spread(result: Result) -> None:
    result["subjects"]["fp32"]["latency"]["spread"] = 0.2


def plant_warm_up(result: Result) -> None:
    result["subjects"]["drq"]["warm_up"] = {"stable": False, "runs": 100}


def plant_gap(result: Result) -> None:
    result["end_to_end"]["other_ms"] = 80.0


def plant_stranger(result: Result) -> None:
    result["accuracy"]["keras"]["changed_pixels"] = 0.01


@pytest.mark.parametrize(
    ("plant", "status", "words"),
    [
        (plant_steal, "invalid", "the host took 2.7 %"),
        (plant_throttling, "invalid", "slowed down: under-voltage"),
        (plant_swap, "invalid", "5000 pages were swapped"),
        (plant_governor, "invalid", "governor changed: performance, powersave"),
        (plant_failure, "invalid", "drq: 3 of 20 images"),
        (plant_others, "inconclusive", "other programs took 25 % of the processors, most of all chromium"),
        (plant_busy, "inconclusive", "60 % of the processors were busy before"),
        (plant_spread, "inconclusive", "fp32: times spread by 20%"),
        (plant_warm_up, "inconclusive", "drq: times had not settled after 100 runs"),
        (plant_gap, "inconclusive", "all but 8% of the time"),
        (plant_stranger, "inconclusive", "keras changes 1.00% of the pixels of the other FP32 baseline"),
    ],
)
def test_each_reason_is_found_alone(plant: Callable[[Result], None], status: str, words: str) -> None:
    """One planted fault: its status, and one reason that names it."""
    result = make_result()
    plant(result)
    found = assess_run(result, SOURCES)
    assert found["status"] == status
    assert len(found["reasons"]) == 1 and words in found["reasons"][0]


def test_a_quiet_run_is_valid() -> None:
    """With no reason, though a quantized model changes pixels and a peer is absent."""
    assert assess_run(make_result(), SOURCES) == {"status": "valid", "reasons": []}


def test_swapped_baselines_are_found() -> None:
    """A baseline that was trained differently is no baseline."""
    found = assess_run(make_result(), SOURCES | {"fp32": "b" * 64})
    assert found["status"] == "inconclusive" and "come from different trained models" in found["reasons"][0]


def test_invalid_goes_before_inconclusive() -> None:
    """With both, all reasons are listed, and the status is invalid."""
    result = make_result()
    plant_spread(result)
    plant_steal(result)
    found = assess_run(result, SOURCES)
    assert found["status"] == "invalid" and len(found["reasons"]) == 2


def test_what_the_system_does_not_provide_is_no_reason() -> None:
    """States of nulls make no run invalid."""
    result = make_result()
    empty = dict.fromkeys(make_state())
    result["machine"] = {"before": empty, "during": [empty], "after": empty}
    result["accuracy"] = result["end_to_end"] = None
    assert assess_run(result, SOURCES)["status"] == "valid"
