"""edge-seg's own wheel is made of an installation too: the files that were installed, or one line that says why not."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from import_graph import FILES, ROOT
from kits import make_model, write_wheel

from deploy.kit.own_wheel import pack_installed
from deploy.kit.wheels import read_wheel
from edge_runtime.errors import UsageError

INFO = "edge_seg-1.5.dist-info"


def install(wheel: Path, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", target, wheel]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def find(target: Path) -> importlib.metadata.Distribution:
    return importlib.metadata.Distribution.at(target / INFO)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    files = {"pack/__init__.py": "", "pack/a.py": "print('ä')\n", "pack/data more/x.txt": "x", "single.py": "y = 1\n"}
    return write_wheel(
        tmp_path / "made", "edge-seg", "1.5", ["engine>=2"], files=files, scripts="edge-seg = single:main"
    )


@pytest.fixture
def target(tmp_path: Path, wheel: Path) -> Path:
    install(wheel, tmp_path / "site")
    return tmp_path / "site"


def read(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_an_installation_gives_its_wheel_back(tmp_path: Path, wheel: Path, target: Path) -> None:
    """Every file of the wheel that was installed, to the byte, under the same name, and a RECORD that fits them."""
    again = pack_installed(find(target), tmp_path)
    assert again.name == wheel.name and (target / "bin/edge-seg").exists() and (target / INFO / "INSTALLER").exists()
    made, packed = read(wheel), read(again)
    record = packed.pop(f"{INFO}/RECORD").decode()
    made.pop(f"{INFO}/RECORD")
    assert packed == made
    for name, data in packed.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert f"{name},sha256={digest},{len(data)}\n" in record
    assert len(record.splitlines()) == len(packed) + 1
    assert read_wheel(again).requires == ("engine>=2",)


def test_the_same_installation_gives_the_same_bytes(tmp_path: Path, wheel: Path, target: Path) -> None:
    """Packed twice, and of an installation of the packed one: one file."""
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    first = pack_installed(find(target), tmp_path)
    install(first, tmp_path / "second site")
    os.utime(target / "single.py", (1, 1))
    again = pack_installed(find(target), tmp_path / "b")
    copies = [again, pack_installed(find(tmp_path / "second site"), tmp_path / "c")]
    assert {path.read_bytes() for path in copies} == {first.read_bytes()}


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda site: (site / "single.py").write_text("y = 2\n"), "changed since it was installed"),
    "missing": (lambda site: (site / "single.py").unlink(), "No such file"),
    "a pipe": (lambda site: ((site / "single.py").unlink(), os.mkfifo(site / "single.py")), "a pipe"),
    "no record": (lambda site: (site / INFO / "RECORD").unlink(), "without a RECORD"),
    "an odd record": (lambda site: (site / INFO / "RECORD").write_text("a,b\n"), "without a RECORD"),
    "a record of nothing": (lambda site: (site / INFO / "RECORD").write_text("../x,,\n"), "not installed from a wheel"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_installation_is_refused(tmp_path: Path, target: Path, name: str) -> None:
    """What is not as it was installed is named; no wheel is left behind; what leads out of the folder is left out."""
    spoil, why = BROKEN[name]
    spoil(target)
    with pytest.raises(UsageError, match=why) as caught:
        pack_installed(find(target), tmp_path)
    assert "\n" not in str(caught.value) and "--wheel" in str(caught.value) and not list(tmp_path.glob("*.whl"))


def test_an_installed_edge_deploy_makes_kits(tmp_path: Path, key: Path) -> None:
    """Without --wheel and without its own sources, even in the repository's root: the kit holds the installed code."""
    pytest.importorskip("packaging")
    rooms = ("deploy", "edge_runtime", "evidence")
    code = {str(path): (ROOT / path).read_text("utf-8") for path in FILES if path.parts[0] in rooms}
    install(write_wheel(tmp_path / "made", "edge-seg", "1.5", files=code), tmp_path / "site")
    (tmp_path / "m.tflite").write_bytes(make_model())
    (tmp_path / "shop").mkdir()
    arguments = ["bundle", "m.tflite", "--target", "debian-bookworm-x86_64-py311", "--key", str(key), "-o", "kit",
                 "--wheels", "shop"]  # fmt: skip
    arguments = [str(tmp_path / word) if word in ("m.tflite", "kit", "shop") else word for word in arguments]
    run = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import deploy.__main__ as it; sys.exit(it.main())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", run, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    subprocess.run(["tar", "-xf", "kit"], cwd=tmp_path, check=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["software"] == "1.5"
    packed = read(tmp_path / "wheels/edge_seg-1.5-py3-none-any.whl")
    assert {name: packed[name].decode() for name in code} == code
