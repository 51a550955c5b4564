"""What is on the board now? The service, the slots, the rows and the masks, asked through its shell."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:1] = [str(Path(__file__).parent), str(ROOT), str(ROOT / ".ci")]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from check_emulated import measure_noise  # noqa: E402
from machine import BoardError, Machine, quote  # noqa: E402

from edge_runtime import Session  # noqa: E402
from edge_runtime.images import read_image  # noqa: E402

SLOTS, STICK = "/opt/edge-seg", "/srv/stick"
INBOX, OUT = "/var/lib/edge-seg/inbox", "/var/lib/edge-seg/out"
DEPLOY = f"python3 {STICK}/edge-deploy.pyz"
UNIT, CHECK = "edge-seg.service", "edge-seg-check.service"
START_S = 1800.0  # what a start of the service may take, emulated
IMAGE_S = 60.0  # the same, an image


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
    seconds = machine.until(f"systemctl is-active {UNIT}", START_S, lambda text: text == "active")[1]
    if not check:
        return seconds
    command = f"systemctl show {CHECK} -p Result,ActiveState,ExecMainExitTimestampMonotonic"
    text, more = machine.until(command, START_S, lambda text: "ActiveState=activ" not in text and "onic=0" not in text)
    require("Result=success" in text, machine.run(f"journalctl -b -u {CHECK} --no-pager", expect=None))
    return seconds + more


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

    def is_done(text: str) -> bool:
        found = {row["file"] for row in csv.DictReader(io.StringIO(text))}
        return found.issuperset(names) and read_health(machine)["state"] == "idle"

    return machine.until(f"cat {OUT}/results.csv", START_S + IMAGE_S * len(names), is_done)[1]


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
