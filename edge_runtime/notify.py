"""What systemd wants to hear of a service: that it is ready, alive, stopping. Nothing where nobody listens.

Source: sd_notify(3), sd_watchdog_enabled(3): datagrams of lines KEY=VALUE to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """The way to the service manager, if there is one."""

    def __init__(self) -> None:
        self.address = os.environ.get("NOTIFY_SOCKET", "")
        self.every_s = watchdog_seconds() / 3  # asked for: at most half
        self.last = 0.0

    def tell(self, *lines: str) -> None:
        """Send lines such as READY=1; a manager that is gone is no error."""
        if not self.address:
            return
        # A leading @ stands for the zero byte of Linux' abstract names.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
            way.sendto("\n".join(lines).encode("utf-8", "surrogateescape"), address)

    def beat(self) -> None:
        """Tell the watchdog that this process lives, no more often than it wants to hear it."""
        now = time.monotonic()
        if self.every_s and now - self.last >= self.every_s:
            self.last = now
            self.tell("WATCHDOG=1")


def watchdog_seconds() -> float:
    """Return how long the manager waits for a sign of life, 0 for any time."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
        owner = int(os.environ.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return 0.0
    return microseconds / 1e6 if owner == os.getpid() and microseconds > 0 else 0.0
