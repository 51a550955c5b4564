"""Fills a slot's virtual environment from the kit's wheels: no network, every file by its SHA-256.

pip is Python's own, the one that `python3 -m venv` would install; it is run from a copy and does not stay: that is
quicker on a board, and a slot cannot be changed with it later.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import zipfile
from contextlib import suppress
from pathlib import Path

from edge_runtime.errors import InstallError

from .manifest import LOCK, WHEELS, Manifest
from .process import run_command

VENV_SECONDS, PIP_SECONDS = 600, 1800  # a Pi 4 on a slow card takes a tenth of it
RUN_PIP = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)
DEBIAN = "/usr/share/python-wheels"
MISSING = "apt install python3-venv"


def build_environment(slot: Path, manifest: Manifest) -> None:
    """Make `slot`/venv from `slot`/kit, then remove the wheels. Raises: InstallError."""
    venv, kit, pip = slot / "venv", slot / "kit", slot / "pip"
    unpack_pip(pip)
    try:
        run_command("python -m venv", [sys.executable, "-I", "-m", "venv", "--without-pip", venv], VENV_SECONDS)
    except InstallError as error:
        raise InstallError(error.what, error.why, MISSING) from None
    command = [venv / "bin/python", "-I", "-c", RUN_PIP, pip, "install", "--quiet", "--no-input", "--no-cache-dir",
               "--disable-pip-version-check", "--no-warn-script-location", "--no-compile", "--only-binary=:all:",
               "--require-hashes", "--find-links", kit / WHEELS, "--requirement", kit / LOCK]  # fmt: skip
    if manifest.wheels:  # and nothing from anywhere else, whatever this machine's pip is set up for
        run_command("pip install", [*command, "--no-index"], PIP_SECONDS, {"PIP_CONFIG_FILE": os.devnull})
    else:
        run_command("pip install", command, PIP_SECONDS, pass_on_pip())
    compile_all(venv)
    shutil.rmtree(kit / WHEELS)
    shutil.rmtree(pip)


def unpack_pip(folder: Path) -> None:
    """Copy the pip that Python brings into a folder. Raises: InstallError if it brings none."""
    wheels: list[Path] = []
    with suppress(ImportError):
        import ensurepip

        places = (Path(ensurepip.__file__).parent / "_bundled", sysconfig.get_config_var("WHEEL_PKG_DIR"), DEBIAN)
        wheels = [wheel for place in places if place for wheel in sorted(Path(place).glob("pip-*.whl"))]
    if not wheels:
        raise InstallError("python -m venv", "this Python brings no pip", MISSING)
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(folder)


def compile_all(venv: Path) -> None:
    """Write byte code, on all cores: the service may not, and would start slowly for ever. Tests are left out."""
    command = [venv / "bin/python", "-I", "-m", "compileall", "-q", "-j", "0", "-x", r"/tests?/", venv / "lib"]
    with suppress(InstallError):  # packages may carry files that are no Python
        run_command("python -m compileall", command, PIP_SECONDS)


def pass_on_pip() -> dict[str, str]:
    """Return what tells pip about this machine's own index."""
    names = ("PIP_", "SSL_CERT", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "no_proxy")
    return {name: value for name, value in os.environ.items() if name.startswith(names)}
