"""Installing: a slot is switched to only after it passed its tests, and wherever it stops a working slot is current."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from devices import copy_device, in_child, is_whole, make_steps
from kits import write_small_kit

import deploy.device.install
import deploy.device.slots
from deploy.device.audit_log import LOG, verify_log
from deploy.device.install import InstallOptions, check_root, install_kit, roll_back
from deploy.device.requirements import TRUST
from deploy.device.slots import FAILED, GOOD, LEFT, TRIAL, read_current, read_slots, write_slot
from deploy.device.status import format_status, read_status
from deploy.kit.keys import make_keys, read_public_key
from deploy.kit.manifest import Manifest
from edge_runtime.errors import InstallError, KitError, OutputError


def test_a_kit_becomes_current(root: Path, second: Path, public: bytes) -> None:
    """The new slot is current, the old one kept; the service was restarted on it; log and status show it."""
    steps = make_steps(root)
    slot, done = install_kit(second, root, public, steps)
    assert done and is_whole(root, "2") and slot.state == GOOD and slot.latency_ms == 5.0
    assert steps.service.restarts == [slot.name]  # type: ignore[attr-defined]
    assert [(slot.state, slot.replaces) for slot in read_slots(root)] == [(GOOD, ""), (GOOD, "0001-1.0_1")]
    events = [json.loads(line)["event"] for line in (root / LOG).read_text().splitlines()]
    assert events == ["install", "switch"] * 2 and verify_log(root)[0].n == 4
    assert "* 0002-1.0_2" in format_status(read_status(root))


def test_the_same_kit_again_does_nothing(root: Path, tmp_path: Path, public: bytes) -> None:
    """Installing what is current changes nothing and is no error; --force installs it again."""
    kit, steps = tmp_path / "1.kit", make_steps(root)
    slot, done = install_kit(kit, root, public, steps)
    assert not done and slot.name == "0001-1.0_1" and steps.service.restarts == []  # type: ignore[attr-defined]
    again, done = install_kit(kit, root, public, steps, InstallOptions(force=True))
    assert done and again.name == "0002-1.0_1" and is_whole(root, "1")


@pytest.mark.parametrize("what", ["build", "test"])
def test_a_slot_that_fails_a_test_is_never_current(root: Path, second: Path, public: bytes, what: str) -> None:
    """If pip or the self-test fails, nothing is switched or restarted, the files are removed, the reason is kept."""

    def fail(slot: Path, manifest: Manifest) -> float:
        raise InstallError("the self-test", "infer diverged: 0.4 (exit status 1)")

    steps = make_steps(root, **{what: fail})
    with pytest.raises(InstallError, match=r"infer diverged.*; 0001-1.0_1 stays"):
        install_kit(second, root, public, steps)
    assert is_whole(root, "1") and steps.service.restarts == []  # type: ignore[attr-defined]
    failed = read_slots(root)[-1]
    assert failed.state == FAILED and "infer diverged" in failed.reason
    assert not (root / "slots" / failed.name).exists()
    assert "infer diverged" in format_status(read_status(root))
    assert json.loads((root / LOG).read_text().splitlines()[-1])["event"] == "failed"


def test_a_service_that_is_not_healthy_brings_the_old_slot_back(root: Path, second: Path, public: bytes) -> None:
    """After the switch the service is checked; if it is unhealthy, the old slot is restored and the reason is kept."""
    steps = make_steps(root, unhealthy="2")
    with pytest.raises(InstallError, match=r"slot 0002-1.0_2: the service: it is failed .*; back on 0001-1.0_1"):
        install_kit(second, root, public, steps)
    assert is_whole(root, "1")
    assert steps.service.restarts == ["0002-1.0_2", "0001-1.0_1"]  # type: ignore[attr-defined]
    assert (read_slots(root)[-1].state, read_slots(root)[-1].reason[:12]) == (FAILED, "the service:")
    assert json.loads((root / LOG).read_text().splitlines()[-1])["event"] == "back"
    install_kit(second, root, public, make_steps(root))  # once repaired, the same kit is installed
    assert is_whole(root, "2")


def test_a_first_kit_that_fails_leaves_nothing_current(tmp_path: Path, key: Path, public: bytes) -> None:
    """With no slot to restore, none is current, and the message says so."""
    root = tmp_path / "new"
    kit = write_small_kit(tmp_path / "k", key, "1")
    with pytest.raises(InstallError, match="nothing else is installed"):
        install_kit(kit, root, public, make_steps(root, unhealthy="1"))
    assert read_current(root) == "" and not list((root / "slots").iterdir())


def test_a_refused_kit_leaves_nothing(tmp_path: Path, key: Path, public: bytes) -> None:
    """A kit that is not what was signed, or not for this machine, leaves no trace on a device that has nothing."""
    root, kit = tmp_path / "new", write_small_kit(tmp_path / "k", key, "1")
    data = bytearray(kit.read_bytes())
    data[-2000] ^= 1
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(KitError):
        install_kit(tmp_path / "bad", root, public, make_steps(root))
    for changes in ({"machine": "riscv64"}, {"python": "3.9"}, {"glibc": "2.99"}, {"installed_bytes": 1 << 60}):
        with pytest.raises(KitError):
            install_kit(write_small_kit(kit, key, "1", **changes), root, public, make_steps(root))
    assert not root.exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"machine": "riscv64"}, "this machine is .*, the kit is for riscv64; make a kit for it"),
        ({"python": "3.9"}, r"this is Python 3\..*, the kit is for 3.9; run the installer with python3.9"),
        ({"glibc": "2.99"}, "the kit needs glibc 2.99"),
        ({"installed_bytes": 1 << 60}, "it needs .* MB on the disk of .*, .* MB are free; make room"),
    ],
)
def test_what_does_not_fit_is_refused_and_noted(
    root: Path, tmp_path: Path, key: Path, public: bytes, changes: dict[str, object], line: str
) -> None:
    """Another machine, Python, C library or too small a disk: one line each, and a line in the log of a device."""
    kit = write_small_kit(tmp_path / "k", key, "2", **changes)
    with pytest.raises(KitError, match=line):
        install_kit(kit, root, public, make_steps(root))
    assert is_whole(root, "1") and len(read_slots(root)) == 1
    assert json.loads((root / LOG).read_text().splitlines()[-1])["event"] == "refused"


def test_an_older_kit_is_refused(root: Path, second: Path, tmp_path: Path, key: Path, public: bytes) -> None:
    """An older kit is refused without --allow-downgrade; another of the same versions needs a higher release."""
    install_kit(second, root, public, make_steps(root))
    with pytest.raises(KitError, match=r"it is older \(edge-seg 1.0, model 1, release 0\) than .*--allow-downgrade"):
        install_kit(tmp_path / "1.kit", root, public, make_steps(root))
    other = write_small_kit(tmp_path / "other", key, "2", latency_ms=9.0)
    with pytest.raises(KitError, match=r"of the same versions .*higher --release"):
        install_kit(other, root, public, make_steps(root))
    assert is_whole(root, "2")
    install_kit(write_small_kit(other, key, "2", release=1), root, public, make_steps(root))
    install_kit(tmp_path / "1.kit", root, public, make_steps(root), InstallOptions(allow_downgrade=True))
    assert is_whole(root, "1")


def test_the_first_key_is_the_one_trusted(root: Path, tmp_path: Path, public: bytes) -> None:
    """A valid kit with another key is refused, whatever --pub is, unless --change-key is given."""
    make_keys(tmp_path / "other")
    theirs = read_public_key(tmp_path / "other.pub")
    kit = write_small_kit(tmp_path / "k", tmp_path / "other", "2")
    with pytest.raises(KitError, match=r"this device trusts the key .*--change-key"):
        install_kit(kit, root, theirs, make_steps(root))
    assert read_public_key(root / TRUST) == public
    install_kit(kit, root, theirs, make_steps(root), InstallOptions(change_key=True))
    assert read_public_key(root / TRUST) == theirs and is_whole(root, "2")


def test_rollback_goes_back_once(root: Path, second: Path, public: bytes) -> None:
    """The previous slot is restored, the reason kept; there is no older one; the newer kit can be installed again."""
    install_kit(second, root, public, make_steps(root))
    assert roll_back(root, "masks look odd", make_steps(root)).name == "0001-1.0_1"
    assert is_whole(root, "1") and [(s.state, s.reason) for s in read_slots(root)][-1] == (LEFT, "masks look odd")
    with pytest.raises(InstallError, match="no other good slot"):
        roll_back(root, "", make_steps(root))
    install_kit(second, root, public, make_steps(root))
    assert is_whole(root, "2")


def test_old_slots_are_pruned(root: Path, tmp_path: Path, key: Path, public: bytes) -> None:
    """One old slot is kept, or as many as are asked for; the current one always stays; old records are removed."""
    for version in range(2, 6):
        install_kit(write_small_kit(tmp_path / "k", key, str(version)), root, public, make_steps(root))
    assert sorted(path.name for path in (root / "slots").iterdir()) == ["0004-1.0_4", "0005-1.0_5"]
    install_kit(write_small_kit(tmp_path / "k", key, "6"), root, public, make_steps(root), InstallOptions(keep=0))
    assert [path.name for path in (root / "slots").iterdir()] == ["0006-1.0_6"]
    for version in range(7, 20):
        install_kit(write_small_kit(tmp_path / "k", key, str(version)), root, public, make_steps(root))
    assert len(read_slots(root)) <= 2 + deploy.device.slots.KEPT_RECORDS and read_slots(root)[-1].name == "0019-1.0_19"


def test_more_slots_are_kept_than_there_are(root: Path, second: Path, tmp_path: Path, key: Path, public: bytes) -> None:
    """To keep more old slots than there are removes none."""
    install_kit(second, root, public, make_steps(root), InstallOptions(keep=3))
    install_kit(write_small_kit(tmp_path / "k", key, "3"), root, public, make_steps(root), InstallOptions(keep=3))
    assert [path.name for path in sorted((root / "slots").iterdir())] == ["0001-1.0_1", "0002-1.0_2", "0003-1.0_3"]


def test_two_installations_exclude_each_other(root: Path, second: Path, public: bytes) -> None:
    """While one is running, another one fails with a message and does nothing."""

    def again(name: str) -> None:
        if name == "build":
            with pytest.raises(OutputError, match="another installation is at work there"):
                install_kit(second, root, public, make_steps(root))

    install_kit(second, root, public, make_steps(root, again))
    assert is_whole(root, "2")


def test_a_full_disk_is_one_line(root: Path, second: Path, public: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up during unpacking leaves the old slot, nothing of the new, and the disk's own message."""

    def full(self: object, data: bytes) -> None:
        raise self.to_error(OSError(28, "No space left on device"))  # type: ignore[attr-defined]

    monkeypatch.setattr(deploy.device.install.UnpackedFile, "write", full)
    with pytest.raises(InstallError, match=r"No space left on device.*0001-1.0_1 stays"):
        install_kit(second, root, public, make_steps(root))
    assert is_whole(root, "1") and read_slots(root)[-1].state == FAILED


def test_a_kit_replaced_between_check_and_use_is_refused(
    root: Path, second: Path, tmp_path: Path, key: Path, public: bytes
) -> None:
    """What is unpacked is what was checked, even if the medium returns another valid kit the second time."""

    def swap(name: str) -> None:
        if name == "unpack":
            write_small_kit(second, key, "3")

    with pytest.raises(KitError, match="it was replaced while it was read"):
        install_kit(second, root, public, make_steps(root, swap))
    assert is_whole(root, "1") and [path.name for path in (root / "slots").iterdir()] == ["0001-1.0_1"]


# --- faults ------------------------------------------------------------------------------------------------------


def list_step_names(root: Path, kit: Path, public: bytes, unhealthy: str) -> list[str]:
    """Return the names of an installation's steps, in order."""
    names: list[str] = []
    try:
        install_kit(kit, root, public, make_steps(root, names.append, unhealthy))
    except InstallError:
        assert unhealthy
    return names


def assert_it_works(root: Path, second: Path, public: bytes, unhealthy: str = "") -> None:
    """A killed device has a working slot at once; the next commands clean up and install the new version."""
    assert is_whole(root, "1") or is_whole(root, "2")
    read_status(root)
    current = check_root(root, make_steps(root, unhealthy=unhealthy))
    assert current.state == GOOD and is_whole(root, current.model_version) and current.model_version != unhealthy
    states = {slot.name: slot.state for slot in read_slots(root)}
    assert not {"installing", TRIAL} & set(states.values())
    assert {path.name for path in (root / "slots").iterdir()} <= {name for name in states if states[name] == GOOD}
    assert not list(root.glob(".new-*")) and not (root / ".current.new").is_symlink()
    install_kit(second, root, public, make_steps(root))
    assert is_whole(root, "2")
    verify_log(root)


@pytest.mark.parametrize("unhealthy", ["", "2"], ids=["healthy", "unhealthy"])
@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_stopped_at_any_step_a_working_slot_stays(
    root: Path, second: Path, tmp_path: Path, public: bytes, unhealthy: str, how: str
) -> None:
    """Killed (SIGKILL) or interrupted before each step, of an installation that succeeds and of one that rolls back."""
    names = list_step_names(copy_device(root, tmp_path / "count"), second, public, unhealthy)
    assert len(names) >= 10 and ("switch back" in names) == bool(unhealthy)
    for number in range(len(names)):
        device, seen = copy_device(root, tmp_path / f"device{number}"), []

        def stop(name: str, seen: list[str] = seen, number: int = number) -> None:
            seen.append(name)
            if len(seen) == number + 1:
                if how == "terminate":
                    raise KeyboardInterrupt
                os.kill(os.getpid(), signal.SIGKILL)

        ended = in_child(lambda d=device, s=stop: install_kit(second, d, public, make_steps(d, s, unhealthy)))
        assert ended == (1 if how == "terminate" else -signal.SIGKILL)
        assert_it_works(device, second, public, unhealthy)


def test_killed_at_any_change_of_the_disk_a_working_slot_stays(
    root: Path, second: Path, tmp_path: Path, public: bytes
) -> None:
    """The same, before every single file that is opened, renamed, linked or removed."""
    events = {"open", "os.rename", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}

    def install(device: Path, limit: int) -> None:
        done = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal done
            if event in events and any(str(argument).startswith(str(device)) for argument in arguments[:2]):
                done += 1
                if done == limit:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)  # of the child alone
        install_kit(second, device, public, make_steps(device))
        if limit == 0:
            (tmp_path / "events").write_text(str(done))

    assert in_child(lambda: install(copy_device(root, tmp_path / "count"), 0)) == 0
    number = int((tmp_path / "events").read_text())
    assert number > 40
    for limit in range(1, number + 1):
        device = copy_device(root, tmp_path / f"device{limit}")
        assert in_child(lambda d=device, n=limit: install(d, n)) == -signal.SIGKILL
        assert_it_works(device, second, public)


def test_leftover_files_are_removed(root: Path) -> None:
    """The next command removes a folder without a record, half-written files and an unused link."""
    (root / "slots/0009-x/kit").mkdir(parents=True)
    (root / "records/.new-abc").touch()
    (root / "audit/.tmp-edge-seg-1-a").touch()
    (root / ".current.new").symlink_to("slots/0009-x")
    check_root(root, make_steps(root))
    assert [path.name for path in (root / "slots").iterdir()] == ["0001-1.0_1"]
    assert not list(root.rglob(".tmp-edge-seg-*"))
    assert not (root / "records/.new-abc").exists() and not (root / ".current.new").is_symlink()


def test_an_interrupted_trial_is_finished(root: Path, second: Path, public: bytes) -> None:
    """`check` checks a slot that was switched to but not checked: it becomes good, or the old slot is restored."""
    slot, _ = install_kit(second, root, public, make_steps(root))
    write_slot(root, replace(slot, state=TRIAL))
    assert "edge-deploy check" in format_status(read_status(root))
    assert check_root(root, make_steps(root)).state == GOOD
    write_slot(root, replace(slot, state=TRIAL))
    assert check_root(root, make_steps(root, unhealthy="2")).name == "0001-1.0_1"
    assert is_whole(root, "1")
