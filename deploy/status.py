"""What is installed, since when, and why something is not: for a person and for a program."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from .audit import read_head
from .service import read_setting
from .slots import find_files, read_current, read_slots

MEANINGS = {
    "installing": "its installation was interrupted; edge-deploy check clears it up",
    "trial": "the look at the service was interrupted; edge-deploy check makes up for it",
}


def read_status(root: Path) -> dict[str, Any]:
    """Return the facts; raises OutputError where a record is damaged."""
    current, head, setting = read_current(root), read_head(root), read_setting(root)
    slots = []
    for slot in read_slots(root):
        files = find_files(root, slot.name).is_dir()
        reason = slot.reason or MEANINGS.get(slot.state, "")
        slots.append(asdict(slot) | {"current": slot.name == current, "files": files, "reason": reason})
    return {
        "root": str(root),
        "current": current or None,
        "slots": slots,
        "service": asdict(setting) if setting else None,
        "audit_head": f"{head.n}:{head.hash}" if head else None,
    }


def to_text(status: dict[str, Any]) -> str:
    """Return the table that a person reads."""
    if not status["slots"]:
        return f"{status['root']}: nothing is installed"
    lines = [f"  {'slot':<28} {'state':<10} {'since':<25} {'edge-seg':<9} {'model':<24} {'ms':>7}"]
    for slot in status["slots"]:
        model = f"{slot['model_id']} {slot['model_version']}"
        took = "" if slot["latency_ms"] is None else f"{slot['latency_ms']:.1f}"
        mark = "*" if slot["current"] else " "
        state = slot["state"] if slot["files"] else f"{slot['state']}, gone"
        lines.append(
            f"{mark} {slot['name']:<28} {state:<10} {slot['since']:<25} {slot['software']:<9} {model:<24} {took:>7}"
        )
        if slot["reason"]:
            lines.append(f"      {slot['reason']}")
    lines.append(f"audit log: {status['audit_head'] or 'none'}")
    return "\n".join(lines)
