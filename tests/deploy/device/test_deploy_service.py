"""The service: a sandbox that systemd rates as closed, restarted and checked; a loop where systemd is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kits import describe, write_small_kit

import deploy.device.service
from deploy.__main__ import main
from deploy.device.install import InstallSteps, install_kit
from deploy.device.process import run_command
from deploy.device.service import UNITS, Service, check_settings, read_settings, set_up_service
from deploy.device.slot_test import check_slot
from deploy.device.slots import read_current, read_slots
from deploy.kit.manifest import LOCK, MODEL, Manifest
from deploy.kit.unit_files import UNIT, ServiceSettings, find_memory_limit, to_check_unit, to_loop, to_unit
from edge_runtime.errors import InstallError, OutputError, UsageError

SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> "{log}"
case "$1" in
show) cat "{state}" ;;
restart) exit "$(cat "{fails}")" ;;
esac
"""


def write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def build(slot: Path, manifest: Manifest) -> None:
    write_script(slot / "venv/bin/edge-seg", f"#!/bin/sh\necho {manifest.model_version}\n")
    write_script(slot / "venv/bin/edge-deploy", "#!/bin/sh\n")


class Device:
    """A device whose systemctl is a script that records its arguments."""

    def __init__(self, folder: Path, key: Path, public: bytes) -> None:
        self.folder, self.key, self.public = folder, key, public
        self.root, self.system, self.log = folder / "root", folder / "system", folder / "log"
        self.state, self.fails = folder / "state", folder / "fails"
        self.set_state("active", 0)
        self.fails.write_text("0")
        self.settings = ServiceSettings(str(self.root), str(folder / "inbox"), str(folder / "out"))
        for name in ("systemctl", "systemd-sysusers", "systemd-tmpfiles"):
            text = SYSTEMCTL.format(log=self.log, state=self.state, fails=self.fails)
            write_script(folder / "bin" / name, text)

    def set_state(self, state: str, restarts: int) -> None:
        self.state.write_text(f"ActiveState={state}\nResult=exit-code\nNRestarts={restarts}\n")

    def install(
        self, version: str, sleep: Callable[[float], None] = lambda seconds: None, memory: int = 1 << 28
    ) -> None:
        kit = write_small_kit(self.folder / "kit", self.key, version, memory_bytes=memory)
        service = Service(self.root, self.system, sleep)
        steps = InstallSteps(service, build=build, test=lambda slot, manifest: 5.0)
        install_kit(kit, self.root, self.public, steps)

    def read_log(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def device(tmp_path: Path, key: Path, public: bytes, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "sync", lambda: None)
    device = Device(tmp_path, key, public)
    device.install("1")
    return device


def test_systemd_is_set_up(device: Device) -> None:
    """Units, user and folders are written, then enabled and started; systemctl is not called before that."""
    assert device.read_log() == []
    left = set_up_service(device.settings, device.system, systemd=True)
    assert (device.system / UNITS / UNIT).read_text() == to_unit(device.settings, 1 << 28)
    assert "edge-seg" in (device.system / "etc/sysusers.d/edge-seg.conf").read_text()
    assert str(device.folder / "inbox") in (device.system / "etc/tmpfiles.d/edge-seg.conf").read_text()
    assert device.read_log()[-2:] == ["daemon-reload", "enable --now edge-seg.service edge-seg-check.service"]
    assert read_settings(device.root) == device.settings and left[0].startswith("usermod -aG edge-seg")


def test_an_update_restarts_the_service_on_the_new_slot(device: Device) -> None:
    """After the switch: the unit gets the new memory limit, systemd reloads and restarts it, and is queried twice."""
    set_up_service(device.settings, device.system, systemd=True)
    device.read_log()
    device.install("2", memory=1 << 29)
    show = "show edge-seg.service -p ActiveState,Result,NRestarts"
    restart = ["reset-failed edge-seg.service", "restart edge-seg.service"]
    assert device.read_log() == ["daemon-reload", *restart, show, show]
    assert f"MemoryMax={1 << 29}" in (device.system / UNITS / UNIT).read_text()
    device.install("3", memory=1 << 29)
    assert device.read_log()[:2] == restart


@pytest.mark.parametrize("how", ["does not start", "dies", "restarts"])
def test_a_service_that_fails_brings_the_old_slot_back(device: Device, how: str) -> None:
    """A start that fails, a service that died or was restarted within the observation: the old slot is restored."""
    set_up_service(device.settings, device.system, systemd=True)
    if how == "does not start":
        device.fails.write_text("1")

    def sleep(seconds: float) -> None:
        assert seconds == deploy.device.service.OBSERVATION_S
        if how == "dies":
            device.set_state("failed", 0)
        elif how == "restarts":
            device.set_state("active", 1)

    with pytest.raises(InstallError, match=r"back on 0001-1\.0_1"):
        device.install("2", sleep)
    assert read_current(device.root) == "0001-1.0_1" and "the service: it" in read_slots(device.root)[-1].reason
    log = device.read_log()
    restarts = [number for number, line in enumerate(log) if line == "restart edge-seg.service"]
    # Otherwise systemd refuses the old slot's start too, once the unit's StartLimitBurst is reached.
    assert len(restarts) == 2 and {log[number - 1] for number in restarts} == {"reset-failed edge-seg.service"}


def test_without_a_slot_the_service_is_stopped(device: Device) -> None:
    """If the first kit fails and there is no slot left, the service is stopped."""
    set_up_service(device.settings, device.system, systemd=True)
    device.read_log()
    (device.root / "current").unlink()
    Service(device.root, device.system).restart()
    assert device.read_log() == ["stop edge-seg.service"]


def test_without_systemd_there_is_a_loop(device: Device) -> None:
    """A valid shell script for cron's @reboot, which runs the current slot each time."""
    left = set_up_service(device.settings, device.system, systemd=False)
    script = device.root / "loop.sh"
    assert script.read_text() == to_loop(device.settings) and f"@reboot sh {script}" in left[1]
    assert subprocess.run(["sh", "-n", script]).returncode == 0
    process = subprocess.Popen(["sh", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    os.killpg(process.pid, 9)
    process.wait()
    assert not device.system.exists() and device.read_log() == []


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({"inbox": "/srv/in box"}, "--inbox /srv/in box"),
        ({"inbox": "in"}, "absolute"),
        ({"out": "/srv/%n"}, "--out"),
        ({"out": "/srv/$HOME"}, "--out"),
        ({"root": "/opt/../etc"}, "--root"),
        ({"user": "ro ot"}, "--user"),
        ({"user": "-x"}, "--user"),
        ({"inbox": "/srv/a", "out": "/srv/a/out"}, "or one is in the other"),
    ],
)
def test_characters_that_systemd_interprets_are_refused(parts: dict[str, str], line: str) -> None:
    """Spaces, percent and dollar signs, relative paths and nested folders are refused."""
    check_settings(ServiceSettings())
    with pytest.raises(UsageError) as caught:
        check_settings(ServiceSettings(**parts))
    assert line in str(caught.value)


def test_a_damaged_setting_is_one_line(device: Device) -> None:
    """A service.json that is not JSON, and a root without a kit: one line each that says what to do."""
    (device.root / "service.json").write_text("{")
    with pytest.raises(OutputError, match="run edge-deploy service again"):
        Service(device.root, device.system).restart()
    with pytest.raises(UsageError, match="no kit is installed there"):
        set_up_service(ServiceSettings(str(device.folder / "none")), device.system)


def test_the_unit_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """--print writes the unit to stdout."""
    assert main(["service", "--root", "/opt/x", "--inbox", "/srv/in", "--out", "/srv/out", "--print"]) == 0
    text = capsys.readouterr().out
    assert "ExecStart=/opt/x/current/venv/bin/edge-seg --watch /srv/in -o /srv/out" in text


def test_folders_at_home_are_mounted() -> None:
    """An inbox in a home folder is the only part of the home folders that the service can read."""
    text = to_unit(ServiceSettings(inbox="/home/pi/in"), 1 << 28)
    assert "ProtectHome=tmpfs" in text and "BindReadOnlyPaths=/home/pi/in" in text
    assert "ProtectHome=yes" in to_unit(ServiceSettings(), 1 << 28)


def test_memory_follows_the_model() -> None:
    """The embedded model and the paper's net get more than twice what was measured, in steps of 64 MiB."""
    assert find_memory_limit(3_700_000, 256 * 256) == 448 << 20 > 2 * 99e6
    assert find_memory_limit(34_100_000, 224 * 224) == 512 << 20 > 2 * 189e6
    assert find_memory_limit(133_100_000, 224 * 224) > 348 * (1 << 20)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_approves_of_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing; `security` rates the exposure at most 0.5 of 10 (0.3 by systemd 252)."""
    settings = ServiceSettings(str(tmp_path), str(tmp_path / "in"), str(tmp_path / "out"))
    for name in ("edge-seg", "edge-deploy"):
        write_script(tmp_path / "current/venv/bin" / name, "#!/bin/sh\n")
    units = {UNIT: to_unit(settings, 1 << 29), "edge-seg-check.service": to_check_unit(settings)}
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in units]
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    rate = ["systemd-analyze", "security", "--offline=yes", "--threshold=5", "--no-pager", files[0]]
    rated = subprocess.run(rate, capture_output=True, text=True)
    assert rated.returncode == 0, rated.stdout[-200:] + rated.stderr


def expand(name: str) -> set[str]:
    """Return the system calls of a set, as systemd lists it."""
    output = run_command("systemd-analyze", ["systemd-analyze", "syscall-filter", "--no-pager", name], 60)
    words = [line.strip() for line in output.splitlines()[1:] if line.strip() and "#" not in line]
    return {call for word in words for call in (expand(word) if word.startswith("@") else {word})}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_system_calls_that_the_service_does_not_need_are_refused() -> None:
    """No keys of the kernel, no mounts, no other users, no clock; what Python needs stays."""
    lines = to_unit(ServiceSettings(), 1 << 28).splitlines()
    filters = [line.partition("=")[2].split() for line in lines if line.startswith("SystemCallFilter=")]
    allowed: set[str] = set()
    for first, *others in filters:
        calls = set().union(*(expand(name) for name in (first.removeprefix("~"), *others)))
        allowed = allowed - calls if first.startswith("~") else allowed | calls
    assert {"read", "openat", "mmap", "clone", "execve", "fsync", "sendto", "sched_setaffinity"} <= allowed
    assert not allowed & {"keyctl", "add_key", "request_key", "mount", "chroot", "setuid", "clock_settime", "bpf"}


# --- the tests of a slot -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seg", "clock", "budget", "line"),
    [
        ("exit 0", 'echo {"median_ms": 12.5}', 20.0, ""),
        ("exit 0", 'echo {"median_ms": 12.5}', None, ""),
        ("exit 0", 'echo {"median_ms": 12.5}', 10.0, "an image takes 12 ms here, the kit allows 10 ms"),
        ("exit 0", "echo nothing", None, "it gave no number"),
        ("exit 0", 'echo {"median_ms": NaN}', 10.0, "an image takes nan ms"),
        ("exit 0", "kill -9 $$", None, "SIGKILL"),
        ("echo infer diverged >&2; exit 1", "", None, "the self-test: infer diverged (exit status 1)"),
        ("echo 'x: error: unrecognized arguments: --selftest' >&2; exit 2", "", None, "edge-seg 1.0 has none"),
        ("kill -ILL $$", "", None, "it wrote nothing (SIGILL)"),
    ],
)
def test_a_slot_is_tested_by_its_own_commands(
    tmp_path: Path, seg: str, clock: str, budget: float | None, line: str
) -> None:
    """The slot's own self-test and latency test decide; any other outcome of theirs is a failure."""
    write_script(tmp_path / "venv/bin/edge-seg", f'#!/bin/sh\n[ "$1" = --selftest ] || exit 7\n{seg}\n')
    quoted = clock.replace('{"', "'{\"").replace("5}", "5}'").replace("NaN}", "NaN}'")
    write_script(tmp_path / "venv/bin/python", f"#!/bin/sh\n{quoted}\n")
    manifest = describe({LOCK: b"", MODEL: b""}, latency_ms=budget)
    if not line:
        assert check_slot(tmp_path, manifest) == 12.5
        return
    with pytest.raises(InstallError) as caught:
        check_slot(tmp_path, manifest)
    assert line in str(caught.value)


def test_commands_run_clean_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot's commands get no PYTHONPATH and no PIP_ variables of the caller, and are killed when they hang."""
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.setenv("PIP_INDEX_URL", "https://evil")
    assert "evil" not in run_command("env", ["env"], 60)
    with pytest.raises(InstallError, match=r"it did not end within 0\.1 s"):
        run_command("sleep", ["sleep", "60"], 0.1)
    with pytest.raises(InstallError, match="cannot be started"):
        run_command("nothing", ["/nowhere/nothing"], 60)


def test_the_commands_of_a_killed_installer_are_killed(tmp_path: Path) -> None:
    """When the installer is killed, the processes that it started are killed too."""
    code = f"""
from deploy.device.process import run_command
run_command("sleep", ["sh", "-c", "echo $$ > {tmp_path / "pid"}; exec sleep 600"], 900)
"""
    installer = subprocess.Popen([sys.executable, "-c", code])
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.01)
        assert installer.poll() is None
    started = int((tmp_path / "pid").read_text())
    installer.kill()
    installer.wait()
    for _ in range(6000):
        try:
            if Path(f"/proc/{started}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):  # it may go at any time
            return
        time.sleep(0.01)
    os.kill(started, 9)
    pytest.fail("the command was not killed")
