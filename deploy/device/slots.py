"""Where are installed kits, and which one is current? Slots beside each other, and a record of each.

    ROOT/current            symbolic link to slots/NAME; renaming another link over it is the whole switch
    ROOT/slots/NAME/        kit/ (the signed files), manifest.json, key.pub, venv/ (the environment that runs)
    ROOT/records/NAME.json  a slot's versions, state and reason of failure; kept longer than the slot's files
    ROOT/records/NAME.sha256  see slot_files.py
    ROOT/trust.pub          the key of the kits that are accepted; see requirements.py
    ROOT/audit/             see audit_log.py

A slot's state: `installing` until it passed its tests; `trial` from then until the service was found healthy; `good`;
`failed`; `left` after a rollback from it; `damaged` if its files are no longer those that passed the tests. With the
lock held, `installing`, or `trial` on a slot that is not current, means an interrupted installation.

Nothing in ROOT is followed out of it: a link that leads elsewhere, and a record of another name than its file, is an
error, because files are removed by these names.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from deploy.files import (
    MAKE_ROOM,
    RUN_AS_ROOT,
    format_now,
    list_names,
    read_json,
    require_own_folder,
    to_line,
    write_json,
)
from deploy.kit.manifest import Manifest
from edge_runtime.errors import OutputError
from edge_runtime.system.files import TEMPORARY, sync_folder

CURRENT, SLOTS, RECORDS = "current", "slots", "records"
INSTALLING, TRIAL, GOOD, FAILED, LEFT = "installing", "trial", "good", "failed", "left"
DAMAGED = "damaged"
STATES = (INSTALLING, TRIAL, GOOD, FAILED, LEFT, DAMAGED)
KEPT_RECORDS = 10  # of slots whose files are gone
NAME = re.compile(r"[0-9]{4,9}-[A-Za-z0-9._]{1,40}")
RECORD_SUFFIX, LIST_SUFFIX = ".json", ".sha256"
MAX_RECORD_BYTES = 64 << 10
INSTALL = "edge-deploy install KIT --root DIR --pub P"


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
        return replace(self, state=state, reason=to_line(reason)[:500], since=format_now())


FIELD_TYPES: dict[str, Any] = {
    field.name: {"str": str, "int": int}.get(str(field.type), (int, float, type(None))) for field in fields(Slot)
}


def make_slot(root: Path, manifest: Manifest, kit_sha256: str, key: str) -> Slot:
    """Return the record of a slot that is about to be installed, with a number above all others of this root."""
    names = {slot.name for slot in read_slots(root)} | set(list_names(root / SLOTS))
    numbers = [int(name.partition("-")[0]) for name in names if NAME.fullmatch(name)]
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


def has_files(root: Path, name: str) -> bool:
    """Return whether a slot's folder is there, and no link to another one."""
    folder = find_folder(root, name)
    return folder.is_dir() and not folder.is_symlink()


def read_current(root: Path) -> str:
    """Return the current slot's name, whether its files are there or not; "" if no slot is current.

    Raises: OutputError if ROOT/current is not a link to a slot.
    """
    link, fix = root / CURRENT, f"remove it, then {INSTALL}"
    try:
        target = str(link.readlink())
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise OutputError(str(link), "it is not a symbolic link", fix) from None
        raise OutputError(str(link), error.strerror or str(error), RUN_AS_ROOT) from None
    folder, _, name = target.partition("/")
    if folder != SLOTS or not NAME.fullmatch(name):
        raise OutputError(str(link), f"it leads to {target}, which is none of the slots", fix)
    return name


def read_slots(root: Path) -> list[Slot]:
    """Return all records, oldest first. Raises: OutputError if one is damaged or cannot be read."""
    require_own_folder(root / SLOTS)
    folder = root / RECORDS
    stems = [name.removesuffix(RECORD_SUFFIX) for name in list_names(folder) if name.endswith(RECORD_SUFFIX)]
    return [read_slot(folder / f"{stem}{RECORD_SUFFIX}") for stem in stems if stem[:1].isdecimal()]


def read_slot(path: Path) -> Slot:
    """Return the record in a file. Raises: OutputError if it is damaged or cannot be read."""
    try:
        return parse_slot(path.name.removesuffix(RECORD_SUFFIX), read_json(path, MAX_RECORD_BYTES, follow=False))
    except PermissionError as error:
        raise OutputError(str(path), error.strerror or str(error), RUN_AS_ROOT) from None
    except (OSError, ValueError) as error:
        why = f"it is not a slot's record ({getattr(error, 'strerror', None) or error})"
        raise OutputError(str(path), why, "remove it if its slot is not current") from None


def parse_slot(name: str, values: Any) -> Slot:
    """Return the record of the slot `name`, each of its texts as one line. Raises: ValueError."""
    optional = {"latency_ms", "reason"}
    if not isinstance(values, dict) or not FIELD_TYPES.keys() - optional <= values.keys() <= FIELD_TYPES.keys():
        raise ValueError("it lacks fields, or has unknown ones")
    for field, value in values.items():
        if not isinstance(value, FIELD_TYPES[field]) or isinstance(value, bool):
            raise ValueError(f"its {field} is of the wrong type")
        if not isinstance(value, str | None) and not (0 <= value < 1 << 63 and math.isfinite(value)):
            raise ValueError(f"its {field} is out of range")
    texts = {field: to_line(value) for field, value in values.items() if isinstance(value, str)}
    slot = Slot(**values | texts)
    if not NAME.fullmatch(name) or slot.name != name:
        raise ValueError("its name is not the file's")
    if slot.state not in STATES or (slot.replaces and not NAME.fullmatch(slot.replaces)):
        raise ValueError("its state or the slot that it replaces is unknown")
    return slot


def find_slot(root: Path, name: str) -> Slot | None:
    """Return a slot's record; None if there is none."""
    return next((slot for slot in read_slots(root) if slot.name == name), None)


def find_current(root: Path) -> Slot | None:
    """Return the current slot's record; None if there is none."""
    return find_slot(root, read_current(root))


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
    require_own_folder(root / SLOTS)
    try:
        if folder.is_symlink() or folder.is_file():
            folder.unlink()  # the link, not what it leads to
        elif folder.exists():
            shutil.rmtree(folder)
        (root / RECORDS / f"{name}{LIST_SUFFIX}").unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error), "remove it by hand") from None


def clean_up(root: Path) -> list[Slot]:
    """Remove the files of interrupted installations; return the records of the slots that failed in this way."""
    slots, current, failed = read_slots(root), read_current(root), []
    for path in [*root.iterdir(), *(root / RECORDS / name for name in list_names(root / RECORDS))]:
        if path.name == ".current.new" or path.name.startswith((".new-", TEMPORARY)):  # the second of older installers
            with suppress(OSError):
                path.unlink()
    works = any(slot.name == current and slot.state == GOOD for slot in slots)
    useless = (FAILED, DAMAGED) if works else (FAILED,)  # a damaged slot is better than none
    for slot in slots:
        if slot.state in (INSTALLING, TRIAL) and slot.name != current:
            remove_files(root, slot.name)
            when = "during its installation" if slot.state == INSTALLING else "before the switch"
            failed.append(write_slot(root, slot.with_state(FAILED, f"interrupted {when}")))
        elif slot.name != current and slot.state in useless:
            remove_files(root, slot.name)
    recorded = {slot.name for slot in slots}
    for name in list_names(root / SLOTS):
        if NAME.fullmatch(name) and name not in recorded and name != current:  # others are not from here
            remove_files(root, name)
    return failed


def list_good_slots(root: Path, current: str) -> list[Slot]:
    """Return the good slots beside the current one whose files exist, oldest first."""
    return [
        slot for slot in read_slots(root) if slot.state == GOOD and slot.name != current and has_files(root, slot.name)
    ]


def list_fallbacks(root: Path, slot: Slot) -> list[Slot]:
    """Return the slots to restore after another, the best first: the one that it replaced, then the newest good ones.

    A damaged one that it replaced is the last: better than none.
    """
    good = list_good_slots(root, slot.name)[::-1]
    replaced = find_slot(root, slot.replaces)
    damaged = [replaced] if replaced and replaced.state == DAMAGED and has_files(root, replaced.name) else []
    return [*sorted(good, key=lambda other: other.name != slot.replaces), *damaged]


def prune_slots(root: Path, keep: int) -> None:
    """Remove the files of old slots, all but the current one and the `keep` newest good ones, and very old records."""
    name = read_current(root)
    current = find_slot(root, name)
    good = [slot.name for slot in list_good_slots(root, name)]
    fallbacks = [slot.name for slot in list_fallbacks(root, current)] if current else []
    kept = {name, *good[max(0, len(good) - keep) :], *(set(fallbacks[:1]) & set(good) if keep else ())}
    slots = read_slots(root)
    for slot in slots:
        if slot.name not in kept:
            remove_files(root, slot.name)
    empty = [slot for slot in slots if not has_files(root, slot.name)]
    for slot in empty[: max(0, len(empty) - KEPT_RECORDS)]:
        (root / RECORDS / f"{slot.name}{RECORD_SUFFIX}").unlink(missing_ok=True)
