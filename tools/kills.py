"""Kills runs, the service and the installer at random moments and checks what is left: kills.py --seconds N --seed S.

Three chains go side by side, each of some SIGKILLs and restarts: folder runs into one OUT, a service while files
arrive, and installations on one root. A kill hits the command, one of its children or its whole group. What must hold
after every kill: whatever has its final name is whole, and what the journal calls done stands. At the end of a chain:
nothing is lost, nothing is done twice, and no temporary file is left. The files are read by loops of this file alone,
and masks are compared with those of an undisturbed run. Exit 1 and a line for each fault; the folder is kept then.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deploy.kit.archive import MANIFEST, SIGNATURE, write_archive
from deploy.kit.keys import make_keys, sign
from deploy.kit.manifest import LOCK, MODEL, Entry, Manifest, to_json
from reference.data.phantom import draw_phantom

ROOT = Path(__file__).resolve().parents[1]
SEG = [sys.executable, "-m", "edge_runtime.cli", "--threads", "1", "--quiet"]
INSTALL = [sys.executable, str(ROOT / "tools" / "kills_installer.py")]
IMAGES, ARRIVALS = 24, 18
BROKEN = "broken.png"  # an image that fails, in each folder: its row is there too
TARGETS = ("command", "command", "child", "group")
SETTLE_S = 0.4
LIMIT_S = 120.0  # of one command: it hangs then
KILLED = -signal.SIGKILL


class Fault(Exception):
    """Something was lost, done twice or half; the text says what."""


class TooSlow(Exception):
    """This machine held up the bench itself: a file lay half written so long that the service may take it as it is."""


class Bench:
    """What the three chains share: the inputs, the undisturbed masks, the kills counted, and the end."""

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self.folder, self.seed, self.end = folder, seed, 0.0
        self.kills: Counter[tuple[str, str]] = Counter()
        self.chains: Counter[str] = Counter()
        self.faults: list[str] = []
        self.abandoned = 0
        self.images = draw_images(folder / "in", IMAGES)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        began = time.monotonic()
        status, errors = self.start("run", [*SEG, self.images, "-o", folder / "whole"]).wait()
        self.run_s = time.monotonic() - began
        if status != 3:
            raise Fault(f"the undisturbed run: exit {status}, {errors}")
        self.masks = {path.name: path.read_bytes() for path in (folder / "whole" / "masks").iterdir()}
        self.key = folder / "key"
        self.public = make_keys(self.key)
        self.kits = {version: draw_kit(version) for version in ("1", "2", "3")}
        for version, files in self.kits.items():
            write_kit(self.name_kit(version), self.key, version, files)
        began = time.monotonic()
        self.start("installer", [*INSTALL, self.name_kit("1"), folder / "root", self.public]).wait()
        self.install_s = time.monotonic() - began
        self.end = time.monotonic() + seconds

    def name_kit(self, version: str) -> Path:
        """Return a kit's path."""
        return self.folder / f"{version}.kit"

    def start(self, lane: str, command: Sequence[object]) -> Command:
        """Start a command of a chain."""
        return Command(self, lane, [str(part) for part in command])

    def run_lane(self, lane: str, chain: Callable[[Bench, random.Random, Path], None]) -> None:
        """Run one kind of chain again and again until the time is over, or a fault was found."""
        rng = random.Random(f"{self.seed} {lane}")
        while time.monotonic() < self.end and not self.faults:
            folder = self.folder / f"{lane}-{self.chains[lane]}-{self.abandoned}"
            folder.mkdir()
            try:
                chain(self, rng, folder)
            except (Fault, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as fault:
                self.faults.append(f"{lane}, chain {self.chains[lane]}, {folder}: {fault!r}")
                return
            except TooSlow:
                self.abandoned += 1
            else:
                self.chains[lane] += 1
            shutil.rmtree(folder)


class Command:
    """A started command, the leader of a group."""

    def __init__(self, bench: Bench, lane: str, command: list[str]) -> None:
        self.bench, self.lane, self.child_killed = bench, lane, False
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by wait
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=self.errors, start_new_session=True, env=bench.environment
        )

    def kill(self, target: str) -> None:
        """Send SIGKILL to the command, one of its children, or all; count it where something was alive."""
        if self.process.poll() is not None:
            return
        pid = self.process.pid
        if target == "child":
            children = read_children(pid)
            if self.child_killed or not children:
                return
            self.child_killed = True  # a second one could hit the image that is tried again: its row would be right
            pid = children[-1]
        try:
            if target == "group":
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.bench.kills[self.lane, target] += 1

    def wait(self) -> tuple[int, str]:
        """Return its exit status and stderr. Raises: TimeoutExpired if it hangs; Fault for a traceback."""
        try:
            status = self.process.wait(LIMIT_S)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.errors.seek(0)
        errors = self.errors.read().decode("utf-8", "replace")
        self.errors.close()
        if "Traceback" in errors:
            raise Fault(errors)
        return status, errors


# --- chains ------------------------------------------------------------------------------------------------------


def kill_runs(bench: Bench, rng: random.Random, folder: Path) -> None:
    """Kill a folder run and its resumptions; in the end each image has one row and the undisturbed run's mask."""
    out = folder / "out"
    for _ in range(rng.randint(3, 8)):
        command = bench.start("run", [*SEG, bench.images, "-o", out, "--workers", rng.randint(1, 3)])
        for _ in range(rng.randint(1, 2)):
            wait_for_moment(rng, command, out, bench.run_s)
            command.kill(rng.choice(TARGETS))
        if command.process.poll() is None and command.child_killed and rng.random() < 0.5:
            time.sleep(rng.random())
        command.kill("command")
        status, errors = command.wait()
        if status not in (KILLED, 0, 3) and not (command.child_killed and status == 1):
            raise Fault(f"exit {status}: {errors}")
        check_nothing_half(bench, out)
    status, errors = bench.start("run", [*SEG, bench.images, "-o", out, "--workers", 2]).wait()
    if status != 3:
        raise Fault(f"left alone, it ended with {status}: {errors}")
    check_end(bench, out, {path.name for path in bench.images.iterdir()})


def kill_service(bench: Bench, rng: random.Random, folder: Path) -> None:
    """Kill a service while files arrive; in the end each file was done exactly once over all its lives."""
    inbox, out = folder / "inbox", folder / "out"
    inbox.mkdir()
    watch = [*SEG, "--watch", inbox, "-o", out, "--settle", SETTLE_S]
    names = rng.sample(sorted(path.name for path in bench.images.iterdir()), ARRIVALS)
    coming, done = list(names), dict[str, str]()
    while coming or len(done) < len(names):
        command = bench.start("service", [*watch, "--workers", 1])
        for _ in range(rng.randint(1, 4)):
            if coming:
                try:
                    deliver(bench.images / coming.pop(), inbox, rng)
                except TooSlow:
                    command.kill("group")
                    command.wait()
                    raise
            wait_for_moment(rng, command, out, 1.5)
        if rng.random() < 0.3:
            command.kill("child")
            wait_for_moment(rng, command, out, 1.5)
        command.kill(rng.choice(("command", "command", "group")))
        status, errors = command.wait()
        if status != KILLED and not (command.child_killed and status == 1):
            raise Fault(f"exit {status}: {errors}")
        check_nothing_half(bench, out)
        done = check_once(out, done)
    command = bench.start("service", watch)
    until = time.monotonic() + LIMIT_S
    while read_state(out, command.process.pid) != "idle" and time.monotonic() < until:
        time.sleep(0.05)
    command.process.send_signal(signal.SIGTERM)
    status, errors = command.wait()
    if status != 0:
        raise Fault(f"left alone and stopped, it ended with {status}: {errors}")
    check_once(out, done)
    check_end(bench, out, set(names))


def kill_installer(bench: Bench, rng: random.Random, folder: Path) -> None:
    """Kill installations; in the end the last kit is current and whole, and the log unbroken."""
    root, installed = folder / "root", False
    for _ in range(rng.randint(4, 10)):
        kit = bench.name_kit(rng.choice(list(bench.kits)))
        command = bench.start("installer", [*INSTALL, kit, root, bench.public])
        time.sleep(rng.uniform(0.3, 1.2) * bench.install_s)
        command.kill(rng.choice(("command", "group")))
        status, errors = command.wait()
        if status not in (KILLED, 0):
            raise Fault(f"exit {status}: {errors}")
        installed = check_slot(bench, root, installed or status == 0)
    wanted = rng.choice(list(bench.kits))
    status, errors = bench.start("installer", [*INSTALL, bench.name_kit(wanted), root, bench.public]).wait()
    if status != 0:
        raise Fault(f"left alone, it ended with {status}: {errors}")
    check_slot(bench, root, True)
    check_log(root)
    version = (root / "current" / "venv" / "version").read_text()
    record = json.loads((root / "records" / f"{(root / 'current').readlink().name}.json").read_text())
    if version != wanted or record["state"] != "good":
        raise Fault(f"{wanted} was installed; {version} is current, its state {record['state']}")
    if left := list_temporary(root):
        raise Fault(f"temporary files: {left}")


def wait_for_moment(rng: random.Random, command: Command, out: Path, run_s: float) -> None:
    """Wait for a time, for one more mask, or for a file that is being written."""
    kind, until = rng.randrange(3), time.monotonic() + 3 * run_s
    wanted = count_masks(out) + rng.randint(1, 4)
    if kind == 0:
        time.sleep(run_s * 1.2 * rng.random())
        return
    while time.monotonic() < until and command.process.poll() is None:
        if count_masks(out) >= wanted if kind == 1 else list_temporary(out):
            break
        time.sleep(0.001)
    time.sleep(rng.choice((0, 0.002, 0.03)) * rng.random())


def deliver(image: Path, inbox: Path, rng: random.Random) -> None:
    """Put a file into the inbox, in one move or byte by byte."""
    if rng.random() < 0.5:
        hidden = inbox / f".{image.name}"
        hidden.write_bytes(image.read_bytes())
        hidden.rename(inbox / image.name)
        return
    data = image.read_bytes()
    began = time.monotonic()
    with (inbox / image.name).open("wb", buffering=0) as file:
        file.write(data[: len(data) // 2])
        time.sleep(0.05 * rng.random())
        file.write(data[len(data) // 2 :])
    if time.monotonic() - began > SETTLE_S / 2:
        raise TooSlow


# --- what must hold ----------------------------------------------------------------------------------------------


def check_nothing_half(bench: Bench, out: Path) -> None:
    """At any moment: a mask under its name is whole, and what the journal calls done stands in its size."""
    entries = [entry for entry in read_journal(out) if entry["row"]["status"] == "ok"]
    for name, size in ((name, size) for entry in entries for name, size in entry["outputs"].items()):
        if not (out / name).is_file() or (out / name).stat().st_size != size:
            raise Fault(f"the journal calls {name} done, which is not there in its size")
    for path in (out / "masks").glob("[!.]*"):
        if path.read_bytes() != bench.masks.get(path.name):
            raise Fault(f"{path} is not the mask of an undisturbed run")


def check_once(out: Path, before: dict[str, str]) -> dict[str, str]:
    """Return {file: its line} of the journal: no file twice, none forgotten or done again since `before`.

    A line has the times that its image took, so that of an image that was done again differs.
    """
    found: dict[str, str] = {}
    for entry in read_journal(out):
        file = entry["row"]["file"]
        if file in found:
            raise Fault(f"{file} was done twice in one life")
        found[file] = json.dumps(entry, sort_keys=True)
    if not (out / "journal.jsonl").exists() and not before:
        return {}
    for file, line in before.items():
        if found.get(file) != line:
            raise Fault(f"{file} was {'forgotten' if file not in found else 'done again'} by the next life")
    return found


def check_end(bench: Bench, out: Path, names: set[str]) -> None:
    """When a chain is through: one row for each file, its mask the undisturbed one, one journal line, nothing else."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if sorted(row["file"] for row in rows) != sorted(names):
        raise Fault(f"rows of {sorted(row['file'] for row in rows)}, not of {sorted(names)}")
    wanted = {row["file"]: "failed" if row["file"] == BROKEN else "ok" for row in rows}
    if {row["file"]: row["status"] for row in rows} != wanted:
        raise Fault(f"failed: {[row['file'] for row in rows if row['status'] != wanted[row['file']]]}")
    made = sorted(file for file, status in wanted.items() if status == "ok")
    done = [entry["row"]["file"] for entry in read_journal(out) if entry["row"]["status"] == "ok"]
    if sorted(done) != made:
        raise Fault(f"the journal has {sorted(done)}, not {made}")
    masks = sorted(path.name for path in (out / "masks").iterdir())
    if masks != made:
        raise Fault(f"masks of {masks}, not of {made}")
    for row in rows:
        if row["status"] != "ok":
            continue
        data = (out / "masks" / row["file"]).read_bytes()
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if data != bench.masks[row["file"]] or mask is None or int((mask > 0).sum()) != int(row["lesion_pixels"]):
            raise Fault(f"{row['file']}: not the undisturbed run's mask, or not the row's")
    if left := list_temporary(out):
        raise Fault(f"temporary files: {left}")


def check_slot(bench: Bench, root: Path, installed: bool) -> bool:
    """At any moment: the current slot, which is there once one was installed, has all files of its kit."""
    current = root / "current"
    if not current.is_dir():
        if installed:
            raise Fault("no slot is current any more")
        return False
    wanted = bench.kits[(current / "venv" / "version").read_text()]
    kit = current / "kit"
    found = {path.relative_to(kit).as_posix(): path.read_bytes() for path in kit.rglob("*") if path.is_file()}
    if found != wanted:
        raise Fault(f"{current.readlink()} is current, its files are not the kit's")
    record = json.loads((root / "records" / f"{current.readlink().name}.json").read_text())
    if record["state"] not in ("trial", "good"):
        raise Fault(f"{current.readlink()} is current, its state {record['state']}")
    return True


def check_log(root: Path) -> None:
    """The audit log's lines follow each other by number and hash, and its head is the last."""
    last, number = "0" * 64, 0
    for line in (root / "audit" / "log.jsonl").read_bytes().decode().splitlines():
        fields = json.loads(line)
        own = fields.pop("hash")
        text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        if hashlib.sha256(text).hexdigest() != own or fields["prev"] != last or fields["n"] != number + 1:
            raise Fault(f"the audit log breaks at line {number + 1}")
        last, number = own, number + 1
    head = json.loads((root / "audit" / "head.json").read_bytes())
    if (head["n"], head["hash"]) != (number, last):
        raise Fault(f"the audit log's head is {head['n']}, its last line {number}")


def read_journal(out: Path) -> list[dict[str, Any]]:
    """Return the whole lines of OUT's journal."""
    try:
        data = (out / "journal.jsonl").read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def read_state(out: Path, pid: int) -> str:
    """Return the state in health.json if it is of that process, and nothing waits."""
    try:
        health = json.loads((out / "health.json").read_bytes())
    except (OSError, ValueError):
        return ""
    return str(health["state"]) if health["pid"] == pid and health["waiting"] == 0 else ""


def list_temporary(folder: Path) -> list[str]:
    """Return the temporary files below a folder."""
    return [str(Path(top, name)) for top, _, names in os.walk(folder) for name in names if name.startswith(".tmp")]


def count_masks(out: Path) -> int:
    """Return how many masks stand under their names."""
    try:
        return sum(not name.startswith(".") for name in os.listdir(out / "masks"))  # noqa: PTH208 - quick
    except OSError:
        return 0


def read_children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


# --- inputs ------------------------------------------------------------------------------------------------------


def draw_images(folder: Path, count: int) -> Path:
    """Write so many drawn slices, all different, and one image that cannot be read."""
    folder.mkdir()
    for number in range(count):
        image = draw_phantom(np.random.default_rng(number), "meningioma", (64, 64)).image
        (folder / f"{number:02}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    (folder / BROKEN).write_bytes((folder / "00.png").read_bytes()[:200])
    return folder


def draw_kit(version: str) -> dict[str, bytes]:
    """Return a kit's files: a model's place holder, and enough others to be killed between them."""
    rng = random.Random(version)
    return {LOCK: b"", MODEL: rng.randbytes(300_000), **{f"units/{n}.service": rng.randbytes(9000) for n in range(20)}}


def write_kit(path: Path, key: Path, version: str, files: dict[str, bytes]) -> None:
    """Write a signed kit of these files."""
    entries = tuple(Entry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items()))
    digest = hashlib.sha256(files[MODEL]).hexdigest()
    target = ("here", "any", "3.11", "2.17", "1.0")
    manifest = Manifest(*target, "drawn", version, digest, 0, True, None, 1 << 28, 1000, entries)
    text, packed = to_json(manifest), io.BytesIO()
    write_archive(packed, [(MANIFEST, text), (SIGNATURE, sign(key, text)[0]), *sorted(files.items())])
    path.write_bytes(packed.getvalue())


# --- the command -------------------------------------------------------------------------------------------------


def to_lines(bench: Bench, seconds: float) -> Iterator[str]:
    """Yield what the bench has done."""
    total = sum(bench.kills.values())
    yield (
        f"seed {bench.seed}, {seconds:.0f} s: {total} SIGKILLs, {sum(bench.chains.values())} chains through, "
        f"{bench.abandoned} abandoned since this machine was too slow"
    )
    for lane in ("run", "service", "installer"):
        parts = ", ".join(f"{count} of its {who}" for (of, who), count in sorted(bench.kills.items()) if of == lane)
        yield f"{lane}: {bench.chains[lane]} chains; killed: {parts or 'none'}"
    yield f"faults: {len(bench.faults)}"
    yield from bench.faults


def main() -> int:
    """Run the three chains side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="default: an hour")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    bench = Bench(folder, args.seconds, args.seed)
    lanes = {"run": kill_runs, "service": kill_service, "installer": kill_installer}
    threads = [threading.Thread(target=bench.run_lane, args=lane) for lane in lanes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n".join(to_lines(bench, time.monotonic() - started)))
    if not bench.faults:
        shutil.rmtree(folder)
    return 1 if bench.faults else 0


if __name__ == "__main__":
    sys.exit(main())
