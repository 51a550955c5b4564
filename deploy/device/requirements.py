"""May a kit be installed here? Its key, machine, Python, C library, version and disk space.

The key: ROOT/trust.pub is written before anything of the first accepted kit is unpacked or run, from the --pub that
the operator gave. It stays if that kit fails a test or the power fails. With --change-key it is replaced when the kit
of the new key has passed all tests and its service is healthy, by the key.pub in its slot.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from deploy.files import list_names, write_durably
from deploy.kit.keys import PUBLIC_PREFIX, find_fingerprint, read_public_key, to_pem
from deploy.kit.manifest import Manifest, read_numbers
from edge_runtime.errors import KitError, UsageError

from .slots import SLOTS, Slot, find_folder, read_current, read_slots

MARGIN_BYTES = 64 << 20  # for the virtual environment itself and the log
TRUST, KEY = "trust.pub", "key.pub"  # of a root, of a slot
CONFIRM = "--change-key, if the kits' maker has confirmed the key"


def check_key(root: Path, public: bytes, change: bool) -> None:
    """Require the key that this device trusts; without trust.pub, the one of all its slots. Raises: KitError."""
    if change:
        return
    path, own = root / TRUST, find_fingerprint(public)
    if os.path.lexists(path):
        try:
            trusted = read_public_key(path, follow=False)
        except UsageError as error:
            raise KitError(error.what, error.why, CONFIRM) from None
        if trusted != public:
            why = f"this device trusts the key {find_fingerprint(trusted)}, not {own}"
            raise KitError("the kit", why, CONFIRM)
    elif is_used(root) and (keys := list_keys(root)) != {own}:
        known = f"the slots' key is {', '.join(sorted(keys))}, not {own}" if keys else "the slots have no record of one"
        raise KitError("the kit", f"this device has lost the key that it trusts ({path}); {known}", CONFIRM)


def is_used(root: Path) -> bool:
    """Return whether a kit was accepted there once."""
    return bool(read_slots(root) or list_names(root / SLOTS) or read_current(root))


def list_keys(root: Path) -> set[str]:
    """Return the fingerprints of the keys in all records."""
    return {slot.key for slot in read_slots(root)}


def store_first_key(root: Path, public: bytes) -> None:
    """Store the key of a kit that is about to be installed, unless another one is or was accepted here."""
    if not os.path.lexists(root / TRUST) and (not is_used(root) or list_keys(root) == {find_fingerprint(public)}):
        write_durably(root / TRUST, to_pem("PUBLIC KEY", PUBLIC_PREFIX + public))


def store_key_of(root: Path, slot: Slot) -> str | None:
    """Trust the key of a slot that has passed all tests; return the fingerprint of the one before, None if it is it.

    "" where there was none. A slot of an earlier installer has no key to store.
    """
    public = find_key(find_folder(root, slot.name) / KEY)
    before = find_key(root / TRUST)
    if public is None or public == before or find_fingerprint(public) != slot.key:
        return None
    write_durably(root / TRUST, to_pem("PUBLIC KEY", PUBLIC_PREFIX + public))
    return find_fingerprint(before) if before else ""


def find_key(path: Path) -> bytes | None:
    """Return the public key in a file of a root; None where there is none that can be read."""
    try:
        return read_public_key(path, follow=False)
    except UsageError:
        return None


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
