"""How does the current slot run as a service? Its files are written, it is restarted, and its health is checked."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from deploy.files import RUN_AS_ROOT, read_json, read_regular, write_durably, write_json
from deploy.kit.manifest import MODEL
from deploy.kit.unit_files import UNIT, ServiceSettings, to_check_unit, to_loop, to_sysusers, to_tmpfiles, to_unit
from edge_runtime.errors import InstallError, OutputError, UsageError

from .process import run_command
from .slots import CURRENT, INSTALL, Slot, find_current, read_current

SETTINGS_FILE = "service.json"
CHECK_UNIT = "edge-seg-check.service"
UNITS, SYSUSERS, TMPFILES = Path("etc/systemd/system"), Path("etc/sysusers.d"), Path("etc/tmpfiles.d")
TIMEOUT_S = 300
OBSERVATION_S = 10.0  # for which a restarted service must stay active
MAX_BYTES = 64 << 10  # of service.json and of a unit
PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+:@-]*[A-Za-z0-9._+:@-]")


class Service:
    """The service of a root; without `service.json` there is none, and `check` only runs the slot's `--info`."""

    def __init__(self, root: Path, system: Path = Path("/"), sleep: Callable[[float], None] = time.sleep) -> None:
        self.root, self.system, self.sleep = root, system, sleep

    def restart(self) -> None:
        """Restart the service on the current slot; stop it where there is no slot.

        A unit of Type=notify counts as started after its first READY=1. Raises: InstallError.
        """
        settings = self.read_unit_settings()
        if settings is None:
            return  # the loop script runs the current slot each time
        if not read_current(self.root):
            run_command("systemctl stop", ["systemctl", "stop", UNIT], TIMEOUT_S)
            return
        if write_units(self.root, settings, self.system):
            run_command("systemctl daemon-reload", ["systemctl", "daemon-reload"], TIMEOUT_S)
        # Starts before this one must not count: at the unit's limit systemd would refuse the old slot after a bad one.
        with suppress(InstallError):  # a unit that systemd has forgotten has no count
            run_command("systemctl reset-failed", ["systemctl", "reset-failed", UNIT], TIMEOUT_S)
        run_command("the service", ["systemctl", "restart", UNIT], TIMEOUT_S)

    def check(self) -> None:
        """Require the current slot's `--info` to work, and the service to stay active. Raises: InstallError."""
        slot = self.root / CURRENT
        command = [slot / "venv/bin/edge-seg", "--info", "--model", slot / "kit" / MODEL]
        run_command("the switched slot", command, TIMEOUT_S)
        if self.read_unit_settings() is None:
            return
        before = self.query_unit()
        self.sleep(OBSERVATION_S)
        after = self.query_unit()
        if after["ActiveState"] != "active" or before["NRestarts"] != after["NRestarts"]:
            why = f"it is {after['ActiveState']} ({after['Result']}) {OBSERVATION_S:g} s after its start"
            raise InstallError("the service", why, f"journalctl -u {UNIT}")

    def read_unit_settings(self) -> ServiceSettings | None:
        """Return the settings of the systemd unit; None where there is no unit."""
        settings = read_settings(self.root)
        return settings if (self.system / UNITS / UNIT).exists() else None

    def query_unit(self) -> dict[str, str]:
        """Return the unit's state as systemd reports it."""
        names = ("ActiveState", "Result", "NRestarts")
        output = run_command("systemctl show", ["systemctl", "show", UNIT, "-p", ",".join(names)], TIMEOUT_S)
        found = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        return {name: found.get(name, "unknown") for name in names}


def read_settings(root: Path) -> ServiceSettings | None:
    """Return the settings of the service; None if it was not set up. Raises: OutputError if the file is damaged."""
    path = root / SETTINGS_FILE
    try:
        settings = ServiceSettings(**read_json(path, MAX_BYTES, follow=False))
        check_settings(settings)  # they become lines of a unit that root runs
        return settings
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise OutputError(str(path), error.strerror or str(error), RUN_AS_ROOT) from None
    except (OSError, ValueError, TypeError, UsageError) as error:
        why = f"it is damaged ({getattr(error, 'strerror', None) or error})"
        raise OutputError(str(path), why, "run edge-deploy service again") from None


def check_settings(settings: ServiceSettings) -> None:
    """Require paths and a user name that need no quoting in a unit. Raises: UsageError."""
    for option, path in (("--root", settings.root), ("--inbox", settings.inbox), ("--out", settings.out)):
        if not PLAIN_PATH.fullmatch(path) or ".." in path.split("/"):
            why = "a service's paths are absolute, without spaces or characters that systemd interprets"
            raise UsageError(f"{option} {path}", why, "choose another folder")
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", settings.user):
        raise UsageError(f"--user {settings.user}", "it is not a system user's name", "choose one such as edge-seg")
    inbox, out = Path(settings.inbox), Path(settings.out)
    if inbox == out or inbox in out.parents or out in inbox.parents:
        raise UsageError(f"--out {out}", "inbox and results are one folder, or one is in the other", "choose two")


def set_up_service(settings: ServiceSettings, system: Path = Path("/"), systemd: bool | None = None) -> list[str]:
    """Write the service's files and start it; return the commands that are left to the operator.

    Without systemd, write ROOT/loop.sh only. Raises: OutputError, InstallError.
    """
    root = Path(settings.root)
    require_current(root)
    write_json(root / SETTINGS_FILE, asdict(settings))
    if not (Path("/run/systemd/system").is_dir() if systemd is None else systemd):
        write_durably(root / "loop.sh", to_loop(settings).encode())
        return [f"sh {root}/loop.sh &", f"crontab -e   # add: @reboot sh {root}/loop.sh"]
    write_units(root, settings, system)
    write_durably(system / SYSUSERS / "edge-seg.conf", to_sysusers(settings).encode())
    write_durably(system / TMPFILES / "edge-seg.conf", to_tmpfiles(settings).encode())
    run_command("systemd-sysusers", ["systemd-sysusers", system / SYSUSERS / "edge-seg.conf"], TIMEOUT_S)
    tmpfiles = ["systemd-tmpfiles", "--create", system / TMPFILES / "edge-seg.conf"]
    run_command("systemd-tmpfiles", tmpfiles, TIMEOUT_S)
    run_command("systemctl daemon-reload", ["systemctl", "daemon-reload"], TIMEOUT_S)
    run_command("systemctl enable", ["systemctl", "enable", "--now", UNIT, CHECK_UNIT], TIMEOUT_S)
    return [f"usermod -aG {settings.user} NAME   # who may put images into {settings.inbox}"]


def write_units(root: Path, settings: ServiceSettings, system: Path) -> bool:
    """Write the units with the current slot's memory limit; return whether that changed a file."""
    slot = require_current(root)
    texts = {UNIT: to_unit(settings, slot.memory_bytes), CHECK_UNIT: to_check_unit(settings)}
    changed = False
    for name, text in texts.items():
        path = system / UNITS / name
        if read_unit(path) != text.encode():
            write_durably(path, text.encode())
            changed = True
    return changed


def read_unit(path: Path) -> bytes | None:
    """Return a unit's text; None where there is none that can be read."""
    try:
        return read_regular(path, MAX_BYTES)
    except OSError:
        return None


def require_current(root: Path) -> Slot:
    """Return the current slot's record. Raises: UsageError if there is none."""
    slot = find_current(root)
    if slot is None:
        raise UsageError(f"--root {root}", "no kit is installed there", f"{INSTALL} first")
    return slot
