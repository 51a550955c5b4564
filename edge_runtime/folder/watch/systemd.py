"""How is systemd notified that the service is ready, alive or stopping?

Source: sd_notify(3), sd_watchdog_enabled(3): datagrams of lines KEY=VALUE to the socket that NOTIFY_SOCKET names.
Nothing is sent where there is no such variable.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """The socket of the service manager, if there is one."""

    def __init__(self) -> None:
        self.address = os.environ.get("NOTIFY_SOCKET", "")
        self.every_s = read_watchdog_s() / 3  # the manual asks for at most half
        self.last = 0.0

    def notify(self, *lines: str) -> None:
        """Send lines such as READY=1; that the manager is gone is no error."""
        if not self.address:
            return
        # A leading @ stands for the zero byte of Linux' abstract names.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.sendto("\n".join(lines).encode("utf-8", "surrogateescape"), address)

    def beat(self) -> None:
        """Notify the watchdog that this process is alive, no more often than it asks for."""
        now = time.monotonic()
        if self.every_s and now - self.last >= self.every_s:
            self.last = now
            self.notify("WATCHDOG=1")


def read_watchdog_s() -> float:
    """Return after how many seconds without a notification the manager ends the service, 0 for never."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
        owner = int(os.environ.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return 0.0
    return microseconds / 1e6 if owner == os.getpid() and microseconds > 0 else 0.0
