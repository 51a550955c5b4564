"""Inside the unit's sandbox: what may a process do there? One line of JSON: {what: "done", or the error's name}.

It is started with the very unit file of edge-seg.service, only with another ExecStart; and once more outside of it, by
root, where everything has to be possible: else a refusal would prove nothing.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, KEYCTL = 0x10000000, 219  # the system call's number on arm64


def call(function: Callable[..., int], *arguments: object) -> None:
    """Call a function of the C library. Raises: OSError."""
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")


def in_child(action: Callable[[], object]) -> None:
    """Do what would change this process in another one. Raises: OSError with that one's error."""
    pid = os.fork()
    if not pid:
        try:
            action()
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGSYS or status:
        raise OSError(abs(status), "")


def touch(folder: str) -> Callable[[], object]:
    """Return what makes a file in a folder, and removes it."""

    def make() -> None:
        path = Path(folder, ".probe")
        path.write_bytes(b"x")
        path.unlink()

    return make


def open_socket(family: int, kind: int) -> Callable[[], object]:
    """Return what opens a socket."""
    return lambda: socket.socket(family, kind).close()


def reach_loopback() -> None:
    """Send a datagram to a port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.1", 9))


ACTIONS: dict[str, Callable[[], object]] = {
    "write out": touch("/var/lib/edge-seg/out"),
    "write cache": touch("/var/cache/edge-seg"),
    "write private /tmp": touch("/tmp"),
    "socket AF_UNIX": open_socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    "write inbox": touch("/var/lib/edge-seg/inbox"),
    "write /etc": touch("/etc"),
    "write /opt/edge-seg": touch("/opt/edge-seg"),
    "write /usr": touch("/usr"),
    "write /var/lib": touch("/var/lib"),
    "write /run": touch("/run"),
    "read /root": lambda: list(Path("/root").iterdir()),
    "read /etc/shadow": lambda: Path("/etc/shadow").read_bytes(),
    "open the disk": lambda: os.close(os.open("/dev/vda", os.O_RDONLY)),
    "see process 1": lambda: Path("/proc/1/status").read_bytes(),
    "write a sysctl": lambda: Path("/proc/sys/kernel/panic").write_text("0"),
    "socket AF_INET": open_socket(socket.AF_INET, socket.SOCK_STREAM),
    "socket AF_INET6": open_socket(socket.AF_INET6, socket.SOCK_STREAM),
    "socket AF_NETLINK": open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "socket AF_PACKET": open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "send to 127.0.0.1": reach_loopback,
    "unshare a user namespace": lambda: in_child(lambda: call(LIBC.unshare, CLONE_NEWUSER)),
    "mount": lambda: in_child(lambda: call(LIBC.mount, b"none", b"/mnt", b"tmpfs", 0, None)),
    "chroot": lambda: in_child(lambda: os.chroot("/usr")),
    "set the user": lambda: in_child(lambda: os.setuid(1)),
    "set the clock": lambda: in_child(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())),
    "keyctl": lambda: in_child(lambda: call(LIBC.syscall, KEYCTL, 0, -3, 0)),
    "realtime priority": lambda: in_child(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
    "memory writable and executable": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
    "make a file setuid": lambda: in_child(lambda: os.close(os.open("/tmp/.setuid", os.O_CREAT | os.O_RDWR, 0o4755))),
}


def try_action(action: Callable[[], object]) -> str:
    """Return "done", or the error's name."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


if __name__ == "__main__":
    facts = json.dumps({name: try_action(action) for name, action in ACTIONS.items()})
    Path(sys.argv[1]).write_text(f"{facts}\n")
