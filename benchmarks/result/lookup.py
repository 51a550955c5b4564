"""Which value of a result does a path such as `subjects.drq-litert-2.latency.p50_ms` name?"""

from __future__ import annotations

import math
from typing import Any

Result = dict[str, Any]


def find(result: Any, path: str) -> Any:
    """Return the value at a path of keys and list positions; None where there is none."""
    for step in path.split("."):
        if isinstance(result, dict):
            result = result.get(step)
        elif isinstance(result, list) and step.isdecimal() and int(step) < len(result):
            result = result[int(step)]
        else:
            return None
    return result


def find_number(result: Result, path: str) -> float | None:
    """Return the finite number at a path; None where there is none."""
    value = find(result, path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
