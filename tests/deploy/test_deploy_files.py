"""Every file that edge-deploy reads may be anything: each command ends at once, in one line, and writes nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kits import describe, make_model, pack, write_project, write_small_kit

from deploy.__main__ import main
from deploy.device.audit_log import LOG, append_event, parse_head
from deploy.files import open_regular, read_json, read_regular, to_line
from deploy.fleet.table import read_devices, to_csv, to_html, to_markdown
from deploy.kit.manifest import LOCK, MODEL, from_json, to_json
from edge_runtime.errors import KitError, UsageError

WHOLE = "Name: edge-seg\nVersion: 1\n"
DEEP = "[" * 30_000 + "]" * 30_000


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """A command that waits for a pipe, or reads a device to its end, ends the tests."""
    signal.alarm(300)
    yield
    signal.alarm(0)


def make_giant(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)  # it takes no room on the disk


HOSTILE: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "giant": make_giant,
    "circle": lambda path: path.symlink_to(path),
    "nowhere": lambda path: path.symlink_to(path.with_name("nowhere")),
    "missing": lambda path: None,
    "empty": Path.touch,
    "deep": lambda path: path.write_text(DEEP),
    "deep object": lambda path: path.write_text('{"a":' * 30_000 + "1" + "}" * 30_000),
    "list": lambda path: path.write_text("[]"),
    "text": lambda path: path.write_text('"text"'),
    "null": lambda path: path.write_text("null"),
    "number": lambda path: path.write_text("9" * 5000),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00\xd8" * 100),
    "zeros": lambda path: path.write_bytes(bytes(100_000)),
    "zip": lambda path: zipfile.ZipFile(path, "w").close(),
}


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "giant", "circle", "nowhere", "missing"])
def test_only_regular_files_of_a_limited_size_are_opened(tmp_path: Path, kind: str) -> None:
    """Whatever else it is, an OSError says so, and no byte is read."""
    path = tmp_path / "file"
    HOSTILE[kind](path)
    for follow in (True, False):
        with pytest.raises(OSError) as caught:
            read_regular(path, 1000, follow)
        assert caught.value.strerror


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    """Up to the limit and no byte more; through a link only if links are followed."""
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", 10) == read_regular(tmp_path / "link", 10) == b"0123456789"
    with pytest.raises(OSError, match="more than 9 bytes"):
        read_regular(tmp_path / "file", 9)
    with pytest.raises(OSError, match="a symbolic link"), open_regular(tmp_path / "link", follow=False):
        pass
    (tmp_path / "json").write_text('{"a": [NaN]}')
    with pytest.raises(ValueError, match="NaN"):
        read_json(tmp_path / "json", 100)


def test_a_line_is_one_line_of_signs() -> None:
    """Ends of lines of all kinds, escapes and signs that change the direction are not in it; letters stay."""
    assert to_line("a\r\n\tb\u2028c\x85d  e") == "a b c d e" and to_line("Müller 脳 µ²") == "Müller 脳 µ²"
    assert to_line("\x1b[31m\x9b\u202e\udcff\x00") == "�[31m����"


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(
    "command",
    [
        ["verify", "BAD", "--pub", "PUB"],
        ["verify", "KIT", "--pub", "BAD"],
        ["install", "BAD", "--root", "ROOT", "--pub", "PUB"],
        ["install", "KIT", "--root", "ROOT", "--pub", "BAD"],
        ["installer", "-o", "OUT", "--key", "BAD"],
        ["bundle", "BAD", "--target", "TARGET", "--key", "KEY", "-o", "OUT", "--wheel", "WHEEL", "--wheels", "SHOP"],
        ["bundle", "MODEL", "--target", "TARGET", "--key", "BAD", "-o", "OUT", "--wheel", "WHEEL", "--wheels", "SHOP"],
        ["bundle", "MODEL", "--target", "TARGET", "--key", "KEY", "-o", "OUT", "--wheel", "BAD", "--wheels", "SHOP"],
        ["bundle", "MODEL", "--target", "TARGET", "--key", "KEY", "-o", "OUT", "--wheel", "WHEEL", "--lock", "BAD"],
        ["audit", "record", "BAD", "--root", "ROOT"],
        ["audit", "record", "BAD", "--root", "ROOT", "--names"],
        ["fleet-table", "BAD"],
    ],
    ids=lambda command: f"{command[0]} {command.index('BAD')}",
)
def test_a_hostile_file_is_one_line(
    tmp_path: Path, key: Path, kind: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file argument of each command: exit status 1, 2 or 8, and one line, and nothing is written."""
    if command[-2:] == ["--lock", "BAD"] and kind == "empty":
        pytest.skip("an empty lock is one")
    bad = tmp_path / "bad-1.0-py3-none-any.whl"
    HOSTILE[kind](bad)
    (tmp_path / "model.tflite").write_bytes(make_model())
    (tmp_path / "shop").mkdir()
    names = {
        "BAD": bad,
        "PUB": f"{key}.pub",
        "KEY": key,
        "KIT": write_small_kit(tmp_path / "kit", key),
        "MODEL": tmp_path / "model.tflite",
        "WHEEL": write_project(tmp_path / "own"),
        "SHOP": tmp_path / "shop",
        "ROOT": tmp_path / "root",
        "OUT": tmp_path / "out",
        "TARGET": "debian-bookworm-x86_64-py311",
    }
    if kind != "folder" and bad.is_file():
        bad.chmod(0o600)
    status = main([str(names.get(word, word)) for word in command])
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if not line.startswith("edge-deploy: check the kit")]
    assert status in (1, 2, 8) and len(errors) == 1 and errors[0].startswith("edge-deploy: error: "), captured.err
    assert len(errors[0]) < 600
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.sig").exists()
    assert not (tmp_path / "root").exists()


# --- the audit log -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["²:" + "0" * 64, "9" * 5000 + ":" + "0" * 64, "1:" + "²" * 64, "1:" + "g" * 64, "1:" + "0" * 63, "-1:" + "0" * 64,
     "٣:" + "0" * 64, ":", "", "1", "1:" + "0" * 64 + "\n", " 1:" + "0" * 64, "1:" + "A" * 64, "1_0:" + "0" * 64],
)  # fmt: skip
def test_a_head_is_a_number_and_a_hash(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is a usage error, not a traceback."""
    with pytest.raises(UsageError, match="it is not N:HASH"):
        parse_head(text)
    if text:
        assert main(["audit", "verify", "--root", str(tmp_path), f"--head={text}"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "facts",
    [
        {"model": []},
        {"model": None},
        {"model": {"id": 1}, "counts": 3},
        {"model": {"id": 1}, "engine": "x"},
        {"model": {"a": "x" * (2 << 20)}},
        {"versions": {}},
    ],
)
def test_a_run_of_other_kinds_is_refused(tmp_path: Path, facts: object) -> None:
    """Wrong types, no model, more than a megabyte to record: one line, and no line in the log."""
    (tmp_path / "run.json").write_text(json.dumps(facts))
    assert main(["audit", "record", str(tmp_path / "run.json"), "--root", str(tmp_path / "root")]) == 2
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("depth", [20, 200, 400, 900, 990, 3000, 100_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_a_deeply_nested_run_is_refused(tmp_path: Path, depth: int, brackets: str) -> None:
    """At every depth, whether JSON can be read or not: what was recorded could not be read everywhere."""
    opening = "[" if brackets == "[]" else '{"a":'
    text = f'{{"model": {{"id": {opening * depth}1{brackets[1] * depth}}}}}'
    (tmp_path / "run.json").write_text(text)
    assert main(["audit", "record", str(tmp_path / "run.json"), "--root", str(tmp_path / "root")]) == 2
    assert not (tmp_path / "root").exists()


def test_a_run_is_not_read_through_a_link(tmp_path: Path) -> None:
    """Root records what the service's user left in its folder: a link from there to another file is refused."""
    (tmp_path / "secret.json").write_text('{"model": {"id": "secret"}}')
    (tmp_path / "run.json").symlink_to("secret.json")
    assert main(["audit", "record", str(tmp_path / "run.json"), "--root", str(tmp_path)]) == 2
    assert not (tmp_path / LOG).exists()
    append_event(tmp_path, "run", {"ok": 1})
    assert main(["audit", "verify", "--root", str(tmp_path)]) == 0


# --- kits and wheels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"model_id": "a\x1b[31m"},
        {"model_version": "1\n* fake"},
        {"target": "\u202egnp"},
        {"software": "1" * 201},
        {"release": -1},
        {"release": 1 << 80},
        {"installed_bytes": -(1 << 60)},
        {"memory_bytes": 10**30},
        {"latency_ms": 10**400},
        {"latency_ms": -1.0},
    ],
)
def test_signed_texts_and_numbers_are_checked(
    tmp_path: Path, key: Path, public: bytes, changes: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    """Control signs, long texts, numbers below zero or beyond all measure are refused, even with a good signature."""
    path = tmp_path / "kit"
    path.write_bytes(pack(key, {LOCK: b"", MODEL: make_model()}, **changes))
    assert main(["verify", str(path), "--pub", f"{key}.pub"]) == 8
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and next(iter(changes)) in error and error.strip().isprintable()


def test_a_nested_entry_is_refused(key: Path) -> None:
    """A list a thousand deep in the place of a path is no traceback, at whatever depth it stops to be JSON."""
    text = to_json(describe({LOCK: b"", MODEL: make_model()}))
    for depth in (10, 100, 300, 900, 3000):
        nested = b"[" * depth + b"]" * depth
        with pytest.raises(KitError):
            from_json(text.replace(b'"path":"lock.txt"', b'"path":' + nested))


def write_odd_wheel(path: Path, metadata: str | None, compression: int = 0, flag: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        if metadata is not None:
            archive.writestr("edge_seg-1.0.dist-info/METADATA", metadata)
    data = bytearray(path.read_bytes())
    for start, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags, then the method
        at = data.find(start) + offset
        if at >= offset:
            data[at] |= flag
            data[at + 2] |= compression
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("metadata", "compression", "flag"),
    [(None, 0, 0), ("", 0, 0), ("Name: edge-seg\n", 0, 0), ("Version: 1\n", 0, 0), (WHOLE, 99, 0), (WHOLE, 8, 0),
     (WHOLE, 0, 1), ("Name: x\n" * (1 << 20), 0, 0)],
    ids=["none", "empty", "no version", "no name", "unknown method", "not deflate", "encrypted", "large"],
)  # fmt: skip
def test_an_odd_wheel_is_one_line(
    tmp_path: Path, key: Path, metadata: str | None, compression: int, flag: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """No metadata, none that says what it is, unreadable, encrypted, too long: it is not a wheel."""
    wheel = write_odd_wheel(tmp_path / "edge_seg-1.0-py3-none-any.whl", metadata, compression, flag)
    (tmp_path / "m.tflite").write_bytes(make_model())
    command = ["bundle", tmp_path / "m.tflite", "--target", "debian-bookworm-x86_64-py311", "--key", key,
               "-o", tmp_path / "kit", "--wheel", wheel]  # fmt: skip
    assert main([str(word) for word in command]) == 2
    assert "it is not a wheel" in capsys.readouterr().err and not (tmp_path / "kit").exists()


# --- the fleet's table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted({*HOSTILE} - {"missing"}))
@pytest.mark.parametrize("file", ["status.json", "result.json"])
def test_a_devices_hostile_file_affects_its_own_row_only(tmp_path: Path, kind: str, file: str) -> None:
    """Also a pipe, a device, a terabyte: the row says that the file is damaged, the other device's is complete."""
    slot = {"name": "0001-a", "state": "good", "since": "", "software": "1", "model_id": "net", "model_version": "2",
            "latency_ms": 1.0, "reason": "", "current": True}  # fmt: skip
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text(json.dumps({"slots": [slot]}))
    (tmp_path / "b" / file).unlink(missing_ok=True)
    HOSTILE[kind](tmp_path / "b" / file)
    a, b = read_devices(tmp_path)
    assert a.trouble == "" and a.slot == "0001-a" and f"its {file} is damaged" in b.trouble
    assert (b.slot == "0001-a") == (file == "result.json")


@pytest.mark.parametrize("value", [10**400, 1e308, True, "\ud800", "\x1b[31m\u202e\nx", [[]], {"a": 1}, None, -1])
def test_any_value_in_any_field_is_a_row(tmp_path: Path, value: object) -> None:
    """Whatever a field holds, all formats are written, each line printable, each page encodable."""
    slot = {"name": "n", "state": "good", "since": "", "software": "1", "model_id": "net", "model_version": "2",
            "latency_ms": 1.0, "reason": "", "current": True}  # fmt: skip
    for number, field in enumerate(slot):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}" / "status.json").write_text(json.dumps({"slots": [slot | {field: value}]}))
    result = {"model": {"id": "net", "version": "2"}, "subjects": {"drq": {"role": "subject", "status": "ok",
              "latency": {"p50_ms": value, "per_second": value}}},
              "end_to_end": {"subject": "drq", "images_per_s": value},
              "sustained": {"subject": "drq", "ratio_last_to_first": value, "differs": value},
              "validity": {"status": value}}  # fmt: skip
    (tmp_path / "d0" / "result.json").write_text(json.dumps(result))
    (tmp_path / "d\x1b[31m\n").mkdir()
    (tmp_path / "d\x1b[31m\n" / "status.json").write_text('{"slots": []}')
    rows = read_devices(tmp_path)
    assert len(rows) == len(slot) + 1
    for render in (to_csv, to_html, to_markdown):
        text = render(rows)
        assert text.encode() and all(char == "\n" or char.isprintable() for char in text)
    assert len(list(csv.reader(io.StringIO(to_csv(rows))))) == len(rows) + 1


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nowhere"])
@pytest.mark.parametrize(
    "command",
    [
        ["installer", "-o", "BAD"],
        ["bundle", "MODEL", "--target", "debian-bookworm-x86_64-py311", "--key", "KEY", "-o", "BAD", "--force"],
        ["fleet-table", "FLEET", "-o", "BAD", "--force"],
    ],
    ids=lambda command: str(command[0]),
)
def test_what_is_no_file_is_not_written_to(tmp_path: Path, key: Path, kind: str, command: list[str]) -> None:
    """Not even with --force: root would replace a device by a file."""
    (tmp_path / "fleet/a").mkdir(parents=True)
    (tmp_path / "fleet/a/status.json").write_text('{"slots": []}')
    (tmp_path / "m.tflite").write_bytes(make_model())
    bad = tmp_path / "bad.md"
    HOSTILE[kind](bad)
    before = os.lstat(bad)
    names = {"BAD": bad, "KEY": key, "MODEL": tmp_path / "m.tflite", "FLEET": tmp_path / "fleet"}
    assert main([str(names.get(word, word)) for word in command]) in (1, 2)
    assert os.lstat(bad).st_ino == before.st_ino
