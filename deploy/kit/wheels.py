"""Which wheels does a kit need? Found for the target, complete for it, pinned by their SHA-256."""

from __future__ import annotations

import email.message
import os
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.files import open_regular, read_regular
from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.system.files import hash_file

from .targets import Target, list_platforms, list_tags

PROJECT = "edge-seg"
LICENCE_NAME = re.compile(r"(licen[cs]e|copying|notice|authors)", re.I)
METADATA_NAME = re.compile(r"[^/]+\.dist-info/METADATA")
MAX_LICENCE_BYTES = 4 << 20  # of its metadata too
MAX_LOCK_BYTES = 1 << 20
MAKE_WHEEL = "python -m build --wheel makes one"
BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)  # encrypted, unknown compression too
PIP_TIMEOUT_S = 1800
MAX_ROUNDS = 5


@dataclass(frozen=True)
class Wheel:
    """One wheel: its canonical name, version, requirements, and its licence as its metadata names it."""

    path: Path
    name: str
    version: str
    sha256: str
    licence: str
    requires: tuple[str, ...]
    tags: frozenset[str]
    unpacked_bytes: int


def read_wheel(path: Path) -> Wheel:
    """Return the metadata of a wheel. Raises: UsageError if it is not a wheel."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            item = next(item for item in archive.infolist() if METADATA_NAME.fullmatch(item.filename))
            if item.file_size > MAX_LICENCE_BYTES:
                raise ValueError(f"its metadata has {item.file_size} bytes")
            metadata = email.message_from_bytes(archive.read(item))
            unpacked = sum(item.file_size for item in archive.infolist())
        if not metadata["Name"] or not metadata["Version"]:
            raise ValueError("its metadata has no name and version")
        pythons, abis, platforms = path.name.removesuffix(".whl").split("-")[-3:]
    except StopIteration:
        raise UsageError(str(path), "it is not a wheel: it has no metadata", MAKE_WHEEL) from None
    except (OSError, *BAD_ARCHIVE) as error:
        why = f"it is not a wheel ({getattr(error, 'strerror', None) or error})"
        raise UsageError(str(path), why, MAKE_WHEEL) from None
    tags = {f"{a}-{b}-{c}" for a in pythons.split(".") for b in abis.split(".") for c in platforms.split(".")}
    return Wheel(
        path=path,
        name=re.sub(r"[-_.]+", "-", metadata["Name"]).lower(),
        version=metadata["Version"],
        sha256=hash_file(path),
        licence=find_licence(metadata),
        requires=tuple(metadata.get_all("Requires-Dist", [])),
        tags=frozenset(tags),
        unpacked_bytes=unpacked,
    )


def find_licence(metadata: email.message.Message) -> str:
    """Return the licence in a package's metadata, as it is written there; "" where there is none."""
    licence = metadata.get("License-Expression") or ""
    if not licence:
        classifiers = metadata.get_all("Classifier", [])
        licence = " AND ".join(c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License ::"))
    first_line = (metadata.get("License") or "").strip().split("\n")[0]
    return licence or (first_line if len(first_line) < 100 else "")


def read_licences(wheel: Wheel) -> dict[str, bytes]:
    """Return {name: text} of a wheel's licence files; the names are plain file names."""
    found = {}
    with zipfile.ZipFile(wheel.path) as archive:
        for item in archive.infolist():
            parts = item.filename.split("/")
            in_licences = parts[0].endswith(".dist-info") and "licenses" in parts[1:-1]
            is_text = not item.is_dir() and not item.filename.endswith(".py")
            if (in_licences or LICENCE_NAME.match(parts[-1])) and is_text and item.file_size <= MAX_LICENCE_BYTES:
                plain = re.sub(r"[^A-Za-z0-9._-]+", "_", "_".join(parts[1:] or parts)).lstrip(".-")
                found[plain[-100:].lstrip(".-")] = archive.read(item)
    return found


def gather_wheels(
    project: Wheel,
    target: Target,
    folder: Path,
    source: Path | None = None,
    pins: Mapping[str, tuple[str, str]] | None = None,
) -> list[Wheel]:
    """Return the project's wheel and all that it requires on the target, sorted by name; downloads into `folder`.

    source: a folder of wheels, used instead of the package index. pins: {name: (version, sha256)} of an earlier kit.
    pip evaluates conditions such as `python_version < "3.12"` for the Python that runs it. Requirements of the target
    that pip left out are downloaded by name; requirements of this machine alone are left out.

    Raises: EdgeSegError if there are no such wheels.
    """
    constraints = folder / "pins.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, (version, _) in (pins or {}).items()))
    extra: list[str] = []
    for _ in range(MAX_ROUNDS):
        download_wheels(project, target, folder, source, constraints, extra)
        wheels = {wheel.name: wheel for wheel in map(read_wheel, sorted(folder.glob("*.whl")))}
        required, missing = resolve_requirements(project, wheels, target)
        if not missing:
            break
        extra += missing
    else:
        why = f"{', '.join(missing)} cannot be downloaded"
        raise EdgeSegError(f"the wheels for {target.name}", why, "see pip's output")
    for wheel in required:
        check_wheel(wheel, target, pins)
    return required


def check_wheel(wheel: Wheel, target: Target, pins: Mapping[str, tuple[str, str]] | None) -> None:
    """Require a wheel to run on the target, and to be the pinned one. Raises: EdgeSegError."""
    if not wheel.tags & list_tags(target):
        why = f"it does not run there: Python {target.python}, {target.machine}, glibc {target.glibc}"
        raise EdgeSegError(f"{wheel.path.name} for {target.name}", why, "give wheels for the target")
    pinned = (pins or {}).get(wheel.name)
    if pinned and pinned != (wheel.version, wheel.sha256):
        why = f"the lock has {pinned[0]}, SHA-256 {pinned[1][:16]}…, this is {wheel.version}, {wheel.sha256[:16]}…"
        raise EdgeSegError(wheel.path.name, why, "find out where it comes from, or leave --lock out")


def download_wheels(
    project: Wheel, target: Target, folder: Path, source: Path | None, constraints: Path, extra: Sequence[str]
) -> None:
    """Run pip download for the target, of the project's requirements and `extra` ones. Raises: EdgeSegError."""
    links = ["--no-index", "--find-links", str(source)] if source else []
    platforms = [part for tag in list_platforms(target) for part in ("--platform", tag)]
    command = ["download", "--quiet", "--dest", str(folder), "--only-binary=:all:", "--implementation", "cp",
               "--python-version", target.python, "--constraint", str(constraints), *platforms, *links,
               str(project.path), *extra]  # fmt: skip
    run_pip(f"the wheels for {target.name}", command, dict(os.environ))


def run_pip(what: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run pip. Raises: EdgeSegError with its last line of error."""
    full = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *command]
    try:
        done = subprocess.run(full, env=environment, capture_output=True, text=True, timeout=PIP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise EdgeSegError(what, f"pip did not end within {PIP_TIMEOUT_S} s", "check the network") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
        why = errors[-1].removeprefix("ERROR:").strip() if errors else f"pip ended with {done.returncode}"
        fix = "check the network, or give a folder of wheels with --wheels"
        raise EdgeSegError(what, why, f"{sys.executable} -m ensurepip" if why.endswith("No module named pip") else fix)


def resolve_requirements(project: Wheel, wheels: Mapping[str, Wheel], target: Target) -> tuple[list[Wheel], list[str]]:
    """Return the wheels that the project requires on the target, and the requirements that no wheel fulfils."""
    try:
        from packaging.markers import Marker
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        raise EdgeSegError("bundle", "it needs the packaging package", "pip install '.[deploy]'") from None

    environment = describe_environment(target)

    def applies(marker: Marker | None, extras: frozenset[str]) -> bool:
        return marker is None or any(marker.evaluate(environment | {"extra": extra}) for extra in extras or {""})

    def parse_requirement(wheel: Wheel, text: str) -> Requirement:
        try:
            return Requirement(text)
        except InvalidRequirement:
            raise EdgeSegError(wheel.path.name, f"its requirement {text!r} cannot be read", MAKE_WHEEL) from None

    found, missing = {project.name: project}, []
    queue: list[tuple[Wheel, frozenset[str]]] = [(project, frozenset())]
    seen = set(queue)
    while queue:
        wheel, extras = queue.pop()
        for text in wheel.requires:
            requirement = parse_requirement(wheel, text)
            if not applies(requirement.marker, extras):
                continue
            other = wheels.get(re.sub(r"[-_.]+", "-", requirement.name).lower())
            if other is None or not requirement.specifier.contains(other.version, prereleases=True):
                requirement.marker = None
                missing.append(str(requirement))
                continue
            found[other.name] = other
            entry = (other, frozenset(requirement.extras))
            if entry not in seen:
                seen.add(entry)
                queue.append(entry)
    return [found[name] for name in sorted(found)], sorted(set(missing))


def describe_environment(target: Target) -> dict[str, str]:
    """Return the variables of requirements' conditions, for the target. Source: PEP 508."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{target.python}.0",
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{target.python}.0",
        "python_version": target.python,
        "sys_platform": "linux",
    }


def to_lock(wheels: Sequence[Wheel]) -> str:
    """Return a requirements file for `pip install --require-hashes`."""
    return "".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels)


def read_lock(path: Path) -> dict[str, tuple[str, str]]:
    """Return {name: (version, sha256)} of a kit's lock, without the project itself. Raises: UsageError."""
    found = {}
    try:
        lines = read_regular(path, MAX_LOCK_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
        raise UsageError(str(path), why, "give a kit's lock.txt") from None
    for line in lines:
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+) --hash=sha256:([0-9a-f]{64})", line)
        if match is None:
            raise UsageError(str(path), f"{line[:60]!r} is not a line of a lock", "give a kit's lock.txt")
        found[match[1]] = (match[2], match[3])
    found.pop(PROJECT, None)
    return found
