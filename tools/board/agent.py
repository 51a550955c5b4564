"""Inside the board: which command does the emulating machine want run, and what does it print?

Lines of JSON on a virtio port. From there: {"id", "run": shell text, "stdin": text}; back: {"id", "line"} for each line
of output, then {"id", "status"}. {"boot": its id} when it starts. It knows nothing of edge-seg.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

PORT = Path("/dev/virtio-ports/board")
LOCK = threading.Lock()


def send(port: int, message: dict[str, object]) -> None:
    """Write one line, whole."""
    data = json.dumps(message).encode() + b"\n"
    with LOCK:
        while data:
            data = data[os.write(port, data) :]


def run(port: int, wanted: dict[str, str]) -> None:
    """Run one command; send its output and its exit status."""
    with subprocess.Popen(
        ["/bin/bash", "-c", wanted["run"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", env={**os.environ, "HOME": "/root", "LC_ALL": "C.UTF-8"},
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout
        process.stdin.write(wanted.get("stdin", ""))
        process.stdin.close()
        for line in process.stdout:
            send(port, {"id": wanted["id"], "line": line.rstrip("\n")})
    send(port, {"id": wanted["id"], "status": process.returncode})


def main() -> None:
    """Serve, each command in a thread of its own."""
    while not PORT.exists():
        time.sleep(0.1)
    port, rest = os.open(PORT, os.O_RDWR), b""
    send(port, {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()})
    while True:
        data = os.read(port, 65536)
        if not data:  # nobody at the other end
            time.sleep(0.1)
            continue
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            threading.Thread(target=run, args=(port, json.loads(line)), daemon=True).start()


if __name__ == "__main__":
    main()
