"""Where are results kept that would only cost time to compute again: the user's cache folder.

What is read there steers the program, packed weights even decide the masks. So a folder or file is used only if it is
what it should be, belongs to this user or root, and no one else may write to it; else it is as if it were not there.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from .files import TEMPORARY, name_temporary

UNFINISHED = "unfinished-"  # begins the name of a folder that is being filled
DAY_S = 86_400
MAX_TEXT_BYTES = 1 << 20
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UntrustedCache(OSError):
    """A folder of the cache is not this user's alone; the text says which and why."""


def make_cache_folder(kind: str) -> Path:
    """Return XDG_CACHE_HOME/edge-seg/`kind`, made for this user alone.

    Raises: OSError where there can be none, UntrustedCache where another user may change what it holds.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111, PTH117
    if not base.is_absolute():
        raise FileNotFoundError("this user has no home folder")
    for link in (part for part in (base, *base.parents) if part.is_symlink()):
        if not is_own(link.lstat()):
            raise UntrustedCache(f"{link} is another user's link")
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_folder(base, base.stat())
    folder = base
    for name in ("edge-seg", kind):
        folder = folder / name
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        check_folder(folder, folder.lstat())
    return folder


def check_folder(folder: Path, facts: os.stat_result) -> None:
    """Refuse what is no folder of this user alone. Raises: UntrustedCache."""
    if not stat.S_ISDIR(facts.st_mode):
        raise UntrustedCache(f"{folder} is not a folder")
    if not is_own(facts):
        raise UntrustedCache(f"{folder} belongs to another user")
    if facts.st_mode & WRITABLE_BY_OTHERS:
        raise UntrustedCache(f"others may write to {folder}")


def is_own(facts: os.stat_result) -> bool:
    """Tell whether a file belongs to this user, or to root, who could change anything anyway."""
    return facts.st_uid in (os.geteuid(), 0)


def find_cache_fault() -> str:
    """Return why the cache is not used, though it is there, and what to do; "" where nothing is wrong."""
    try:
        make_cache_folder("engines")
    except UntrustedCache as error:
        fix = "chmod go-w it, remove it, or set XDG_CACHE_HOME to a folder of your own"
        return f"the cache is not used, which costs time at each start: {error}; {fix}"
    except OSError:  # a system without a home, or read-only: nothing that anybody has to mend
        pass
    return ""


def open_cached(path: Path) -> BufferedReader | None:
    """Return an open file of the cache; None where there is none, or none that this user alone may change.

    Neither follows a link nor waits for a writer.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError:
        return None
    facts = os.fstat(file.fileno())
    if stat.S_ISREG(facts.st_mode) and is_own(facts) and not facts.st_mode & WRITABLE_BY_OTHERS:
        return file
    file.close()
    return None


def read_cached(path: Path) -> bytes | None:
    """Return the bytes of a short file of the cache; None as `open_cached`, or where it is too long."""
    file = open_cached(path)
    if file is None:
        return None
    with file, suppress(OSError):
        data = file.read(MAX_TEXT_BYTES + 1)
        return data if len(data) <= MAX_TEXT_BYTES else None
    return None


def write_cached_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; that it cannot be written is no error: it would only have saved time."""
    temporary = name_temporary(path)
    with suppress(OSError):
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
            move_in(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def move_in(made: Path, path: Path) -> Path:
    """Give a new file its name in the cache, instead of whatever has it; return the path. Raises: OSError."""
    made.chmod(0o600)  # whatever the umask: else it would not be used
    if path.is_dir() and not path.is_symlink():
        remove_entry(path)
    return made.replace(path)


def remove_old_entries(folder: Path, kept: int) -> None:
    """Keep the `kept` most recently used entries; remove what a killed run left unfinished after a day."""
    with suppress(OSError):
        entries = sorted(folder.iterdir(), key=find_age)
        unfinished = [path for path in entries if path.name.startswith((UNFINISHED, TEMPORARY))]
        whole = [path for path in entries if path not in unfinished]
        for path in [*whole[kept:], *(path for path in unfinished if find_age(path) > DAY_S)]:
            remove_entry(path)


def find_age(path: Path) -> float:
    """Return the seconds since an entry was changed; a link's own, not those of what it leads to."""
    return time.time() - path.lstat().st_mtime


def remove_entry(path: Path) -> None:
    """Remove a file, a link, or a folder with all in it; what a link leads to stays."""
    with suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)  # follows no link, also none that is put there meanwhile
        else:
            path.unlink()
