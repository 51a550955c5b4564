"""What happened on this device? An append-only log; each line holds the hash of the line before.

`audit/log.jsonl` has one JSON object a line: n (from 1), at (UTC), event, facts, prev (the hash of the line before; 64
zeros in the first), hash (SHA-256 of the canonical JSON of all the other fields). `audit/head.json` holds n and hash of
the last line, so that a truncated end is found too.

An edited, removed or moved line is found. Anyone who can write both files can write another history: store the head
elsewhere too (`edge-deploy status --json` shows it) and compare it with `audit verify --head N:HASH`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import AuditLogError, OutputError, UsageError
from edge_runtime.system.files import TEMPORARY, hold_lock, sync_folder, sync_handle

from .durable import MAKE_ROOM, format_now, write_json

START = "0" * 64
LOG, HEAD, LOCK = "audit/log.jsonl", "audit/head.json", "audit/.lock"


@dataclass(frozen=True)
class Head:
    """The last line's number and hash."""

    n: int = 0
    hash: str = START


def append_event(root: Path, event: str, facts: Mapping[str, Any]) -> Head:
    """Add a line to the log, on disk on return. Raises: OutputError; AuditLogError if the last line is damaged."""
    log = root / LOG
    with hold_lock(root / LOCK, fix=MAKE_ROOM):
        try:
            with log.open("ab+") as file:
                last = read_last_line(log)
                fields = {"n": last.n + 1, "at": format_now(), "event": event, "facts": dict(facts), "prev": last.hash}
                head = Head(last.n + 1, hash_fields(fields))
                file.truncate(measure_whole_lines(log))  # a line that a power cut left unfinished
                file.write(to_canonical_json({**fields, "hash": head.hash}) + b"\n")
                file.flush()
                sync_handle(file.fileno())
            sync_folder(log.parent, MAKE_ROOM)
        except OSError as error:
            raise OutputError(str(log), error.strerror or str(error), MAKE_ROOM) from None
        write_json(root / HEAD, {"n": head.n, "hash": head.hash})
    return head


def clean_log(root: Path) -> None:
    """Remove the temporary files of commands that were killed while they wrote the head. Raises: OutputError."""
    with hold_lock(root / LOCK, fix=MAKE_ROOM), suppress(OSError):
        for path in (root / LOG).parent.glob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)


def read_last_line(log: Path) -> Head:
    """Return the number and hash of the last whole line. Raises: AuditLogError if it is damaged."""
    whole, _ = split_lines(log.read_bytes())
    if not whole:
        return Head()
    try:
        fields = json.loads(whole[-1])
        return Head(int(fields["n"]), str(fields["hash"]))
    except (ValueError, TypeError, KeyError):
        raise AuditLogError(str(log), "its last line is damaged", "keep a copy of it, then move it away") from None


def measure_whole_lines(log: Path) -> int:
    """Return the size of the whole lines, in bytes."""
    return log.read_bytes().rfind(b"\n") + 1


def read_head(root: Path) -> Head | None:
    """Return the head in the head file; None if there is no file. Raises: AuditLogError if it is damaged."""
    path = root / HEAD
    try:
        fields = json.loads(path.read_bytes())
        return Head(int(fields["n"]), str(fields["hash"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise AuditLogError(str(path), "it is damaged", "compare the log with a head kept elsewhere") from None


def verify_log(root: Path, kept: Head | None = None) -> tuple[Head, str]:
    """Return the log's last line, and a note on an append that was interrupted; `kept` is a head kept elsewhere.

    Raises: AuditLogError if a line was edited, removed, moved or added without its hash, or lines are gone at the end.
    """
    log = root / LOG
    try:
        whole, partial = split_lines(log.read_bytes())
    except FileNotFoundError:
        whole, partial = [], b""
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
            why = f"it ends at line {head.n}, but {where} is of line {known.n}"
            raise AuditLogError(str(log), why, "its end was cut off, or it was replaced by an older copy")
        if hashes[known.n] != known.hash:
            raise AuditLogError(str(log), f"the hash of line {known.n} is not that of {where}", "it was rewritten")
    behind = head.n - (written or Head()).n
    if behind > 1:  # an append writes one line, then the head
        why = f"it has {behind} lines more than head.json"
        raise AuditLogError(str(log), why, "head.json was replaced by an older copy")
    note = "the last append was interrupted before its line was whole" if partial else ""
    return head, note or ("the last append was interrupted before the head was written" if behind else "")


def split_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole lines, and the bytes after the last of them."""
    *whole, partial = data.split(b"\n")
    return whole, partial


def read_line(log: Path, number: int, line: bytes) -> dict[str, Any]:
    """Return a line's fields if its hash is theirs. Raises: AuditLogError."""
    try:
        whole = json.loads(line)
        fields = {key: value for key, value in whole.items() if key != "hash"}
        intact = hash_fields(fields) == whole["hash"] and to_canonical_json(whole) == line
        if intact and {"n", "at", "event", "facts", "prev"} == set(fields):
            return dict(whole)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise AuditLogError(str(log), f"line {number} was changed: its hash does not fit", "compare with a copy of the log")


def hash_fields(fields: Mapping[str, Any]) -> str:
    """Return the hash of a line's other fields."""
    return hashlib.sha256(to_canonical_json(fields)).hexdigest()


def to_canonical_json(fields: Mapping[str, Any]) -> bytes:
    """Return canonical JSON, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def parse_head(text: str) -> Head:
    """Return the head of a text N:HASH, as `status` shows it. Raises: UsageError."""
    number, _, digest = text.partition(":")
    if not number.isdigit() or len(digest) != 64:
        raise UsageError(f"--head {text}", "it is not N:HASH", "take it from edge-deploy status")
    return Head(int(number), digest)


def record_run(root: Path, run: Path, names: bool = False) -> Head | None:
    """Add a folder run, from its run.json: model, versions, counts; return None if the last recorded run is this one.

    File names, which may be patients', are left out unless `names` is set; then the run's arguments are recorded too.
    Raises: UsageError if it is not a run.json of edge-seg.
    """
    try:
        data = run.read_bytes()
        facts = json.loads(data)
        keys = ("versions", "model", "engine", "counts") + (("arguments",) if names else ())
        recorded = {key: remove_paths(facts[key], names) for key in keys if key in facts}
        if "model" not in recorded:
            raise KeyError("model")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(str(run), f"it is not a run.json of edge-seg ({error})", "give OUT/run.json") from None
    recorded["run_sha256"] = hashlib.sha256(data).hexdigest()
    if read_last_run(root) == recorded["run_sha256"]:
        return None
    return append_event(root, "run", recorded)


def remove_paths(value: Any, names: bool) -> Any:
    """Return a JSON value without the texts that contain a path; unchanged if `names`."""
    if isinstance(value, Mapping):
        kept = {key: remove_paths(item, names) for key, item in value.items()}
        return kept if names else {key: item for key, item in kept.items() if item is not None and "path" not in key}
    if isinstance(value, list):
        return [remove_paths(item, names) for item in value]
    return None if not names and isinstance(value, str) and "/" in value else value


def read_last_run(root: Path) -> str:
    """Return the SHA-256 of the run.json that was recorded last; "" if there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        for line in reversed((root / LOG).read_bytes().splitlines()):
            fields = json.loads(line)
            if fields["event"] == "run":
                return str(fields["facts"]["run_sha256"])
    return ""
