"""Where installed kits live: slots beside each other, one of them current, and a record of each.

    ROOT/current            symbolic link to slots/NAME; renaming another one over it is the whole switch
    ROOT/slots/NAME/        kit/ (what was signed), venv/ (what runs)
    ROOT/records/NAME.json  what is known of a slot, and why it failed; outlives the slot's files
    ROOT/trust.pub          the key that the first kit was signed with
    ROOT/audit/             see audit.py

A slot's state: `installing` until it passed its tests; `trial` from then until the service is seen to be healthy;
`good`; `failed`; `left` when somebody rolled back from it. Whoever finds `installing`, or `trial` on a slot that is not
current, has found an installation that was interrupted: the lock is free, so nobody is at work.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edge_runtime.errors import OutputError

from .disk import ROOM, sync_folder, tell_time, write_json
from .manifest import Manifest

CURRENT, SLOTS, RECORDS = "current", "slots", "records"
INSTALLING, TRIAL, GOOD, FAILED, LEFT = "installing", "trial", "good", "failed", "left"
KEPT_RECORDS = 10  # of slots whose files are gone


@dataclass(frozen=True)
class Slot:
    """What is known of one installed kit; `replaces` names the slot that was current before it, "" for none."""

    name: str
    state: str
    since: str
    target: str
    software: str
    model_id: str
    model_version: str
    model_sha256: str
    release: int
    kit_sha256: str
    key: str
    replaces: str
    memory_bytes: int
    latency_ms: float | None = None
    reason: str = ""

    def now(self, state: str, reason: str = "") -> Slot:
        """Return the record with another state, from now on."""
        return replace(self, state=state, reason=" ".join(reason.split())[:500], since=tell_time())


def new_slot(root: Path, manifest: Manifest, kit_sha256: str, key: str) -> Slot:
    """Return the record of a slot that is about to be installed, with a number that no other has had here."""
    numbers = [int(slot.name.partition("-")[0]) for slot in read_slots(root)]
    version = re.sub(r"[^A-Za-z0-9.]+", "_", f"{manifest.software}+{manifest.model_version}")[:40]
    return Slot(
        name=f"{max(numbers, default=0) + 1:04d}-{version}",
        state=INSTALLING,
        since=tell_time(),
        target=manifest.target,
        software=manifest.software,
        model_id=manifest.model_id,
        model_version=manifest.model_version,
        model_sha256=manifest.model_sha256,
        release=manifest.release,
        kit_sha256=kit_sha256,
        key=key,
        replaces=read_current(root),
        memory_bytes=manifest.memory_bytes,
    )


def find_files(root: Path, name: str) -> Path:
    """Return the folder of a slot's files."""
    return root / SLOTS / name


def read_current(root: Path) -> str:
    """Return the current slot's name; "" if there is none."""
    try:
        return (root / CURRENT).readlink().name if (root / CURRENT).is_dir() else ""
    except OSError:
        return ""


def read_slots(root: Path) -> list[Slot]:
    """Return all records, oldest first. Raises: OutputError if one is damaged."""
    found = []
    for path in sorted((root / RECORDS).glob("[0-9]*.json")):
        try:
            found.append(Slot(**json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError) as error:
            raise OutputError(
                str(path), f"it is no slot's record ({error})", "remove it if its slot is not current"
            ) from None
    return found


def find_slot(root: Path, name: str) -> Slot | None:
    """Return a slot's record; None if there is none."""
    return next((slot for slot in read_slots(root) if slot.name == name), None)


def write_slot(root: Path, slot: Slot) -> Slot:
    """Write a slot's record and return it. Raises: OutputError."""
    write_json(root / RECORDS / f"{slot.name}.json", asdict(slot))
    return slot


def switch(root: Path, name: str) -> None:
    """Make a slot current in one rename, after all of its files are on the disk; "" leaves none current.

    Raises: OutputError; then the old one is current.
    """
    link, beside = root / CURRENT, root / ".current.new"
    os.sync()  # a slot has thousands of files: a rename must not outlive them
    try:
        beside.unlink(missing_ok=True)
        if name:
            beside.symlink_to(f"{SLOTS}/{name}")
            beside.replace(link)
        else:
            link.unlink(missing_ok=True)
        sync_folder(root)
    except OSError as error:
        raise OutputError(str(link), error.strerror or str(error), ROOM) from None


def remove_files(root: Path, name: str) -> None:
    """Remove a slot's files, never the current one's. Raises: OutputError."""
    if name == read_current(root):
        raise OutputError(str(find_files(root, name)), "it is the current slot", "switch to another one first")
    try:
        shutil.rmtree(find_files(root, name))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(str(find_files(root, name)), error.strerror or str(error), "remove it by hand") from None


def clean_up(root: Path) -> list[Slot]:
    """Remove what interrupted installations left; return the records of the slots that failed so."""
    with suppress(OSError):
        (root / ".current.new").unlink(missing_ok=True)
    for folder in (root, root / RECORDS):
        for path in folder.glob(".new-*"):
            path.unlink(missing_ok=True)
    current, failed = read_current(root), []
    slots = read_slots(root)
    for slot in slots:
        if slot.state in (INSTALLING, TRIAL) and slot.name != current:
            remove_files(root, slot.name)
            at = "during its installation" if slot.state == INSTALLING else "before the switch"
            failed.append(write_slot(root, slot.now(FAILED, f"interrupted {at}")))
        elif slot.state == FAILED and slot.name != current:
            remove_files(root, slot.name)
    known = {slot.name for slot in slots}
    if (root / SLOTS).is_dir():
        for path in (root / SLOTS).iterdir():
            if path.name not in known and path.name != current:
                remove_files(root, path.name)
    return failed


def find_fallback(root: Path, slot: Slot) -> Slot | None:
    """Return the slot to go back to from another: the one it replaced if that is whole, else the newest good one."""
    whole = [
        s for s in read_slots(root) if s.state == GOOD and s.name != slot.name and find_files(root, s.name).is_dir()
    ]
    return next((s for s in whole if s.name == slot.replaces), whole[-1] if whole else None)


def prune(root: Path, keep: int) -> list[str]:
    """Remove the files of old slots, all but the current one and the `keep` newest good ones, and very old records.

    Return the names of the slots whose files went.
    """
    current = read_current(root)
    slots = read_slots(root)
    here = next((slot for slot in slots if slot.name == current), None)
    fallback = find_fallback(root, here) if here else None
    good = [s.name for s in slots if s.state == GOOD and s.name != current and find_files(root, s.name).is_dir()]
    kept = {current, *good[len(good) - keep :]} | ({fallback.name} if fallback and keep else set())
    gone = []
    for slot in slots:
        if slot.name not in kept and find_files(root, slot.name).is_dir():
            remove_files(root, slot.name)
            gone.append(slot.name)
    without = [slot for slot in slots if not find_files(root, slot.name).is_dir()]
    for slot in without[: max(0, len(without) - KEPT_RECORDS)]:
        (root / RECORDS / f"{slot.name}.json").unlink(missing_ok=True)
    return gone
