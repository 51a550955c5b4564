"""Where are installed kits, and which one is current? Slots beside each other, and a record of each.

    ROOT/current            symbolic link to slots/NAME; renaming another link over it is the whole switch
    ROOT/slots/NAME/        kit/ (the signed files), venv/ (the environment that runs)
    ROOT/records/NAME.json  a slot's versions, state and reason of failure; kept longer than the slot's files
    ROOT/trust.pub          the key that the first kit was signed with
    ROOT/audit/             see audit_log.py

A slot's state: `installing` until it passed its tests; `trial` from then until the service was found healthy; `good`;
`failed`; `left` after a rollback from it. With the lock held, `installing`, or `trial` on a slot that is not current,
means an interrupted installation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from deploy.kit.manifest import Manifest
from edge_runtime.errors import OutputError
from edge_runtime.system.files import TEMPORARY, sync_folder

from .durable import MAKE_ROOM, format_now, write_json

CURRENT, SLOTS, RECORDS = "current", "slots", "records"
INSTALLING, TRIAL, GOOD, FAILED, LEFT = "installing", "trial", "good", "failed", "left"
KEPT_RECORDS = 10  # of slots whose files are gone


@dataclass(frozen=True)
class Slot:
    """The record of one installed kit; `replaces` names the slot that was current before it, "" for none."""

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

    def with_state(self, state: str, reason: str = "") -> Slot:
        """Return the record with another state, from now on."""
        return replace(self, state=state, reason=" ".join(reason.split())[:500], since=format_now())


def make_slot(root: Path, manifest: Manifest, kit_sha256: str, key: str) -> Slot:
    """Return the record of a slot that is about to be installed, with a number above all others of this root."""
    numbers = [int(slot.name.partition("-")[0]) for slot in read_slots(root)]
    version = re.sub(r"[^A-Za-z0-9.]+", "_", f"{manifest.software}+{manifest.model_version}")[:40]
    return Slot(
        name=f"{max(numbers, default=0) + 1:04d}-{version}",
        state=INSTALLING,
        since=format_now(),
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


def find_folder(root: Path, name: str) -> Path:
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
    slots = []
    for path in sorted((root / RECORDS).glob("[0-9]*.json")):
        try:
            slots.append(Slot(**json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError) as error:
            why = f"it is not a slot's record ({error})"
            raise OutputError(str(path), why, "remove it if its slot is not current") from None
    return slots


def find_slot(root: Path, name: str) -> Slot | None:
    """Return a slot's record; None if there is none."""
    return next((slot for slot in read_slots(root) if slot.name == name), None)


def write_slot(root: Path, slot: Slot) -> Slot:
    """Write a slot's record and return it. Raises: OutputError."""
    write_json(root / RECORDS / f"{slot.name}.json", asdict(slot))
    return slot


def switch_slot(root: Path, name: str) -> None:
    """Make a slot current in one rename, after all of its files are on the disk; "" makes no slot current.

    Raises: OutputError; then the old one is current.
    """
    link, new_link = root / CURRENT, root / ".current.new"
    os.sync()  # a slot has thousands of files: after a power cut the rename must not be there without them
    try:
        new_link.unlink(missing_ok=True)
        if name:
            new_link.symlink_to(f"{SLOTS}/{name}")
            new_link.replace(link)
        else:
            link.unlink(missing_ok=True)
        sync_folder(root, MAKE_ROOM)
    except OSError as error:
        raise OutputError(str(link), error.strerror or str(error), MAKE_ROOM) from None


def remove_files(root: Path, name: str) -> None:
    """Remove a slot's files, never those of the current slot. Raises: OutputError."""
    folder = find_folder(root, name)
    if name == read_current(root):
        raise OutputError(str(folder), "it is the current slot", "switch to another one first")
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error), "remove it by hand") from None


def clean_up(root: Path) -> list[Slot]:
    """Remove the files of interrupted installations; return the records of the slots that failed in this way."""
    with suppress(OSError):
        (root / ".current.new").unlink(missing_ok=True)
    for folder in (root, root / RECORDS):
        for path in [*folder.glob(".new-*"), *folder.glob(f"{TEMPORARY}*")]:  # the first of older installers
            path.unlink(missing_ok=True)
    current, failed = read_current(root), []
    slots = read_slots(root)
    for slot in slots:
        if slot.state in (INSTALLING, TRIAL) and slot.name != current:
            remove_files(root, slot.name)
            when = "during its installation" if slot.state == INSTALLING else "before the switch"
            failed.append(write_slot(root, slot.with_state(FAILED, f"interrupted {when}")))
        elif slot.state == FAILED and slot.name != current:
            remove_files(root, slot.name)
    recorded = {slot.name for slot in slots}
    if (root / SLOTS).is_dir():
        for path in (root / SLOTS).iterdir():
            if path.name not in recorded and path.name != current:
                remove_files(root, path.name)
    return failed


def list_good_slots(root: Path, current: str) -> list[Slot]:
    """Return the good slots beside the current one whose files exist, oldest first."""
    return [
        slot
        for slot in read_slots(root)
        if slot.state == GOOD and slot.name != current and find_folder(root, slot.name).is_dir()
    ]


def find_fallback(root: Path, slot: Slot) -> Slot | None:
    """Return the slot to restore after another: the one that it replaced if that is good, else the newest good one."""
    good = list_good_slots(root, slot.name)
    return next((other for other in good if other.name == slot.replaces), good[-1] if good else None)


def prune_slots(root: Path, keep: int) -> None:
    """Remove the files of old slots, all but the current one and the `keep` newest good ones, and very old records."""
    name = read_current(root)
    current = find_slot(root, name)
    fallback = find_fallback(root, current) if current else None
    good = [slot.name for slot in list_good_slots(root, name)]
    kept = {name, *good[max(0, len(good) - keep) :]} | ({fallback.name} if fallback and keep else set())
    slots = read_slots(root)
    for slot in slots:
        if slot.name not in kept:
            remove_files(root, slot.name)
    empty = [slot for slot in slots if not find_folder(root, slot.name).is_dir()]
    for slot in empty[: max(0, len(empty) - KEPT_RECORDS)]:
        (root / RECORDS / f"{slot.name}.json").unlink(missing_ok=True)
