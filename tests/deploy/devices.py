"""A device for tests: slots without real environments, a service that records its restarts, a child that is killed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kits import make_model

from deploy.device.install import InstallSteps
from deploy.device.slots import find_slot, read_current
from deploy.kit.manifest import MODEL, Manifest
from edge_runtime.errors import InstallError


@dataclass
class FakeService:
    """A service that records its restarts, and is unhealthy on the slots of some versions."""

    root: Path
    unhealthy: set[str] = field(default_factory=set)
    restarts: list[str] = field(default_factory=list)

    def restart(self) -> None:
        self.restarts.append(read_current(self.root))

    def check(self) -> None:
        slot = find_slot(self.root, read_current(self.root))
        if slot is None or slot.model_version in self.unhealthy:
            raise InstallError("the service", "it is failed 10 s after its start", "journalctl")


def build(slot: Path, manifest: Manifest) -> None:
    """Replaces pip: one file instead of the environment."""
    (slot / "venv/bin").mkdir(parents=True)
    (slot / "venv/bin/edge-seg").write_text("#!/bin/sh\n")
    (slot / "venv/bin/edge-seg").chmod(0o755)
    (slot / "venv/version").write_text(manifest.model_version)


def make_steps(
    root: Path, report: Callable[[str], None] = lambda name: None, unhealthy: str = "", **calls: Any
) -> InstallSteps:
    fakes: dict[str, Any] = {"build": build, "test": lambda slot, manifest: 5.0}
    return InstallSteps(FakeService(root, {unhealthy}), report, **fakes | calls)


def is_whole(root: Path, version: str) -> bool:
    """Return whether the current slot is that version's, with all of its files."""
    slot = root / "current"
    return (slot / "venv/version").read_text() == version and (slot / "kit" / MODEL).read_bytes() == make_model(version)


def in_child(work: Callable[[], object]) -> int:
    """Run something in a forked process; return how that ended, as os.waitstatus_to_exitcode says."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def copy_device(root: Path, to: Path) -> Path:
    subprocess.run(["cp", "-a", "--sparse=always", root, to], check=True)  # a file may be 4 TB of nothing
    return to
