"""Fills a slot's virtual environment from the kit's wheels: no network, every file by its SHA-256."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from edge_runtime.errors import InstallError

from .manifest import LOCK, WHEELS, Manifest
from .process import run_command

VENV_SECONDS, PIP_SECONDS = 600, 1800  # a Pi 4 on a slow card takes a tenth of it


def build_environment(slot: Path, manifest: Manifest) -> None:
    """Make `slot`/venv from `slot`/kit, then remove the wheels. Raises: InstallError."""
    venv, kit = slot / "venv", slot / "kit"
    try:
        run_command("python -m venv", [sys.executable, "-I", "-m", "venv", venv], VENV_SECONDS)
    except InstallError as error:
        raise InstallError(error.what, error.why, "apt install python3-venv") from None
    command = [venv / "bin/python", "-I", "-m", "pip", "install", "--quiet", "--no-input", "--no-cache-dir",
               "--disable-pip-version-check", "--no-warn-script-location", "--only-binary=:all:", "--require-hashes",
               "--find-links", kit / WHEELS, "--requirement", kit / LOCK]  # fmt: skip
    if manifest.wheels:  # and nothing from anywhere else, whatever this machine's pip is set up for
        run_command("pip install", [*command, "--no-index"], PIP_SECONDS, {"PIP_CONFIG_FILE": os.devnull})
    else:
        run_command("pip install", command, PIP_SECONDS, pass_on_pip())
    shutil.rmtree(kit / WHEELS)


def pass_on_pip() -> dict[str, str]:
    """Return what tells pip about this machine's own index."""
    names = ("PIP_", "SSL_CERT", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "no_proxy")
    return {name: value for name, value in os.environ.items() if name.startswith(names)}
