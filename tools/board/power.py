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
from dataclasses import dataclass
from pathlib import Path

import cv2
from board import (
    CHECK,
    DEPLOY,
    INBOX,
    OUT,
    SLOTS,
    START_S,
    STICK,
    Reference,
    ask,
    check_results,
    drop,
    read_current,
    read_health,
    read_status,
    require,
    wait_for_service,
    wait_until_idle,
)
from machine import BoardError, Machine, copy_image, quote

SLICES_A_CUT = 2
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
LONG_STEPS = {"unpack", "build", "test", "list the files", "switch", "check the service"}  # whose states are kept
KEEP_S = 90.0  # at least so often
INSTALL_S = 7200.0
BAD = "bad"  # the kept state after the switch to the bad kit
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
    copy_image(machine.disk.image, copy)
    first = subprocess.run(["/sbin/e2fsck", "-fy", str(copy)], capture_output=True, text=True, check=False)
    require(first.returncode in (0, 1), first.stdout)
    second = subprocess.run(["/sbin/e2fsck", "-fn", str(copy)], capture_output=True, text=True, check=False)
    require(second.returncode == 0, second.stdout)
    for path in (OUT, SLOTS + "/records"):
        read_folder(copy, path, folder)
    check_files(copy, folder)
    copy.unlink()
    # The superblock's counts of free blocks and inodes are not in the journal: the kernel counts them when it mounts.
    counts = re.compile(r"Free (blocks|inodes) count wrong \(\d+, counted=\d+\)\.\nFix\? yes")
    repairs = [line for line in counts.sub("", first.stdout).splitlines() if "? yes" in line or "FIXED" in line]
    require(not repairs, first.stdout)
    return "e2fsck finds nothing"


def read_folder(image: Path, path: str, folder: Path) -> None:
    """Copy a folder out of a disk."""
    subprocess.run(["/sbin/debugfs", "-R", f"rdump {path} {folder}", str(image)], capture_output=True, check=False)


def check_files(image: Path, folder: Path) -> None:
    """Require the current slot's files to be those that passed its tests, by sha256sum. Raises: BoardError."""
    command = ["/sbin/debugfs", "-R", f"stat {SLOTS}/current", str(image)]
    facts = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (name,) = re.findall(r'link dest: "slots/([^"/]+)"', facts)
    read_folder(image, f"{SLOTS}/slots/{name}", folder)
    command = ["sha256sum", "--quiet", "--strict", "-c", str(folder / "records" / f"{name}.sha256")]
    compared = subprocess.run(command, cwd=folder / name, capture_output=True, text=True, check=False)
    require(compared.returncode == 0, f"{name}: {compared.stdout[:500]} {compared.stderr[:500]}")


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
    """Cut the power while the service segments, and a consumer takes what is done; see that all is done once.

    The check after the start, which reads all of the slot's files, is not started: cut_installing has it.
    """
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
        done, after = rng.randrange(SLICES_A_CUT), rng.uniform(0, image_s)
        lines = 1 + len(dropped) - len(names) + done
        machine.run(f"until [ $(wc -l <{OUT}/results.csv) -ge {lines} ]; do sleep 0.5; done", timeout_s=START_S)
        time.sleep(after)
        cost = machine.cut()
        with tempfile.TemporaryDirectory() as folder:
            remark = check_disk(machine, Path(folder))
            masks, entries = check_written(Path(folder, "out"))
        seconds = machine.boot(CHECK) + wait_for_service(machine, check=False)
        wait_until_idle(machine, dropped)
        worst = check_results(machine, reference, dropped)
        health = read_health(machine)
        require((health["done"], health["failed"]) == (len(dropped), 0), health)
        reports.append(
            f"cut {cut + 1}, {after:.0f} s after {done} of {len(names)} slices: {cost}; {remark}; "
            f"on the disk {masks} masks, {entries} in the journal; active {seconds:.0f} s after power; "
            f"{len(dropped)} of {len(dropped)} done, once, IoU ≥ {worst:.4f}"
        )
        print(reports[-1], flush=True)
    return reports


def cut_installing(machine: Machine, cuts: int, rng: random.Random) -> list[str]:
    """Cut the power while a kit is installed over another; see one whole slot current, active, and truly reported.

    The installation is done once, and its state kept on the way; each cut is in what follows one of these states.
    """
    reports: list[str] = []
    before = read_current(machine)["name"]
    machine.run("sync")
    command = f"{DEPLOY} install second.kit --root {SLOTS} --pub key.pub --force"
    states, whole_s = keep_states(machine, machine.start(f"cd {STICK} && {command}"))
    machine.cut()
    for cut, moment in enumerate(draw_moments(cuts, whole_s, rng)):
        state = find_state(states, moment)
        steps = [*state.steps, *follow(machine, machine.thaw(state.name), moment, state)]
        cost = machine.cut()
        with tempfile.TemporaryDirectory() as folder:
            remark = check_disk(machine, Path(folder))
            torn = [path.name for path in Path(folder, "records").glob("0*.json") if not is_json(path)]
            require(not torn, f"half a record: {torn}")
        seconds = machine.boot() + wait_for_service(machine)
        reports.append(
            f"cut {cut + 1}, {moment}, at {steps[-1]!r}: {cost}; {remark}; "
            f"active and checked {seconds:.0f} s after power; {check_slots(machine, before)}"
        )
        print(reports[-1], flush=True)
        machine.cut()
    machine.boot()
    return [f"{len(reports)} cuts in an installation of {whole_s:.0f} s"]


@dataclass(frozen=True)
class State:
    """A kept state of a board that installs: its name, the seconds since the start, the steps so far."""

    name: str
    at_s: float
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Moment:
    """When the power is cut: so many seconds after a step was reported; after the start, where there is no step."""

    step: str
    after_s: float

    def __str__(self) -> str:
        return f"{self.after_s:.1f} s after {self.step or 'the start'}"


def keep_states(machine: Machine, number: str) -> tuple[list[State], float]:
    """Follow an installation to its end, and keep its state at each step that takes long, and within; its seconds."""
    states: list[State] = []
    steps, seconds, due = [""], 0.0, True
    while steps[-1] != "end":
        if due:
            states.append(State(f"state{len(states)}", seconds, tuple(steps)))
            machine.freeze(states[-1].name, number)
        started = time.monotonic()
        found = read_steps(machine, number, 0.5)
        seconds += time.monotonic() - started
        steps += found
        due = bool({*found} & LONG_STEPS) or seconds - states[-1].at_s > KEEP_S
    require("done" in steps, steps)
    return states, seconds


def draw_moments(cuts: int, whole_s: float, rng: random.Random) -> list[Moment]:
    """Return when the power is cut.

    One half at any time, spread over the whole installation; the other in a short step each, which these seldom hit.
    """
    any_time = cuts - cuts // 2
    moments = [Moment("", whole_s * (number + rng.random()) / any_time) for number in range(any_time)]
    moments += [Moment(step, rng.uniform(0, SHORT_S)) for step in rng.sample(SHORT_STEPS, cuts // 2)]
    return moments


def find_state(states: list[State], moment: Moment) -> State:
    """Return the last of the states before a moment."""
    if moment.step:
        return [state for state in states if moment.step not in state.steps][-1]
    return [state for state in states if state.at_s <= moment.after_s][-1]


def follow(machine: Machine, number: str, moment: Moment, state: State = State("", 0.0, ())) -> list[str]:
    """Wait for a moment of an installation that goes on from a state, or for its end; return the steps until then."""
    steps: list[str] = []
    while moment.step and moment.step not in steps and "end" not in steps:
        steps += read_steps(machine, number, 0.2)
    end = time.monotonic() + moment.after_s - (0.0 if moment.step else state.at_s)
    while (left := end - time.monotonic()) > 0 and "end" not in steps:
        steps += read_steps(machine, number, left)
    return steps


def check_rollback(machine: Machine) -> str:
    """Install the bad kit: the old slot is current and its service active; its state after the switch is kept."""
    good = read_current(machine)["name"]
    number = machine.start(f"cd {STICK} && {DEPLOY} install bad.kit --root {SLOTS} --pub key.pub")
    steps = follow(machine, number, Moment("restart the service", 0.0))
    require(steps[-1] == "restart the service", f"it did not come to the switch: {steps}")
    machine.freeze(BAD, number)
    status, output = machine.wait(number, INSTALL_S)
    require(status == 9, output)
    require(read_current(machine)["name"] == good, "another slot is current")
    state = ask(machine, "ActiveState", "Result", "NRestarts")
    require(state["ActiveState"] == "active", f"the old slot's service is down: {state}")
    pid = ask(machine, "MainPID")["MainPID"]
    require(str(read_health(machine)["pid"]) == pid, "health.json is another process's")
    require(f"{SLOTS}/slots/{good}" in machine.run(f"cat /proc/{pid}/cmdline"), "another slot runs")
    machine.run(f"{DEPLOY} audit verify --root {SLOTS}")
    return f"bad kit: exit status 9, {good} is current and active; {output.splitlines()[-1]}"


def cut_bad_update(machine: Machine) -> str:
    """Cut the power when the bad kit has become current and is being checked: the start has to undo it by itself."""
    require(BAD in machine.frozen, "cut-update continues what rollback has kept: ask for both")
    before = read_current(machine)["name"]
    machine.cut()
    machine.thaw(BAD)
    time.sleep(SHORT_S)
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
