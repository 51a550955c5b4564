"""Small kits for tests: wheels of a few lines, a stamped model that no interpreter can load, packed kits."""

from __future__ import annotations

import base64
import hashlib
import io
import platform
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from fakes import make_contract

from deploy.kit.archive import MANIFEST, SIGNATURE, write_archive
from deploy.kit.keys import sign
from deploy.kit.manifest import LOCK, MODEL, Entry, Manifest, to_json
from deploy.kit.targets import Target
from edge_runtime.contract.tail import stamp_contract

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
HERE = Target("here", platform.machine(), PYTHON, "2.17", "the machine that runs the tests")
FAKE_SEG = """\
import sys

def main():
    if "--selftest" in sys.argv and {broken!r}:
        print("edge-seg: error: the self-test: infer diverged", file=sys.stderr)
        return 1
    return 0
"""
FAKE_CLOCK = "print('{\"median_ms\": 12.5}')\n"


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    needs: Iterable[str] = (),
    tag: str = "py3-none-any",
    files: Mapping[str, str] | None = None,
    scripts: str = "",
) -> Path:
    """Write a wheel that pip installs; return its path."""
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "License-Expression: Apache-2.0"]
    metadata = "\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs)]) + "\n"
    parts = dict(files or {f"{name.replace('-', '_')}.py": ""})
    parts[f"{stem}.dist-info/METADATA"] = metadata
    parts[f"{stem}.dist-info/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    parts[f"{stem}.dist-info/licenses/LICENSE"] = f"The licence of {name}.\n"
    if scripts:
        parts[f"{stem}.dist-info/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    record = ""
    for path, text in parts.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    parts[f"{stem}.dist-info/RECORD"] = record + f"{stem}.dist-info/RECORD,,\n"
    wheel = folder / f"{stem}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in parts.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
    return wheel


def write_project(folder: Path, version: str = "1.0", broken: bool = False, needs: Iterable[str] = ()) -> Path:
    """Write a wheel named edge-seg with a substitute for its commands."""
    files = {"fakeseg.py": FAKE_SEG.format(broken=broken), "deploy/__init__.py": "", "deploy/clock.py": FAKE_CLOCK}
    return write_wheel(folder, "edge-seg", version, needs, files=files, scripts="edge-seg = fakeseg:main")


def make_model(version: str = "1") -> bytes:
    """Return a stamped model of that version."""
    contract = make_contract()
    return stamp_contract(b"\x1c\0\0\0TFL3 a net", replace(contract, model=replace(contract.model, version=version)))


def describe(files: Mapping[str, bytes], **changes: object) -> Manifest:
    """Return the manifest of these files, with other fields changed."""
    entries = tuple(Entry(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in sorted(files.items()))
    manifest = Manifest(
        target=HERE.name,
        machine=HERE.machine,
        python=HERE.python,
        glibc=HERE.glibc,
        software="1.0",
        model_id="fake",
        model_version="1",
        model_sha256=hashlib.sha256(files.get(MODEL, b"")).hexdigest(),
        release=0,
        wheels=True,
        latency_ms=None,
        memory_bytes=1 << 28,
        installed_bytes=1000,
        files=entries,
    )
    return replace(manifest, **changes)  # type: ignore[arg-type]


def pack(key: Path, files: Mapping[str, bytes], **changes: object) -> bytes:
    """Return a kit of these files, signed, without the checks that `make_kit` makes."""
    text = to_json(describe(files, **changes))
    packed = io.BytesIO()
    write_archive(packed, [(MANIFEST, text), (SIGNATURE, sign(key, text)[0]), *sorted(files.items())])
    return packed.getvalue()


def write_small_kit(path: Path, key: Path, model_version: str = "1", **changes: object) -> Path:
    """Write a kit without wheels, for installations with a fake environment."""
    files = {LOCK: b"", MODEL: make_model(model_version), "units/a.service": b"[Unit]\n" * 100}
    path.write_bytes(pack(key, files, model_version=model_version, **changes))
    return path
