"""How is an emulated arm64 machine started, spoken to, and cut from its power?

qemu-system-aarch64 with a Cortex-A76, two cores and 2 GB, TCG: its seconds are not a Pi's. Commands go over a virtio
port to agent.py. There is no network. `cut` kills qemu, and its disk loses what it was not told to flush: see disk.py.
"""

from __future__ import annotations

import json
import queue
import random
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from disk import Disk

BOOT_S = 900
POLL_S = 3.0  # a command costs the emulated processor a second
KERNEL_OPTIONS = "console=ttyAMA0 root=/dev/vda ro loglevel=4 systemd.show_status=no panic=-1"
DRIVE = "format=raw,if=none,id=disk,cache=writeback"


class BoardError(Exception):
    """The board does not do what it has to."""


class Machine:
    """The machine whose disk, kernel and initrd are in a folder; see make_image."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        """rng: draws what a cut disk has lost."""
        self.folder, self.disk = folder, Disk(folder / "disk.img", folder / "disk", rng)
        self.process: subprocess.Popen[bytes] | None = None
        self.answers: dict[str, queue.Queue[dict[str, Any]]] = {}
        self.booted: queue.Queue[str] = queue.Queue()
        self.count = 0
        self.frozen: dict[str, str] = {}

    def boot(self, *masked: str) -> float:
        """Start it, without some units; return the seconds until its agent answered. Raises: BoardError."""
        started = time.monotonic()
        self.power_on(" ".join([KERNEL_OPTIONS, *(f"systemd.mask={unit}" for unit in masked)]))
        try:
            self.booted.get(timeout=BOOT_S)
        except queue.Empty:
            raise BoardError(f"it did not boot in {BOOT_S} s: {self.folder / 'console.log'}") from None
        return time.monotonic() - started

    def power_on(self, kernel_options: str, *more: str) -> None:
        """Start qemu and connect with its ports. Raises: BoardError."""
        address, control, started = self.folder / "port", self.folder / "control", time.monotonic()
        for path in (address, control):
            path.unlink(missing_ok=True)
        self.disk.serve()
        self.booted, self.answers = queue.Queue(), {}
        command = [
            "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a76", "-smp", "2", "-m", "2048",
            "-accel", "tcg,thread=multi", "-display", "none", "-nic", "none", "-no-reboot",
            "-kernel", str(self.folder / "kernel"), "-initrd", str(self.folder / "initrd"), "-append", kernel_options,
            "-drive", f"file.driver=nbd,file.server.type=unix,file.server.path={self.disk.address},{DRIVE}",
            "-device", "virtio-blk-device,drive=disk",
            "-chardev", f"socket,id=port,path={address},server=on,wait=off",
            "-device", "virtio-serial-device", "-device", "virtserialport,chardev=port,name=board",
            "-serial", f"file:{self.folder / 'console.log'}", "-qmp", f"unix:{control},server=on,wait=off", *more,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.port, self.control = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        for connection, path in ((self.port, address), (self.control, control)):
            while connection.connect_ex(str(path)):
                if self.process.poll() is not None or time.monotonic() - started > BOOT_S:
                    raise BoardError("qemu did not start")
                time.sleep(0.05)
        self.replies = self.control.makefile("rb")
        self.replies.readline()  # its greeting
        self.order("qmp_capabilities")
        threading.Thread(target=self.listen, args=(self.port,), daemon=True).start()

    def order(self, command: str, **arguments: object) -> dict[str, Any]:
        """Give qemu an order (its QMP); return its answer. Raises: BoardError."""
        self.control.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            reply = json.loads(self.replies.readline())
            if "error" in reply:
                raise BoardError(f"qemu: {command}: {reply['error']['desc']}")
            if "return" in reply:
                return dict(reply["return"])

    def freeze(self, name: str, number: str) -> None:
        """Keep the state of the machine, memory and disk, while it runs the command of a number; then go on."""
        self.frozen[name] = number
        self.order("stop")  # which flushes the disk
        self.order("migrate-set-parameters", **{"max-bandwidth": 1 << 34})
        self.order("migrate", uri=f"exec:cat >{quote(self.folder / f'{name}.memory')}")
        self.await_state("query-migrate", "completed")
        copy_image(self.disk.image, self.folder / f"{name}.img")
        self.order("cont")

    def thaw(self, name: str) -> str:
        """Start the machine in a state that was kept; return the number of its command. Raises: BoardError."""
        copy_image(self.folder / f"{name}.img", self.disk.image)
        self.power_on(KERNEL_OPTIONS, "-incoming", f"exec:cat {quote(self.folder / f'{name}.memory')}")
        number = self.frozen[name]
        self.answers[number] = queue.Queue()
        self.count = max(self.count, int(number))
        self.await_state("query-status", "paused")  # as it was kept
        self.order("cont")
        return number

    def await_state(self, command: str, wanted: str) -> None:
        """Wait until qemu answers a question for its state as wanted. Raises: BoardError."""
        end = time.monotonic() + BOOT_S
        while (state := self.order(command).get("status")) != wanted:
            if state == "failed" or time.monotonic() > end:
                raise BoardError(f"qemu: {command}: {state}")
            time.sleep(0.1)

    def listen(self, port: socket.socket) -> None:
        """Hand each of the agent's lines to whoever waits for it."""
        with suppress(OSError), port.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "boot" in message:
                    self.booted.put(message["boot"])
                elif message["id"] in self.answers:
                    self.answers[message["id"]].put(message)

    def start(self, command: str, stdin: str = "") -> str:
        """Start a shell command there; return the number to `wait` for."""
        self.count += 1
        number = str(self.count)
        self.answers[number] = queue.Queue()
        self.port.sendall(json.dumps({"id": number, "run": command, "stdin": stdin}).encode() + b"\n")
        return number

    def wait(self, number: str, timeout_s: float, see: Callable[[str], object] = lambda line: None) -> tuple[int, str]:
        """Return a command's exit status and output; `see` gets each line when it comes. Raises: BoardError."""
        end = time.monotonic() + timeout_s
        lines: list[str] = []
        while True:
            try:
                message = self.answers[number].get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise BoardError(f"no end after {timeout_s:g} s: {lines[-5:]}") from None
            if "status" in message:
                return message["status"], "\n".join(lines)
            lines.append(message["line"])
            see(message["line"])

    def run(self, command: str, stdin: str = "", timeout_s: float = 300, expect: int | None = 0) -> str:
        """Run a shell command there and return its output. Raises: BoardError if its exit status is another."""
        status, output = self.wait(self.start(command, stdin), timeout_s)
        if expect is not None and status != expect:
            raise BoardError(f"exit status {status} instead of {expect}: {command}\n{output}")
        return output

    def until(self, command: str, timeout_s: float, wanted: Callable[[str], bool] = bool) -> tuple[str, float]:
        """Repeat a command until its output is as wanted; return it and the seconds. Raises: BoardError."""
        started = time.monotonic()
        while True:
            output = self.run(command, expect=None)
            if wanted(output):
                return output, time.monotonic() - started
            if time.monotonic() - started > timeout_s:
                raise BoardError(f"not as wanted after {timeout_s:g} s: {command}\n{output}")
            time.sleep(POLL_S)

    def cut(self) -> str:
        """Take its power: SIGKILL; return what that cost its disk."""
        assert self.process
        self.process.kill()
        self.process.wait()
        self.port.close()
        self.control.close()
        cached, lost = self.disk.lose()
        return f"{lost} of {cached} unflushed blocks lost"

    def shut_down(self) -> None:
        """Shut it down as its owner would. Raises: BoardError if it does not end."""
        assert self.process
        self.start("systemctl poweroff")
        try:
            self.process.wait(timeout=BOOT_S)
        except subprocess.TimeoutExpired:
            raise BoardError("it does not shut down") from None
        self.port.close()
        self.control.close()
        self.disk.keep()


def copy_image(image: Path, copy: Path) -> None:
    """Copy a disk's image, without its holes."""
    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)


def quote(*words: object) -> str:
    """Return words as a shell command."""
    return shlex.join(map(str, words))
