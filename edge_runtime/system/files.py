"""How are files written whole or not at all, hashed, and locked by one process at a time?

Below a folder that is given as `root` no symbolic link is followed: each folder on the way is opened from the one
before, so that none can be exchanged meanwhile. `root` itself is the user's and may be a link.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from edge_runtime.errors import OutputError

TEMPORARY = ".tmp-edge-seg-"  # begins the name of a file that is being written
MAKE_ROOM = "make room or choose another folder with -o"
REMOVE_IT = "remove it or choose another folder with -o"
# What fsync answers on a file system that has none: fsync(2), and FUSE's ENOSYS.
NO_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # a file system cannot hold that name
KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file"}
FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_file(
    path: Path,
    data: bytes,
    sync: bool = True,
    sync_name: bool = False,
    fix: str = MAKE_ROOM,
    root: Path | None = None,
) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename; makes its folder.

    sync: False for what a power cut may take, and what is written so often that it would wear out a card. sync_name:
    also the folder's list of names, so that a power cut leaves the new file and not the old one. root: a folder above
    it, below which no link is followed.
    Raises: OutputError if that fails; nothing is left behind then.
    """
    with open_inside(path, root, sync, fix) if root else open_atomic(path, sync, fix) as file:
        file.write(data)
    if sync_name:
        sync_folder(path.parent, fix)


@contextmanager
def open_atomic(path: Path, sync: bool = True, fix: str = MAKE_ROOM) -> Iterator[BinaryIO]:
    """Yield a file to write to that gets its name at the end, when it is whole, or never; makes its folder.

    Raises: OutputError if that fails; nothing is left behind then.
    """
    temporary = name_temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                if sync:
                    file.flush()
                    sync_handle(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), fix) from error


@contextmanager
def open_inside(path: Path, root: Path, sync: bool, fix: str) -> Iterator[BinaryIO]:
    """As open_atomic, below `root`, following no link there; one under the file's own name is replaced.

    Raises: OutputError.
    """
    temporary = name_temporary(path).name
    try:
        with open_folder(path.parent, root, make=True) as folder:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
                    yield file
                    if sync:
                        file.flush()
                        sync_handle(file.fileno())
                os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), fix) from error


@contextmanager
def open_folder(folder: Path, root: Path, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of a folder below `root` or of `root`, following no link below it. make: those that lack.

    Raises: OutputError if something on the way is no folder; OSError.
    """
    if make:
        root.mkdir(parents=True, exist_ok=True)
    handle, path = os.open(root, FOLDER_FLAGS & ~os.O_NOFOLLOW), root
    try:
        for name in folder.relative_to(root).parts:
            path = path / name
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=handle)
            require_kind(path, read_kind(name, handle), stat.S_IFDIR)
            inner = os.open(name, FOLDER_FLAGS, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def write_private(path: Path, data: bytes) -> None:
    """Write a file whole or not at all that only its owner can read; a link of its name is replaced.

    Raises: OutputError.
    """
    temporary = name_temporary(path)
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                sync_handle(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), MAKE_ROOM) from None


def remove_inside(path: Path, root: Path) -> None:
    """Remove a file below `root` if it is there, following no link. Raises: OutputError; OSError."""
    with suppress(FileNotFoundError), open_folder(path.parent, root) as folder:
        os.unlink(path.name, dir_fd=folder)


def read_kind(name: str | Path, folder: int | None = None) -> int | None:
    """Return what a name is, as stat.S_IF..., a link as such; None where there is nothing. Raises: OSError."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


class ObstacleError(OutputError):
    """A file is where a folder is to be, or a folder where a file is to be."""


def require_kind(path: Path, found: int | None, wanted: int) -> None:
    """Refuse a link, a pipe or a device where a file or a folder of a run is, or comes.

    Raises: ObstacleError, where it is only the other of the two; OutputError.
    """
    if found not in (None, wanted):
        why = f"it is {KINDS.get(found, 'a device')}, not {KINDS[wanted]}"
        kind = ObstacleError if found in (stat.S_IFREG, stat.S_IFDIR) else OutputError
        raise kind(str(path), why, REMOVE_IT)


def open_own(path: Path, flags: int, shared: bool = False) -> int:
    """Open a file that stays under its name, making it if need be; return its descriptor.

    A link is not followed, a pipe or device not opened, nor a file that has other names too: what is written there
    would be in another's file. shared: it may have other names, for a lock whose contents do not matter.
    Raises: OutputError for these; OSError.
    """
    require_kind(path, read_kind(path), stat.S_IFREG)
    handle = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or (found.st_nlink > 1 and not shared):
        os.close(handle)
        raise OutputError(str(path), "it is no file of its own: it has other names or is a device", REMOVE_IT)
    return handle


def open_append(path: Path) -> BinaryIO:
    """Return a file to append to and to read, unbuffered; see `open_own`. Raises: OutputError."""
    try:
        return open(path, "ab+", buffering=0, opener=lambda name, flags: open_own(path, flags))
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), MAKE_ROOM) from None


def sync_handle(handle: int) -> None:
    """Write a file or a folder's names to the disk; that a file system has no fsync is no error. Raises: OSError.

    EIO, ENOSPC, EDQUOT and all others mean that the data may be lost.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write the files whole or not at all: all temporary files first, then the renames.

    Unlike write_file one by one: a disk that fills up during the second must not leave the first behind.
    Raises: OutputError if that fails; nothing is left behind then.
    """
    temporaries = {path: name_temporary(path) for path in files}
    try:
        for path, data in files.items():
            with temporaries[path].open("xb") as file:
                file.write(data)
                file.flush()
                sync_handle(file.fileno())
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except OSError as error:
        raise OutputError(str(list(files)[-1]), f"it cannot be written ({error.strerror})") from error
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def name_temporary(path: Path) -> Path:
    """Return a new name beside a file, short and unrelated to its own: a 255-byte name leaves no room for a suffix."""
    return path.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"


def sync_folder(folder: Path, fix: str = MAKE_ROOM) -> None:
    """Write a folder's list of names to the disk. Raises: OutputError."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync_handle(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error), fix) from None


@contextmanager
def hold_lock(path: Path, why: str = "", fix: str = MAKE_ROOM) -> Iterator[None]:
    """Hold a lock file for this process; if another one holds it, wait, or raise an error with `why` if that is given.

    Raises: OutputError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open_own(path, os.O_RDWR, shared=True)
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), fix) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if why else 0))
        except BlockingIOError:
            raise OutputError(str(path.parent), why, "wait for it to end") from None
        try:
            yield
        finally:
            fcntl.flock(
                handle, fcntl.LOCK_UN
            )  # closing is not enough: a process forked meanwhile has the file open too
    finally:
        os.close(handle)


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits. Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' relative names and digests, sorted."""
    if path.is_file():
        return hash_file(path)
    lines = [f"{file.relative_to(path).as_posix()}\0{hash_file(file)}\n" for file in path.rglob("*") if file.is_file()]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
