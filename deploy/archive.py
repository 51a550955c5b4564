"""A kit on disk: a plain tar archive of which every byte is known beforehand.

Specification, edge-seg-kit/1
=============================
POSIX ustar, uncompressed: `tar tf KIT` lists it. First `manifest.json` (at most 1 MiB), then `manifest.sig` (64 bytes,
Ed25519 of the manifest's bytes), then the manifest's files in its order; two empty blocks end it, nothing follows.
Each header: regular file, mode 0644, owner and group 0 without names, 1980-01-01, the path's folder in `prefix`.

A reader does not interpret headers: from the signed manifest it knows what each must be, and wants it byte for byte.
So links, devices, long names, sparse files, paths that lead elsewhere and anything hidden between files have no way
in. What is no archive of ours is looked at only to say why it is refused.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

from edge_runtime.errors import KitError

from .ed25519 import check_signature
from .keys import name_key
from .manifest import MAX_BYTES, Entry, Manifest, from_json

BLOCK = 512
CHUNK = 1 << 20
END = bytes(2 * BLOCK)
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
DATE = 315532800  # 1980-01-01, as in the contract's tail
KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder"}
KINDS[b"6"] = "a pipe"
COPY = "copy it again from where it was made"


class Sink(Protocol):
    """Takes a file's bytes."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        ...


def build_header(path: str, size: int) -> bytes:
    """Return the 512 bytes before a file. Source: POSIX.1-1988, ustar."""
    folder, _, name = path.rpartition("/")
    fields = (
        name.encode().ljust(100, b"\0"),
        b"\0".join([b"0000644", b"0000000", b"0000000", b""]),
        b"%011o\0%011o\0" % (size, DATE),
        b" " * 8,  # the checksum counts itself as blanks
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
    file.write(END)


def read_kit(path: Path, public: bytes, take: Callable[[Entry], Sink | None] | None = None) -> tuple[Manifest, str]:
    """Return a kit's manifest and the SHA-256 of its text, once every byte of it was checked.

    `take` gives for each file where its bytes go: those of a file arrive before its SHA-256 is known to fit, so that
    whoever takes them keeps or throws away all of them together.

    Raises: KitError if a byte is not what the holder of the key signed, or the kit cannot be read.
    """
    what = f"the kit {path}"
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # a pipe would wait
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise KitError(what, "it is no regular file")
            text = read_head(file, what)
            signature = read_member(file, what, SIGNATURE, 64)
            if not check_signature(public, text, signature):
                raise KitError(what, f"it is not signed with the key {name_key(public)}, or its manifest or signature "
                               "was changed", "ask who made it for the kit and the public key again")  # fmt: skip
            manifest = from_json(text)
            wanted = measure(len(text), manifest)
            found = os.fstat(file.fileno()).st_size
            if found != wanted:
                raise KitError(what, f"it has {found} bytes, but its manifest makes {wanted}", COPY)
            for entry in manifest.files:
                copy_member(file, what, entry, take(entry) if take else None)
            if file.read() != END:
                raise KitError(what, "something else follows its last file", COPY)
    except OSError as error:
        raise KitError(what, error.strerror or str(error), "check the path and the medium") from None
    return manifest, hashlib.sha256(text).hexdigest()


def measure(text: int, manifest: Manifest) -> int:
    """Return the bytes of a kit whose manifest has that many."""
    return sum(BLOCK + size + -size % BLOCK for size in (text, 64, *(e.bytes for e in manifest.files))) + len(END)


def read_head(file: BinaryIO, what: str) -> bytes:
    """Return the manifest's text, which says for itself how long it is."""
    header = file.read(BLOCK)
    try:
        size = int(header[124:135], 8)
    except ValueError:
        size = -1
    if size < 0 or header != build_header(MANIFEST, size):
        raise KitError(what, f"it is no kit: {explain(header, MANIFEST)}", "kits are made by edge-deploy bundle")
    if size > MAX_BYTES:
        raise KitError(what, f"its manifest has {size} bytes, more than {MAX_BYTES}", COPY)
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
    """Check one file of the manifest, passing its bytes on."""
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
    """Want the header of that file. Raises: KitError."""
    header = file.read(BLOCK)
    if header != build_header(name, size):
        raise KitError(what, f"{explain(header, name)} stands where its manifest has {name}", COPY)


def explain(header: bytes, wanted: str) -> str:
    """Return what a header that is not the wanted one seems to be, for the refusal."""
    if len(header) != BLOCK or header[257:262] != b"ustar":
        return "something that is no file of a tar archive"
    folder, name = (field.rstrip(b"\0").decode("utf-8", "replace") for field in (header[345:500], header[:100]))
    path = f"{folder}/{name}" if folder else name
    kind = KINDS.get(header[156:157], "")
    if path.startswith("/") or ".." in path.split("/"):
        return f"a path that leads out of the kit ({path!r})"
    if kind:
        return f"{kind} ({path!r})"
    return f"a changed header of {path!r}" if path == wanted else f"another file ({path!r})"


def _refuse_bytes(what: str, name: str) -> NoReturn:
    raise KitError(what, f"the bytes of {name} are not those that were signed", COPY)
