"""What is on the board now? The service, the slots, the rows and the masks, asked through its shell."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:1] = [str(Path(__file__).parent), str(ROOT), str(ROOT / ".ci")]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from check_emulated import measure_noise  # noqa: E402
from machine import POLL_S, BoardError, Machine, quote  # noqa: E402

from edge_runtime import Session  # noqa: E402
from edge_runtime.images import read_image  # noqa: E402

SLOTS, STICK = "/opt/edge-seg", "/srv/stick"
INBOX, OUT = "/var/lib/edge-seg/inbox", "/var/lib/edge-seg/out"
DEPLOY = f"python3 {STICK}/edge-deploy.pyz"
UNIT, CHECK = "edge-seg.service", "edge-seg-check.service"
START_S = 1800.0  # what a start of the service may take, emulated
IMAGE_S = 60.0  # the same, an image

# Waits that cost the emulated processor next to nothing: systemctl every few seconds would be half of what it does.
STARTED = f"""\
until [ {OUT}/health.json -nt /run/systemd/notify ]; do sleep 1; done
until systemctl -q is-active {UNIT}; do sleep 3; done
"""
RUNNING = f"/run/systemd/units/invocation:{CHECK}"
CHECKED = f"""\
until [ -L {RUNNING} ] || systemctl show {CHECK} -p ExecMainExitTimestampMonotonic | grep -qv =0; do sleep 3; done
while [ -L {RUNNING} ]; do sleep 2; done
"""
IDLE = f"""\
until [[ $(<{OUT}/health.json) == *'"state": "idle"'*'"waiting": 0,'* ]]; do sleep 1; done
"""


def require(holds: object, what: object) -> None:
    """Raise BoardError unless something holds."""
    if not holds:
        raise BoardError(str(what))


def ask(machine: Machine, *names: str, unit: str = UNIT) -> dict[str, str]:
    """Return properties of a unit, as systemd has them."""
    output = machine.run(f"systemctl show {unit} -p {','.join(names)}")
    return dict(line.split("=", 1) for line in output.splitlines())


def wait_for_service(machine: Machine, check: bool = True) -> float:
    """Return the seconds until the service is active and the check after the start, if there is one, has ended well."""
    started = time.monotonic()
    machine.run(STARTED, timeout_s=START_S)
    if check:
        machine.run(CHECKED, timeout_s=START_S)
        text = machine.run(f"systemctl show {CHECK} -p Result,ExecMainExitTimestampMonotonic")
        good = "Result=success" in text and "onic=0" not in text
        require(good, machine.run(f"journalctl -b -u {CHECK} --no-pager", expect=None))
    return time.monotonic() - started


def drop(machine: Machine, names: Iterable[str]) -> None:
    """Copy slices of the stick into the inbox as docs/unattended.md asks: under a hidden name, then renamed, synced."""
    for name in names:
        machine.run(f"cp {STICK}/images/{name} {INBOX}/.{name} && mv {INBOX}/.{name} {INBOX}/{name}")
    machine.run("sync")


def read_health(machine: Machine) -> dict[str, Any]:
    """Return health.json."""
    return dict(json.loads(machine.run(f"cat {OUT}/health.json")))


def read_rows(machine: Machine) -> list[dict[str, str]]:
    """Return the lines of results.csv."""
    return list(csv.DictReader(io.StringIO(machine.run(f"cat {OUT}/results.csv"))))


def read_status(machine: Machine) -> dict[str, Any]:
    """Return the slots."""
    return dict(json.loads(machine.run(f"{DEPLOY} status --json --root {SLOTS}")))


def read_current(machine: Machine) -> dict[str, Any]:
    """Return the current slot's record."""
    return dict(next(slot for slot in read_status(machine)["slots"] if slot["current"]))


def wait_until_idle(machine: Machine, names: Collection[str]) -> float:
    """Return the seconds until all of these files have a row and the service is idle."""

    started = time.monotonic()
    while time.monotonic() - started < START_S + IMAGE_S * len(names):
        machine.run(IDLE, timeout_s=START_S + IMAGE_S * len(names))
        if {row["file"] for row in read_rows(machine)}.issuperset(names):
            return time.monotonic() - started
        time.sleep(POLL_S)
    raise BoardError(f"not all of these have a row: {', '.join(names)}")


@dataclass
class Reference:
    """What this machine makes of the same slices, and by how much a board may differ; see .ci/check_emulated.py."""

    images: Path

    def __post_init__(self) -> None:
        self.session = Session.load(engine="litert", threads=1)
        noise = measure_noise(sorted(self.images.iterdir())[:8], draws=4)
        self.least = 1 - 2 * (1 - noise.iou)

    def compare(self, name: str, data: bytes) -> float:
        """Return the IoU of a board's mask and this machine's. Raises: BoardError if it is too low, or no image."""
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None:
            raise BoardError(f"{name}: its mask is no image")
        mask, other = self.session.segment(read_image(self.images / name)).mask, np.asarray(found > 0)
        require(mask.shape == other.shape, f"{name}: {other.shape}")
        union = (mask | other).sum()
        iou = float((mask & other).sum() / union) if union else 1.0
        require(iou >= self.least, f"{name}: IoU {iou:.4f}, at least {self.least:.4f} is allowed")
        return iou


def read_file(machine: Machine, path: str) -> bytes:
    """Return a file's bytes."""
    return base64.b64decode(machine.run(quote("base64", "-w0", path)))


def check_results(machine: Machine, reference: Reference, names: Collection[str]) -> float:
    """Require one good row and a right mask for each file, and no other row; return the worst IoU."""
    rows = read_rows(machine)
    files = [row["file"] for row in rows]
    require(sorted(files) == sorted(names), f"rows twice, missing or unknown: {sorted(files)} of {sorted(names)}")
    bad = [row for row in rows if row["status"] != "ok"]
    require(not bad, bad)
    return min(reference.compare(name, read_file(machine, f"{OUT}/masks/{name}")) for name in names)
