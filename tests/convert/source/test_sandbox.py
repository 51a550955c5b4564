"""What a process in the sandbox can still do, tried in a child: only what a conversion needs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convert.source.sandbox.rights import enter_sandbox

# Each attempt prints what it came to. It is written for a child that has the sandbox, and run without it too.
TRIES = """
import ctypes, json, os, pathlib, socket, subprocess, sys, threading
from pathlib import Path
place = Path(sys.argv[1])
isolation = ""
if sys.argv[2] == "in":
    from convert.source.sandbox.rights import enter_sandbox, use_folder
    use_folder(place / "work")
    isolation = enter_sandbox([place / "model.keras", place / "model"], [place / "work"])
def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(attempt(lambda: (place / "secret").read_text())))
    thread.start(); thread.join()
    if found != ["done"]: raise PermissionError(1, "x")
def in_child():
    child = os.fork()
    if not child: os._exit(0 if attempt(lambda: (place / "secret").read_text()) == "done" else 9)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]): raise PermissionError(1, "x")
def attempt(call):
    try: call()
    except PermissionError: return "refused"
    except OSError as error: return error.strerror
    return "done"
import tempfile
tries = {
    "read model": lambda: (place / "model.keras").read_text(),
    "read folder": lambda: [path.read_text() for path in (place / "model").iterdir()],
    "write work": lambda: (place / "work/a").write_text("x"),
    "folders in work": lambda: [(place / "work/b").mkdir(), (place / "work/a").rename(place / "work/b/a"),
                                (place / "work/b/a").unlink(), (place / "work/b").rmdir()],
    "temporary file": lambda: tempfile.TemporaryFile().write(b"x"),
    "import": lambda: __import__("sqlite3"),
    "cpu": lambda: Path("/proc/cpuinfo").read_text(),
    "random": lambda: Path("/dev/urandom").open("rb").read(1),
    "null": lambda: Path("/dev/null").write_text("x"),
    "read secret": lambda: (place / "secret").read_text(),
    "read passwd": lambda: Path("/etc/passwd").read_text(),
    "list": lambda: list(place.iterdir()),
    "read beside": lambda: (place / "work/../secret").read_text(),
    "read by link": lambda: (place / "links/link").read_text(),
    "overwrite": lambda: (place / "secret").write_text("x"),
    "append": lambda: (place / "secret").open("a"),
    "change model": lambda: (place / "model.keras").write_text("x"),
    "new file": lambda: (place / "new").write_text("x"),
    "delete": lambda: (place / "secret").unlink(),
    "rename": lambda: (place / "secret").rename(place / "work/secret"),
    "truncate": lambda: os.truncate(place / "secret", 0),
    "mode": lambda: (place / "secret").chmod(0o777),
    "tcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "udp": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "run": lambda: subprocess.run(["/bin/true"]),
    "signal": lambda: os.kill(os.getppid(), 0),
    "environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_text(),
    "in a thread": in_thread,
    "in a child": in_child,
}
print(json.dumps({"isolation": isolation, **{name: attempt(call) for name, call in tries.items()}}))
"""
NEEDED = (
    "read model",
    "read folder",
    "write work",
    "folders in work",
    "temporary file",
    "import",
    "cpu",
    "random",
    "null",
)


def try_all(place: Path, where: str) -> dict[str, str]:
    (place / "work").mkdir()
    (place / "model").mkdir()
    for name in ("secret", "model.keras", "model/saved_model.pb"):
        (place / name).write_text("secret")
    (place / "links").mkdir()
    (place / "links/link").symlink_to(place / "secret")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", TRIES, str(place), where]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, str] = json.loads(result.stdout)
    return found


def has_landlock() -> bool:
    import ctypes

    return int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)) >= 6


@pytest.mark.skipif(not has_landlock(), reason="the kernel has no Landlock of version 6")
def test_only_what_is_needed_can_be_done(tmp_path: Path) -> None:
    """Read the model, write to the work folder, compute; no other file, no socket, no program, no signal."""
    found = try_all(tmp_path, "in")
    assert "files by Landlock" in found.pop("isolation")
    assert {name: found.pop(name) for name in NEEDED} == dict.fromkeys(NEEDED, "done")
    assert found.pop("rename") in ("refused", os.strerror(18))  # another file system, as it were
    assert found == dict.fromkeys(found, "refused")
    assert (tmp_path / "secret").read_text() == "secret"


def test_the_attempts_succeed_outside(tmp_path: Path) -> None:
    """Without the sandbox the same attempts work, so that it is the sandbox that refuses them."""
    found = try_all(tmp_path, "out")
    late = {"rename", "truncate", "mode", "in a thread", "in a child"}  # after the file was deleted
    assert {name for name, came in found.items() if came != "done"} <= {"isolation", *late}


def test_what_the_kernel_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Landlock and without seccomp, the words for the report say so, and nothing fails."""

    class Library:
        def syscall(self, *_: Any) -> int:
            return -1

        def prctl(self, *_: Any) -> int:
            return -1

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Library())
    assert enter_sandbox([], []) == "files open (the kernel has no Landlock); network open (no seccomp)"
    socket.socket().close()  # this process is free
