"""Tells on one line, as JSON, whether the service of a root is well: health.py ROOT SECONDS. Exit 1 if it is not.

Well is: no service was set up; or its OUT/health.json is at most SECONDS old by this device's own clock, and its state
is neither blocked nor stopped. The loop for systems without systemd writes no health.json: it is not judged.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

WELL = ("starting", "idle", "busy")


def judge(root: Path, seconds: float) -> dict[str, Any]:
    """Return {well, state, why}."""
    try:
        setting = root / "service.json"
        if not setting.exists():
            return {"well": True, "state": "none", "why": "no service was set up"}
        path = Path(json.loads(setting.read_bytes())["out"]) / "health.json"
        if not path.exists() and (root / "loop.sh").exists():
            return {"well": True, "state": "loop", "why": "the loop without systemd writes no health.json"}
        age = time.time() - path.stat().st_mtime
        health = json.loads(path.read_bytes())
        state, error = str(health["state"]), health.get("error")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as trouble:
        return {"well": False, "state": "unknown", "why": f"{type(trouble).__name__}: {trouble}"[:300]}
    if age > seconds:
        return {"well": False, "state": "gone", "why": f"its health.json is {age:.0f} s old, {seconds:g} s at most"}
    return {"well": state in WELL, "state": state[:40], "why": str(error)[:300] if error else ""}


if __name__ == "__main__":
    found = judge(Path(sys.argv[1]), float(sys.argv[2]))
    print(json.dumps(found))
    sys.exit(0 if found["well"] else 1)
