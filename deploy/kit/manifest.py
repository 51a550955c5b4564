"""What is in a kit? One canonical JSON with the size and SHA-256 of every file; its text is what is signed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn

from edge_runtime.errors import KitError

FORMAT = "edge-seg-kit/1"
MAX_BYTES = 1 << 20  # of the manifest
MAX_FILES = 2000
MAX_TOTAL = 4 << 30  # of all files; the largest kit seen has 0.2 GB
MAX_TEXT = 200  # characters of one field
MAX_NUMBER = 1 << 62
PATH_PART = r"[A-Za-z0-9_][A-Za-z0-9_.+!-]*"
PATH = re.compile(rf"{PATH_PART}(/{PATH_PART})*")
LOCK, MODEL, SBOM, WHEELS = "lock.txt", "model.tflite", "sbom.cdx.json", "wheels"
MAKE_AGAIN = "make the kit again with edge-deploy bundle"
MISSING = object()  # of no type that a field may have


@dataclass(frozen=True)
class Entry:
    """One file of a kit."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a kit is for, which files it has, and what a device needs for it.

    `software` is the version of edge-seg; `wheels`: whether its dependencies are in the kit. `latency_ms` is the
    longest accepted median time of one image, None: any. `memory_bytes` is the service's memory limit,
    `installed_bytes` what a slot takes on disk.
    """

    target: str
    machine: str
    python: str
    glibc: str
    software: str
    model_id: str
    model_version: str
    model_sha256: str
    release: int
    wheels: bool
    latency_ms: float | None
    memory_bytes: int
    installed_bytes: int
    files: tuple[Entry, ...]

    @property
    def rank(self) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """The order of kits, older first: the numbers in both versions, then --release."""
        return read_numbers(self.software), read_numbers(self.model_version), self.release

    @property
    def total(self) -> int:
        """The bytes of all files."""
        return sum(entry.bytes for entry in self.files)


def read_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers in a version, without trailing zeros: 1.10 is newer than 1.9, and 1.0 is 1."""
    numbers = [int(digits[:18]) for digits in re.findall(r"[0-9]+", version)]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def to_json(manifest: Manifest) -> bytes:
    """Return the manifest's canonical text: UTF-8, keys sorted, no spaces, a newline at its end."""
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, sort_keys=True, ensure_ascii=False, allow_nan=False,
                      separators=(",", ":"))  # fmt: skip
    return text.encode() + b"\n"


def from_json(text: bytes) -> Manifest:
    """Return the manifest of a text. Raises: KitError if the text is not what `to_json` writes, to the byte."""
    try:
        values: Any = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        _refuse(f"its manifest is not JSON ({error})")
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise KitError("the kit", f"its manifest is not {FORMAT}", "update edge-seg here, or make the kit again")
    for name, expected in FIELD_TYPES.items():
        value = values.get(name, MISSING)
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            _refuse(f"its manifest's field {name!r} is missing or of the wrong type")
    try:
        entries = tuple(Entry(**entry) for entry in values.pop("files"))
        manifest = Manifest(**values, files=entries)
        canonical = to_json(manifest) == text
    except (TypeError, ValueError, RecursionError) as error:
        _refuse(f"its manifest is malformed ({error})")
    if not canonical:
        _refuse("its manifest is not canonical")
    check_entries(manifest)
    return manifest


FIELD_TYPES: dict[str, Any] = {
    field.name: {"str": str, "int": int, "bool": bool, "float | None": (int, float, type(None))}.get(
        str(field.type), list
    )
    for field in fields(Manifest)
}


def check_value(name: str, value: Any) -> None:
    """Refuse texts that are not one short line, which a terminal could interpret, and numbers out of range."""
    if isinstance(value, str) and (len(value) > MAX_TEXT or not value.isprintable()):
        _refuse(f"its manifest's field {name!r} is no short line of printable text")
    if isinstance(value, int | float) and not 0 <= value < MAX_NUMBER:
        _refuse(f"its manifest's field {name!r} is out of range")


def check_entries(manifest: Manifest) -> None:
    """Refuse paths out of the kit, files named twice, and too many or too large files. Raises: KitError."""
    for field in fields(manifest):
        check_value(field.name, getattr(manifest, field.name))
    seen: set[str] = set()
    for entry in manifest.files:
        if not isinstance(entry.path, str) or not PATH.fullmatch(entry.path) or len(entry.path) > 200:
            _refuse(f"its manifest names a file {entry.path!r}, which is not a plain path inside the kit")
        if entry.path.casefold() in seen:
            _refuse(f"its manifest names {entry.path!r} twice")
        seen.add(entry.path.casefold())
        if type(entry.bytes) is not int or entry.bytes < 0 or not re.fullmatch(r"[0-9a-f]{64}", str(entry.sha256)):
            _refuse(f"its manifest has no size and SHA-256 of {entry.path!r}")
    if [entry.path for entry in manifest.files] != sorted(entry.path for entry in manifest.files):
        _refuse("its manifest's files are not in order")
    if len(manifest.files) > MAX_FILES or manifest.total > MAX_TOTAL:
        _refuse(f"it claims {len(manifest.files)} files of {manifest.total} bytes, more than a kit may have")
    parents = {entry.path.casefold().rpartition("/")[0] for entry in manifest.files}
    if parents & seen:
        _refuse("its manifest names a file that is also a folder")
    if not {LOCK, MODEL} <= {entry.path for entry in manifest.files}:
        _refuse(f"it lacks {LOCK} or {MODEL}")
    if next(entry.sha256 for entry in manifest.files if entry.path == MODEL) != manifest.model_sha256:
        _refuse("its model is not the one that its manifest names")


def _refuse(why: str) -> NoReturn:
    raise KitError("the kit", why, MAKE_AGAIN)
