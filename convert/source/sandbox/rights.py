"""What may a process that opens a foreign model do? Read it and the libraries, compute, and write to its own folder.

A second line of defence: what could run code is refused before. Landlock restricts files. seccomp takes the system
calls away that open sockets, start programs or change other files' modes. Both hold for the thread that asks for them
and what it starts, so this is called before a library starts threads. It needs the standard library alone.
Source: linux/landlock.h, linux/seccomp.h, linux/filter.h; Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

# What the interpreter and TensorFlow read beside their own folders.
SYSTEM = "/lib /lib32 /lib64 /usr/lib /usr/lib32 /usr/lib64 /usr/local/lib /usr/share/zoneinfo /usr/share/locale"
SYSTEM += " /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/localtime /sys /dev/zero /dev/random"
SYSTEM += " /dev/urandom /proc/self /proc/cpuinfo /proc/meminfo /proc/stat /proc/version /proc/filesystems /proc/sys"
SYSTEM += " /proc/loadavg /proc/uptime"  # not all of /proc: another process's environment may hold secrets
LIBRARIES = ("tensorflow", "keras", "tf_keras", "h5py", "numpy", "cv2")
OWN = ("convert", "edge_runtime", "evidence")  # the rooms that the child imports
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # of landlock, on every processor
VERSION_FLAG, PATH_BENEATH = 1, 1
WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
FILE_RIGHTS = WRITE_FILE | READ_FILE | TRUNCATE  # those that a rule for a single file may name
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # that each version knows
MAKING = (
    (1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13) | READ_DIR | FILE_RIGHTS
)  # remove, make, rename folders and files
NETWORK, SCOPES = 0b11, 0b11  # bind and connect by TCP (version 4); abstract sockets and signals (version 6)
# System calls by number: sockets, programs, tracing, and what changes files that Landlock does not look at.
# Source: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
CALLS = {
    "x86_64": (0xC000003E, (41, 59, 322, 425, 101, 310, 311, 76, 90, 91, 92, 93, 94, 260, 268, 452, 188, 189, 190)),
    "aarch64": (0xC00000B7, (198, 221, 281, 425, 117, 270, 271, 45, 52, 53, 54, 55, 452, 5, 6, 7)),
}
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
LOAD, EQUAL, NOT_BELOW, RETURN = 0x20, 0x15, 0x35, 0x06  # of the filter's machine
FOREIGN_CALLS = 0x40000000  # the numbers from here on are x32's, a second set on x86-64


def enter_sandbox(readable: Sequence[Path], writable: Sequence[Path]) -> str:
    """Give up, for good, what this process does not need; return in words what holds now.

    readable, writable: files, or folders with all that is in them; the interpreter, its libraries, /sys, and /proc on
    this process and on the machine stay readable. What the kernel cannot do is left out and said.
    """
    if sys.platform != "linux":
        return "none: not Linux"
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = restrict_files(library, [*readable, *list_libraries()], writable)
    calls = restrict_calls(library)
    files = f"files by Landlock {version}" if version else "files open (the kernel has no Landlock)"
    return f"{files}; {'no network and no programs by seccomp' if calls else 'network open (no seccomp)'}"


def use_folder(folder: Path) -> None:
    """Let temporary files, settings and caches be in `folder`: no other place can be written to."""
    (folder / "tmp").mkdir(exist_ok=True)
    os.environ.update(TMPDIR=str(folder / "tmp"), HOME=str(folder), KERAS_HOME=str(folder / "keras"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    tempfile.tempdir = None  # asked for anew


def list_libraries() -> list[Path]:
    """Return the files and folders of the system, the interpreter, its libraries and this project."""
    packages = Path(__file__).resolve().parents[3]
    found = [Path(name) for name in SYSTEM.split()]
    found += [Path(name) for name in (sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__))]  # noqa: PTH120
    found += [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    found += [folder.parent for name in LIBRARIES for folder in find_module(name)]
    return [*found, *(packages / name for name in OWN)]


def find_module(name: str) -> list[Path]:
    """Return the folders of a package, or the one that a module lies in, without importing it; none if not found."""
    with suppress(ImportError, ValueError):
        spec = find_spec(name.partition(".")[0])
        if spec is not None and spec.submodule_search_locations is not None:
            return [Path(folder) for folder in spec.submodule_search_locations]
        if spec is not None and spec.origin and spec.has_location:
            return [Path(spec.origin).parent]
    return []


def restrict_files(library: ctypes.CDLL, readable: Sequence[Path], writable: Sequence[Path]) -> int:
    """Close all files but these to this thread and what comes of it; return Landlock's version, 0 where it has none."""
    version = library.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)
    if version < 1:
        return 0
    handled = RIGHTS[max(known for known in RIGHTS if known <= version)]
    fields = (handled, *([NETWORK] if version >= 4 else []), *([SCOPES] if version >= 6 else []))
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    rules = library.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return 0
    try:
        for path in readable:
            allow(library, rules, path, (READ_FILE | READ_DIR) & handled)
        for path in writable:
            allow(library, rules, path, MAKING & handled)
        allow(library, rules, Path(os.devnull), (READ_FILE | WRITE_FILE) & handled)
        return 0 if library.syscall(RESTRICT_SELF, rules, 0) else int(version)
    finally:
        os.close(rules)


def allow(library: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    """Add one file or folder to the rules; what is not there cannot be opened anyway."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = rights if path.is_dir() else rights & FILE_RIGHTS
        library.syscall(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", rights, handle), 0)
    finally:
        os.close(handle)


def restrict_calls(library: ctypes.CDLL) -> bool:
    """Take the system calls in CALLS away from this thread and what comes of it; return whether the kernel did."""
    machine = platform.machine()
    if machine not in CALLS:
        return False
    architecture, numbers = CALLS[machine]
    count = len(numbers)
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, REFUSE), (LOAD, 0, 0, 0)]
    steps += [(NOT_BELOW, count + 1, 0, FOREIGN_CALLS)]
    steps += [(EQUAL, count - index, 0, number) for index, number in enumerate(numbers)]
    steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    header = struct.pack("@HP", len(steps), ctypes.addressof(program))
    return bool(library.prctl(PR_SET_SECCOMP, 2, header, 0, 0) == 0)
