"""The device's installer as one file, a zipapp of the standard library's needs alone: `python3 edge-deploy.pyz`."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

NAME = "edge-deploy.pyz"
# What runs on a device before anything of a kit may: these files, the standard library, and nothing else.
DEVICE = (
    "deploy/__init__.py", "deploy/__main__.py", "deploy/archive.py", "deploy/audit.py", "deploy/disk.py",
    "deploy/ed25519.py", "deploy/environment.py", "deploy/fit.py", "deploy/install.py", "deploy/keys.py",
    "deploy/manifest.py", "deploy/probe.py", "deploy/process.py", "deploy/service.py", "deploy/slots.py",
    "deploy/status.py", "deploy/units.py", "edge_runtime/__init__.py", "edge_runtime/errors.py",
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
