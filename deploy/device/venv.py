"""How is a slot's virtual environment built? From the kit's wheels, without a network, every file by its SHA-256.

pip is Python's own, the one that `python3 -m venv` would install. It is run from a copy that is removed afterwards:
that is quicker on a board, and a slot cannot be changed with it later.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import zipfile
from contextlib import suppress
from pathlib import Path

from deploy.kit.manifest import LOCK, WHEELS, Manifest
from edge_runtime.errors import InstallError

from .process import run_command

VENV_TIMEOUT_S, PIP_TIMEOUT_S = 600, 1800  # a Pi 4 on a slow card takes a tenth of them
RUN_PIP = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)
DEBIAN_WHEELS = "/usr/share/python-wheels"
INSTALL_VENV = "apt install python3-venv"


def build_environment(slot: Path, manifest: Manifest) -> None:
    """Make `slot`/venv from `slot`/kit, then remove the wheels. Raises: InstallError."""
    venv, kit, pip = slot / "venv", slot / "kit", slot / "pip"
    unpack_pip(pip)
    try:
        run_command("python -m venv", [sys.executable, "-I", "-m", "venv", "--without-pip", venv], VENV_TIMEOUT_S)
    except InstallError as error:
        raise InstallError(error.what, error.why, INSTALL_VENV) from None
    command = [venv / "bin/python", "-I", "-c", RUN_PIP, pip, "install", "--quiet", "--no-input", "--no-cache-dir",
               "--disable-pip-version-check", "--no-warn-script-location", "--no-compile", "--only-binary=:all:",
               "--require-hashes", "--find-links", kit / WHEELS, "--requirement", kit / LOCK]  # fmt: skip
    if manifest.wheels:  # from nowhere else, whatever this machine's pip is configured for
        run_command("pip install", [*command, "--no-index"], PIP_TIMEOUT_S, {"PIP_CONFIG_FILE": os.devnull})
    else:
        run_command("pip install", command, PIP_TIMEOUT_S, list_pip_variables())
    compile_packages(venv)
    shutil.rmtree(kit / WHEELS)
    shutil.rmtree(pip)


def unpack_pip(folder: Path) -> None:
    """Copy the pip that is part of Python into a folder. Raises: InstallError if there is none."""
    wheels: list[Path] = []
    with suppress(ImportError):
        import ensurepip

        bundled = Path(ensurepip.__file__).parent / "_bundled"
        folders = (bundled, sysconfig.get_config_var("WHEEL_PKG_DIR"), DEBIAN_WHEELS)
        wheels = [wheel for path in folders if path for wheel in sorted(Path(path).glob("pip-*.whl"))]
    if not wheels:
        raise InstallError("python -m venv", "this Python has no pip", INSTALL_VENV)
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(folder)


def compile_packages(venv: Path) -> None:
    """Write byte code, on all cores: the service may not write it, and each of its starts would be slow without it."""
    command = [venv / "bin/python", "-I", "-m", "compileall", "-q", "-j", "0", "-x", r"/tests?/", venv / "lib"]
    with suppress(InstallError):  # packages may have .py files that are templates
        run_command("python -m compileall", command, PIP_TIMEOUT_S)


def list_pip_variables() -> dict[str, str]:
    """Return the environment's variables that configure pip and its network, for this machine's own index."""
    names = ("PIP_", "SSL_CERT", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "no_proxy")
    return {name: value for name, value in os.environ.items() if name.startswith(names)}
