"""The audit log: an edited, removed, moved or added line is found, and so is an end that was cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.device.audit_log import (
    HEAD,
    LOG,
    Head,
    append_event,
    hash_fields,
    parse_head,
    record_run,
    to_canonical_json,
    verify_log,
)
from edge_runtime.errors import AuditLogError, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(5):
        append_event(tmp_path, "run", {"ok": number})
    return tmp_path


def read_lines(root: Path) -> list[bytes]:
    return (root / LOG).read_bytes().splitlines(keepends=True)


def write_lines(root: Path, lines: list[bytes]) -> None:
    (root / LOG).write_bytes(b"".join(lines))


def test_an_untouched_log_verifies(root: Path) -> None:
    """Five lines, the head of the fifth; an empty log verifies as well."""
    head, note = verify_log(root)
    assert head.n == 5 and not note and json.loads(read_lines(root)[4])["hash"] == head.hash
    assert verify_log(root / "empty") == (Head(), "")


def test_any_edit_is_found(root: Path) -> None:
    """A changed byte anywhere in the log is found, and the line named."""
    data = (root / LOG).read_bytes()
    for offset in range(0, len(data), 3):
        changed = bytearray(data)
        changed[offset] ^= 1
        (root / LOG).write_bytes(changed)
        with pytest.raises(AuditLogError):
            verify_log(root)


@pytest.mark.parametrize(
    "order",
    [[1, 2, 3, 4], [0, 2, 3, 4], [0, 1, 3, 2, 4], [0, 1, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 4], [0, 1], []],
)
def test_removed_moved_or_doubled_lines_are_found(root: Path, order: list[int]) -> None:
    """Any other sequence of the five lines is refused: a cut-off end by the head file."""
    lines = read_lines(root)
    write_lines(root, [lines[number] for number in order])
    with pytest.raises(AuditLogError, match=r"line|its end was cut off"):
        verify_log(root)


def test_a_line_rewritten_with_its_hash_is_found(root: Path) -> None:
    """A new hash is not enough: the next line holds the old one, and the head file holds the last line's."""
    for number in range(5):
        lines = read_lines(root)
        fields = json.loads(lines[number])
        fields.pop("hash")
        fields["facts"] = {"ok": 99}
        lines[number] = to_canonical_json({**fields, "hash": hash_fields(fields)}) + b"\n"
        original = (root / LOG).read_bytes()
        write_lines(root, lines)
        with pytest.raises(AuditLogError):
            verify_log(root)
        (root / LOG).write_bytes(original)


def test_an_older_copy_is_found_by_a_head_kept_elsewhere(root: Path) -> None:
    """Older copies of log and head file are consistent; a head that was noted elsewhere shows the difference."""
    old = {name: (root / name).read_bytes() for name in (LOG, HEAD)}
    kept = append_event(root, "run", {})
    assert parse_head(f"{kept.n}:{kept.hash}") == kept and verify_log(root, kept)[0] == kept
    for name, data in old.items():
        (root / name).write_bytes(data)
    assert verify_log(root)[0].n == 5
    with pytest.raises(AuditLogError, match="ends at line 5, but the head kept elsewhere is of line 6"):
        verify_log(root, kept)
    with pytest.raises(UsageError):
        parse_head("6:abc")


def test_a_power_cut_is_not_reported_as_forgery(root: Path) -> None:
    """A line cut off in the middle, or a head not yet written, is named as such and repaired by the next line."""
    lines = read_lines(root)
    (root / LOG).write_bytes(b"".join(lines) + lines[0][:40])
    assert verify_log(root)[1] == "the last append was interrupted before its line was whole"
    assert append_event(root, "run", {}).n == 6 and verify_log(root) == (verify_log(root)[0], "")
    head = (root / HEAD).read_bytes()
    append_event(root, "run", {})
    (root / HEAD).write_bytes(head)
    assert verify_log(root)[1] == "the last append was interrupted before the head was written"
    append_event(root, "run", {})
    (root / HEAD).write_bytes(head)
    with pytest.raises(AuditLogError, match=r"2 lines more than head\.json"):
        verify_log(root)
    (root / HEAD).write_bytes(b"{")
    with pytest.raises(AuditLogError, match="damaged"):
        verify_log(root)


def test_a_run_is_recorded_without_names(tmp_path: Path) -> None:
    """Model, versions and counts go in, once for each run; paths, names and folders only if asked for."""
    facts = {
        "versions": {"edge-seg": "1.0"},
        "model": {"id": "net", "sha256": "0" * 64, "path": "/media/MUELLER/net.tflite"},
        "engine": {"used": "litert"},
        "counts": {"ok": 3, "failed": 0},
        "arguments": ["/media/MUELLER/slices"],
        "inputs": ["MUELLER.png"],
    }
    (tmp_path / "run.json").write_text(json.dumps(facts))
    assert record_run(tmp_path, tmp_path / "run.json") is not None
    line = json.loads(read_lines(tmp_path)[0])
    assert line["facts"]["counts"] == {"ok": 3, "failed": 0} and line["facts"]["model"]["id"] == "net"
    assert b"MUELLER" not in (tmp_path / LOG).read_bytes()
    assert record_run(tmp_path, tmp_path / "run.json") is None
    facts["counts"] = {"ok": 4, "failed": 0}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    assert record_run(tmp_path, tmp_path / "run.json", names=True) is not None
    assert b"MUELLER" in (tmp_path / LOG).read_bytes()
    for wrong in ("", "[]", "{}", "no JSON"):
        (tmp_path / "run.json").write_text(wrong)
        with pytest.raises(UsageError, match=r"it is not a run\.json of edge-seg"):
            record_run(tmp_path, tmp_path / "run.json")
