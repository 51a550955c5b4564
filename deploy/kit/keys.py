"""How are keys stored and used? As PEM files that OpenSSL reads; the secret half stays where kits are made."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from deploy.files import open_regular
from edge_runtime.errors import EdgeSegError, OutputError, UsageError

PUBLIC_PREFIX = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of an Ed25519 key, before its 32 bytes
SECRET_PREFIX = bytes.fromhex("302e020100300506032b657004220420")  # PKCS #8, unencrypted, before its 32 bytes
INSTALL_EXTRA = "pip install '.[deploy]'"


def make_keys(path: Path) -> Path:
    """Write a new secret key to `path`, mode 600, and its public half to `path`.pub; return the latter's path.

    Raises: OutputError if either exists or cannot be written. EdgeSegError without `cryptography`.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise EdgeSegError("keygen", "it needs the cryptography package", INSTALL_EXTRA) from None

    secret, public = Ed25519PrivateKey.generate(), path.with_name(f"{path.name}.pub")
    for new_path in (path, public):
        if os.path.lexists(new_path):
            raise OutputError(str(new_path), "it exists already", "keys are never overwritten: choose another -o")
    write_new(path, to_pem("PRIVATE KEY", SECRET_PREFIX + secret.private_bytes_raw()), 0o600)
    write_new(public, to_pem("PUBLIC KEY", PUBLIC_PREFIX + secret.public_key().public_bytes_raw()), 0o644)
    return public


def sign(path: Path, message: bytes) -> tuple[bytes, bytes]:
    """Return the 64-byte signature of `message` by the key in a file, and that key's 32-byte public half.

    Raises: UsageError if the file is not a secret key or others may read it. EdgeSegError without `cryptography`.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise EdgeSegError("--key", "signing needs the cryptography package", INSTALL_EXTRA) from None

    secret = Ed25519PrivateKey.from_private_bytes(read_pem(path, "PRIVATE KEY", SECRET_PREFIX, secret=True))
    return secret.sign(message), secret.public_key().public_bytes_raw()


def read_public_key(path: Path, follow: bool = True) -> bytes:
    """Return the 32 bytes of a public key file; not `follow`: not of what a link leads to. Raises: UsageError."""
    return read_pem(path, "PUBLIC KEY", PUBLIC_PREFIX, follow)


def find_fingerprint(public: bytes) -> str:
    """Return a key's fingerprint: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def to_pem(label: str, data: bytes) -> bytes:
    """Return data as PEM; an Ed25519 key fits one line."""
    return f"-----BEGIN {label}-----\n{base64.b64encode(data).decode()}\n-----END {label}-----\n".encode()


def read_pem(path: Path, label: str, prefix: bytes, follow: bool = True, secret: bool = False) -> bytes:
    """Return the 32 bytes that follow `prefix` in a PEM file of one block. Raises: UsageError.

    follow: whether through a symbolic link. secret: others than its owner must not be able to read it.
    """
    other = {"PUBLIC KEY": "PRIVATE KEY", "PRIVATE KEY": "PUBLIC KEY"}[label]
    what, fix = f"the key {path}", "make a pair with edge-deploy keygen -o PATH"
    try:
        with open_regular(path, follow) as file:
            text, mode = file.read(10_000), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise UsageError(what, error.strerror or str(error), fix) from None
    if f"BEGIN {other}".encode() in text:
        right_file = "the .pub file" if label == "PUBLIC KEY" else "the file without .pub"
        raise UsageError(what, f"it is the {other.split()[0].lower()} half", f"give {right_file}")
    begin, end = f"-----BEGIN {label}-----".encode(), f"-----END {label}-----".encode()
    body = text.partition(begin)[2].partition(end)[0]
    try:
        data = base64.b64decode(b"".join(body.split()), validate=True)
    except ValueError:
        data = b""
    if not data.startswith(prefix) or len(data) != len(prefix) + 32:
        raise UsageError(what, f"it is not an Ed25519 {label.lower()} in PEM", fix)
    if secret and mode & 0o077:
        raise UsageError(what, "others than its owner may read it", f"chmod 600 {path}")
    return data[len(prefix) :]


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist, with its mode from the first byte on. Raises: OutputError."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error), "choose another -o") from None
