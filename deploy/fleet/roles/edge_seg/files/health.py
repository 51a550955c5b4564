"""Is the service of a root healthy? health.py ROOT SECONDS prints one line of JSON; exit status 1 if it is not.

Healthy: no service was set up; or its OUT/health.json is at most SECONDS old by this device's own clock, and its state
is neither blocked nor stopped. The loop for systems without systemd writes no health.json: it counts as healthy.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 20
HEALTHY = ("starting", "idle", "busy")


def check_health(root: Path, seconds: float) -> dict[str, Any]:
    """Return {well, state, why}."""
    try:
        setting = root / "service.json"
        if not setting.exists():
            return {"well": True, "state": "none", "why": "no service was set up"}
        path = Path(read_facts(setting)[0]["out"]) / "health.json"
        if not path.exists() and (root / "loop.sh").exists():
            return {"well": True, "state": "loop", "why": "the loop without systemd writes no health.json"}
        health, written = read_facts(path)
        age = time.time() - written
        state, why = str(health["state"]), health.get("error")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return {"well": False, "state": "unknown", "why": f"{type(error).__name__}: {error}"[:300]}
    if age > seconds:
        return {"well": False, "state": "gone", "why": f"its health.json is {age:.0f} s old, {seconds:g} s at most"}
    return {"well": state in HEALTHY, "state": state[:40], "why": str(why)[:300] if why else ""}


def read_facts(path: Path) -> tuple[Any, float]:
    """Return the JSON in a regular file, and when it was written; no pipe or device is waited for."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError(f"{path} is not a regular file")
        return json.loads(file.read(MAX_BYTES)), facts.st_mtime


if __name__ == "__main__":
    found = check_health(Path(sys.argv[1]), float(sys.argv[2]))
    print(json.dumps(found))
    sys.exit(0 if found["well"] else 1)
