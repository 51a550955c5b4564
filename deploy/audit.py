"""What happened on this device: an append-only log whose lines hang together by their hashes.

`audit/log.jsonl` has one JSON object a line: n (from 1), at (UTC), event, facts, prev (the hash of the line before, of
the first 64 zeros), hash (SHA-256 of the canonical JSON of all the other fields). `audit/head.json` says n and hash of
the last line, so that a truncated end shows as well.

An edited, removed or moved line is found. Who may write both files can write another history: keep the head elsewhere
too (`edge-deploy status --json` shows it) and compare it with `audit verify --head N:HASH`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import AuditLogError, OutputError, UsageError

from .disk import ROOM, hold, sync_folder, tell_time, write_json

START = "0" * 64
LOG, HEAD, LOCK = "audit/log.jsonl", "audit/head.json", "audit/.lock"


@dataclass(frozen=True)
class Head:
    """The last line's number and hash."""

    n: int = 0
    hash: str = START


def append_event(root: Path, event: str, facts: Mapping[str, Any]) -> Head:
    """Add a line to the log, on disk before this returns. Raises: OutputError; AuditLogError if its end is damaged."""
    log = root / LOG
    with hold(root / LOCK):
        try:
            with log.open("ab+") as file:
                last = find_last(file.name)
                fields = {"n": last.n + 1, "at": tell_time(), "event": event, "facts": dict(facts), "prev": last.hash}
                head = Head(last.n + 1, hash_fields(fields))
                file.truncate(find_end(log))  # a line that a power cut left unfinished
                file.write(to_text({**fields, "hash": head.hash}) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(log.parent)
        except OSError as error:
            raise OutputError(str(log), error.strerror or str(error), ROOM) from None
        write_json(root / HEAD, {"n": head.n, "hash": head.hash})
    return head


def find_last(log: str) -> Head:
    """Return the number and hash of the last whole line."""
    lines = Path(log).read_bytes().split(b"\n")[:-1]
    if not lines:
        return Head()
    try:
        fields = json.loads(lines[-1])
        return Head(int(fields["n"]), str(fields["hash"]))
    except (ValueError, TypeError, KeyError):
        raise AuditLogError(log, "its last line is damaged", "keep a copy of it, then move it away") from None


def find_end(log: Path) -> int:
    """Return how many bytes the whole lines have."""
    return log.read_bytes().rfind(b"\n") + 1


def read_head(root: Path) -> Head | None:
    """Return what the head file says; None if there is none. Raises: AuditLogError if it is damaged."""
    with suppress(FileNotFoundError):
        try:
            fields = json.loads((root / HEAD).read_bytes())
            return Head(int(fields["n"]), str(fields["hash"]))
        except (ValueError, TypeError, KeyError):
            raise AuditLogError(
                str(root / HEAD), "it is damaged", "compare the log with a head kept elsewhere"
            ) from None
    return None


def verify_log(root: Path, kept: Head | None = None) -> tuple[Head, str]:
    """Return the log's last line, and a note on an append that was interrupted; `kept` is a head kept elsewhere.

    Raises: AuditLogError if a line was edited, removed, moved or added without its hash, or lines are gone at the end.
    """
    log = root / LOG
    try:
        whole, torn = split_lines(log.read_bytes())
    except FileNotFoundError:
        whole, torn = [], b""
    head, hashes = Head(), [START]
    for number, line in enumerate(whole, 1):
        fields = read_line(log, number, line)
        if fields["n"] != number or fields["prev"] != head.hash:
            why = f"line {number} is number {fields['n']} and does not follow the line before it"
            raise AuditLogError(str(log), why, "lines were removed, moved or added here")
        head = Head(number, fields["hash"])
        hashes.append(head.hash)
    written = read_head(root)
    for known, where in ((written or Head(), "head.json"), (kept or Head(), "the head kept elsewhere")):
        if known.n > head.n:
            why = f"it ends at line {head.n}, but {where} knows {known.n} lines"
            raise AuditLogError(str(log), why, "its end was cut off, or an older copy was put in its place")
        if hashes[known.n] != known.hash:
            raise AuditLogError(str(log), f"line {known.n} is not the one that {where} knows", "it was written anew")
    behind = head.n - (written or Head()).n
    if behind > 1:  # an append writes one line, then the head
        raise AuditLogError(str(log), f"it has {behind} lines that head.json does not know", "the head was put back")
    note = "the last append was interrupted before its line was whole" if torn else ""
    return head, note or ("the last append was interrupted before the head was written" if behind else "")


def split_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Return whole lines, and what follows the last of them."""
    *whole, torn = data.split(b"\n")
    return whole, torn


def read_line(log: Path, number: int, line: bytes) -> dict[str, Any]:
    """Return a line's fields if its hash fits them. Raises: AuditLogError."""
    try:
        fields = json.loads(line)
        claimed = fields.pop("hash")
        fits = hash_fields(fields) == claimed and to_text({**fields, "hash": claimed}) == line
        if fits and {"n", "at", "event", "facts", "prev"} == set(fields):
            return {**fields, "hash": claimed}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise AuditLogError(str(log), f"line {number} was changed: its hash does not fit", "compare with a copy of the log")


def hash_fields(fields: Mapping[str, Any]) -> str:
    """Return the hash of a line's other fields."""
    return hashlib.sha256(to_text(fields)).hexdigest()


def to_text(fields: Mapping[str, Any]) -> bytes:
    """Return canonical JSON, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def read_kept(text: str) -> Head:
    """Return a head as `status` shows it, N:HASH. Raises: UsageError."""
    number, _, digest = text.partition(":")
    if not number.isdigit() or len(digest) != 64:
        raise UsageError(f"--head {text}", "it is not N:HASH", "take it from edge-deploy status")
    return Head(int(number), digest)


def record_run(root: Path, run: Path, names: bool = False) -> Head | None:
    """Add what a folder run did, from its run.json: model, versions, counts; None if that run is the last recorded.

    File names, which may be patients', stay out unless `names`; then the run's arguments go in.
    Raises: UsageError if it is no run.json of edge-seg.
    """
    try:
        data = run.read_bytes()
        facts = json.loads(data)
        keys = ("versions", "model", "engine", "counts") + (("arguments",) if names else ())
        taken = {key: strip_paths(facts[key], names) for key in keys if key in facts}
        if "model" not in taken:
            raise KeyError("model")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(str(run), f"it is no run.json of edge-seg ({error})", "give OUT/run.json") from None
    taken["run_sha256"] = hashlib.sha256(data).hexdigest()
    if (last := read_last_run(root)) and last == taken["run_sha256"]:
        return None
    return append_event(root, "run", taken)


def strip_paths(value: Any, names: bool) -> Any:
    """Return a value without the texts that hold a path."""
    if isinstance(value, Mapping):
        kept = {key: strip_paths(item, names) for key, item in value.items()}
        return kept if names else {key: item for key, item in kept.items() if item is not None and "path" not in key}
    if isinstance(value, list):
        return [strip_paths(item, names) for item in value]
    return None if not names and isinstance(value, str) and "/" in value else value


def read_last_run(root: Path) -> str:
    """Return the SHA-256 of the run.json that was recorded last; "" if none was."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        for line in reversed((root / LOG).read_bytes().splitlines()):
            fields = json.loads(line)
            if fields["event"] == "run":
                return str(fields["facts"]["run_sha256"])
    return ""
