"""A kit becomes the current slot, or everything stays as it was: check, unpack, build, test, switch, look, or go back.

Killed anywhere, the device has a working slot: before the switch the old one, after it a new one that passed its
tests. What is left lying is cleared up by the next command, which also finishes or undoes a switch that was cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Protocol

from edge_runtime.errors import EdgeSegError, InstallError, KitError, OutputError

from . import fit
from .archive import read_kit
from .audit import append_event
from .disk import ROOM, hold, write_whole
from .environment import build_environment
from .keys import PUBLIC, name_key, read_public_key, to_pem
from .manifest import Entry, Manifest
from .probe import probe_slot
from .slots import (
    FAILED,
    GOOD,
    LEFT,
    RECORDS,
    TRIAL,
    Slot,
    clean_up,
    find_fallback,
    find_files,
    find_slot,
    new_slot,
    prune,
    read_current,
    remove_files,
    switch,
    write_slot,
)

TRUST = "trust.pub"
STOPPED = "interrupted by the operator"
BUSY = "another installation is at work there"


class Runner(Protocol):
    """What runs the current slot; see service.Service."""

    def restart(self) -> None:
        """Restart it on the current slot. Raises: InstallError."""
        ...

    def check(self) -> None:
        """Want it to be healthy. Raises: InstallError."""
        ...


@dataclass(frozen=True)
class Works:
    """What an installation calls on a device; `step` hears of each step before it is done."""

    service: Runner
    step: Callable[[str], None] = lambda name: None
    fits: Callable[[Manifest], None] = fit.check_machine
    build: Callable[[Path, Manifest], None] = build_environment
    probe: Callable[[Path, Manifest], float] = probe_slot


@dataclass(frozen=True)
class Wishes:
    """What an operator may ask for: `keep` old slots, and things that are refused otherwise."""

    keep: int = 1
    allow_downgrade: bool = False
    change_key: bool = False
    force: bool = False


def install_kit(kit: Path, root: Path, public: bytes, works: Works, wishes: Wishes = Wishes()) -> tuple[Slot, bool]:
    """Make a kit the current slot of `root`; return its record, and whether anything was done.

    Nothing is done if the kit is current already and `wishes.force` is not set.

    Raises: KitError if the kit is refused, nothing of it was run; InstallError if it failed a test, the slot from
    before is current; OutputError.
    """
    try:
        works.step("check the kit")
        manifest, digest = read_kit(kit, public)
        works.fits(manifest)
        check_trust(root, public, wishes.change_key)
        fit.check_room(manifest, root)
        with hold(root / ".lock", BUSY):
            works.step("clear up")
            settle(root, works)
            current = find_slot(root, read_current(root))
            if current and current.kit_sha256 == digest and not wishes.force:
                return current, False
            fit.check_age(manifest, current, wishes.allow_downgrade or current_is(current, digest))
            return fill_slot(kit, root, public, manifest, digest, works, wishes), True
    except KitError as error:
        if read_current(root):
            append_event(root, "refused", {"reason": error.why, "key": name_key(public)})
        raise


def current_is(current: Slot | None, digest: str) -> bool:
    """Tell whether the current slot came from the kit with that manifest."""
    return current is not None and current.kit_sha256 == digest


def check_trust(root: Path, public: bytes, change: bool) -> None:
    """Want the key that the first kit was signed with. Raises: KitError."""
    path = root / TRUST
    if path.exists() and not change and read_public_key(path) != public:
        why = f"this device trusts the key {name_key(read_public_key(path))}, not {name_key(public)}"
        raise KitError("the kit", why, "--change-key, if its maker has a new key and told you so")


def fill_slot(
    kit: Path, root: Path, public: bytes, manifest: Manifest, digest: str, works: Works, wishes: Wishes
) -> Slot:
    """Unpack, build, test and switch to a new slot; return its record."""
    works.step("record the slot")
    slot = write_slot(root, new_slot(root, manifest, digest, name_key(public)))
    files = find_files(root, slot.name)
    try:
        works.step("unpack")
        unpack(kit, public, digest, files / "kit")
        works.step("build")
        works.build(files, manifest)
        works.step("test")
        latency = works.probe(files, manifest)
        works.step("record the test")
        append_event(root, "install", describe(slot) | {"latency_ms": round(latency, 1)})
        slot = write_slot(root, replace(slot.now(TRIAL), latency_ms=round(latency, 1)))
        works.step("switch")
        switch(root, slot.name)
    except BaseException as error:
        give_up(root, slot, error)
        raise
    return finish(root, slot, works, wishes.keep, public)


def give_up(root: Path, slot: Slot, error: BaseException) -> None:
    """Remove a slot that did not get as far as the switch; where its failure is one of the device's, raise it."""
    if read_current(root) == slot.name:
        return  # the switch itself was done: the next command looks at it
    reason = f"{type(error).__name__} {error}"
    if isinstance(error, EdgeSegError):
        reason = f"{error.what}: {error.why}"
    elif isinstance(error, KeyboardInterrupt):
        reason = STOPPED
    with suppress(OutputError):  # a full disk must not hide why
        remove_files(root, slot.name)
        write_slot(root, slot.now(FAILED, reason))
        append_event(root, "failed", describe(slot) | {"reason": reason})
    if isinstance(error, EdgeSegError):
        stays = f"{slot.replaces} stays" if slot.replaces else "nothing is installed"
        kind = KitError if isinstance(error, KitError) else InstallError
        raise kind(error.what, error.why, f"{error.fix + '; ' if error.fix else ''}{stays}") from None


def finish(root: Path, slot: Slot, works: Works, keep: int, public: bytes | None = None) -> Slot:
    """Restart the service on a slot that was switched to, look whether it is healthy, and go back if not."""
    try:
        works.step("restart")
        append_event(root, "switch", describe(slot) | {"from": slot.replaces})
        works.service.restart()
        works.step("look")
        works.service.check()
    except (EdgeSegError, KeyboardInterrupt) as error:
        reason = f"{error.what}: {error.why}" if isinstance(error, EdgeSegError) else STOPPED
        go_back(root, slot, reason, works)
    works.step("record success")
    slot = write_slot(root, slot.now(GOOD))
    if public is not None:
        write_whole(root / TRUST, to_pem("PUBLIC KEY", PUBLIC + public))
    works.step("prune")
    prune(root, keep)
    works.step("done")
    return slot


def go_back(root: Path, slot: Slot, reason: str, works: Works) -> NoReturn:
    """Leave a slot that failed after the switch for the one before it. Raises: InstallError, always."""
    slot = write_slot(root, slot.now(FAILED, reason))  # first: should the power fail now, the reason is known
    before = find_fallback(root, slot)
    works.step("switch back")
    switch(root, before.name if before else "")
    append_event(root, "back", describe(slot) | {"reason": reason, "to": before.name if before else ""})
    works.step("restart the old")
    with suppress(InstallError):  # why the new one failed is what counts
        works.service.restart()
    remove_files(root, slot.name)
    stays = f"back on {before.name}" if before else "nothing else is installed"
    raise InstallError(f"slot {slot.name}", reason, stays)


def settle(root: Path, works: Works) -> None:
    """Clear up after interrupted commands: finish a switch that was made, or undo it if the slot is not healthy."""
    for slot in clean_up(root):
        append_event(root, "failed", describe(slot) | {"reason": slot.reason})
    current = find_slot(root, read_current(root))
    with suppress(InstallError):  # it went back, and says so in its record
        if current and current.state == TRIAL:
            finish(root, current, works, keep=1)
        elif current and current.state == FAILED:
            go_back(root, current, current.reason, works)


def check_root(root: Path, works: Works) -> Slot:
    """Finish or undo what was interrupted, and return the current slot if it is healthy. Raises: InstallError."""
    want_root(root)
    with hold(root / ".lock", BUSY):
        settle(root, works)
        current = find_slot(root, read_current(root))
        if current is None:
            raise InstallError(str(root), "no slot is installed", "edge-deploy install KIT --root DIR --pub P")
        works.service.check()
        return current


def roll_back(root: Path, reason: str, works: Works) -> Slot:
    """Go back to the slot before the current one; return its record. Raises: InstallError, OutputError."""
    want_root(root)
    with hold(root / ".lock", BUSY):
        settle(root, works)
        current = find_slot(root, read_current(root))
        before = find_fallback(root, current) if current else None
        if current is None or before is None:
            raise InstallError(str(root), "there is no other good slot to go back to", "install a kit")
        append_event(root, "rollback", describe(current) | {"reason": reason, "to": before.name})
        works.step("switch")
        switch(root, before.name)
        works.step("record")
        write_slot(root, current.now(LEFT, reason))
        before = write_slot(root, before.now(GOOD))
        works.step("restart")
        works.service.restart()
        works.service.check()
        return before


def want_root(root: Path) -> None:
    """Want a folder in which something was installed once. Raises: InstallError."""
    if not (root / RECORDS).is_dir():
        raise InstallError(str(root), "nothing is installed there", "edge-deploy install KIT --root DIR --pub P")


def describe(slot: Slot) -> dict[str, object]:
    """Return what the audit log says of a slot."""
    names = ("name", "software", "model_id", "model_version", "model_sha256", "release", "kit_sha256", "key")
    return {name: getattr(slot, name) for name in names}


def unpack(kit: Path, public: bytes, digest: str, folder: Path) -> None:
    """Write a kit's files into a new folder, checked once more as they are read. Raises: KitError, OutputError."""
    with ExitStack() as stack:

        def take(entry: Entry) -> Unpacked:
            stack.close()  # the file before
            return stack.enter_context(Unpacked(folder / entry.path))

        _, found = read_kit(kit, public, take)
    if found != digest:
        raise KitError(f"the kit {kit}", "it was replaced while it was read", "start again")


class Unpacked:
    """A new file that tells the disk's errors from the kit's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("xb", buffering=0)
        except OSError as error:
            raise self.fail(error) from None

    def write(self, data: bytes) -> None:
        """Write all of the bytes. Raises: OutputError."""
        view = memoryview(data)
        try:
            while view:
                view = view[self.file.write(view) :]
        except OSError as error:
            raise self.fail(error) from None

    def fail(self, error: OSError) -> OutputError:
        """Return the error to raise."""
        return OutputError(str(self.path), error.strerror or str(error), ROOM)

    def __enter__(self) -> Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
