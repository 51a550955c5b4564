"""Whatever somebody put into a device's root, each command ends at once, in one line, and touches nothing outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from devices import copy_device, make_steps

from deploy.__main__ import main
from deploy.device.audit_log import append_event
from deploy.device.install import install_kit
from deploy.device.slots import read_current, read_slots
from deploy.device.status import format_status, read_status
from edge_runtime.errors import EdgeSegError

RECORD = "records/0001-1.0_1.json"
SLOT = "slots/0001-1.0_1"
SCRIPT = "#!/bin/sh\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that looks like slots, records and an audit log, and holds what is nobody's to remove."""
    folder = tmp_path / "outside"
    for name in ("slots/0001-1.0_1/venv/bin", "0001-1.0_1", "0009-x", "precious"):
        (folder / name).mkdir(parents=True)
    for name in ("precious/image.png", "0009-x/file", ".tmp-edge-seg-1", "log.jsonl"):
        (folder / name).write_bytes(b"mine\nand mine")
    return folder


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """A command that waits for a pipe ends the tests."""
    signal.alarm(300)
    yield
    signal.alarm(0)


def describe_tree(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def replace_by_link(path: Path, target: Path | str) -> None:
    remove(path)
    path.symlink_to(target)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace_by_pipe(path: Path) -> None:
    remove(path)
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    remove(path)
    path.mkdir()


def replace_by_text(path: Path, text: str) -> None:
    remove(path)
    path.write_text(text)


def replace_by_giant(path: Path) -> None:
    remove(path)
    path.touch()
    os.truncate(path, 1 << 40)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def add_record(root: Path, file: str, name: str, state: str) -> None:
    fields = json.loads((root / RECORD).read_text())
    (root / "records" / file).write_text(json.dumps(fields | {"name": name, "state": state}))


Attack = Callable[[Path, Path], object]
ATTACKS: dict[str, Attack] = {
    "nothing": lambda r, o: None,
    "current to a slot outside": lambda r, o: replace_by_link(r / "current", o / SLOT),
    "current to its slot by another way": lambda r, o: replace_by_link(r / "current", r / SLOT),
    "current to a copy of its slot": lambda r, o: (
        shutil.copytree(r / SLOT, r / "copies/0001-1.0_1"), replace_by_link(r / "current", "copies/0001-1.0_1")),
    "current up": lambda r, o: replace_by_link(r / "current", "slots/.."),
    "current to the root": lambda r, o: replace_by_link(r / "current", "/"),
    "current is empty-named": lambda r, o: replace_by_link(r / "current", "slots/"),
    "current a folder": lambda r, o: replace_by_folder(r / "current"),
    "current a pipe": lambda r, o: replace_by_pipe(r / "current"),
    "current a file": lambda r, o: replace_by_text(r / "current", "slots/0001-1.0_1"),
    "current in a circle": lambda r, o: replace_by_link(r / "current", "current"),
    "next current a folder": lambda r, o: (r / ".current.new").mkdir(),
    "slots a link": lambda r, o: replace_by_link(r / "slots", o),
    "records a link": lambda r, o: replace_by_link(r / "records", o),
    "audit a link": lambda r, o: replace_by_link(r / "audit", o),
    "slots a file": lambda r, o: replace_by_text(r / "slots", ""),
    "records a pipe": lambda r, o: replace_by_pipe(r / "records"),
    "a slot a link": lambda r, o: replace_by_link(r / SLOT, o),
    "an unknown slot a link": lambda r, o: (r / "slots/0009-x").symlink_to(o),
    "an unknown slot a file": lambda r, o: (r / "slots/0009-x").touch(),
    "a failed slot a link": lambda r, o: (
        add_record(r, "0002-x.json", "0002-x", "failed"), (r / "slots/0002-x").symlink_to(o)),
    "a record of a name that leads out": lambda r, o: add_record(r, "0002-x.json", f"../../{o.name}", "failed"),
    "a record of an absolute name": lambda r, o: add_record(r, "0002-x.json", str(o), "failed"),
    "a record of no name": lambda r, o: add_record(r, "0002-x.json", "", "failed"),
    "a record of another slot": lambda r, o: add_record(r, "0002-x.json", "0001-1.0_1", "failed"),
    "a record of a file without a number": lambda r, o: add_record(r, "²-x.json", "²-x", "failed"),
    "a record of a huge number": lambda r, o: add_record(r, f"{'9' * 99}-x.json", f"{'9' * 99}-x", "failed"),
    "a record of another state": lambda r, o: edit(r / RECORD, state="excellent"),
    "a record that replaces what leads out": lambda r, o: edit(r / RECORD, replaces="../../x"),
    "a record a link": lambda r, o: replace_by_link(r / RECORD, o / "log.jsonl"),
    "a record a pipe": lambda r, o: replace_by_pipe(r / RECORD),
    "a record a folder": lambda r, o: replace_by_folder(r / RECORD),
    "a record without end": lambda r, o: replace_by_link(r / RECORD, "/dev/zero"),
    "a record that is large": lambda r, o: replace_by_giant(r / RECORD),
    "a record that is nested": lambda r, o: replace_by_text(r / RECORD, "[" * 50_000),
    "a record that is nested and closed": lambda r, o: replace_by_text(r / RECORD, "[" * 30_000 + "]" * 30_000),
    "a record that is a list": lambda r, o: replace_by_text(r / RECORD, "[]"),
    "a record that is no UTF-8": lambda r, o: (r / RECORD).write_bytes(b'{"\xff": 1}'),
    "a record of not a number": lambda r, o: edit(r / RECORD, latency_ms=float("nan")),
    "a record of infinity": lambda r, o: (r / RECORD).write_text((r / RECORD).read_text().replace("5.0", "1e999")),
    "a record of many digits": lambda r, o: (r / RECORD).write_text(
        (r / RECORD).read_text().replace('"release": 0', f'"release": {"9" * 5000}')),
    "a record below zero": lambda r, o: edit(r / RECORD, memory_bytes=-1),
    "temporary folders": lambda r, o: [(r / name / ".tmp-edge-seg-x").mkdir() for name in ("", "records")],
    "log a link": lambda r, o: replace_by_link(r / "audit/log.jsonl", o / "log.jsonl"),
    "log a pipe": lambda r, o: replace_by_pipe(r / "audit/log.jsonl"),
    "log a folder": lambda r, o: replace_by_folder(r / "audit/log.jsonl"),
    "log that is large": lambda r, o: replace_by_giant(r / "audit/log.jsonl"),
    "log without end": lambda r, o: replace_by_link(r / "audit/log.jsonl", "/dev/zero"),
    "log that is nested": lambda r, o: replace_by_text(r / "audit/log.jsonl", "[" * 200_000 + "\n"),
    "log of infinity": lambda r, o: replace_by_text(r / "audit/log.jsonl", '{"n":1e999,"hash":"x"}\n'),
    "head a pipe": lambda r, o: replace_by_pipe(r / "audit/head.json"),
    "head a link": lambda r, o: replace_by_link(r / "audit/head.json", "/dev/zero"),
    "head of infinity": lambda r, o: replace_by_text(r / "audit/head.json", '{"n":1e999,"hash":"x"}'),
    "head below zero": lambda r, o: edit(r / "audit/head.json", n=-2),
    "head that is text": lambda r, o: edit(r / "audit/head.json", n="²"),
    "head that is nested": lambda r, o: replace_by_text(r / "audit/head.json", "[" * 4000),
    "service a pipe": lambda r, o: replace_by_pipe(r / "service.json"),
    "service a link": lambda r, o: replace_by_link(r / "service.json", "/dev/zero"),
    "service that is nested": lambda r, o: replace_by_text(r / "service.json", "[" * 50_000),
    "service of numbers": lambda r, o: replace_by_text(r / "service.json", '{"root": 5}'),
    "service of more lines": lambda r, o: replace_by_text(
        r / "service.json", json.dumps({"root": "/x", "inbox": "/a\nExecStartPre=/b", "out": "/c", "user": "d"})),
    "service of a list": lambda r, o: replace_by_text(r / "service.json", "[1]"),
    "the list of files a pipe": lambda r, o: replace_by_pipe(r / "records/0001-1.0_1.sha256"),
    "the list of files a link": lambda r, o: replace_by_link(r / "records/0001-1.0_1.sha256", "/dev/zero"),
    "the list of files empty": lambda r, o: replace_by_text(r / "records/0001-1.0_1.sha256", ""),
    "the manifest without end": lambda r, o: replace_by_link(r / SLOT / "manifest.json", "/dev/zero"),
    "the root's records gone": lambda r, o: remove(r / "records"),
    "what is not from here in slots": lambda r, o: ((r / "slots/precious").mkdir(), (r / "slots/note.txt").touch()),
}  # fmt: skip

HARMLESS = {"nothing", "an unknown slot a link", "an unknown slot a file", "a failed slot a link", "temporary folders",
            "a record of a file without a number", "what is not from here in slots"}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_root_is_one_line(
    root: Path,
    second: Path,
    public: bytes,
    outside: Path,
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command on every such root ends with an exit status and one line; the folder outside stays as it was."""
    before = describe_tree(outside)
    commands = [["status"], ["status", "--json"], ["audit", "verify"], ["check"], ["rollback"],
                ["audit", "record", str(tmp_path / "run.json")]]  # fmt: skip
    (tmp_path / "run.json").write_text('{"model": {"id": "net"}}')
    failed = 0
    for number, command in enumerate(commands):
        device = copy_device(root, tmp_path / f"device{number}")
        ATTACKS[name](device, outside)
        status = main([*command, "--root", str(device)])
        captured = capsys.readouterr()
        errors = [line for line in captured.err.splitlines() if line.startswith("edge-deploy: error: ")]
        assert status in (0, 1, 2, 9, 10) and len(errors) == (status > 0), captured
        assert len(errors) < 2 and all(len(line) < 1000 for line in errors)
        assert describe_tree(outside) == before
        failed += status > 0 and command != ["rollback"]  # there is no slot to go back to
    device = copy_device(root, tmp_path / "install")
    ATTACKS[name](device, outside)
    try:
        install_kit(second, device, public, make_steps(device))
    except EdgeSegError as error:
        assert "\n" not in str(error)
        failed += 1
    else:
        assert (device / "current/venv/version").read_text() == "2" and read_current(device).endswith("_2")
    assert describe_tree(outside) == before
    assert (failed == 0) == (name in HARMLESS)
    if name == "what is not from here in slots":
        assert {"precious", "note.txt"} <= {path.name for path in (device / "slots").iterdir()}


def test_what_a_record_says_is_one_line_of_text(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes, further lines and characters that change the direction of text are shown as signs, in every field."""
    evil = "\x1b]0;owned\x07\x1b[31m\x9b2J\r\n* 0009-fake good\u202e\u2066\u200b\u2028\udc9b"
    for field in ("software", "model_id", "model_version", "target", "reason", "since"):
        edit(root / RECORD, **{field: f"a{evil}b"})
    assert main(["status", "--root", str(root)]) == 0
    shown = capsys.readouterr().out
    assert all(char == "\n" or char.isprintable() for char in shown)
    assert len(shown.splitlines()) == 4 and shown.splitlines()[1].startswith("* 0001-1.0_1")
    assert main(["status", "--root", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["slots"][0]["model_id"].count("\n") == 0


def test_what_a_command_wrote_is_one_line_of_text(root: Path, second: Path, public: bytes) -> None:
    """The last line of a test that failed is stored and shown without the escapes in it."""
    from deploy.device.process import run_command

    def fail(slot: Path, manifest: object) -> float:
        run_command("the self-test", ["printf", "\\033[31mred\\033]0;x\\007 \\302\\233 end\\n"], 9)
        run_command("the self-test", ["sh", "-c", "printf '\\033[31mred \\302\\233 end\\n' >&2; exit 3"], 9)
        return 0.0

    with pytest.raises(EdgeSegError):
        install_kit(second, root, public, make_steps(root, test=fail))
    reason = read_slots(root)[-1].reason
    assert "red" in reason and "end (exit status 3)" in reason and reason.isprintable()
    assert "\x1b" not in (root / "records" / f"{read_slots(root)[-1].name}.json").read_text().encode().decode(
        "unicode_escape"
    )
    assert "red" in format_status(read_status(root))


# --- other users -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def run_as_nobody(root: Path, *arguments: str) -> Done:
    """Run a command in a forked process that is another user."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                status = main([*arguments, "--root", str(root)])
            except BaseException:
                traceback.print_exc()
                status = 99
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [file.read() for file in (out, err) if file.seek(0) == 0]
    return Done(status, *texts)


@pytest.fixture
def shared(root: Path) -> Iterator[Path]:
    """The root in a folder that other users may enter; with a service's settings."""
    if os.geteuid():
        pytest.skip("only root can run a command as another user")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (root / "service.json").write_text('{"root": "/x", "inbox": "/a", "out": "/b", "user": "c"}')
        yield copy_device(root, Path(name) / "device")


COMMANDS = (["status"], ["status", "--json"], ["audit", "verify"], ["check"], ["rollback"],
            ["audit", "record", "/etc/hostname"])  # fmt: skip


@pytest.mark.parametrize("closed", [".", "records", RECORD, "slots", "audit", "audit/log.jsonl", "audit/head.json",
                                    "service.json", "trust.pub", "current/kit"])  # fmt: skip
def test_what_another_user_may_not_read_is_one_line(shared: Path, closed: str) -> None:
    """No traceback, no "nothing is installed": the file, "Permission denied", and what to do."""
    (shared / closed).chmod(0)
    for command in COMMANDS:
        done = run_as_nobody(shared, *command)
        lines = done.stderr.splitlines()
        assert "Traceback" not in done.stderr and "nothing is installed" not in done.stdout + done.stderr
        assert done.returncode == 0 or (done.returncode in (1, 2) and len(lines) == 1), (command, done.stderr)
        if done.returncode == 0:
            assert command[0] in ("status", "audit")
        elif command[:2] != ["audit", "record"]:
            assert "Permission denied" in lines[0] and ("sudo" in lines[0] or "who owns" in lines[0])


def test_status_is_for_everyone_whatever_the_umask(shared: Path) -> None:
    """What is recorded under umask 027, as the service's own unit does it, can be read by other users."""
    old = os.umask(0o027)
    try:
        (shared.parent / "run.json").write_text('{"model": {"id": "net"}}')
        assert main(["audit", "record", str(shared.parent / "run.json"), "--root", str(shared)]) == 0
    finally:
        os.umask(old)
    for command in (["status"], ["audit", "verify"]):
        done = run_as_nobody(shared, *command)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_log_is_not_written_through_a_link(root: Path, outside: Path) -> None:
    """Neither an event nor the removal of an unfinished line reaches the file that a link leads to."""
    replace_by_link(root / "audit/log.jsonl", outside / "log.jsonl")
    with pytest.raises(EdgeSegError):
        append_event(root, "run", {})
    assert (outside / "log.jsonl").read_bytes() == b"mine\nand mine"
