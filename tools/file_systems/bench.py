"""Runs edge-seg on file systems with faults and checks what is left: bench.py [FAULT ...], by default all.

The faults are those of shim.c, which is compiled here and loaded before the C library. On each a folder run and the
service write into OUT; then the fault is lifted and the same command runs again. What must hold: no traceback and no
hang; exit 0, 1 or 3; each row that is ok has its own mask, equal to that of the very image on a plain file system;
after the fault is lifted every image has one. The files are read by loops of this file alone. Exit 1 and a line for
each fault found.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reference.data.phantom import draw_phantom

ROOT = Path(__file__).resolve().parents[2]
SEG = [sys.executable, "-m", "edge_runtime.cli", "--threads", "1", "--quiet"]
# The statuses of a folder run, and the words of its message, on each.
FAULTS = {
    "fold": ((3,), "scan"),
    "no-sync": ((0,), ""),
    "no-sync-38": ((0,), ""),
    "names": ((3,), "12:30:05"),
    "read-only": ((1,), "Read-only"),
    "full": ((1,), "No space"),
    "quota": ((1,), "quota"),
    "io": ((1,), "Input/output"),
    "sync-io": ((1,), "Input/output"),
}
PLAIN = ("a.png", "b.png", "c.png", "z.png")
NAMES = {"fold": ("Scan.png", "scan.png"), "names": ("scan 12:30:05.png",)}  # besides, where the fault is of names
FS_BYTES = 30_000  # of each process; each write counts as a block of 4096, and an image makes three
LIMIT_S = 60.0


class Wrong(Exception):
    """What must hold did not; the text says what."""


@dataclass(frozen=True)
class Bench:
    """The shim, and a folder to work in."""

    folder: Path
    shim: Path

    def run(self, fault: str, out: Path, *args: object) -> subprocess.Popen[str]:
        """Start edge-seg, with a fault of the file system below the parent of OUT unless it is ""."""
        more = {"LD_PRELOAD": str(self.shim), "FS_FAULT": fault, "FS_ROOT": str(out.parent), "FS_BYTES": str(FS_BYTES)}
        own = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.folder / "cache")}
        command = [*SEG, *map(str, args), "-o", str(out)]
        environment = {**os.environ, **own, **(more if fault else {})}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def check_run(bench: Bench, fault: str, images: Path, masks: dict[str, bytes]) -> None:
    """A folder run on a file system with a fault, and the same command after it."""
    out = bench.folder / f"run-{fault}" / "out"
    out.parent.mkdir()
    status, errors = finish(bench.run(fault, out, images))
    statuses, words = FAULTS[fault]
    if status not in statuses or words not in errors:
        raise Wrong(f"exit {status}, not {statuses}, or not {words!r}: {errors.strip()}")
    made = check_masks(out, masks, fault)
    if status in (0, 3) and len(made) < len(masks) - len(NAMES.get(fault, ())):
        raise Wrong(f"only {sorted(made)} were segmented")
    status, errors = finish(bench.run("", out, images))
    if status != 0 or check_masks(out, masks, "") != set(masks):
        raise Wrong(f"after the fault: exit {status}, {errors.strip()}")


def check_service(bench: Bench, fault: str, images: Path, masks: dict[str, bytes]) -> None:
    """The service on a file system with a fault, and started again after it."""
    out = bench.folder / f"service-{fault}" / "out"
    out.parent.mkdir()
    for now in (fault, ""):
        process = bench.run(now, out, "--watch", images, "--settle", "0.1")
        until = time.monotonic() + (6 if now else LIMIT_S)
        while time.monotonic() < until and process.poll() is None and not is_idle(out, process.pid, len(masks)):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        status, errors = finish(process)
        if status not in (0, 1) or (not now and status):
            raise Wrong(f"exit {status}: {errors.strip()}")
        made = check_masks(out, masks, fault)  # the shim's folded names stay as they are without it
        if not now and made | {row["file"] for row in read_rows(out)} != set(masks):
            raise Wrong(f"after the fault only {sorted(made)} are done")
        if not now and fault not in NAMES and made != set(masks):
            raise Wrong(f"after the fault only {sorted(made)} are segmented")


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit status and stderr. Raises: Wrong for a hang, a traceback or another line than a message."""
    try:
        _, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Wrong("it hangs") from None
    if other := [line for line in errors.splitlines() if not line.startswith("edge-seg: ")]:
        raise Wrong(f"it wrote {other[-1]}")
    return process.returncode, errors


def check_masks(out: Path, masks: dict[str, bytes], fault: str) -> set[str]:
    """Return the images whose rows are ok. Raises: Wrong where a mask is not that of its image, or of two."""
    journal = out / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    named = {(entry := json.loads(line))["row"]["file"]: list(entry["outputs"]) for line in lines}
    made = {row["file"] for row in read_rows(out) if row["status"] == "ok"}
    for file in made:
        name = next(name for name in named[file] if name.startswith("masks/"))
        path = out / (name.lower() if fault == "fold" else name)
        if not path.is_file() or path.read_bytes() != masks[file]:
            raise Wrong(f"{file} is ok, {name} is not its mask")
    return made


def read_rows(out: Path) -> list[dict[str, str]]:
    """Return the rows of results.csv, none where it was not written."""
    if not (out / "results.csv").exists():
        return []
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_idle(out: Path, pid: int, count: int) -> bool:
    """Tell whether that process has done all images."""
    try:
        health = json.loads((out / "health.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(health["pid"] == pid and health["state"] == "idle" and health["done"] + health["failed"] >= count)


def draw_images(folder: Path, names: tuple[str, ...]) -> Path:
    """Write a drawn slice under each name, all different."""
    folder.mkdir()
    for number, name in enumerate(names):
        image = draw_phantom(np.random.default_rng(number), "meningioma", (64, 64)).image
        (folder / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return folder


def find_wrong(bench: Bench, faults: list[str]) -> Iterator[str]:
    """Yield what does not hold on each file system."""
    for fault in faults:
        images = draw_images(bench.folder / f"in-{fault}", (*PLAIN, *NAMES.get(fault, ())))
        plain = bench.folder / f"plain-{fault}"
        status, errors = finish(bench.run("", plain, images))
        masks = {path.name: path.read_bytes() for path in (plain / "masks").iterdir()}
        if status or len(set(masks.values())) < len(masks):
            raise Wrong(f"on a plain file system: exit {status}, {errors}, or two masks are alike")
        for name, check in (("run", check_run), ("service", check_service)):
            try:
                check(bench, fault, images, masks)
                print(f"{fault}, {name}: ok", flush=True)
            except Wrong as wrong:
                yield f"{fault}, {name}: {wrong}"


def main() -> int:
    """Compile the shim and try all faults that were named."""
    faults = sys.argv[1:] or list(FAULTS)
    if unknown := set(faults) - set(FAULTS):
        print(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="file-systems-"))
    shim = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-O1", "-Wall", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    wrong = list(find_wrong(Bench(folder, shim), faults))
    print("\n".join(wrong) if wrong else "all hold")
    if not wrong:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
