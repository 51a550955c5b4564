"""The service around the current slot: written, restarted, and looked at before a new slot counts as good."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from edge_runtime.errors import InstallError, OutputError, UsageError

from .disk import write_json, write_whole
from .manifest import MODEL
from .process import run_command
from .slots import CURRENT, find_slot, read_current
from .units import UNIT, Setting, to_check_unit, to_loop, to_sysusers, to_tmpfiles, to_unit

SETTINGS = "service.json"
CHECK_UNIT = "edge-seg-check.service"
UNITS, SYSUSERS, TMPFILES = Path("etc/systemd/system"), Path("etc/sysusers.d"), Path("etc/tmpfiles.d")
SECONDS = 300
SETTLE_SECONDS = 10.0  # for which a restarted service must stay up
PLAIN = re.compile(r"/[A-Za-z0-9._/+:@-]*[A-Za-z0-9._+:@-]")


class Service:
    """What runs the current slot; without `service.json` nothing does, and the slot is only asked for its model."""

    def __init__(self, root: Path, system: Path = Path("/"), sleep: Callable[[float], None] = time.sleep) -> None:
        self.root, self.system, self.sleep = root, system, sleep

    def restart(self) -> None:
        """Restart the service on the current slot, stop it where there is none.

        A unit of Type=notify is back when its first READY=1 came. Raises: InstallError.
        """
        setting = read_setting(self.root)
        if setting is None or not (self.system / UNITS / UNIT).exists():
            return  # the loop takes the current slot each time round
        if not read_current(self.root):
            run_command("systemctl stop", ["systemctl", "stop", UNIT], SECONDS)
            return
        if write_units(self.root, setting, self.system):
            run_command("systemctl daemon-reload", ["systemctl", "daemon-reload"], SECONDS)
        run_command("the service", ["systemctl", "restart", UNIT], SECONDS)

    def check(self) -> None:
        """Want the current slot to answer, and the service to stay up. Raises: InstallError."""
        slot = self.root / CURRENT
        run_command(
            "the switched slot", [slot / "venv/bin/edge-seg", "--info", "--model", slot / "kit" / MODEL], SECONDS
        )
        if read_setting(self.root) is None or not (self.system / UNITS / UNIT).exists():
            return
        before = self.ask()
        self.sleep(SETTLE_SECONDS)
        after = self.ask()
        if after["ActiveState"] != "active" or before["NRestarts"] != after["NRestarts"]:
            why = f"it is {after['ActiveState']} ({after['Result']}) {SETTLE_SECONDS:g} s after its start"
            raise InstallError("the service", why, f"journalctl -u {UNIT}")

    def ask(self) -> dict[str, str]:
        """Return what systemd says of the unit."""
        names = ("ActiveState", "Result", "NRestarts")
        said = run_command("systemctl show", ["systemctl", "show", UNIT, "-p", ",".join(names)], SECONDS)
        found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        return {name: found.get(name, "unknown") for name in names}


def read_setting(root: Path) -> Setting | None:
    """Return how the service was set up; None if it was not. Raises: OutputError if that is damaged."""
    path = root / SETTINGS
    try:
        return Setting(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(str(path), f"it is damaged ({error})", "run edge-deploy service again") from None


def check_setting(setting: Setting) -> None:
    """Want paths and a name that need no quoting in a unit. Raises: UsageError."""
    for option, path in (("--root", setting.root), ("--inbox", setting.inbox), ("--out", setting.out)):
        if not PLAIN.fullmatch(path) or ".." in path.split("/"):
            why = "a service's paths are absolute, without blanks or signs that systemd reads otherwise"
            raise UsageError(f"{option} {path}", why, "choose another folder")
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", setting.user):
        raise UsageError(f"--user {setting.user}", "it is no system user's name", "choose one such as edge-seg")
    inbox, out = Path(setting.inbox), Path(setting.out)
    if inbox == out or inbox in out.parents or out in inbox.parents:
        raise UsageError(f"--out {out}", "inbox and results lie in each other", "choose two folders")


def set_up(setting: Setting, system: Path = Path("/"), systemd: bool | None = None) -> list[str]:
    """Write the service's files and start it; return what is left to do by hand.

    Without systemd that is ROOT/loop.sh. Raises: OutputError, InstallError.
    """
    root = Path(setting.root)
    current = read_current(root)
    if not current:
        raise UsageError(
            f"--root {root}", "no kit is installed there", "edge-deploy install KIT --root DIR --pub P first"
        )
    write_json(root / SETTINGS, asdict(setting))
    if not (Path("/run/systemd/system").is_dir() if systemd is None else systemd):
        write_whole(root / "loop.sh", to_loop(setting).encode())
        return [f"sh {root}/loop.sh &", f"crontab -e   # add: @reboot sh {root}/loop.sh"]
    write_units(root, setting, system)
    write_whole(system / SYSUSERS / "edge-seg.conf", to_sysusers(setting).encode())
    write_whole(system / TMPFILES / "edge-seg.conf", to_tmpfiles(setting).encode())
    run_command("systemd-sysusers", ["systemd-sysusers", system / SYSUSERS / "edge-seg.conf"], SECONDS)
    tmpfiles = ["systemd-tmpfiles", "--create", system / TMPFILES / "edge-seg.conf"]
    run_command("systemd-tmpfiles", tmpfiles, SECONDS)
    run_command("systemctl daemon-reload", ["systemctl", "daemon-reload"], SECONDS)
    run_command("systemctl enable", ["systemctl", "enable", "--now", UNIT, CHECK_UNIT], SECONDS)
    return [f"usermod -aG {setting.user} NAME   # who may put images into {setting.inbox}"]


def write_units(root: Path, setting: Setting, system: Path) -> bool:
    """Write the units for the current slot's memory; tell whether that changed anything."""
    slot = find_slot(root, read_current(root))
    assert slot is not None
    texts = {UNIT: to_unit(setting, slot.memory_bytes), CHECK_UNIT: to_check_unit(setting)}
    changed = False
    for name, text in texts.items():
        path = system / UNITS / name
        if not path.exists() or path.read_text("utf-8") != text:
            write_whole(path, text.encode())
            changed = True
    return changed
