"""What is installed, since when, and why did a slot fail? As text and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from .audit_log import read_head
from .service import read_settings
from .slots import has_files, read_current, read_slots

MEANINGS = {
    "installing": "its installation was interrupted; edge-deploy check removes it",
    "trial": "the check of the service was interrupted; edge-deploy check repeats it",
}


def read_status(root: Path) -> dict[str, Any]:
    """Return the slots, the service's settings and the audit log's head, as JSON. Raises: OutputError."""
    current, head, settings = read_current(root), read_head(root), read_settings(root)
    slots = []
    for slot in read_slots(root):
        files = has_files(root, slot.name)
        reason = slot.reason or MEANINGS.get(slot.state, "")
        slots.append(asdict(slot) | {"current": slot.name == current, "files": files, "reason": reason})
    return {
        "root": str(root),
        "current": current or None,
        "slots": slots,
        "service": asdict(settings) if settings else None,
        "audit_head": f"{head.n}:{head.hash}" if head else None,
    }


def format_status(status: dict[str, Any]) -> str:
    """Return the status as a table of text."""
    if not status["slots"]:
        return f"{status['root']}: nothing is installed"
    lines = [f"  {'slot':<28} {'state':<10} {'since':<25} {'edge-seg':<9} {'model':<24} {'ms':>7}"]
    for slot in status["slots"]:
        model = f"{slot['model_id']} {slot['model_version']}"
        ms = "" if slot["latency_ms"] is None else f"{slot['latency_ms']:.1f}"
        mark = "*" if slot["current"] else " "
        state = slot["state"] if slot["files"] else f"{slot['state']}, gone"
        lines.append(
            f"{mark} {slot['name']:<28} {state:<10} {slot['since']:<25} {slot['software']:<9} {model:<24} {ms:>7}"
        )
        if slot["reason"]:
            lines.append(f"      {slot['reason']}")
    lines.append(f"audit log: {status['audit_head'] or 'none'}")
    return "\n".join(lines)
