"""What tools/kills.py kills as the installer: kills_installer.py KIT ROOT PUBLIC_KEY, without an environment to build.

All that edge-deploy writes and renames is done as on a device. The environment of a slot is one file, its test is
skipped and the service is none.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.device.install import InstallOptions, InstallSteps, install_kit
from deploy.kit.keys import read_public_key
from deploy.kit.manifest import Manifest


class NoService:
    """Is always healthy."""

    def restart(self) -> None:
        """Do nothing."""

    def check(self) -> None:
        """Do nothing."""


def build(folder: Path, manifest: Manifest) -> None:
    """Write which model the slot's environment is for, in place of an environment."""
    (folder / "venv").mkdir()
    (folder / "venv" / "version").write_text(manifest.model_version)


def main() -> None:
    """Install a kit, older or newer."""
    kit, root, key = map(Path, sys.argv[1:])
    steps = InstallSteps(NoService(), lambda name: None, lambda manifest: None, build, lambda folder, manifest: 5.0)
    install_kit(kit, root, read_public_key(key), steps, InstallOptions(allow_downgrade=True))


if __name__ == "__main__":
    main()
