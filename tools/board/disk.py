"""What does a disk still hold when its power is cut? Only what it was told to flush; of the rest, whatever it likes.

A disk for qemu with a cache that its power does not outlive: an NBD server in a thread. Writes stay in memory until the
machine flushes them (or writes through, by FUA). A cut keeps a random part of the blocks in memory, in no order, and
loses the others, as the manual of a disk with a write cache allows.

Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, "fixed newstyle", simple replies.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

BLOCK = 4096  # written whole or not at all
FIXED, NO_ZEROES = 1, 2
HAS_FLAGS, SEND_FLUSH, SEND_FUA = 1, 4, 8
EXPORT_NAME, ABORT, GO = 1, 2, 7
ACK, INFO, UNSUPPORTED = 1, 3, 0x80000001
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
INVALID = 22


class Disk:
    """An image file behind a cache that a cut of the power loses; served at a socket, to one machine at a time."""

    def __init__(self, image: Path, address: Path, rng: random.Random) -> None:
        self.image, self.address, self.rng = image, address, rng
        self.cache: dict[int, bytes] = {}
        self.thread: threading.Thread | None = None

    def serve(self) -> None:
        """Wait for a machine, in a thread; `keep` or `lose` when that machine has ended."""
        self.address.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.address))
        listener.listen(1)
        self.thread = threading.Thread(target=self.answer, args=(listener,), daemon=True)
        self.thread.start()

    def keep(self) -> None:
        """Write what is in the cache, as a disk does whose power stays."""
        self.wait()
        with self.image.open("r+b", buffering=0) as file:
            self.flush(file.fileno())

    def lose(self) -> tuple[int, int]:
        """Cut the power; return how many blocks were in the cache, and how many of them are lost."""
        self.wait()
        share, blocks = self.rng.random(), sorted(self.cache)
        lost = {block for block in blocks if self.rng.random() < share}
        for block in lost:
            del self.cache[block]
        with self.image.open("r+b", buffering=0) as file:
            self.flush(file.fileno())
        return len(blocks), len(lost)

    def wait(self) -> None:
        """Wait until the machine, which has ended, has nothing more to say."""
        if self.thread is not None:
            self.thread.join(60)
            if self.thread.is_alive():
                raise RuntimeError("the machine still holds its disk")
            self.thread = None

    def answer(self, listener: socket.socket) -> None:
        """Serve one connection."""
        with listener:
            connection, _ = listener.accept()
        with suppress(ConnectionError, EOFError), connection, self.image.open("r+b", buffering=0) as file:
            self.negotiate(connection)
            while True:
                magic, flags, kind, handle, offset, size = struct.unpack(">IHHQQI", receive(connection, 28))
                if magic != 0x25609513 or kind == DISCONNECT:
                    return
                data, error = b"", 0
                if kind == READ:
                    data = self.read(file.fileno(), offset, size)
                elif kind == WRITE:
                    self.write(file.fileno(), offset, receive(connection, size), through=bool(flags & 1))
                elif kind == FLUSH:
                    self.flush(file.fileno())
                else:
                    error = INVALID
                connection.sendall(struct.pack(">IIQ", 0x67446698, error, handle) + data)

    def negotiate(self, connection: socket.socket) -> None:
        """Tell the machine the size of the disk, and that it has a cache. Raises: EOFError if it goes."""
        connection.sendall(b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", FIXED | NO_ZEROES))
        receive(connection, 4)
        export = struct.pack(">QH", self.image.stat().st_size, HAS_FLAGS | SEND_FLUSH | SEND_FUA)
        while True:
            _, option, size = struct.unpack(">8sII", receive(connection, 16))
            receive(connection, size)
            replies = {GO: ((INFO, b"\0\0" + export), (ACK, b"")), ABORT: ((ACK, b""),)}
            if option == EXPORT_NAME:
                connection.sendall(export)
                return
            for kind, data in replies.get(option, ((UNSUPPORTED, b""),)):
                connection.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)
            if option == GO:
                return

    def read(self, file: int, offset: int, size: int) -> bytes:
        """Return bytes as the machine has written them."""
        data = bytearray(os.pread(file, size, offset))
        for block in range(offset // BLOCK, (offset + size - 1) // BLOCK + 1):
            if (cached := self.cache.get(block)) is not None:
                start = block * BLOCK - offset
                data[max(0, start) : start + BLOCK] = cached[max(0, -start) : size - start]
        return bytes(data)

    def write(self, file: int, offset: int, data: bytes, through: bool) -> None:
        """Take bytes into the cache; `through`: on to the image too."""
        first, last = offset // BLOCK, (offset + len(data) - 1) // BLOCK
        before = self.read(file, first * BLOCK, offset - first * BLOCK) if offset % BLOCK else b""
        end = offset + len(data)
        after = self.read(file, end, (last + 1) * BLOCK - end) if end % BLOCK else b""
        whole = before + data + after
        for block in range(first, last + 1):
            self.cache[block] = whole[(block - first) * BLOCK : (block - first + 1) * BLOCK]
        if through:
            for block in range(first, last + 1):
                os.pwrite(file, self.cache.pop(block), block * BLOCK)

    def flush(self, file: int) -> None:
        """Write the cache to the image."""
        for block, data in self.cache.items():
            os.pwrite(file, data, block * BLOCK)
        self.cache.clear()


def receive(connection: socket.socket, size: int) -> bytes:
    """Return just so many bytes. Raises: EOFError."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return bytes(data)
