"""Versions of installed packages, without importlib.metadata and what that imports."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from edge_runtime.system.versions import find_version


def test_versions_are_those_of_importlib_metadata() -> None:
    """For each package on the path the version is importlib.metadata's."""
    names = {found.metadata["Name"] for found in metadata.distributions()}
    names.discard("edge-seg")  # a checkout may hold metadata without a version in its name
    assert "numpy" in names
    assert {name: find_version(name) for name in names} == {name: metadata.version(name) for name in names}


@pytest.mark.parametrize(
    "entry", ["some_package-1.2.dist-info", "Some_Package-1.2.dist-info", "some_package-1.2-py3.11.egg-info"]
)
def test_spellings_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """As wheels, older wheels and Debian spell it; a path that is no folder is passed over."""
    (tmp_path / entry).mkdir()
    (tmp_path / "some_package_more-3.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", ["/nowhere.zip", "", str(tmp_path)])
    assert find_version("some-package") == "1.2"
    assert find_version("some-package-more") == "3"
    assert find_version("some") is None
