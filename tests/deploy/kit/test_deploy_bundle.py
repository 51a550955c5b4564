"""Making kits: for the right target, complete, reproducible, without the key; and the device's installer."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from import_graph import FILES, MODULES, find_closure, list_modules
from kits import HERE, make_model, write_project, write_wheel

from deploy.__main__ import main
from deploy.installer import DEVICE, build_installer
from deploy.kit.archive import read_kit
from deploy.kit.bundle import KitOptions, make_kit
from deploy.kit.keys import find_fingerprint
from deploy.kit.targets import TABLE, TARGETS, find_target, list_platforms, list_tags
from deploy.kit.wheels import read_wheel, resolve_requirements
from edge_runtime.errors import ContractError, EdgeSegError, OutputError, UsageError

ROOT = Path(__file__).parents[3]
PI = TARGETS["raspios-bookworm-arm64-py311"]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder of wheels: a library for every C library, one for a newer one, one for another machine."""
    for tag in ("cp311-cp311-manylinux_2_27_aarch64", "cp311-cp311-manylinux_2_27_x86_64"):
        write_wheel(tmp_path / "shop", "engine", "2.3", ["sums>=1", "old; python_version < '3.11'"], tag)
    write_wheel(tmp_path / "shop", "sums", "1.5")
    write_wheel(tmp_path / "shop", "sums", "1.6", tag="cp311-cp311-manylinux_2_39_aarch64")
    write_wheel(tmp_path / "shop", "newer", "1.0", tag="cp311-cp311-manylinux_2_39_aarch64")
    return tmp_path / "shop"


def make_options(
    folder: Path, key: Path, index: Path, needs: tuple[str, ...] = ("engine",), **parts: Any
) -> KitOptions:
    model = folder / "m.tflite"
    model.write_bytes(make_model())
    wheel = write_project(folder / "own", needs=needs)
    return KitOptions(
        **{"model": model, "target": PI, "key": key, "out": folder / "kit", "wheel": wheel, "wheels": index} | parts
    )


# --- targets -----------------------------------------------------------------------------------------------------


def test_the_table_is_readable() -> None:
    """Every target's name says its Python and machine, and all the systems that were promised are there."""
    assert len(TARGETS) == len(TABLE.strip().splitlines()) == 8
    for name, target in TARGETS.items():
        machine = {"aarch64": "arm64"}.get(target.machine, target.machine)
        assert name.endswith(f"-{machine}-py{target.python.replace('.', '')}")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "raspios-bookworm-armhf-py311",
            "a 32-bit system, for which there is no LiteRT; install the 64-bit edition",
        ),
        ("debian-bookworm-armv7l-py311", "32-bit"),
        ("debian-bookworm-i386-py311", "32-bit"),
        ("raspios-bullseye-arm64-py39", "bullseye is too old: its Python is 3.9, and 3.11 is the least"),
        ("ubuntu-22.04-x86_64-py310", "22.04 is too old: its Python is 3.10"),
        ("raspios-bookworm-arm64-py312", "did you mean 'raspios-bookworm-arm64-py311'"),
        ("nothing", "edge-deploy targets lists"),
    ],
)
def test_what_can_be_no_target_is_refused_with_a_reason(name: str, line: str) -> None:
    """32-bit and too old systems each get a message with the reason, a near miss the closest name."""
    with pytest.raises(UsageError, match=re.escape(line)):
        find_target(name)


def test_every_tag_up_to_the_c_library_is_tried() -> None:
    """glibc 2.36 on arm64: 2.36 down to 2.17 and the old name of that; x86-64 goes down to 2.5."""
    platforms = list_platforms(PI)
    assert platforms[0] == "manylinux_2_36_aarch64" and "manylinux_2_27_aarch64" in platforms
    assert platforms[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"] and len(platforms) == 21
    assert list_platforms(TARGETS["debian-trixie-x86_64-py313"])[-2:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64"]


def test_tags_are_those_of_pip() -> None:
    """The target's tags are those of pip's own rules."""
    from packaging.tags import compatible_tags, cpython_tags

    theirs = {*cpython_tags((3, 11), platforms=list_platforms(PI))}
    theirs |= {*compatible_tags((3, 11), "cp311", list_platforms(PI))}
    assert {str(tag) for tag in theirs} == list_tags(PI)


def test_the_manylinux2014_trap(tmp_path: Path, index: Path) -> None:
    """pip takes a platform literally: with manylinux2014 alone it does not find a wheel that wants glibc 2.27."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-index", "--no-deps", "--find-links", index,
               "--dest", tmp_path / "got", "--only-binary=:all:", "--python-version", "3.11", "engine"]  # fmt: skip
    trap = subprocess.run([*command, "--platform", "manylinux2014_aarch64"], capture_output=True, text=True)
    assert trap.returncode and "No matching distribution" in trap.stderr
    platforms = [part for tag in list_platforms(PI) for part in ("--platform", tag)]
    assert subprocess.run([*command, *platforms], capture_output=True).returncode == 0


# --- kits --------------------------------------------------------------------------------------------------------


def test_a_kit_has_all_it_needs_and_no_more(tmp_path: Path, key: Path, public: bytes, index: Path) -> None:
    """The wheels of the target, each in the lock and the bill of materials, their licences, model, units, installer."""
    manifest = make_kit(make_options(tmp_path, key, index, latency_ms=80.0, release=3))
    assert (manifest.latency_ms, manifest.release, manifest.wheels) == (80.0, 3, True)
    taken: dict[str, bytearray] = {}

    class Sink(bytearray):
        write = bytearray.extend

    read_kit(tmp_path / "kit", public, lambda entry: taken.setdefault(entry.path, Sink()))  # type: ignore[arg-type, return-value]
    assert sorted(name for name in taken if name.startswith("wheels/")) == [
        "wheels/edge_seg-1.0-py3-none-any.whl",
        "wheels/engine-2.3-cp311-cp311-manylinux_2_27_aarch64.whl",
        "wheels/sums-1.5-py3-none-any.whl",
    ]
    lock = taken["lock.txt"].decode()
    assert [line.split(" --hash=sha256:")[0] for line in lock.splitlines()] == [
        "edge-seg==1.0",
        "engine==2.3",
        "sums==1.5",
    ]
    bom = json.loads(taken["sbom.cdx.json"])
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6") and "timestamp" not in str(bom)
    assert {part["name"] for part in bom["components"]} == {"engine", "sums", "fake"}
    assert all(part["hashes"][0]["content"] in lock for part in bom["components"] if part["type"] == "library")
    assert "licences/engine-2.3/licenses_LICENSE" in taken and "units/edge-seg.service" in taken
    assert bytes(taken["model.tflite"]) == make_model()
    assert bytes(taken["installer/edge-deploy.pyz"]) == build_installer()


def test_the_key_is_in_no_kit(tmp_path: Path, key: Path, index: Path) -> None:
    """Neither the key's bytes nor its text nor the path it lies at."""
    make_kit(make_options(tmp_path, key, index))
    kit, text = (tmp_path / "kit").read_bytes(), key.read_text().splitlines()[1]
    assert text.encode() not in kit and str(key).encode() not in kit
    assert base64.b64decode(text)[16:] not in kit


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, key: Path, index: Path) -> None:
    """Made twice, from copies in other folders with other dates, a kit has the same bytes."""
    (tmp_path / "b").mkdir()
    make_kit(make_options(tmp_path, key, index))
    make_kit(make_options(tmp_path / "b", key, index))
    assert (tmp_path / "kit").read_bytes() == (tmp_path / "b/kit").read_bytes()


def test_a_lock_fixes_the_versions(tmp_path: Path, key: Path, public: bytes, index: Path) -> None:
    """With an earlier kit's lock a newer wheel is not used, and another file of the same version is refused."""
    make_kit(make_options(tmp_path, key, index))
    lines: list[bytes] = []

    class Sink:
        def write(self, data: bytes) -> None:
            lines.append(data)

    read_kit(tmp_path / "kit", public, lambda entry: Sink() if entry.path == "lock.txt" else None)
    (tmp_path / "lock.txt").write_bytes(b"".join(lines))
    write_wheel(index, "sums", "1.9")
    make_kit(make_options(tmp_path, key, index, lock=tmp_path / "lock.txt", out=tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "kit").read_bytes()
    write_wheel(index, "sums", "1.5", files={"sums.py": "evil = 1"})
    with pytest.raises(EdgeSegError, match=r"the lock has 1\.5"):
        make_kit(make_options(tmp_path, key, index, lock=tmp_path / "lock.txt", force=True))
    (tmp_path / "lock.txt").write_text("sums>=1\n")
    with pytest.raises(UsageError, match="is not a line of a lock"):
        make_kit(make_options(tmp_path, key, index, lock=tmp_path / "lock.txt", force=True))


def test_a_kit_without_wheels_has_the_lock(tmp_path: Path, key: Path, index: Path) -> None:
    """--no-wheels: edge-seg's own wheel alone, and the hashes of all."""
    manifest = make_kit(make_options(tmp_path, key, index, include_wheels=False))
    assert not manifest.wheels
    assert [entry.path for entry in manifest.files if entry.path.startswith("wheels/")] == [
        "wheels/edge_seg-1.0-py3-none-any.whl"
    ]


def test_conditions_are_those_of_the_target(tmp_path: Path) -> None:
    """Requirements of another Python or machine are left out; missing requirements of the target are named."""
    needs = ("a; python_version < '3.12'", "b; platform_machine == 'x86_64'", "c[fast]>=2", "d; extra == 'more'")
    project = read_wheel(write_project(tmp_path, needs=needs))
    wheels = {name: read_wheel(write_wheel(tmp_path, name, "1.0")) for name in ("a", "b", "d")}
    found, missing = resolve_requirements(project, wheels, PI)
    assert [wheel.name for wheel in found] == ["a", "edge-seg"] and missing == ["c[fast]>=2"]
    fast = read_wheel(write_wheel(tmp_path, "c", "2.1", ["b; extra == 'fast'", "a>=3"]))
    found, missing = resolve_requirements(project, wheels | {"c": fast}, PI)
    assert [wheel.name for wheel in found] == ["a", "b", "c", "edge-seg"] and missing == ["a>=3"]


@pytest.mark.parametrize(
    ("parts", "error", "line"),
    [
        ({"needs": ("newer",)}, EdgeSegError, "the wheels for raspios-bookworm-arm64-py311: No matching distribution"),
        ({"needs": ("nowhere",)}, EdgeSegError, "No matching distribution"),
        ({"model": "own.py"}, EdgeSegError, "own.py"),
        ({"wheel": "own.py"}, UsageError, "it is not a wheel"),
        ({"out": "missing/kit"}, OutputError, "missing/kit"),
    ],
)
def test_what_cannot_be_made_is_one_line(
    tmp_path: Path, key: Path, index: Path, parts: dict[str, Any], error: type[EdgeSegError], line: str
) -> None:
    """No wheel for the target, no stamped model, another project's file, no folder: one line each, and no kit."""
    (tmp_path / "own.py").write_text("neither a model nor a wheel")
    paths = {name: tmp_path / value if isinstance(value, str) else value for name, value in parts.items()}
    with pytest.raises(error, match=line) as caught:
        make_kit(make_options(tmp_path, key, index, **paths))
    assert "\n" not in str(caught.value) and not (tmp_path / "kit").exists()


def test_an_unstamped_model_and_an_existing_kit_are_refused(tmp_path: Path, key: Path, index: Path) -> None:
    """No kit is made of a flatbuffer without a contract; a kit is overwritten only with --force."""
    options = make_options(tmp_path, key, index)
    options.model.write_bytes(b"\x1c\0\0\0TFL3 a net")
    with pytest.raises(ContractError):
        make_kit(options)
    (tmp_path / "kit").write_bytes(b"mine")
    with pytest.raises(OutputError, match="--force"):
        make_kit(make_options(tmp_path, key, index))
    assert (tmp_path / "kit").read_bytes() == b"mine"


# --- the installer -----------------------------------------------------------------------------------------------


def test_the_installer_needs_the_standard_library_alone() -> None:
    """What runs before a signature was checked: all that it imports at its top, and Python's own modules."""
    device = [path for path in FILES if str(path) == "deploy/__main__.py" or path.parts[:2] == ("deploy", "device")]
    closure = find_closure(*device)
    assert sorted(map(str, closure)) == sorted(DEVICE)
    modules = {name for path in closure for name in list_modules(path, top=True)} - set(MODULES)
    assert {name.split(".")[0] for name in modules} <= {*sys.stdlib_module_names}


def test_the_installer_runs_alone(tmp_path: Path, key: Path, public: bytes, index: Path) -> None:
    """One file, the same each time, run by a Python without any packages: it verifies, refuses, and makes no kits."""
    (tmp_path / "edge-deploy.pyz").write_bytes(build_installer())
    assert build_installer() == build_installer()
    make_kit(make_options(tmp_path, key, index, target=HERE, wheels=index, needs=()))

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", tmp_path / "edge-deploy.pyz", *arguments]
        return subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=tmp_path)

    done = run("verify", "kit", "--pub", f"{key}.pub")
    assert done.returncode == 0 and f"whole, and signed with {find_fingerprint(public)}" in done.stdout
    data = bytearray((tmp_path / "kit").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad").write_bytes(data)
    bad = run("install", "bad", "--root", tmp_path / "root", "--pub", f"{key}.pub")
    assert (bad.returncode, bad.stderr.count("\n")) == (8, 2) and "are not those that were signed" in bad.stderr
    assert not (tmp_path / "root").exists()
    bundle = run("bundle", "m.tflite", "--target", PI.name, "--key", key, "-o", "k2")
    assert bundle.returncode == 2 and "the device's installer, which makes no kits" in bundle.stderr


def test_a_real_slot_is_built_and_tested(tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a real venv and pip and no index: a kit is installed, tested by its own commands, and runs."""
    root, pub, empty = tmp_path / "root", f"{key}.pub", tmp_path / "empty"
    empty.mkdir()
    make_kit(make_options(tmp_path, key, empty, target=HERE, needs=()))
    assert main(["install", str(tmp_path / "kit"), "--root", str(root), "--pub", pub, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["state"], record["latency_ms"], record["changed"]) == ("good", 12.5, True)
    assert subprocess.run([root / "current/venv/bin/edge-seg", "--info"]).returncode == 0
    assert not (root / "current/kit/wheels").exists() and (root / "current/kit/model.tflite").exists()

    assert main(["status", "--root", str(root)]) == 0 and record["name"] in capsys.readouterr().out
    assert main(["audit", "verify", "--root", str(root)]) == 0


def test_the_installer_lists_what_it_holds() -> None:
    """The zipapp has its files once each, and starts like a script."""
    data = build_installer()
    assert data.startswith(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["__main__.py", *DEVICE]
