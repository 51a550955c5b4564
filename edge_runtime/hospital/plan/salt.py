"""What keeps a series' alias from being computed by whoever knows its identifier? A salt, secret as the links are."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from edge_runtime.errors import EdgeSegError, OutputError
from edge_runtime.system.files import MAKE_ROOM, write_private

SALT_BYTES = 32
MAX_SALT_BYTES = 4096  # of a file that the user gives


def read_salt(file: Path | None, kept: Path) -> bytes:
    """Return the key of the aliases: of a user's file, of an earlier run's, else a random one.

    kept: where a run keeps its own. Raises: EdgeSegError.
    """
    if file is None:
        with suppress(OSError):
            data = kept.read_bytes()
            if len(data) == SALT_BYTES:
                return data
        return secrets.token_bytes(SALT_BYTES)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_SALT_BYTES + 1)
    except OSError as error:
        raise EdgeSegError("--salt", error.strerror or "it cannot be read", "name a readable file") from None
    if not 8 <= len(data) <= MAX_SALT_BYTES:
        why = f"the file has {'more than ' * (len(data) > MAX_SALT_BYTES)}{min(len(data), MAX_SALT_BYTES)} bytes"
        raise EdgeSegError("--salt", why, f"give one of 8 to {MAX_SALT_BYTES} random bytes")
    return hashlib.blake2b(data, digest_size=SALT_BYTES).digest()


def keep_salt(salt: bytes, kept: Path) -> None:
    """Write the salt of this OUT, readable to the user alone, so that the next run gives the same aliases.

    Raises: OutputError.
    """
    if not kept.is_file():
        write_private(kept, salt)


def make_private_folder(folder: Path) -> None:
    """Make a folder that only the user can enter. Raises: OutputError."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)  # noqa: PTH101 - Path's follows the umask no more, and this reads as mkdir does
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error), MAKE_ROOM) from None
