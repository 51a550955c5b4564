"""Whether the words of a conversion's report agree with its numbers."""

from __future__ import annotations

import pytest

from convert.report.words import format_score


@pytest.mark.parametrize(
    ("drop", "low", "high", "words"),
    [
        (-1e-9, -2e-6, 3e-6, "no change"),
        (0.0, 0.0, 0.0, "no change"),
        (0.0, "unknown", "unknown", "no change"),
        (-1e-9, -0.0004, 0.0004, "lost 0.00000 (95 %: −0.00040 to 0.00040)"),
        (0.0012, 0.0003, 0.0021, "lost 0.00120 (95 %: 0.00030 to 0.00210)"),
        ("unknown", "unknown", "unknown", "lost unknown"),
    ],
)
def test_a_loss_of_nothing_is_no_change(drop: object, low: object, high: object, words: str) -> None:
    """No minus stands before zero, and what rounds to zero with its whole interval is no change."""
    score = {"keras": 0.81, "fp32": 0.81, "result": 0.81, "drop": drop, "low": low, "high": high}
    assert format_score(score).endswith(f"result 0.8100; {words}")
