"""The first kit's key is the trusted one, wherever its installation stopped, and whatever lies in its place since."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from devices import copy_device, in_child, is_whole, make_steps
from kits import write_small_kit

from deploy.device.audit_log import LOG
from deploy.device.install import InstallOptions, check_root, install_kit
from deploy.device.slots import read_current, read_slots, write_slot
from deploy.kit.keys import make_keys, read_public_key
from edge_runtime.errors import EdgeSegError, InstallError, KitError

CHANGE = InstallOptions(change_key=True)


@dataclass(frozen=True)
class Maker:
    """Who makes kits: one of version 1, of 2, and the public key."""

    first: Path
    second: Path
    public: bytes


def make_maker(folder: Path, key: Path) -> Maker:
    folder.mkdir()
    kits = [write_small_kit(folder / f"{version}.kit", key, version) for version in ("1", "2")]
    return Maker(*kits, read_public_key(key.with_name(f"{key.name}.pub")))


@pytest.fixture
def ours(tmp_path: Path, key: Path) -> Maker:
    return make_maker(tmp_path / "ours", key)


@pytest.fixture
def theirs(tmp_path: Path) -> Maker:
    make_keys(tmp_path / "foreign")
    return make_maker(tmp_path / "theirs", tmp_path / "foreign")


def read_trusted(root: Path) -> bytes | None:
    """Return the trusted key as another reader of PEM files sees it; None where there is none."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path = root / "trust.pub"
    key: Any = load_pem_public_key(path.read_bytes()) if path.exists() else None
    return key.public_bytes_raw() if key else None


def assert_foreign_is_refused(root: Path, theirs: Maker, kit: Path | None = None) -> None:
    trusted = read_trusted(root)
    with pytest.raises(KitError, match=r"--change-key"):
        install_kit(kit or theirs.second, root, theirs.public, make_steps(root))
    assert read_trusted(root) == trusted != theirs.public
    foreign = hashlib.sha256(theirs.public).hexdigest()[:16]
    assert all(json.loads(path.read_text())["key"] != foreign for path in root.glob("records/*.json"))


def run_and_kill(work: Callable[[Callable[[str], None]], object], number: int, how: str) -> list[str]:
    """Run an installation that is stopped before its step of that number; return the steps until there."""
    seen: list[str] = []

    def stop(name: str) -> None:
        seen.append(name)
        if len(seen) == number + 1:
            if how == "terminate":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGKILL)

    ended = in_child(lambda: work(stop))
    assert ended in (1, -signal.SIGKILL)
    return seen


@pytest.mark.parametrize("then", ["check", "install"])
@pytest.mark.parametrize("unhealthy", ["", "1"], ids=["healthy", "unhealthy"])
@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_first_installation_that_is_stopped_leaves_its_key(
    tmp_path: Path, ours: Maker, theirs: Maker, how: str, unhealthy: str, then: str
) -> None:
    """Stopped before any step after the kit was accepted: a foreign kit is refused, before and after a check."""
    names: list[str] = []
    try:
        install_kit(
            ours.first, tmp_path / "count", ours.public, make_steps(tmp_path / "count", names.append, unhealthy)
        )
    except InstallError:
        assert unhealthy
    begin = names.index("record the slot")  # before it nothing of the kit was recorded or unpacked
    assert names[:begin] == ["check the kit", "clean up"] and len(names) > 10
    for number in range(len(names)):
        root = tmp_path / f"device{number}"
        run_and_kill(lambda stop, r=root: install_kit(ours.first, r, ours.public, make_steps(r, stop, unhealthy)),
                     number, how)  # fmt: skip
        if number < begin:
            assert read_trusted(root) is None and not (root / "records").exists() and not (root / "slots").exists()
            continue
        if then == "check":
            try:
                check_root(root, make_steps(root, unhealthy=unhealthy))
            except InstallError:
                assert read_current(root) == ""
        assert_foreign_is_refused(root, theirs, theirs.first)
        assert_foreign_is_refused(root, theirs)
        assert read_trusted(root) == ours.public
        install_kit(ours.second, root, ours.public, make_steps(root))
        assert is_whole(root, "2") and read_trusted(root) == ours.public


def test_killed_at_any_change_of_the_disk_the_key_is_there_before_the_slot(
    tmp_path: Path, ours: Maker, theirs: Maker
) -> None:
    """The same before every file that is opened, renamed, linked or made: where a record or a slot is, a key is."""
    events = {"open", "os.rename", "os.symlink", "os.remove", "os.mkdir", "os.truncate"}

    def install(root: Path, limit: int) -> None:
        done = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal done
            if event in events and any(str(argument).startswith(str(root)) for argument in arguments[:2]):
                done += 1
                if done == limit:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)  # of the child alone
        install_kit(ours.first, root, ours.public, make_steps(root))
        (tmp_path / "events").write_text(str(done))

    assert in_child(lambda: install(tmp_path / "count", 0)) == 0
    number = int((tmp_path / "events").read_text())
    assert number > 30
    for limit in range(1, number + 1):
        root = tmp_path / f"device{limit}"
        assert in_child(lambda r=root, n=limit: install(r, n)) == -signal.SIGKILL
        if any(path.suffix == ".json" for path in root.glob("records/*")) or list(root.glob("slots/*")):
            assert_foreign_is_refused(root, theirs)
        install_kit(ours.second, root, ours.public, make_steps(root))
        assert read_trusted(root) == ours.public and is_whole(root, "2")


@pytest.mark.parametrize("how", ["kill", "terminate"])
@pytest.mark.parametrize("unhealthy", ["", "2"], ids=["healthy", "unhealthy"])
def test_a_change_of_the_key_is_whole_or_not_at_all(
    root: Path, tmp_path: Path, ours: Maker, theirs: Maker, how: str, unhealthy: str
) -> None:
    """Stopped before any step of it, then checked: the new key is trusted if and only if its slot is current."""
    names: list[str] = []
    copy = copy_device(root, tmp_path / "count")
    try:
        install_kit(theirs.second, copy, theirs.public, make_steps(copy, names.append, unhealthy), CHANGE)
    except InstallError:
        assert unhealthy
    for number in range(len(names)):
        device = copy_device(root, tmp_path / f"device{number}")
        work = lambda stop, d=device: install_kit(  # noqa: E731
            theirs.second, d, theirs.public, make_steps(d, stop, unhealthy), CHANGE
        )
        run_and_kill(work, number, how)
        check_root(device, make_steps(device, unhealthy=unhealthy))
        changed = is_whole(device, "2")
        assert read_trusted(device) == (theirs.public if changed else ours.public)
        events = [json.loads(line) for line in (device / LOG).read_text().splitlines()]
        assert [event["facts"]["from"] for event in events if event["event"] == "key"] == (
            [read_slots(device)[0].key] if changed else []
        )


def test_a_failed_first_kit_leaves_the_operators_key(tmp_path: Path, ours: Maker, theirs: Maker) -> None:
    """Its code has run here, so its key stays; --change-key takes another. A refused kit leaves none."""
    root = tmp_path / "device"

    def fail(slot: Path, manifest: object) -> float:
        raise InstallError("the self-test", "infer diverged")

    with pytest.raises(KitError):
        install_kit(ours.first, root, theirs.public, make_steps(root))  # not signed with that key
    assert not root.exists()
    with pytest.raises(InstallError):
        install_kit(ours.first, root, ours.public, make_steps(root, test=fail))
    assert read_trusted(root) == ours.public
    assert_foreign_is_refused(root, theirs)
    with pytest.raises(InstallError):
        install_kit(theirs.first, root, theirs.public, make_steps(root, test=fail), CHANGE)
    assert read_trusted(root) == ours.public
    install_kit(theirs.first, root, theirs.public, make_steps(root), CHANGE)
    assert read_trusted(root) == theirs.public and is_whole(root, "1")


def test_a_lost_key_is_the_one_of_the_slots(root: Path, ours: Maker, theirs: Maker) -> None:
    """Without trust.pub the key of all slots is accepted and stored again, no other one; mixed ones are no answer."""
    (root / "trust.pub").unlink()
    assert_foreign_is_refused(root, theirs)
    assert read_trusted(root) is None
    assert install_kit(ours.first, root, ours.public, make_steps(root))[1] is False
    assert read_trusted(root) == ours.public
    install_kit(theirs.second, root, theirs.public, make_steps(root), CHANGE)
    (root / "trust.pub").unlink()
    for maker in (ours, theirs):
        with pytest.raises(KitError, match="has lost the key that it trusts"):
            install_kit(maker.second, root, maker.public, make_steps(root), InstallOptions(allow_downgrade=True))
    assert read_trusted(root) is None
    install_kit(theirs.second, root, theirs.public, make_steps(root), InstallOptions(change_key=True, force=True))
    assert read_trusted(root) == theirs.public


def test_slots_without_records_refuse(root: Path, ours: Maker, theirs: Maker) -> None:
    """Slots whose records and key are gone accept no key without --change-key, not even the one that they had."""
    (root / "trust.pub").unlink()
    shutil.rmtree(root / "records")
    for maker in (ours, theirs):
        with pytest.raises(KitError, match=r"the slots have no record of one; --change-key"):
            install_kit(maker.second, root, maker.public, make_steps(root))
    install_kit(ours.second, root, ours.public, make_steps(root), CHANGE)
    assert read_trusted(root) == ours.public and is_whole(root, "2") and read_current(root).startswith("0002-")


def test_a_trial_of_an_earlier_installer_keeps_its_key(root: Path, ours: Maker, theirs: Maker) -> None:
    """Earlier installers stored the key last and no key in the slot: killed before that, the record has it."""
    from dataclasses import replace

    (root / "trust.pub").unlink()
    (root / "current" / "key.pub").unlink()
    (root / "current" / "manifest.json").unlink()
    for path in (root / "records").glob("*.sha256"):
        path.unlink()
    write_slot(root, replace(read_slots(root)[0], state="trial"))
    assert check_root(root, make_steps(root)).state == "good"
    assert_foreign_is_refused(root, theirs)
    install_kit(ours.second, root, ours.public, make_steps(root))
    assert read_trusted(root) == ours.public


@pytest.mark.parametrize("what", ["link", "dangling", "pipe", "folder", "empty", "other", "zero"])
def test_what_lies_in_the_keys_place_is_not_trusted(root: Path, ours: Maker, theirs: Maker, what: str) -> None:
    """A link to a foreign key, a pipe, a device, a folder, other bytes: both keys are refused, at once, in one line."""
    path, foreign = root / "trust.pub", root.parent / "foreign.pub"
    original = path.read_bytes()
    path.unlink()
    {
        "link": lambda: path.symlink_to(foreign),
        "dangling": lambda: path.symlink_to(root / "nowhere"),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "empty": path.touch,
        "other": lambda: path.write_bytes(original[:-40]),
        "zero": lambda: path.symlink_to("/dev/zero"),
    }[what]()
    signal.alarm(300)
    try:
        for maker in (ours, theirs):
            with pytest.raises(KitError, match=r"trust\.pub.*--change-key"):
                install_kit(maker.second, root, maker.public, make_steps(root))
            assert is_whole(root, "1")
        if what == "folder":
            with pytest.raises(EdgeSegError):
                install_kit(ours.second, root, ours.public, make_steps(root), CHANGE)
            return
        install_kit(ours.second, root, ours.public, make_steps(root), CHANGE)
    finally:
        signal.alarm(0)
    assert read_trusted(root) == ours.public and not path.is_symlink() and foreign.read_bytes() != original
