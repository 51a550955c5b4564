"""edge-seg's command line: exit codes, one line for each error, data on stdout, messages on stderr."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.cli import main
from edge_runtime.contract.tail import read_contract, split_tail, stamp_contract
from edge_runtime.folder.records.journal import JOURNAL, LOCK
from edge_runtime.models import DEFAULT

Array = npt.NDArray[np.generic]
Save = Callable[[Path, Array], None]
Cli = Callable[..., tuple[int, str, str]]
COMMAND = [sys.executable, "-m", "edge_runtime.cli"]
ONE_THREAD = ("--threads", "1")  # tests share the machine, and tflite-runtime 2.14 is slow with more


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run the command in this process: (exit status, stdout, stderr), also what C libraries wrote."""

    def run(*args: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            status = main([str(arg) for arg in (*args, *ONE_THREAD)])
        except SystemExit as leave:
            status = int(leave.code or 0)
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def many(tmp_path: Path, drawn: Array, save_image: Save) -> Path:
    """A folder of 40 slices, enough to be interrupted in."""
    (tmp_path / "many").mkdir()
    for k in range(40):
        save_image(tmp_path / "many" / f"{k:02}.png", drawn[k % 30 :])
    return tmp_path / "many"


def start(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
    command = [*COMMAND, *map(str, args), *ONE_THREAD]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)  # type: ignore[call-overload,no-any-return]


def wait_for_lines(journal: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not journal.is_file() or journal.read_bytes().count(b"\n") < count:
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < until
        time.sleep(0.005)


def read_rows(out: Path, times: bool = False) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    return rows if times else [{k: v for k, v in row.items() if not k.endswith("_ms")} for row in rows]


def assert_errors(err: str, count: int = 1) -> str:
    """Errors are one line each, `edge-seg: error: WHAT: WHY; WHAT TO DO`, and nothing else is on stderr."""
    lines = err.splitlines()
    assert len(lines) == count, err
    for line in lines:
        assert line.startswith("edge-seg: error: ")
        assert line.count(": ") >= 3
        assert "; " in line
    return err


# --- a run that succeeds -----------------------------------------------------------------------------------------


def test_a_run_says_what_it_did(cli: Cli, folder: Path, tmp_path: Path) -> None:
    """Exit 0, the table on stdout, nothing on stderr, and all outputs where they were promised."""
    status, out, err = cli(folder, "-o", tmp_path / "out")
    assert (status, err) == (0, "")
    assert all(name in out for name in ("a.png", "b.jpg", "c.tif", "3 segmented, 0 failed", "index.html"))
    assert (tmp_path / "out" / "index.html").is_file()
    assert [row["status"] for row in read_rows(tmp_path / "out")] == ["ok"] * 3


def test_run_json_holds_the_facts(cli: Cli, folder: Path, tmp_path: Path) -> None:
    """Versions, model, engine given and used, threads, workers, counts, speed, host, arguments."""
    cli(folder, "-o", tmp_path / "out", "--workers", 2, "--threshold", 0.25)
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    contract = read_contract(DEFAULT)
    assert facts["model"]["id"] == contract.model.id
    assert facts["model"]["sha256"] == contract.model.sha256
    assert {"python", "numpy", "edge-seg", facts["engine"]["used"]} <= set(facts["versions"])
    assert facts["engine"]["asked"] == "auto"
    assert facts["engine"]["reason"]
    assert (facts["threads"], facts["workers"], facts["threshold"]) == (1, 2, 0.25)
    assert facts["counts"] == {"inputs": 3, "ok": 3, "failed": 0, "kept": 0}
    assert facts["images_per_second"] > 0
    assert facts["host"]["cores"] >= 1
    assert "threads=1" in facts["arguments"]


def test_json_is_all_of_stdout(cli: Cli, folder: Path, tmp_path: Path) -> None:
    """--json prints run.json and nothing else, also when an image fails."""
    (folder / "bad.png").write_bytes(b"")
    status, out, err = cli(folder, "-o", tmp_path / "out", "--json")
    assert status == 3
    assert json.loads(out) == json.loads((tmp_path / "out" / "run.json").read_text())
    assert_errors(err)


def test_quiet_prints_nothing_but_errors(cli: Cli, folder: Path, tmp_path: Path) -> None:
    """--quiet leaves stdout empty."""
    assert cli(folder, "-o", tmp_path / "out", "--quiet") == (0, "", "")


def test_the_output_folder_has_the_inputs_name(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without -o: <first input's name>-seg in the working directory, also for "." and for a file."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert cli(folder, "--quiet")[0] == 0
    assert cli(folder / "a.png", "--quiet")[0] == 0
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"in-seg", "a.png-seg"}
    monkeypatch.chdir(folder)
    assert cli(".", "--quiet")[0] == 0
    assert (folder / "in-seg" / "results.csv").is_file()


def test_a_second_run_keeps_all(cli: Cli, folder: Path, tmp_path: Path) -> None:
    """The same command again keeps all, reports that, and writes the same rows."""
    cli(folder, "-o", tmp_path / "out")
    before = read_rows(tmp_path / "out", times=True)
    status, out, _ = cli(folder, "-o", tmp_path / "out")
    assert status == 0
    assert "3 of them kept" in out
    assert read_rows(tmp_path / "out", times=True) == before
    cli(folder, "-o", tmp_path / "out", "--force")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["kept"] == 0


EMBEDDED = """\
model      liteunet-ag 3, 3.9 MB, recipe drq: {path}
use        Research and evaluation on T1-weighted contrast-enhanced brain MR slices; not a medical device.
takes      a grey image of any size, resized to 256 × 256; values 0 to 1
answers    a mask of lesion, where the probability is at least 0.8 (from held-out patients)
quality    Dice 0.706, mean IoU 0.795, lesion IoU 0.597, false alarms 1.5% on 442 images: 36 held-out patients of 180
made from  a model of SHA-256 {source}…, with {versions}
allowed    slower: the result is not faster than the model's own static float32 file
engine     not measured here; edge-seg --retune does
"""


def test_info_is_eight_lines_to_read(cli: Cli) -> None:
    """--info says what a person asks in eight lines; --info --json has every field of the contract."""
    contract = json.loads(read_tail(DEFAULT))
    status, out, err = cli("--info")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(contract["source"]["versions"].items()))
    expected = EMBEDDED.format(path=DEFAULT, source=contract["source"]["sha256"][:12], versions=versions)
    assert (status, err, out) == (0, "", expected)
    status, out, err = cli("--info", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == contract


def read_tail(path: Path) -> bytes:
    """The contract as an unzip tool reads it."""
    with zipfile.ZipFile(path) as archive:
        return archive.read("contract.json")


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_and_version(cli: Cli, args: list[str]) -> None:
    """Both print to stdout and leave with 0."""
    status, out, err = cli(*args)
    assert (status, err) == (0, "")
    assert "edge-seg" in out


# --- a run that fails --------------------------------------------------------------------------------------------


def test_some_inputs_failed(cli: Cli, folder: Path, tmp_path: Path) -> None:
    """Exit 3, a line for each failed input, the others done, whatever the decoders' own noise."""
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:900])
    (folder / "cut.jpg").write_bytes((folder / "b.jpg").read_bytes()[:900])
    (folder / "text.tif").write_text("hello")
    (folder / "wrong.bmp").write_bytes(b"BM" + bytes(60))
    tiff = bytearray((folder / "c.tif").read_bytes())
    tiff[8:200] = bytes(192)
    (folder / "wrong.tif").write_bytes(tiff)
    status, out, err = cli(folder, "-o", tmp_path / "out")
    assert status == 3
    rows = read_rows(tmp_path / "out")
    failed = [row["file"] for row in rows if row["status"] == "failed"]
    assert {"cut.png", "cut.jpg", "text.tif", "wrong.bmp"} <= set(failed)
    assert len(rows) == 8
    assert f"{len(failed)} failed" in out
    assert_errors(err, len(failed))
    assert all(f"edge-seg: error: {name}: " in err for name in failed)


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["-o", "out"],
        [""],
        ["in", "-o", ""],
        ["in", "--workers", "0"],
        ["in", "--workers", "x"],
        ["in", "--workers", "-1"],
        ["in", "--engine", "abacus"],
        ["in", "--threshold", "0"],
        ["in", "--threshold", "1"],
        ["in", "--threshold", "nan"],
        ["in", "--threshold", "-inf"],
        ["in", "--threshold", "half"],
        ["in", "--unknown"],
    ],
)
def test_usage_errors(cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]) -> None:
    """What cannot be meant is exit 2 and one line, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    status, out, err = cli(*args)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("edge-seg: error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def edit(model: bytes) -> bytes:
    """Another threshold in the contract's text, its checksum of the archive made to fit."""
    from edge_runtime.contract.tail import build_tail

    flatbuffer, text = split_tail(model)
    assert text is not None
    return flatbuffer + build_tail(text.replace(b'"from":"', b'"from":"x', 1))


MODELS: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda model: None,
    "empty": lambda model: b"",
    "text": lambda model: b"this is no model\n" * 100,
    "without-contract": lambda model: split_tail(model)[0],
    "edited-contract": edit,
    "truncated": lambda model: model[: len(model) // 2],
    "cut-tail": lambda model: model[:-10],
    "appended": lambda model: model + b"x",
    "changed-weights": lambda model: model[:100_000] + bytes([model[100_000] ^ 1]) + model[100_001:],
    "stamped-nonsense": lambda model: stamp_contract(b"\x1c\0\0\0TFL3" + bytes(2000), read_contract(DEFAULT)),
}


@pytest.mark.parametrize("kind", list(MODELS))
def test_bad_models(cli: Cli, folder: Path, tmp_path: Path, kind: str) -> None:
    """Every bad model is exit 1 and one line that names the file, and no output folder is made."""
    path = tmp_path / "m.tflite"
    data = MODELS[kind](DEFAULT.read_bytes())
    if data is not None:
        path.write_bytes(data)
    status, out, err = cli(folder, "-o", tmp_path / "out", "--model", path)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"edge-seg: error: {path}: ")
    assert not (tmp_path / "out").exists()
    if kind != "stamped-nonsense":
        status, out, err = cli("--info", "--model", path)
        assert (status, out, len(err.splitlines())) == (1, "", 1)


@pytest.mark.parametrize("kind", ["missing", "empty", "texts", "out-is-file", "parent-is-file", "foreign", "inside"])
def test_bad_places(cli: Cli, folder: Path, tmp_path: Path, kind: str) -> None:
    """Missing or empty inputs, outputs that cannot be made or are in use: exit 1, one line, nothing changed."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    source, out = {
        "missing": (tmp_path / "none", tmp_path / "out"),
        "empty": (tmp_path / "empty", tmp_path / "out"),
        "texts": (tmp_path / "texts", tmp_path / "out"),
        "out-is-file": (folder, tmp_path / "file"),
        "parent-is-file": (folder, tmp_path / "file" / "out"),
        "foreign": (folder, tmp_path / "texts"),
        "inside": (folder, folder),
    }[kind]
    status, words, err = cli(source, "-o", out)
    assert (status, words) == (1, "")
    assert_errors(err)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "out").exists()
    assert {path.name for path in folder.iterdir()} == {"a.png", "b.jpg", "c.tif"}


def test_a_loop_of_links_is_an_image_that_failed(cli: Cli, tmp_path: Path) -> None:
    """A link to itself, given by name without -o, is one line and exit 3."""
    (tmp_path / "loop.png").symlink_to("loop.png")
    status, _, err = cli(tmp_path / "loop.png", "-o", tmp_path / "out")
    assert status == 3
    assert_errors(err)


@pytest.mark.parametrize("name", [b"\x1b[31mred.png", b"new\nline.png", b"\xff\xfe.png", "日本.png".encode()])
def test_names_cannot_fool_the_terminal(cli: Cli, tmp_path: Path, drawn: Array, save_image: Save, name: bytes) -> None:
    """Neither table nor errors carry control characters of a file's name."""
    (tmp_path / "in").mkdir()
    save_image(tmp_path / "x.png", drawn)
    (tmp_path / "x.png").rename(tmp_path / "in" / os.fsdecode(name))
    (tmp_path / "in" / os.fsdecode(b"bad" + name)).write_bytes(b"")
    status, out, err = cli(tmp_path / "in", "-o", tmp_path / "out")
    assert status == 3
    assert_errors(err)
    assert "\x1b" not in out + err
    status, _, err = cli(tmp_path / os.fsdecode(b"none" + name), "-o", tmp_path / "out2")
    assert status == 1
    assert_errors(err)
    assert "\x1b" not in err
    rows = read_rows(tmp_path / "out")
    assert {row["file"] for row in rows} == {os.fsdecode(name), os.fsdecode(b"bad" + name)}
    json.loads((tmp_path / "out" / "run.json").read_text())


def test_an_error_that_is_a_bug_shows_its_traceback(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception shows its traceback, after what the libraries printed before it."""

    def fail(*args: object) -> None:
        os.write(2, b"last words of a library\n")
        raise ZeroDivisionError

    monkeypatch.setattr("edge_runtime.folder.run.run_folder", fail)
    with pytest.raises(ZeroDivisionError):
        main([str(folder), "-o", str(tmp_path / "out")])
    assert "last words of a library" in capfd.readouterr().err


# --- processes, signals, pipes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status", "workers"), [("SIGINT", 130, 1), ("SIGINT", 130, 2), ("SIGTERM", 130, 1), ("SIGKILL", -9, 2)]
)
def test_a_run_that_is_stopped_goes_on(
    cli: Cli, many: Path, tmp_path: Path, how: str, status: int, workers: int
) -> None:
    """Interrupted or killed in the middle, the same command does the rest; its rows are those of one run."""
    out = tmp_path / "out"
    args = (many, "-o", out, "--workers", workers)
    process = start(*args)
    wait_for_lines(out / JOURNAL, 3, process)
    process.send_signal(getattr(signal, how))
    words, err = process.communicate(timeout=60)
    assert (process.returncode, words) == (status, b"")
    assert not (out / "results.csv").exists()
    assert err.decode().count("\n") == (how != "SIGKILL")
    assert b"Traceback" not in err
    status, _, errors = cli(*args)
    assert (status, errors) == (0, "")
    kept = json.loads((out / "run.json").read_text())["counts"]["kept"]
    assert 3 <= kept < 40
    cli(many, "-o", tmp_path / "whole", "--quiet")
    assert read_rows(out) == read_rows(tmp_path / "whole")
    assert not list(out.rglob(".tmp*"))
    names = [{path.name for path in (folder / "masks").iterdir()} for folder in (out, tmp_path / "whole")]
    assert names[0] == names[1]


def test_two_runs_at_once_are_refused(cli: Cli, many: Path, tmp_path: Path) -> None:
    """The error of a second run into one OUT names the process of the first, which is not disturbed."""
    out = tmp_path / "out"
    process = start(many, "-o", out)
    wait_for_lines(out / JOURNAL, 1, process)
    process.send_signal(signal.SIGSTOP)  # or it could be done before the second has begun
    try:
        status, words, err = cli(many, "-o", out)
    finally:
        process.send_signal(signal.SIGCONT)
    assert (status, words) == (1, "")
    assert f"process {process.pid}" in assert_errors(err)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert (out / LOCK).exists()


def test_a_reader_who_leaves_early_does_no_harm(folder: Path, tmp_path: Path) -> None:
    """`edge-seg ... | head -0`: no traceback, the run is whole, and its exit status is its own."""
    (folder / "bad.png").write_bytes(b"")
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [*COMMAND, *ONE_THREAD, folder, "-o", tmp_path / "out"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert process.returncode == 3
    assert_errors(process.stderr)
    assert len(read_rows(tmp_path / "out")) == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_stdout_is_an_error(folder: Path, tmp_path: Path) -> None:
    """A table that cannot be written is exit 1 and one line."""
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [*COMMAND, *ONE_THREAD, folder, "-o", tmp_path / "out"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert_errors(process.stderr)


def test_closed_streams_and_a_poor_terminal(folder: Path, tmp_path: Path) -> None:
    """A run works without stdout and stderr, and on a terminal of ASCII alone."""
    (folder / "é.png").write_bytes((folder / "a.png").read_bytes())
    command = " ".join([*COMMAND, *ONE_THREAD, str(folder), "-o", str(tmp_path / "out")])
    closed = subprocess.run(["/bin/sh", "-c", f"{command} >&- 2>&-"], check=False)
    assert closed.returncode == 0
    poor = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(["/bin/sh", "-c", command], check=False, capture_output=True, env=poor)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"?.png" in shown.stdout


def read_terminal(master: int) -> bytes:
    found = b""
    with contextlib.suppress(OSError):  # the other end was closed
        while block := os.read(master, 65536):
            found += block
    return found


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_shown_on_a_terminal_only(folder: Path, tmp_path: Path, quiet: bool) -> None:
    """With stderr a terminal there is a bar, gone at the end; with --quiet or in a pipe there is none."""
    master, slave = pty.openpty()
    command = [*COMMAND, *ONE_THREAD, folder, "-o", tmp_path / "out", *(["--quiet"] if quiet else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    shown = read_terminal(master)
    words, _ = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 0
    assert b"\r" not in words
    if quiet:
        assert shown == b""
    else:
        assert b"3/3" in shown
        assert shown.endswith(b"\r\x1b[K")


def test_errors_stand_below_the_bar(tmp_path: Path, folder: Path) -> None:
    """On a terminal too an error is a line of its own, free of the bar and of the libraries' noise."""
    (folder / "bad.jpg").write_bytes((folder / "b.jpg").read_bytes()[:500])
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *ONE_THREAD, folder, "-o", tmp_path / "out"], stdout=subprocess.PIPE, stderr=slave
    )
    os.close(slave)
    shown = read_terminal(master).decode().replace("\r\n", "\n")
    process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 3
    assert_errors(shown.rsplit("\r\x1b[K", 1)[1])
    assert "INFO" not in shown


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(options, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_can_be_resumed(cli: Cli, many: Path, tmp_path: Path, small_disk: Path) -> None:
    """Exit 1 and one line when the disk is full, no torn file; with room the same command does the rest."""
    out = small_disk / "out"
    for workers in (1, 2):
        status, words, err = cli(many, "-o", out, "--workers", workers)
        assert (status, words) == (1, "")
        assert "No space left" in assert_errors(err)
        assert not list(out.rglob(".tmp*"))
    done = len((out / JOURNAL).read_bytes().splitlines())
    assert 0 < done < 40
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    status, _, err = cli(many, "-o", out)
    assert (status, err) == (0, "")
    assert json.loads((out / "run.json").read_text())["counts"]["kept"] >= done - 1
    cli(many, "-o", tmp_path / "whole", "--quiet")
    assert read_rows(out) == read_rows(tmp_path / "whole")
