"""How is a contract stamped into the tail of a .tflite file, found there and checked?"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

from edge_runtime.errors import ContractError, ModelError

from .fields import CONVERT_AGAIN, MAX_GOLDEN_BYTES, MAX_JSON_BYTES, Contract, GoldenFacts, fail
from .json_text import from_json, to_json

T = TypeVar("T")
ENTRY, GOLDEN_ENTRY = b"contract.json", b"golden.json"
TAIL_OVERHEAD, GOLDEN_OVERHEAD = 124, 98
CONVERT = "convert it with edge-convert"


def build_tail(text: bytes, golden: bytes | None = None) -> bytes:
    """Return the ZIP archive that holds `text` as contract.json, perhaps after golden.json, as specified."""
    entries = [(ENTRY, text)] if golden is None else [(GOLDEN_ENTRY, golden), (ENTRY, text)]
    local = central = b""
    for name, data in entries:
        common = struct.pack("<5H3I2H", 20, 0, 0, 0, 0x21, zlib.crc32(data), len(data), len(data), len(name), 0)
        offset = struct.pack("<10xI", len(local))
        central += b"PK\x01\x02" + struct.pack("<H", 20) + common + offset + name
        local += b"PK\x03\x04" + common + name + data
    counts = len(entries), len(entries)
    return local + central + b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, *counts, len(central), len(local), 0)


@dataclass(frozen=True)
class Tail:
    """What was found at a file's end: its length, contract.json and golden.json."""

    length: int
    text: bytes
    golden: bytes | None


def split_tail(data: bytes) -> tuple[bytes, bytes | None]:
    """Return a .tflite file's flatbuffer and its contract's JSON; None where there is no tail.

    Raises:
        ContractError: there are traces of a contract, but no tail as this format specifies it.
        ModelError: `data` is not a TFLite model.
    """
    check_magic("model", data[:8])
    tail = find_tail(lambda count: data[-count:])
    return (data, None) if tail is None else (data[: -tail.length], tail.text)


def stamp_contract(flatbuffer: bytes, contract: Contract, golden: bytes | None = None) -> bytes:
    """Return the flatbuffer with contract and golden.json in the tail.

    `model.bytes`, `model.sha256`, `golden` and `digest` are computed.
    Raises:
        ContractError: the flatbuffer is already stamped (`split_tail` takes the old tail off), golden.json is too long,
            or `to_json` fails.
        ModelError: it is not a TFLite model.
    """
    if split_tail(flatbuffer)[1] is not None:
        fail("the model already has a contract", "take it off with split_tail first")
    facts = replace(contract.model, bytes=len(flatbuffer), sha256=hashlib.sha256(flatbuffer).hexdigest())
    extra = None if golden is None else GoldenFacts(len(golden), hashlib.sha256(golden).hexdigest())
    return flatbuffer + build_tail(to_json(replace(contract, model=facts, golden=extra)), golden)


def check_magic(what: str, head: bytes) -> None:
    """Refuse what does not begin as a TFLite model."""
    if head[4:8] != b"TFL3":
        raise ModelError(what, "it is not a TFLite model", "give a .tflite file made by edge-convert")


def find_tail(read_end: Callable[[int], bytes]) -> Tail | None:
    """Return the tail of a file whose last bytes `read_end(count)` gives; None where there is no trace of one.

    Raises: ContractError if it is damaged.
    """
    end = read_end(MAX_JSON_BYTES + TAIL_OVERHEAD)
    if ENTRY not in end:
        return None
    if len(end) >= TAIL_OVERHEAD and end[-22:-18] == b"PK\x05\x06":
        count, size, start = struct.unpack("<HII", end[-12:-2])  # of the central directory
        length = start + size + 22
        if count == 2 and len(end) < length <= len(end) + MAX_GOLDEN_BYTES + GOLDEN_OVERHEAD:
            end = read_end(length)
        tail = cut_tail(end[-length:], start, golden=count == 2)
        if len(end) >= length and build_tail(tail.text, tail.golden) == end[-length:]:
            return tail
    return fail("its contract is damaged (the file was cut, re-zipped or appended to)", CONVERT_AGAIN)


def cut_tail(tail: bytes, central: int, golden: bool) -> Tail:
    """Return the texts of a tail whose central directory should be at `central`; nothing is checked."""
    if not golden:
        return Tail(len(tail), tail[43:central], None)
    end = 41 + int.from_bytes(tail[18:22], "little")  # of golden.json
    return Tail(len(tail), tail[end + 43 : central], tail[41:end])


def read_contract(path: str | Path, verify: bool = False) -> Contract:
    """Return the contract of a .tflite file, reading its last 64 kB, 128 kB with golden vectors.

    verify: check all of the model too.

    Raises:
        ContractError: no contract, one that is damaged, edited or malformed, or that does not fit the model.
        ModelError: the file cannot be read or is not a TFLite model.
    """
    contract, _ = open_model(path, read_stamp)
    if verify:
        check_model(path, contract)
    return contract


def read_golden(path: str | Path) -> bytes | None:
    """Return a .tflite file's golden.json, which is the one its contract names; None where it has none.

    Raises: as `read_contract`.
    """
    return open_model(path, read_stamp)[1]


def read_stamp(file: BinaryIO) -> tuple[Contract, bytes | None]:
    """Return the contract and golden.json of an open file."""
    size = file.seek(0, 2)
    file.seek(0)
    check_magic(str(file.name), file.read(8))

    def read_end(count: int) -> bytes:
        file.seek(max(0, size - count))
        return file.read()

    tail = find_tail(read_end)
    if tail is None:
        fail("it has no contract", CONVERT)
    contract = from_json(tail.text)
    before = size - tail.length
    if before != contract.model.bytes:
        fail(f"its contract is for a model of {contract.model.bytes} bytes, but this one has {before}", CONVERT_AGAIN)
    found = None if tail.golden is None else GoldenFacts(len(tail.golden), hashlib.sha256(tail.golden).hexdigest())
    if found != contract.golden:
        fail("its golden vectors are not those that its contract names", CONVERT_AGAIN)
    return contract, tail.golden


def check_model(path: str | Path, contract: Contract) -> None:
    """Check that the file's flatbuffer has the contract's length and SHA-256.

    Raises:
        ContractError: one of them differs.
        ModelError: the file cannot be read.
    """

    def check(file: BinaryIO) -> None:
        digest, left = hashlib.sha256(), contract.model.bytes
        while left:
            block = file.read(min(left, 1 << 20))
            if not block:
                break
            digest.update(block)
            left -= len(block)
        if left or digest.hexdigest() != contract.model.sha256:
            fail("the model is not the one its contract was made for (its SHA-256 differs)", CONVERT_AGAIN)

    open_model(path, check)


def open_model(path: str | Path, use: Callable[[BinaryIO], T]) -> T:
    """Return use(the open file), its errors naming the file."""
    try:
        if not Path(path).is_file():
            why = "it is not a file" if Path(path).exists() else "it does not exist"
            raise ModelError(str(path), why, "give a .tflite file made by edge-convert")
        with Path(path).open("rb") as file:
            return use(file)
    except ContractError as error:
        raise ContractError(str(path), error.why, error.fix) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ModelError(str(path), f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
