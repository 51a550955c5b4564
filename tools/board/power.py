"""Does a cut of the power cost anything? The emulator is killed at a random moment, the disk checked, the board booted.

What the board had not yet written to its disk is lost, as on a board whose plug is pulled, and of what the disk was not
told to flush a random part: see disk.py. (A disk that lies about flushes is not shown.)
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
from board import (
    DEPLOY,
    INBOX,
    OUT,
    SLOTS,
    START_S,
    STICK,
    Reference,
    check_results,
    drop,
    read_current,
    read_health,
    read_status,
    require,
    wait_for_service,
    wait_until_idle,
)
from machine import BoardError, Machine, quote

SLICES_A_CUT = 8
SHORT_STEPS = (
    "list the files",
    "record the test",
    "switch",
    "restart the service",
    "check the service",
    "trust its key",
    "record success",
    "remove old slots",
)
SHORT_S = 2.0  # within which after the begin of a short step the power is cut
# A consumer of the results, as a hospital's would be: an input whose row says ok is taken out of the inbox.
CONSUMER = f"""\
import csv, pathlib, time
while True:
    with open("{OUT}/results.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["status"] == "ok":
                pathlib.Path("{INBOX}", row["file"]).unlink(missing_ok=True)
    time.sleep(0.2)
"""


def check_disk(machine: Machine, folder: Path) -> str:
    """Check a copy of the disk as the cut left it; the results there are whole. Return a remark.

    The board's own disk is left to its own start. debugfs reads the files: no code of edge-seg. Raises: BoardError.
    """
    copy = machine.folder / "copy.img"
    subprocess.run(["cp", "--sparse=always", str(machine.disk.image), str(copy)], check=True)
    first = subprocess.run(["/sbin/e2fsck", "-fy", str(copy)], capture_output=True, text=True, check=False)
    require(first.returncode in (0, 1), first.stdout)
    second = subprocess.run(["/sbin/e2fsck", "-fn", str(copy)], capture_output=True, text=True, check=False)
    require(second.returncode == 0, second.stdout)
    for path in (OUT, SLOTS + "/records"):
        subprocess.run(["/sbin/debugfs", "-R", f"rdump {path} {folder}", str(copy)], capture_output=True, check=False)
    copy.unlink()
    # The superblock's counts of free blocks and inodes are not in the journal: the kernel counts them when it mounts.
    counts = re.compile(r"Free (blocks|inodes) count wrong \(\d+, counted=\d+\)\.\nFix\? yes")
    repairs = [line for line in counts.sub("", first.stdout).splitlines() if "? yes" in line or "FIXED" in line]
    require(not repairs, first.stdout)
    return "e2fsck finds nothing"


def check_written(out: Path) -> tuple[int, int]:
    """Return how many masks are on the cut disk, and how many the journal names; each is whole. Raises: BoardError."""
    masks = [path for path in (out / "masks").glob("*.png") if not path.name.startswith(".tmp-")]
    for path in masks:
        require(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None, f"half a mask: {path.name}")
    entries = []
    for line in (out / "journal.jsonl").read_bytes().split(b"\n")[:-1]:
        try:
            entries.append(json.loads(line))
        except ValueError:  # only a last line, without its end, may be torn
            raise BoardError(f"half a line in the journal: {line!r}") from None
    for entry in entries:
        for name, size in entry["outputs"].items():
            whole = (out / name).is_file() and (out / name).stat().st_size == size
            require(whole, f"in the journal, not whole: {name}")
    return len(masks), len(entries)


def cut_segmenting(machine: Machine, reference: Reference, cuts: int, image_s: float, rng: random.Random) -> list[str]:
    """Cut the power while the service segments, and a consumer takes what is done; see that all is done once."""
    reports: list[str] = []
    known = {path.name for path in reference.images.iterdir()}
    dropped = set(machine.run(f"cut -d , -f 1 {OUT}/results.csv").splitlines()) & known
    fresh = sorted(known - dropped)
    for cut in range(cuts):
        names, fresh = fresh[:SLICES_A_CUT], fresh[SLICES_A_CUT:]
        require(len(names) == SLICES_A_CUT, "the stick has no more slices: make it with more")
        drop(machine, names)
        dropped |= set(names)
        machine.start(quote("python3", "-c", CONSUMER))
        after = rng.uniform(0, image_s * SLICES_A_CUT)
        time.sleep(after)
        cost = machine.cut()
        with tempfile.TemporaryDirectory() as folder:
            remark = check_disk(machine, Path(folder))
            masks, entries = check_written(Path(folder, "out"))
        seconds = machine.boot() + wait_for_service(machine)
        wait_until_idle(machine, dropped)
        worst = check_results(machine, reference, dropped)
        health = read_health(machine)
        require((health["done"], health["failed"]) == (len(dropped), 0), health)
        reports.append(
            f"cut {cut + 1}, {after:.0f} s after {len(names)} slices: {cost}; {remark}; on the disk {masks} masks, "
            f"{entries} in the journal; active and checked {seconds:.0f} s after power; "
            f"{len(dropped)} of {len(dropped)} done, once, IoU ≥ {worst:.4f}"
        )
        print(reports[-1], flush=True)
    return reports


def cut_installing(machine: Machine, cuts: int, install_s: float, rng: random.Random) -> list[str]:
    """Cut the power while a kit is installed over another; see one whole slot current, active, and truly reported."""
    reports: list[str] = []
    for cut, (step, after) in enumerate(draw_moments(cuts, install_s, rng)):
        before = read_current(machine)["name"]
        kit = "second" if read_current(machine)["release"] == 0 else "first"
        machine.run("sync")
        started = time.monotonic()
        command = f"{DEPLOY} install {kit}.kit --root {SLOTS} --pub key.pub --force --allow-downgrade"
        number = machine.start(f"cd {STICK} && {command}")
        steps = follow(machine, number, step, after)
        seconds = time.monotonic() - started
        cost = machine.cut()
        with tempfile.TemporaryDirectory() as folder:
            remark = check_disk(machine, Path(folder))
            torn = [path.name for path in Path(folder, "records").glob("0*.json") if not is_json(path)]
            require(not torn, f"half a record: {torn}")
        active_s = machine.boot() + wait_for_service(machine)
        state = check_slots(machine, before)
        reports.append(
            f"cut {cut + 1}, {seconds:.0f} s into an installation, at {steps[-1]!r}: {cost}; {remark}; "
            f"active and checked {active_s:.0f} s after power; {state}"
        )
        print(reports[-1], flush=True)
    return reports


def draw_moments(cuts: int, install_s: float, rng: random.Random) -> list[tuple[str, float]]:
    """Return (after which step, how many seconds later) the power is cut.

    One half at any time, spread over the whole installation; the other in a short step each, which these seldom hit.
    """
    any_time = cuts - cuts // 2
    moments = [("", install_s * (number + rng.random()) / any_time) for number in range(any_time)]
    moments += [(step, rng.uniform(0, SHORT_S)) for step in rng.sample(SHORT_STEPS, cuts // 2)]
    rng.shuffle(moments)
    return moments


def follow(machine: Machine, number: str, step: str, seconds: float) -> list[str]:
    """Wait for a step of an installation ("": its start), then so many seconds, or for its end; return its steps."""
    steps = [""]
    while step not in steps and steps[-1] != "end":
        steps += read_steps(machine, number, 0.2)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and steps[-1] != "end":
        steps += read_steps(machine, number, left)
    return steps


def cut_bad_update(machine: Machine) -> str:
    """Cut the power when the bad kit has become current and is being checked: the start has to undo it by itself."""
    before = read_current(machine)["name"]
    number = machine.start(f"cd {STICK} && {DEPLOY} install bad.kit --root {SLOTS} --pub key.pub")
    steps = follow(machine, number, "restart the service", 0.0)
    require(steps[-1] != "end", f"it did not come to the switch: {steps}")
    cost = machine.cut()
    with tempfile.TemporaryDirectory() as folder:
        remark = check_disk(machine, Path(folder))
        records = [json.loads(path.read_bytes()) for path in Path(folder, "records").glob("0*.json")]
    states = {record["name"]: record["state"] for record in records}
    require("trial" in states.values(), f"the cut was not between the switch and its check: {states}")
    seconds = machine.boot() + wait_for_service(machine)
    state = check_slots(machine, before)
    require(read_current(machine)["name"] == before, "the bad slot is current")
    return f"cut after the switch to a bad slot: {cost}; {remark}; active {seconds:.0f} s after power; {state}"


def read_steps(machine: Machine, number: str, seconds: float) -> list[str]:
    """Return the steps that an installation reports within some time; "end" when it ends."""
    found: list[str] = []
    try:
        machine.wait(number, seconds, lambda line: found.append(line.removeprefix("edge-deploy: ")))
    except BoardError:  # the time is over
        return found
    return [*found, "end"]


def is_json(path: Path) -> bool:
    """Tell whether a file is whole JSON."""
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def check_slots(machine: Machine, before: str) -> str:
    """Require one good current slot, the old or the new one, no files of others, and an unbroken audit log."""
    status = read_status(machine)
    (current,) = (slot for slot in status["slots"] if slot["current"])
    require(current["state"] == "good", current)
    require(all(slot["state"] in ("good", "failed", "left") for slot in status["slots"]), status)
    folders = set(machine.run(f"ls -A {SLOTS}/slots").split())
    require(folders == {slot["name"] for slot in status["slots"] if slot["files"] and slot["state"] == "good"}, folders)
    left = machine.run(f"find {SLOTS} -maxdepth 2 -name '.new-*' -o -name '.tmp-*' -o -name '.current*'")
    require(not left, left)
    command = f"{SLOTS}/current/venv/bin/edge-seg --selftest --model {SLOTS}/current/kit/model.tflite"
    machine.run(command, timeout_s=START_S)
    machine.run(f"{DEPLOY} audit verify --root {SLOTS}")
    last = status["slots"][-1]
    interrupted = f", {last['name']} {last['state']}: {last['reason']}" if last["name"] != current["name"] else ""
    return f"{'the old' if current['name'] == before else 'the new'} slot {current['name']} is good{interrupted}"
