"""What is in the device's installer? One file, a zipapp that needs the standard library alone: edge-deploy.pyz."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

NAME = "edge-deploy.pyz"
# What runs on a device before a kit was checked: these files, the standard library, and nothing else.
DEVICE = (
    "deploy/__init__.py", "deploy/__main__.py", "deploy/device/__init__.py", "deploy/device/audit_log.py",
    "deploy/device/install.py", "deploy/device/process.py",
    "deploy/device/requirements.py", "deploy/device/service.py", "deploy/device/slot_test.py",
    "deploy/device/slot_files.py", "deploy/device/slots.py", "deploy/device/status.py", "deploy/device/venv.py",
    "deploy/files.py", "deploy/kit/__init__.py",
    "deploy/kit/archive.py", "deploy/kit/ed25519.py", "deploy/kit/keys.py", "deploy/kit/manifest.py",
    "deploy/kit/unit_files.py", "edge_runtime/__init__.py", "edge_runtime/errors.py",
    "edge_runtime/system/__init__.py", "edge_runtime/system/command/__init__.py",
    "edge_runtime/system/command/common_options.py", "edge_runtime/system/command/completion.py",
    "edge_runtime/system/files.py", "edge_runtime/system/process.py", "edge_runtime/system/quiet.py",
    "edge_runtime/system/terminal.py", "edge_runtime/system/versions.py",
)  # fmt: skip
MAIN = """\
import sys

if sys.version_info < (3, 11):
    sys.exit("edge-deploy: error: this Python: it is %d.%d, 3.11 is the least; use python3.11" % sys.version_info[:2])
from deploy.__main__ import main

sys.exit(main())
"""


def build_installer() -> bytes:
    """Return the installer; the same bytes from the same sources."""
    root = Path(__file__).parents[1]
    packed = io.BytesIO()
    packed.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, text in [("__main__.py", MAIN.encode()), *((name, (root / name).read_bytes()) for name in DEVICE)]:
            item = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            item.external_attr = 0o100644 << 16
            archive.writestr(item, text)
    return packed.getvalue()
