"""What is worth keeping between runs, in the user's cache folder; a run without one is slower, never wrong."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

SCRATCH = "unfinished-"
DAY_S = 86_400


def cache_folder(kind: str) -> Path:
    """Return XDG_CACHE_HOME/edge-seg/`kind`, made for this user alone. Raises: OSError where there can be none."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111, PTH117
    if not base.is_absolute():
        raise FileNotFoundError("this user has no home folder")
    folder = base / "edge-seg" / kind
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def keep_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, and say nothing where it cannot be: it would only have saved time."""
    import tempfile

    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=SCRATCH, dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def forget_old(folder: Path, kept: int) -> None:
    """Leave the `kept` most recently used entries; what a killed run left unfinished goes after a day."""
    with suppress(OSError):
        entries = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        whole = [path for path in entries if not path.name.startswith(SCRATCH)]
        late = time.time() - DAY_S
        stale = [path for path in entries if path.name.startswith(SCRATCH) and path.stat().st_mtime < late]
        for path in [*whole[kept:], *stale]:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder of files."""
    with suppress(OSError):
        if path.is_dir():
            for inner in path.iterdir():
                inner.unlink()
            path.rmdir()
        else:
            path.unlink()


def child_command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that run a module of this package in a process of its own.

    -P: the working directory may hold anything, a json.py too, and is not searched for modules.
    Raises: OSError where this Python cannot start another.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise FileNotFoundError("this Python cannot start another")
    package = str(Path(__file__).resolve().parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
