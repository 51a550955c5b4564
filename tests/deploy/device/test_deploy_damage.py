"""A slot whose files were removed, altered or added to is named by check, left by rollback, and repaired by install."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from devices import FakeService, copy_device, in_child, is_whole, make_steps
from kits import write_small_kit

from deploy.device.install import InstallOptions, InstallSteps, check_root, install_kit, roll_back
from deploy.device.slots import DAMAGED, GOOD, TRIAL, read_current, read_slots, write_slot
from deploy.device.status import format_status, read_status
from deploy.kit.manifest import MODEL, Manifest
from edge_runtime.errors import InstallError


def build(slot: Path, manifest: Manifest) -> None:
    """An environment of a few files, one of them in a folder of byte code, and links to a file and to a folder."""
    (slot / "venv/bin").mkdir(parents=True)
    (slot / "venv/lib/net/__pycache__").mkdir(parents=True)
    (slot / "venv/version").write_text(manifest.model_version)
    (slot / "venv/lib/net/main.py").write_text("print(1)\n" * 1000)
    (slot / "venv/lib/net/__pycache__/main.cpython-311.pyc").write_bytes(b"code")
    (slot / "venv/lib/naïve name.txt").write_text("ü")
    (slot / "venv/empty").touch()
    (slot / "venv/bin/python").symlink_to("/usr/bin/python3")
    (slot / "venv/lib64").symlink_to("lib")


def make(root: Path, report: Callable[[str], None] = lambda name: None, unhealthy: str = "") -> InstallSteps:
    return make_steps(root, report, unhealthy, build=build)


@pytest.fixture
def device(tmp_path: Path, key: Path, public: bytes) -> Path:
    """A device on which version 2 runs, with version 1 beside it."""
    root = tmp_path / "real"
    for version in ("1", "2"):
        install_kit(write_small_kit(tmp_path / f"{version}.kit", key, version), root, public, make(root))
    return root


def flip(path: Path) -> None:
    """Change one bit, keeping size and times."""
    facts, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_link(path: Path) -> None:
    shutil.copy(path, path.parents[4] / "elsewhere")
    path.unlink()
    path.symlink_to(path.parents[4] / "elsewhere")


def empty_slot(slot: Path) -> None:
    for path in slot.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def move_and_link(path: Path, elsewhere: Path) -> None:
    path.replace(elsewhere)
    path.symlink_to(elsewhere)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "model removed": (lambda slot: (slot / "kit" / MODEL).unlink(), "1 missing: kit/model.tflite"),
    "model changed": (lambda slot: flip(slot / "kit" / MODEL), "1 changed: kit/model.tflite"),
    "lock changed": (lambda slot: (slot / "kit/lock.txt").write_text("x"), "1 changed: kit/lock.txt"),
    "kit removed": (lambda slot: shutil.rmtree(slot / "kit"), "3 missing: kit/lock.txt, kit/model.tflite, kit/units/"),
    "module removed": (lambda slot: (slot / "venv/lib/net/main.py").unlink(), "1 missing: venv/lib/net/main.py"),
    "module changed": (lambda slot: flip(slot / "venv/lib/net/main.py"), "1 changed: venv/lib/net/main.py"),
    "byte code changed": (lambda slot: flip(slot / "venv/lib/net/__pycache__/main.cpython-311.pyc"), "1 changed: venv"),
    "module added": (lambda slot: (slot / "venv/lib/json.py").touch(), "1 added: venv/lib/json.py"),
    "module longer": (lambda slot: os.truncate(slot / "venv/empty", 1 << 42), "1 changed: venv/empty"),
    "a pipe": (lambda slot: put_pipe(slot / "venv/lib/net/main.py"), "1 changed: venv/lib/net/main.py"),
    "a link": (lambda slot: put_link(slot / "venv/lib/net/main.py"), "1 changed: venv/lib/net/main.py"),
    "python removed": (lambda slot: (slot / "venv/bin/python").unlink(), "1 missing: venv/bin/python"),
    "environment removed": (lambda slot: shutil.rmtree(slot / "venv"), "7 missing: venv/bin/python, venv/empty, "),
    "manifest changed": (lambda slot: flip(slot / "manifest.json"), "1 changed: manifest.json"),
    "manifest removed": (lambda slot: (slot / "manifest.json").unlink(), "1 missing: manifest.json"),
    "all removed": (empty_slot, "12 missing: key.pub, kit/lock.txt, kit/model.tflite, …"),
    "folder removed": (shutil.rmtree, "its folder is missing"),
    "folder a link": (lambda slot: move_and_link(slot, slot.parents[1] / "copy"), "its folder is missing"),
}


def test_a_slot_as_it_was_installed_is_whole(device: Path) -> None:
    """Nothing is wrong with it; sha256sum agrees with the list, which names all files; new byte code is no damage."""
    current, steps = read_slots(device)[-1], make(device)
    assert check_root(device, steps) == current and current.state == GOOD
    slot, listed = device / "current", device / "records" / f"{current.name}.sha256"
    command = ["sha256sum", "--strict", "--check", listed]
    done = subprocess.run(command, cwd=slot, capture_output=True, text=True)
    names = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
    found = subprocess.run(["find", ".", "-type", "f", "-printf", "%P\\n"], cwd=slot, capture_output=True, text=True)
    files = set(found.stdout.splitlines())
    assert done.returncode == 0 and names == files and len(files) == 10
    (slot / "venv/lib/net/__pycache__/other.cpython-311.pyc").touch()
    assert check_root(device, make(device)).state == GOOD


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_slot_is_named_and_repaired(device: Path, tmp_path: Path, public: bytes, name: str) -> None:
    """check and status say what is missing; the same kit is then installed into a new slot, and the old one is gone."""
    damage, line = DAMAGES[name]
    slot = (device / "current").resolve()
    signal.alarm(300)
    damage(slot)
    copy = copy_device(device, tmp_path / "copy")
    assert install_kit(tmp_path / "2.kit", copy, public, make(copy))[1]  # without a check before it
    assert is_whole(copy, "2") and check_root(copy, make(copy)).name == "0003-1.0_2"
    with pytest.raises(InstallError) as caught:
        check_root(device, make(device))
    assert f"slot 0002-1.0_2: its files are not those that passed its tests: {line}" in str(caught.value)
    assert "; install its kit again" in str(caught.value)
    assert read_slots(device)[-1].state == DAMAGED and line in format_status(read_status(device))
    steps: list[str] = []
    repaired, changed = install_kit(tmp_path / "2.kit", device, public, make(device, steps.append))
    assert changed and repaired.name == "0003-1.0_2" and is_whole(device, "2") and line in str(steps)
    assert not os.path.lexists(device / "slots/0002-1.0_2") and is_whole(device, "2")
    assert check_root(device, make(device)).state == GOOD
    assert roll_back(device, "", make(device)).name == "0001-1.0_1"
    signal.alarm(0)


def test_a_damage_that_is_gone_is_forgotten(device: Path, public: bytes, tmp_path: Path) -> None:
    """Files that came back, from a disk that was not there, make the slot good again."""
    slot = (device / "current").resolve()
    slot.replace(device / "away")
    with pytest.raises(InstallError, match="its folder is missing"):
        check_root(device, make(device))
    (device / "away").replace(slot)
    assert check_root(device, make(device)).state == GOOD and read_slots(device)[-1].reason == ""
    assert install_kit(tmp_path / "2.kit", device, public, make(device))[1] is False


def test_no_damaged_slot_is_gone_back_to(device: Path, tmp_path: Path, key: Path, public: bytes) -> None:
    """rollback takes the newest whole slot, or says what is wrong with the others; so does a failed update."""
    third = write_small_kit(tmp_path / "3.kit", key, "3")
    keep = InstallOptions(keep=5)
    install_kit(third, device, public, make(device), keep)
    flip(device / "slots/0002-1.0_2/kit" / MODEL)
    copy = copy_device(device, tmp_path / "copy")
    assert roll_back(device, "", make(device)).name == "0001-1.0_1" and is_whole(device, "1")
    flip(copy / "slots/0001-1.0_1/kit" / MODEL)
    with pytest.raises(InstallError, match=r"0002-1\.0_2 is damaged: 1 changed: kit/model\.tflite; 0001-1\.0_1 is"):
        roll_back(copy, "", make(copy))
    assert is_whole(copy, "3")


def test_a_failed_update_restores_a_whole_slot(device: Path, tmp_path: Path, key: Path, public: bytes) -> None:
    """Of the good slots the newest whole one; the damaged one that ran before is better than none."""
    fourth = write_small_kit(tmp_path / "4.kit", key, "4")
    flip(device / "current/kit" / MODEL)
    copy = copy_device(device, tmp_path / "copy")
    with pytest.raises(InstallError, match=r"back on 0001-1\.0_1"):
        install_kit(fourth, device, public, make(device, unhealthy="4"))
    assert is_whole(device, "1")
    shutil.rmtree(copy / "slots/0001-1.0_1")
    with pytest.raises(InstallError):
        check_root(copy, make(copy))
    with pytest.raises(InstallError, match=r"back on 0002-1\.0_2"):
        install_kit(fourth, copy, public, make(copy, unhealthy="4"))
    assert read_current(copy) == "0002-1.0_2"


def test_a_trial_that_a_power_cut_damaged_is_undone(device: Path) -> None:
    """A slot that was switched to, and lost files before it was found healthy, is left again, with the reason."""
    write_slot(device, replace(read_slots(device)[-1], state=TRIAL))
    (device / "current/venv/lib/net/main.py").unlink()
    assert check_root(device, make(device)).name == "0001-1.0_1"
    assert read_slots(device)[-1].reason == "1 missing: venv/lib/net/main.py" and is_whole(device, "1")


@pytest.mark.parametrize("unhealthy", ["", "2"], ids=["healthy", "unhealthy"])
def test_a_repair_that_is_killed_is_repeated(device: Path, tmp_path: Path, public: bytes, unhealthy: str) -> None:
    """Killed before any step of it, the next installation repairs; the slot that ran before stays until then."""
    shutil.rmtree(device / "slots/0001-1.0_1")
    (device / "current/venv/lib/net/main.py").unlink()
    names: list[str] = []
    try:
        copy = copy_device(device, tmp_path / "count")
        install_kit(tmp_path / "2.kit", copy, public, make(copy, names.append, unhealthy))
    except InstallError:
        assert unhealthy
    for number in range(len(names)):
        root, seen = copy_device(device, tmp_path / f"device{number}"), []

        def stop(name: str, seen: list[str] = seen, number: int = number) -> None:
            seen.append(name)
            if len(seen) == number + 1:
                os.kill(os.getpid(), signal.SIGKILL)

        work = lambda r=root, s=stop: install_kit(tmp_path / "2.kit", r, public, make(r, s, unhealthy))  # noqa: E731
        assert in_child(work) == -signal.SIGKILL
        assert is_whole(root, "2")
        install_kit(tmp_path / "2.kit", root, public, make(root))
        assert check_root(root, make(root)).state == GOOD and is_whole(root, "2")
        assert [path.name for path in (root / "slots").iterdir()] == [read_current(root)]


def test_a_slot_of_an_earlier_installer_is_checked_by_its_model(root: Path) -> None:
    """It has neither list nor manifest; its record names the model's SHA-256."""
    for path in (root / "records").glob("*.sha256"):
        path.unlink()
    (root / "current/manifest.json").unlink()
    steps = InstallSteps(FakeService(root))
    assert check_root(root, steps).state == GOOD
    flip(root / "current/kit" / MODEL)
    with pytest.raises(InstallError, match=r"1 changed: kit/model\.tflite"):
        check_root(root, steps)


def test_what_was_unpacked_is_read_back(tmp_path: Path, key: Path, public: bytes) -> None:
    """A disk that returns other bytes than were written is found before the switch."""
    root = tmp_path / "bad"

    def spoil(slot: Path, manifest: Manifest) -> float:
        flip(slot / "kit" / MODEL)
        return 5.0

    with pytest.raises(InstallError, match=r"the unpacked files: 1 changed: kit/model\.tflite"):
        install_kit(write_small_kit(tmp_path / "1.kit", key), root, public, make_steps(root, build=build, test=spoil))
    assert read_current(root) == ""
