"""How are files written on a device? Whole or not at all, and so that they survive a power cut."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_runtime.system.files import write_file

MAKE_ROOM = "make room, or check who owns the folder"


def write_durably(path: Path, data: bytes) -> None:
    """Write a file, and its folder's list of names, to the disk. Raises: OutputError."""
    write_file(path, data, sync_name=True, fix=MAKE_ROOM)


def write_json(path: Path, fields: Any) -> None:
    """Write indented JSON with sorted keys. Raises: OutputError."""
    write_durably(path, (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode())


def format_now() -> str:
    """Return the time now, UTC, to the second: 2026-01-31T12:00:00+00:00."""
    return datetime.now(UTC).isoformat(timespec="seconds")
