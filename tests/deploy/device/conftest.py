"""A device on which version 1 runs, and the kit of version 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from devices import make_steps
from kits import write_small_kit

from deploy.device.install import install_kit


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a test need not survive a power cut."""
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def root(tmp_path: Path, key: Path, public: bytes) -> Path:
    """A device on which version 1 runs."""
    root = tmp_path / "device"
    install_kit(write_small_kit(tmp_path / "1.kit", key, "1"), root, public, make_steps(root))
    return root


@pytest.fixture
def second(tmp_path: Path, key: Path) -> Path:
    return write_small_kit(tmp_path / "2.kit", key, "2")
