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
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from deploy.files import (
    MAKE_ROOM,
    RUN_AS_ROOT,
    check_regular,
    format_now,
    parse_json,
    read_json,
    read_regular,
    require_own_folder,
    write_json,
)
from edge_runtime.errors import AuditLogError, OutputError, UsageError
from edge_runtime.system.files import TEMPORARY, hold_lock, sync_folder, sync_handle

START = "0" * 64
FOLDER, LOG, HEAD, LOCK = "audit", "audit/log.jsonl", "audit/head.json", "audit/.lock"
MAX_LOG_BYTES = 256 << 20  # half a million lines
MAX_HEAD_BYTES = 4096
MAX_RUN_BYTES = 16 << 20  # of a run.json, which names its inputs
MAX_FACTS_BYTES, MAX_FACTS_DEPTH = 1 << 20, 16  # of what is recorded of it
MOVE_AWAY = "keep a copy of it, then move it away"
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Head:
    """The last line's number and hash."""

    n: int = 0
    hash: str = START


def append_event(root: Path, event: str, facts: Mapping[str, Any]) -> Head:
    """Add a line to the log, on disk on return. Raises: OutputError; AuditLogError if the last line is damaged."""
    log = root / LOG
    require_own_folder(root / FOLDER)
    with hold_lock(root / LOCK, fix=MAKE_ROOM):
        data = read_log(log)
        last = read_last_line(log, data)
        fields = {"n": last.n + 1, "at": format_now(), "event": event, "facts": dict(facts), "prev": last.hash}
        head = Head(last.n + 1, hash_fields(fields))
        try:
            with open_log(log) as file:
                file.truncate(data.rfind(b"\n") + 1)  # a line that a power cut left unfinished
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
    require_own_folder(root / FOLDER)
    with hold_lock(root / LOCK, fix=MAKE_ROOM), suppress(OSError):
        for path in (root / FOLDER).glob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)


@contextmanager
def open_log(log: Path) -> Iterator[BinaryIO]:
    """Yield the log to append to, never what a link leads to. Raises: OSError."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(log, flags, 0o666), "ab") as file:
        check_regular(log, os.fstat(file.fileno()))
        yield file


def read_log(log: Path) -> bytes:
    """Return the log's bytes; none where there is no log. Raises: OutputError; AuditLogError if it is no log."""
    require_own_folder(log.parent)
    try:
        return read_regular(log, MAX_LOG_BYTES, follow=False)
    except FileNotFoundError:
        return b""
    except PermissionError as error:
        raise OutputError(str(log), error.strerror or str(error), RUN_AS_ROOT) from None
    except OSError as error:
        raise AuditLogError(str(log), error.strerror or str(error), MOVE_AWAY) from None


def read_last_line(log: Path, data: bytes) -> Head:
    """Return the number and hash of the last whole line. Raises: AuditLogError if it is damaged."""
    whole, _ = split_lines(data)
    if not whole:
        return Head()
    try:
        return to_head(parse_json(whole[-1]))
    except ValueError:
        raise AuditLogError(str(log), "its last line is damaged", MOVE_AWAY) from None


def to_head(fields: Any) -> Head:
    """Return the number and hash in a JSON object. Raises: ValueError if they are not there."""
    number, digest = (fields.get("n"), fields.get("hash")) if isinstance(fields, dict) else (None, None)
    if type(number) is not int or number < 0 or not isinstance(digest, str) or not HASH.fullmatch(digest):
        raise ValueError("it has no number and hash")
    return Head(number, digest)


def read_head(root: Path) -> Head | None:
    """Return the head in the head file; None if there is no file. Raises: OutputError; AuditLogError if damaged."""
    path = root / HEAD
    require_own_folder(path.parent)
    try:
        return to_head(read_json(path, MAX_HEAD_BYTES, follow=False))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise OutputError(str(path), error.strerror or str(error), RUN_AS_ROOT) from None
    except (OSError, ValueError):
        raise AuditLogError(str(path), "it is damaged", "compare the log with a head kept elsewhere") from None


def verify_log(root: Path, kept: Head | None = None) -> tuple[Head, str]:
    """Return the log's last line, and a note on an append that was interrupted; `kept` is a head kept elsewhere.

    Raises: AuditLogError if a line was edited, removed, moved or added without its hash, or lines are gone at the end.
    """
    log = root / LOG
    whole, partial = split_lines(read_log(log))
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
        whole = parse_json(line)
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
    if not re.fullmatch(rf"[0-9]{{1,18}}:{HASH.pattern}", text):
        raise UsageError(f"--head {text[:100]}", "it is not N:HASH", "take it from edge-deploy status")
    number, _, digest = text.partition(":")
    return Head(int(number), digest)


def record_run(root: Path, run: Path, names: bool = False) -> Head | None:
    """Add a folder run, from its run.json: model, versions, counts; return None if the last recorded run is this one.

    File names, which may be patients', are left out unless `names` is set; then the run's arguments are recorded too.
    The service's user wrote the file and root reads it: a link to another file is not followed.
    Raises: UsageError if it is not a run.json of edge-seg.
    """
    try:
        data = read_regular(run, MAX_RUN_BYTES, follow=False)
        recorded = choose_facts(parse_json(data), names)
    except (OSError, ValueError) as error:
        why = f"it is not a run.json of edge-seg ({getattr(error, 'strerror', None) or error})"
        raise UsageError(str(run), why, "give OUT/run.json") from None
    recorded["run_sha256"] = hashlib.sha256(data).hexdigest()
    if read_last_run(root) == recorded["run_sha256"]:
        return None
    return append_event(root, "run", recorded)


def choose_facts(facts: Any, names: bool) -> dict[str, Any]:
    """Return what the log holds of a run.json. Raises: ValueError if that is not what edge-seg writes."""
    kinds = {"versions": dict, "model": dict, "engine": dict, "counts": dict} | ({"arguments": list} if names else {})
    if not isinstance(facts, dict) or "model" not in facts:
        raise ValueError("it has no model")
    for key, kind in kinds.items():
        if not isinstance(facts.get(key, kind()), kind):
            raise ValueError(f"its {key} is of the wrong type")
    recorded = {key: remove_paths(facts[key], names) for key in kinds if key in facts}
    if len(to_canonical_json(recorded)) > MAX_FACTS_BYTES:
        raise ValueError(f"more than {MAX_FACTS_BYTES} bytes to record")
    return recorded


def remove_paths(value: Any, names: bool, depth: int = 0) -> Any:
    """Return a JSON value without the texts that contain a path; unchanged if `names`. Raises: ValueError if deep."""
    if depth > MAX_FACTS_DEPTH:
        raise ValueError("it is nested too deeply")
    if isinstance(value, Mapping):
        kept = {key: remove_paths(item, names, depth + 1) for key, item in value.items()}
        return kept if names else {key: item for key, item in kept.items() if item is not None and "path" not in key}
    if isinstance(value, list):
        return [remove_paths(item, names, depth + 1) for item in value]
    return None if not names and isinstance(value, str) and "/" in value else value


def read_last_run(root: Path) -> str:
    """Return the SHA-256 of the run.json that was recorded last; "" if there is none."""
    for line in reversed(read_log(root / LOG).splitlines()):
        with suppress(ValueError, KeyError, TypeError):  # verify_log tells of damaged lines
            fields = parse_json(line)
            if fields["event"] == "run":
                return str(fields["facts"]["run_sha256"])
    return ""
