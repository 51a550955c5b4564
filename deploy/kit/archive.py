"""What is the format of a kit? A plain tar archive of which the signed manifest determines every byte.

Specification, edge-seg-kit/1
=============================
POSIX ustar, uncompressed: `tar tf KIT` lists it. First `manifest.json` (at most 1 MiB), then `manifest.sig` (64 bytes,
Ed25519 of the manifest's bytes), then the manifest's files in its order; two empty blocks end it, nothing follows.
Each header: regular file, mode 0644, owner and group 0 without names, 1980-01-01, the path's folder in `prefix`.

A reader does not interpret headers: it compares each with the one that follows from the signed manifest, byte for byte.
Links, devices, long names, sparse files, paths out of the kit and bytes between files are therefore all refused. A
header that differs is interpreted only for the error message.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

from deploy.files import open_regular
from edge_runtime.errors import KitError

from .ed25519 import check_signature
from .keys import find_fingerprint
from .manifest import MAX_BYTES, Entry, Manifest, from_json

BLOCK = 512
CHUNK = 1 << 20
END_BLOCKS = bytes(2 * BLOCK)
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
DATE = 315532800  # 1980-01-01, as in the contract's tail
TYPE_NAMES = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder"}
TYPE_NAMES[b"6"] = "a pipe"
COPY_AGAIN = "copy it again from where it was made"


class Sink(Protocol):
    """What a file's bytes are written to."""

    def write(self, data: bytes, /) -> object:
        """Write the next bytes."""
        ...


OpenSink = Callable[[Entry], Sink | None]


def build_header(path: str, size: int) -> bytes:
    """Return the 512 bytes before a file's contents. Source: POSIX.1-1988, ustar."""
    folder, _, name = path.rpartition("/")
    fields = (
        name.encode().ljust(100, b"\0"),
        b"\0".join([b"0000644", b"0000000", b"0000000", b""]),
        b"%011o\0%011o\0" % (size, DATE),
        b" " * 8,  # the checksum is computed with spaces in its own field
        b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2,
        folder.encode().ljust(155, b"\0") + bytes(12),
    )
    header = b"".join(fields)
    if len(header) != BLOCK or size >= 8**11:
        raise ValueError(f"{path!r} does not fit a ustar header")
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def write_archive(file: BinaryIO, members: Iterable[tuple[str, bytes | Path]]) -> None:
    """Write members, each given as bytes or as a file to copy, in their order."""
    for name, content in members:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        file.write(build_header(name, size))
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                while chunk := source.read(CHUNK):
                    file.write(chunk)
        file.write(bytes(-size % BLOCK))
    file.write(END_BLOCKS)


def read_kit(path: Path, public: bytes, open_sink: OpenSink = lambda entry: None) -> tuple[Manifest, str]:
    """Return a kit's manifest and the SHA-256 of its text, after every byte of the kit was checked.

    `open_sink` returns what a file's bytes are written to, None to drop them. They are written before the file's
    SHA-256 was compared: on an error the caller must discard all files.

    Raises: KitError if a byte is not what the holder of the key signed, or the kit cannot be read.
    """
    what = f"the kit {path}"
    try:
        with open_regular(path) as file:
            text = read_manifest_text(file, what)
            signature = read_member(file, what, SIGNATURE, 64)
            if not check_signature(public, text, signature):
                key = find_fingerprint(public)
                why = f"it is not signed with the key {key}, or its manifest or signature was changed"
                raise KitError(what, why, "ask its maker for the kit and the public key again")
            manifest = from_json(text)
            expected = count_bytes(len(text), manifest)
            found = os.fstat(file.fileno()).st_size
            if found != expected:
                raise KitError(what, f"it has {found} bytes, but its manifest makes {expected}", COPY_AGAIN)
            for entry in manifest.files:
                copy_member(file, what, entry, open_sink(entry))
            if file.read() != END_BLOCKS:
                raise KitError(what, "other bytes follow its last file", COPY_AGAIN)
    except OSError as error:
        raise KitError(what, error.strerror or str(error), "check the path and the medium") from None
    return manifest, hashlib.sha256(text).hexdigest()


def count_bytes(manifest_bytes: int, manifest: Manifest) -> int:
    """Return the size of a kit, in bytes, from the size of its manifest's text."""
    sizes = (manifest_bytes, 64, *(entry.bytes for entry in manifest.files))
    return sum(BLOCK + size + -size % BLOCK for size in sizes) + len(END_BLOCKS)


def read_manifest_text(file: BinaryIO, what: str) -> bytes:
    """Return the manifest's text; its size is in its header."""
    header = file.read(BLOCK)
    try:
        size = int(header[124:135], 8)
    except ValueError:
        size = -1
    if size < 0 or header != build_header(MANIFEST, size):
        raise KitError(
            what, f"it is no kit: {describe_header(header, MANIFEST)}", "kits are made by edge-deploy bundle"
        )
    if size > MAX_BYTES:
        raise KitError(what, f"its manifest has {size} bytes, more than {MAX_BYTES}", COPY_AGAIN)
    return read_padded(file, what, MANIFEST, size)


def read_member(file: BinaryIO, what: str, name: str, size: int) -> bytes:
    """Return a small file of known name and size."""
    check_header(file, what, name, size)
    return read_padded(file, what, name, size)


def read_padded(file: BinaryIO, what: str, name: str, size: int) -> bytes:
    """Return the next `size` bytes and skip the zeros after them."""
    data, rest = file.read(size), file.read(-size % BLOCK)
    if len(data) != size or rest != bytes(-size % BLOCK):
        _refuse_bytes(what, name)
    return data


def copy_member(file: BinaryIO, what: str, entry: Entry, sink: Sink | None) -> None:
    """Check one file of the manifest, and write its bytes to the sink."""
    check_header(file, what, entry.path, entry.bytes)
    digest, left = hashlib.sha256(), entry.bytes
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            _refuse_bytes(what, entry.path)
        digest.update(chunk)
        if sink is not None:
            sink.write(chunk)
        left -= len(chunk)
    padding = file.read(-entry.bytes % BLOCK)
    if digest.hexdigest() != entry.sha256 or padding != bytes(-entry.bytes % BLOCK):
        _refuse_bytes(what, entry.path)


def check_header(file: BinaryIO, what: str, name: str, size: int) -> None:
    """Require the header of that file. Raises: KitError."""
    header = file.read(BLOCK)
    if header != build_header(name, size):
        raise KitError(what, f"{describe_header(header, name)} stands where its manifest has {name}", COPY_AGAIN)


def describe_header(header: bytes, expected: str) -> str:
    """Return what a header that differs from the expected file's seems to be, for the error message."""
    if len(header) != BLOCK or header[257:262] != b"ustar":
        return "something that is not a file of a tar archive"
    folder, name = (field.rstrip(b"\0").decode("utf-8", "replace") for field in (header[345:500], header[:100]))
    path = f"{folder}/{name}" if folder else name
    kind = TYPE_NAMES.get(header[156:157], "")
    if path.startswith("/") or ".." in path.split("/"):
        return f"a path that leads out of the kit ({path!r})"
    if kind:
        return f"{kind} ({path!r})"
    return f"a changed header of {path!r}" if path == expected else f"another file ({path!r})"


def _refuse_bytes(what: str, name: str) -> NoReturn:
    raise KitError(what, f"the bytes of {name} are not those that were signed", COPY_AGAIN)
