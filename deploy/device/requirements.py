"""May a kit be installed here? Machine, Python, C library, version and disk space."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from deploy.kit.manifest import Manifest, read_numbers
from edge_runtime.errors import KitError

from .slots import Slot

MARGIN_BYTES = 64 << 20  # for the virtual environment itself and the log


def check_machine(manifest: Manifest) -> None:
    """Require the machine, Python and C library that a kit was made for. Raises: KitError."""
    what, machine = f"the kit for {manifest.target}", platform.machine()
    if machine != manifest.machine or sys.maxsize < 2**32:
        bits = "" if sys.maxsize > 2**32 else " with a 32-bit system"
        why = f"this machine is {machine}{bits}, the kit is for {manifest.machine}"
        raise KitError(what, why, "make a kit for it: edge-deploy targets")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python != manifest.python:
        fix = f"run the installer with python{manifest.python}, or make a kit for Python {python}"
        raise KitError(what, f"this is Python {python}, the kit is for {manifest.python}", fix)
    glibc = read_glibc()
    if read_numbers(glibc) < read_numbers(manifest.glibc):
        why = f"this system's C library is {glibc or 'not glibc'}, the kit needs glibc {manifest.glibc}"
        raise KitError(what, why, "make a kit for this system's release: edge-deploy targets")


def read_glibc() -> str:
    """Return the C library's version; "" where it is not glibc."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return ""
    return version if name == "glibc" else ""


def check_newer(manifest: Manifest, current: Slot | None, allow_downgrade: bool) -> None:
    """Require a kit that is newer than the current slot. Raises: KitError."""
    if current is None or allow_downgrade:
        return
    rank = read_numbers(current.software), read_numbers(current.model_version), current.release
    if manifest.rank > rank:
        return
    offered = f"edge-seg {manifest.software}, model {manifest.model_version}, release {manifest.release}"
    installed = f"edge-seg {current.software}, model {current.model_version}, release {current.release}"
    if manifest.rank == rank:
        why, fix = f"another kit of the same versions is installed ({installed})", "make it with a higher --release"
    else:
        why, fix = f"it is older ({offered}) than what is installed ({installed})", "edge-deploy rollback goes back"
    raise KitError("the kit", why, f"{fix}; --allow-downgrade installs it anyway")


def check_disk_space(manifest: Manifest, root: Path) -> None:
    """Require disk space for the kit's files and for the environment built from them. Raises: KitError."""
    folder = next(path for path in (root, *root.parents) if path.is_dir())
    needed = manifest.total + manifest.installed_bytes + MARGIN_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        why = f"it needs {needed / 1e6:.0f} MB on the disk of {root}, {free / 1e6:.0f} MB are free"
        raise KitError("the kit", why, "make room, or choose another --root")
