"""Where are results kept that would only cost time to compute again: the user's cache folder."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from edge_runtime.errors import OutputError

from .files import TEMPORARY, write_file

UNFINISHED = "unfinished-"  # begins the name of a folder that is being filled
DAY_S = 86_400


def make_cache_folder(kind: str) -> Path:
    """Return XDG_CACHE_HOME/edge-seg/`kind`, made for this user alone. Raises: OSError where there can be none."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111, PTH117
    if not base.is_absolute():
        raise FileNotFoundError("this user has no home folder")
    folder = base / "edge-seg" / kind
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def write_cached_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; that it cannot be written is no error: it would only have saved time."""
    with suppress(OutputError):
        write_file(path, text.encode(), sync=False)


def remove_old_entries(folder: Path, kept: int) -> None:
    """Keep the `kept` most recently used entries; remove what a killed run left unfinished after a day."""
    with suppress(OSError):
        entries = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        unfinished = [path for path in entries if path.name.startswith((UNFINISHED, TEMPORARY))]
        whole = [path for path in entries if path not in unfinished]
        yesterday = time.time() - DAY_S
        for path in [*whole[kept:], *(path for path in unfinished if path.stat().st_mtime < yesterday)]:
            remove_entry(path)


def remove_entry(path: Path) -> None:
    """Remove a file, or a folder of files."""
    with suppress(OSError):
        if path.is_dir():
            for inner in path.iterdir():
                inner.unlink()
            path.rmdir()
        else:
            path.unlink()
