"""How does a kit become the current slot? Check, unpack, build, test, switch, check the service, or roll back.

Killed at any moment, the device has a working slot: before the switch the old one, after it a new one that passed its
tests. The next command removes what is left over, and finishes or undoes a switch that was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Protocol

from deploy.kit.archive import read_kit
from deploy.kit.keys import PUBLIC_PREFIX, find_fingerprint, read_public_key, to_pem
from deploy.kit.manifest import Entry, Manifest
from edge_runtime.errors import EdgeSegError, InstallError, KitError, OutputError
from edge_runtime.system.files import hold_lock

from . import requirements
from .audit_log import append_event, clean_log
from .durable import MAKE_ROOM, write_durably
from .slot_test import check_slot
from .slots import (
    FAILED,
    GOOD,
    LEFT,
    RECORDS,
    TRIAL,
    Slot,
    clean_up,
    find_fallback,
    find_folder,
    find_slot,
    make_slot,
    prune_slots,
    read_current,
    remove_files,
    switch_slot,
    write_slot,
)
from .venv import build_environment

TRUST = "trust.pub"
STOPPED = "interrupted by the operator"
BUSY = "another installation is at work there"


class SlotService(Protocol):
    """What runs the current slot; see service.Service."""

    def restart(self) -> None:
        """Restart it on the current slot. Raises: InstallError."""
        ...

    def check(self) -> None:
        """Require it to be healthy. Raises: InstallError."""
        ...


@dataclass(frozen=True)
class InstallSteps:
    """What an installation calls on a device; `report` is called with each step's name before the step."""

    service: SlotService
    report: Callable[[str], None] = lambda name: None
    check_machine: Callable[[Manifest], None] = requirements.check_machine
    build: Callable[[Path, Manifest], None] = build_environment
    test: Callable[[Path, Manifest], float] = check_slot


@dataclass(frozen=True)
class InstallOptions:
    """What an operator may ask for: `keep` old slots, and what is refused otherwise."""

    keep: int = 1
    allow_downgrade: bool = False
    change_key: bool = False
    force: bool = False


def install_kit(
    kit: Path, root: Path, public: bytes, steps: InstallSteps, options: InstallOptions = InstallOptions()
) -> tuple[Slot, bool]:
    """Make a kit the current slot of `root`; return its record, and whether anything was done.

    Nothing is done if the kit is current already and `options.force` is not set.

    Raises: KitError if the kit is refused, nothing of it was run; InstallError if it failed a test, the previous slot
    is current; OutputError.
    """
    try:
        steps.report("check the kit")
        manifest, digest = read_kit(kit, public)
        steps.check_machine(manifest)
        check_trust(root, public, options.change_key)
        requirements.check_disk_space(manifest, root)
        with hold_lock(root / ".lock", BUSY, MAKE_ROOM):
            steps.report("clean up")
            finish_interrupted(root, steps)
            current = find_slot(root, read_current(root))
            is_current = current is not None and current.kit_sha256 == digest
            if current and is_current and not options.force:
                return current, False
            requirements.check_newer(manifest, current, options.allow_downgrade or is_current)
            return fill_slot(kit, root, public, manifest, digest, steps, options), True
    except KitError as error:
        if read_current(root):
            append_event(root, "refused", {"reason": error.why, "key": find_fingerprint(public)})
        raise


def check_trust(root: Path, public: bytes, change: bool) -> None:
    """Require the key that the first kit was signed with. Raises: KitError."""
    path = root / TRUST
    if path.exists() and not change and read_public_key(path) != public:
        why = f"this device trusts the key {find_fingerprint(read_public_key(path))}, not {find_fingerprint(public)}"
        raise KitError("the kit", why, "--change-key, if the kits' maker has confirmed a new key")


def fill_slot(
    kit: Path,
    root: Path,
    public: bytes,
    manifest: Manifest,
    digest: str,
    steps: InstallSteps,
    options: InstallOptions,
) -> Slot:
    """Unpack, build, test and switch to a new slot; return its record."""
    steps.report("record the slot")
    slot = write_slot(root, make_slot(root, manifest, digest, find_fingerprint(public)))
    folder = find_folder(root, slot.name)
    try:
        steps.report("unpack")
        unpack_kit(kit, public, digest, folder / "kit")
        steps.report("build")
        steps.build(folder, manifest)
        steps.report("test")
        latency = steps.test(folder, manifest)
        steps.report("record the test")
        append_event(root, "install", describe_slot(slot) | {"latency_ms": round(latency, 1)})
        slot = write_slot(root, replace(slot.with_state(TRIAL), latency_ms=round(latency, 1)))
        steps.report("switch")
        switch_slot(root, slot.name)
    except BaseException as error:
        discard_slot(root, slot, error)
        raise
    return finish_switch(root, slot, steps, options.keep, public)


def discard_slot(root: Path, slot: Slot, error: BaseException) -> None:
    """Remove a slot that failed before the switch; an error that a user can act on is raised with the slot in use."""
    if read_current(root) == slot.name:
        return  # the switch itself was done: the next command checks the slot
    reason = f"{type(error).__name__} {error}"
    if isinstance(error, EdgeSegError):
        reason = f"{error.what}: {error.why}"
    elif isinstance(error, KeyboardInterrupt):
        reason = STOPPED
    with suppress(OutputError):  # a full disk must not hide the reason
        remove_files(root, slot.name)
        write_slot(root, slot.with_state(FAILED, reason))
        append_event(root, "failed", describe_slot(slot) | {"reason": reason})
    if isinstance(error, EdgeSegError):
        in_use = f"{slot.replaces} stays" if slot.replaces else "nothing is installed"
        kind = KitError if isinstance(error, KitError) else InstallError
        raise kind(error.what, error.why, f"{error.fix + '; ' if error.fix else ''}{in_use}") from None


def finish_switch(root: Path, slot: Slot, steps: InstallSteps, keep: int, public: bytes | None = None) -> Slot:
    """Restart the service on a slot that was switched to, check its health, and restore the old slot if it is not."""
    try:
        steps.report("restart the service")
        append_event(root, "switch", describe_slot(slot) | {"from": slot.replaces})
        steps.service.restart()
        steps.report("check the service")
        steps.service.check()
    except (EdgeSegError, KeyboardInterrupt) as error:
        reason = f"{error.what}: {error.why}" if isinstance(error, EdgeSegError) else STOPPED
        restore_previous(root, slot, reason, steps)
    steps.report("record success")
    slot = write_slot(root, slot.with_state(GOOD))
    if public is not None:
        write_durably(root / TRUST, to_pem("PUBLIC KEY", PUBLIC_PREFIX + public))
    steps.report("remove old slots")
    prune_slots(root, keep)
    steps.report("done")
    return slot


def restore_previous(root: Path, slot: Slot, reason: str, steps: InstallSteps) -> NoReturn:
    """Replace a slot that failed after the switch by the one before it. Raises: InstallError, always."""
    slot = write_slot(root, slot.with_state(FAILED, reason))  # first: should the power fail now, the reason is known
    previous = find_fallback(root, slot)
    name = previous.name if previous else ""
    steps.report("switch back")
    switch_slot(root, name)
    append_event(root, "back", describe_slot(slot) | {"reason": reason, "to": name})
    steps.report("restart the service on the old slot")
    with suppress(InstallError):  # the reason of the new slot's failure is the one to report
        steps.service.restart()
    remove_files(root, slot.name)
    raise InstallError(f"slot {slot.name}", reason, f"back on {name}" if name else "nothing else is installed")


def finish_interrupted(root: Path, steps: InstallSteps) -> None:
    """Clean up after interrupted commands: finish a switch that was made, or undo it if the slot is not healthy."""
    clean_log(root)
    for slot in clean_up(root):
        append_event(root, "failed", describe_slot(slot) | {"reason": slot.reason})
    current = find_slot(root, read_current(root))
    with suppress(InstallError):  # the old slot was restored, and the reason is in the record
        if current and current.state == TRIAL:
            finish_switch(root, current, steps, keep=1)
        elif current and current.state == FAILED:
            restore_previous(root, current, current.reason, steps)


def check_root(root: Path, steps: InstallSteps) -> Slot:
    """Finish or undo what was interrupted, and return the current slot if it is healthy. Raises: InstallError."""
    require_root(root)
    with hold_lock(root / ".lock", BUSY, MAKE_ROOM):
        finish_interrupted(root, steps)
        current = find_slot(root, read_current(root))
        if current is None:
            raise InstallError(str(root), "no slot is installed", "edge-deploy install KIT --root DIR --pub P")
        steps.service.check()
        return current


def roll_back(root: Path, reason: str, steps: InstallSteps) -> Slot:
    """Return to the slot before the current one; return its record. Raises: InstallError, OutputError."""
    require_root(root)
    with hold_lock(root / ".lock", BUSY, MAKE_ROOM):
        finish_interrupted(root, steps)
        current = find_slot(root, read_current(root))
        previous = find_fallback(root, current) if current else None
        if current is None or previous is None:
            raise InstallError(str(root), "there is no other good slot to go back to", "install a kit")
        append_event(root, "rollback", describe_slot(current) | {"reason": reason, "to": previous.name})
        steps.report("switch")
        switch_slot(root, previous.name)
        steps.report("record")
        write_slot(root, current.with_state(LEFT, reason))
        previous = write_slot(root, previous.with_state(GOOD))
        steps.report("restart the service")
        steps.service.restart()
        steps.service.check()
        return previous


def require_root(root: Path) -> None:
    """Require a folder in which something was installed once. Raises: InstallError."""
    if not (root / RECORDS).is_dir():
        raise InstallError(str(root), "nothing is installed there", "edge-deploy install KIT --root DIR --pub P")


def describe_slot(slot: Slot) -> dict[str, object]:
    """Return a slot's fields in the audit log."""
    names = ("name", "software", "model_id", "model_version", "model_sha256", "release", "kit_sha256", "key")
    return {name: getattr(slot, name) for name in names}


def unpack_kit(kit: Path, public: bytes, digest: str, folder: Path) -> None:
    """Write a kit's files into a new folder, checked again as they are read. Raises: KitError, OutputError."""
    with ExitStack() as stack:

        def open_entry(entry: Entry) -> UnpackedFile:
            stack.close()  # the file before
            return stack.enter_context(UnpackedFile(folder / entry.path))

        _, found = read_kit(kit, public, open_entry)
    if found != digest:
        raise KitError(f"the kit {kit}", "it was replaced while it was read", "start again")


class UnpackedFile:
    """A new file whose errors are OutputErrors, so that a full disk is not taken for a damaged kit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("xb", buffering=0)
        except OSError as error:
            raise self.to_error(error) from None

    def write(self, data: bytes) -> None:
        """Write all of the bytes. Raises: OutputError."""
        view = memoryview(data)
        try:
            while view:
                view = view[self.file.write(view) :]
        except OSError as error:
            raise self.to_error(error) from None

    def to_error(self, error: OSError) -> OutputError:
        """Return the error to raise."""
        return OutputError(str(self.path), error.strerror or str(error), MAKE_ROOM)

    def __enter__(self) -> UnpackedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
