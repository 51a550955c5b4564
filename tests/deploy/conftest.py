"""A pair of keys for the tests of kits, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.kit.keys import make_keys, read_public_key


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A secret key's file; its public half is beside it, .pub."""
    pytest.importorskip("cryptography", reason="signing needs pip install '.[deploy]'")
    path = tmp_path_factory.mktemp("keys") / "vendor"
    make_keys(path)
    return path


@pytest.fixture(scope="session")
def public(key: Path) -> bytes:
    """The public half's 32 bytes."""
    return read_public_key(key.with_name("vendor.pub"))
