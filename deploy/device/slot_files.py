"""Are a slot's files still those that passed its tests? Their list, and the comparison with it.

    ROOT/records/NAME.sha256   a line for each file, as `sha256sum` writes it, with paths inside the slot: an operator
                               checks by hand with  cd ROOT/slots/NAME && sha256sum --quiet -c ../../records/NAME.sha256
                               A line `#PATH -> TARGET` for each symbolic link, which sha256sum takes for a comment.

The list lies outside of the slot, so that a slot whose files were all removed still has it. The files of kit/ are also
compared with the signed manifest, of which the record has the SHA-256. Byte code that Python wrote later is no damage:
other files that were added are, since Python would import them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from deploy.files import open_regular, read_regular, write_durably
from deploy.kit.manifest import MAX_BYTES, MAX_TOTAL, MODEL, WHEELS, from_json
from edge_runtime.errors import EdgeSegError, InstallError

from .slots import DAMAGED, GOOD, LIST_SUFFIX, RECORDS, Slot, find_folder, has_files, write_slot

KIT, MANIFEST = "kit", "manifest.json"
MAX_LIST_BYTES = 64 << 20  # a real slot's has 0.5 MB
DIFFERENT = "its files are not those that passed its tests"
LINK = " -> "
BYTE_CODE = "__pycache__"
SHOWN = 3  # names for each kind of damage
UNREADABLE = "unreadable"


def list_path(root: Path, slot: Slot) -> Path:
    """Return the path of a slot's list."""
    return root / RECORDS / f"{slot.name}{LIST_SUFFIX}"


def write_list(root: Path, slot: Slot) -> None:
    """List a slot's files as they are now. Raises: InstallError if the kit's are not the manifest's; OutputError."""
    folder = find_folder(root, slot.name)
    found = {path: describe_file(folder / path) for path in walk_files(folder)}
    if damage := compare(read_manifest(folder, slot), found, added=False):
        raise InstallError("the unpacked files", damage, "check the disk, and install the kit again")
    lines = []
    for path, facts in sorted(found.items()):
        if "\n" in path or "\\" in path or UNREADABLE in (facts, path):
            raise InstallError("the environment", f"the file {path!r} cannot be listed", "make the kit again")
        lines.append(f"#{path}{facts}\n" if facts.startswith(LINK) else f"{facts}  {path}\n")
    write_durably(list_path(root, slot), os.fsencode("".join(lines)))


def find_damage(root: Path, slot: Slot) -> str:
    """Return what is missing, changed or added in a slot's files, in words; "" if nothing is."""
    folder = find_folder(root, slot.name)
    if not has_files(root, slot.name):
        return "its folder is missing"
    try:
        if os.path.lexists(list_path(root, slot)):
            expected = read_list(list_path(root, slot)) | {MANIFEST: slot.kit_sha256}
            with suppress(OSError, EdgeSegError):  # a manifest that is damaged is found by its own line
                expected |= read_manifest(folder, slot)
            found = {path: describe_file(folder / path) if path in expected else "" for path in walk_files(folder)}
            return compare(expected, found)
        expected = {f"{KIT}/{MODEL}": slot.model_sha256}  # all that is known of a slot of an earlier installer
        return compare(expected, {path: describe_file(folder / path) for path in expected}, added=False)
    except EdgeSegError as error:
        return f"{error.what}: {error.why}"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"


def judge_files(root: Path, slot: Slot) -> Slot:
    """Compare a good slot's files with its list; return its record, in which it is damaged now, or good again."""
    damage = find_damage(root, slot)
    reason = f"{DIFFERENT}: {damage}" if damage else ""
    judged = slot.with_state(DAMAGED if reason else GOOD, reason)
    return slot if (judged.state, judged.reason) == (slot.state, slot.reason) else write_slot(root, judged)


def read_manifest(folder: Path, slot: Slot) -> dict[str, str]:
    """Return {path in the slot: SHA-256} of what the slot's manifest says. Raises: OSError, InstallError, KitError."""
    text = read_regular(folder / MANIFEST, MAX_BYTES, follow=False)
    digest = hashlib.sha256(text).hexdigest()
    if digest != slot.kit_sha256:
        raise InstallError(MANIFEST, "it is not the one that was signed")
    files = [entry for entry in from_json(text).files if not entry.path.startswith(f"{WHEELS}/")]
    return {f"{KIT}/{entry.path}": entry.sha256 for entry in files} | {MANIFEST: digest}


def read_list(path: Path) -> dict[str, str]:
    """Return {path in the slot: SHA-256, or a link's target}. Raises: OSError, InstallError."""
    expected = {}
    for line in os.fsdecode(read_regular(path, MAX_LIST_BYTES, follow=False)).splitlines():
        if line.startswith("#"):
            name, _, target = line[1:].partition(LINK)
            expected[name] = LINK + target
        else:
            digest, _, name = line.partition("  ")
            expected[name] = digest
    if not expected or "" in expected:
        raise InstallError(str(path), "the list of the slot's files is damaged")
    return expected


def walk_files(folder: Path) -> Iterator[str]:
    """Yield the path in a slot of every file and link, without following links. Raises: OSError."""

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=fail):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (str(Path(place, name).relative_to(folder)) for name in (*names, *links))


def describe_file(path: Path) -> str:
    """Return a file's SHA-256, or a link's target after LINK; `unreadable` for anything else."""
    try:
        if path.is_symlink():
            return f"{LINK}{path.readlink()}"
        with open_regular(path, follow=False) as file:
            if os.fstat(file.fileno()).st_size <= MAX_TOTAL:  # no file of a slot is longer
                return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        pass
    return UNREADABLE


def compare(expected: Mapping[str, str], found: Mapping[str, str], added: bool = True) -> str:
    """Return the difference in words; "" where there is none. added: whether other files are one."""
    more = [path for path in found if path not in expected and BYTE_CODE not in path.split("/")] if added else []
    lost = [path for path in expected if path not in found]
    changed = [path for path in expected if path in found and found[path] != expected[path]]
    kinds = {"missing": lost, "changed": changed, "added": more}
    return "; ".join(f"{len(paths)} {kind}: {shorten(sorted(paths))}" for kind, paths in kinds.items() if paths)


def shorten(paths: list[str]) -> str:
    """Return the first names of a list."""
    return ", ".join(paths[:SHOWN]) + (", …" if len(paths) > SHOWN else "")
