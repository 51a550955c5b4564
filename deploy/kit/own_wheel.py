"""Where does edge-seg's own wheel come from? Built from the sources, or packed again from the installed files."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import os
import shutil
import zipfile
from pathlib import Path

from deploy.files import read_regular
from edge_runtime.errors import OutputError, UsageError

from .wheels import PROJECT, run_pip

DATE = "315532800"  # 1980-01-01: the date of the files in the wheel
NOT_SOURCES = (".*", "*.egg-info", "__pycache__", "build", "dist", "demo", "runs", "docs", "tests")  # at any depth
NOT_PACKED = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")  # of .dist-info: what pip added
MAX_FILE_BYTES = 1 << 30
WHAT = "edge-seg's own wheel"
FROM_SOURCES = (
    "in edge-seg's sources: python -m pip wheel --no-deps -w dist . && edge-deploy bundle … --wheel dist/edge_seg-*.whl"
)


def make_own_wheel(folder: Path) -> Path:
    """Make the wheel of this very edge-seg in `folder`; return its path. Raises: EdgeSegError."""
    source = Path(__file__).parents[2]
    if (source / "pyproject.toml").is_file():
        return build_wheel(source, folder)
    try:
        distribution = importlib.metadata.distribution(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(WHAT, "this edge-seg was not installed by pip", FROM_SOURCES) from None
    return pack_installed(distribution, folder)


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel from its sources. Raises: EdgeSegError."""
    copy = folder / "source"  # a build leaves files behind, and would include those of an earlier one
    try:
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    except (OSError, shutil.Error) as error:
        raise OutputError(str(copy), getattr(error, "strerror", None) or str(error)[:200], "make room there") from None
    environment = os.environ | {"SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", DATE)}
    run_pip("the project's wheel", ["wheel", "--no-deps", "--wheel-dir", str(folder), str(copy)], environment)
    return next(folder.glob("edge_seg-*.whl"))


def pack_installed(distribution: importlib.metadata.Distribution, folder: Path) -> Path:
    """Pack the wheel that was installed again, from the files that its RECORD names, each by its hash.

    The same installed files give the same bytes. Scripts are left out: installing makes them from the entry points.
    Raises: UsageError if a file is missing or was changed since.
    """
    about = f"{distribution.metadata['Name'].replace('-', '_')}-{distribution.version}"
    rows, packed = [], {}
    for name, expected, _ in read_record(distribution):
        parts = name.split("/")
        is_added = parts[0].endswith(".dist-info") and parts[-1] in NOT_PACKED and len(parts) == 2
        if ".." in parts or name.startswith("/") or "__pycache__" in parts or is_added:
            continue
        packed[name] = read_installed(distribution, name, expected)
        rows.append((name, expected, str(len(packed[name]))))
    info = next((name.split("/")[0] for name in packed if name.endswith(".dist-info/METADATA")), "")
    if not info or f"{info}/WHEEL" not in packed:
        raise UsageError(WHAT, "this edge-seg was not installed from a wheel", FROM_SOURCES)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*rows, (f"{info}/RECORD", "", "")])
    packed[f"{info}/RECORD"] = text.getvalue().encode()
    tag = next(
        line.partition(": ")[2] for line in packed[f"{info}/WHEEL"].decode().splitlines() if line.startswith("Tag")
    )
    path = folder / f"{about}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(packed.items(), key=lambda item: (item[0].startswith(info), item[0])):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return path


def read_record(distribution: importlib.metadata.Distribution) -> list[tuple[str, str, str]]:
    """Return the rows of a distribution's RECORD: name, hash, size. Raises: UsageError if there is none."""
    text = distribution.read_text("RECORD")
    rows = [tuple(row) for row in csv.reader((text or "").splitlines())]
    if not rows or any(len(row) != 3 for row in rows):
        raise UsageError(WHAT, "this edge-seg was installed without a RECORD of its files", FROM_SOURCES)
    return sorted((row[0], row[1], row[2]) for row in rows)


def read_installed(distribution: importlib.metadata.Distribution, name: str, expected: str) -> bytes:
    """Return an installed file's bytes if they are those that were installed. Raises: UsageError."""
    path = Path(str(distribution.locate_file(name)))
    try:
        data = read_regular(path, MAX_FILE_BYTES)
    except OSError as error:
        raise UsageError(str(path), error.strerror or str(error), "install edge-seg again, or give --wheel") from None
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    if expected != f"sha256={digest}":
        raise UsageError(str(path), "it was changed since it was installed", "install edge-seg again, or give --wheel")
    return data
