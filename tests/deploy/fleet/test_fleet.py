"""Many devices: the table is correct and safe whatever a device wrote; health is judged; the playbook is complete."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from deploy.__main__ import main
from deploy.fleet.table import TITLES, Device, read_devices, to_csv, to_html, to_markdown

ROOT = Path(__file__).parents[3]
FLEET = ROOT / "deploy" / "fleet"
HEALTH = FLEET / "roles/edge_seg/files/health.py"
PAGE = (ROOT / "docs" / "fleet.md").read_text("utf-8")


def make_slot(name: str, current: bool = False, **changes: Any) -> dict[str, Any]:
    slot = {"name": name, "state": "good", "since": "2026-05-04T10:00:00+00:00", "software": "1.0", "model_id": "net",
            "model_version": "2", "latency_ms": 12.5, "reason": "", "current": current, "files": True}  # fmt: skip
    return slot | changes


def make_result(**changes: Any) -> dict[str, Any]:
    subject = {"role": "subject", "status": "ok", "latency": {"p50_ms": 20.0, "per_second": 40.0}}
    return {
        "model": {"id": "net", "version": "2"},
        "subjects": {"fp32": {"role": "baseline", "status": "ok", "latency": {}}, "drq": subject},
        "end_to_end": {"subject": "drq", "images_per_s": 10.0},
        "sustained": None,
        "validity": {"status": "valid"},
    } | changes


def write_device(folder: Path, name: str, status: Any, result: Any = None) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "status.json").write_text(json.dumps(status), "utf-8")
    if result is not None:
        (folder / name / "result.json").write_text(json.dumps(result), "utf-8")


def test_a_row_shows_what_a_device_runs(tmp_path: Path) -> None:
    """The active slot, its test, the benchmark's figures, the service, and the newest failure of another slot."""
    slots = [
        make_slot("0001-a", state="left", reason="odd masks"),
        make_slot("0002-b", current=True),
        make_slot("0003-c", state="failed", reason="the self-test: infer diverged"),
    ]
    status = {"slots": slots, "health": {"well": True, "state": "idle", "why": ""}}
    write_device(tmp_path, "van", status, make_result())
    (row,) = read_devices(tmp_path)
    assert row == Device(
        device="van",
        model="net",
        version="2",
        software="1.0",
        slot="0002-b",
        since="2026-05-04T10:00:00+00:00",
        service="idle",
        test_ms=12.5,
        p50_ms=20.0,
        slices_per_hour=36000.0,
        benchmark="valid, drq",
        last_failure="0003-c, 2026-05-04T10:00:00+00:00: the self-test: infer diverged",
    )


def test_an_unhealthy_device_is_in_trouble(tmp_path: Path) -> None:
    """A service that is not healthy, or a current slot that is not good, is named in the device's row."""
    health = {"well": False, "state": "blocked", "why": "the disk is full"}
    write_device(tmp_path, "a", {"slots": [make_slot("0001-a", current=True)], "health": health})
    write_device(tmp_path, "b", {"slots": [make_slot("0001-a", current=True, state="trial")]})
    a, b = read_devices(tmp_path)
    assert (a.service, a.trouble) == ("blocked: the disk is full", "its service is blocked")
    assert b.trouble == "its slot is trial"


@pytest.mark.parametrize(
    ("changes", "rate", "text"),
    [
        ({"end_to_end": None}, 144000.0, "valid, drq, the model alone"),
        ({"sustained": {"subject": "drq", "ratio_last_to_first": 2.0, "differs": True}}, 18000.0, "valid, drq"),
        ({"sustained": {"subject": "drq", "ratio_last_to_first": 1.05, "differs": False}}, 36000.0, "valid, drq"),
        ({"validity": {"status": "inconclusive"}}, 36000.0, "inconclusive, drq"),
        ({"model": {"id": "net", "version": "1"}}, None, "of another model, net 1"),
        ({"subjects": {}}, None, "measured nothing"),
    ],
)
def test_figures_are_those_of_this_model(tmp_path: Path, changes: Any, rate: float | None, text: str) -> None:
    """Slices an hour as the benchmark's report has them; none of another model's."""
    write_device(tmp_path, "van", {"slots": [make_slot("0001-a", current=True)]}, make_result(**changes))
    (row,) = read_devices(tmp_path)
    assert (row.slices_per_hour, row.benchmark) == (rate, text)


DAMAGED = ["[]", "{", "{}", '{"slots": 3}', '{"slots": [3]}', '{"slots": [{}]}', "[" * 100_000, '"\\ud800"', ""]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_affects_its_own_row_only(tmp_path: Path, text: str) -> None:
    """The row says so, and the other devices are complete; a damaged result leaves the status."""
    good = {"slots": [make_slot("0001-a", current=True)]}
    for name in ("a", "b", "c"):
        write_device(tmp_path, name, good)
    (tmp_path / "b" / "status.json").write_text(text, "utf-8")
    (tmp_path / "c" / "result.json").write_text(text, "utf-8")
    a, b, c = read_devices(tmp_path)
    assert a.trouble == "" and b.slot == "" and "status.json is damaged" in b.trouble
    assert c.slot == "0001-a" and "result.json is damaged" in c.trouble
    assert len(to_markdown([a, b, c]).splitlines()) == 7


class Cells(HTMLParser):
    """The texts of a table's cells, and all elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.append(tag)
        if tag == "td":
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts and self.elements[-1] == "td":
            self.texts[-1] += data


@pytest.mark.parametrize("text", ["<script>x</script>", "=1+1", "a|b\n| c |", "![x](http://x)", "\x1b[2J", "'\"&"])
def test_what_devices_write_stays_text(tmp_path: Path, text: str) -> None:
    """No element, no further row or column, no formula, no control sign comes from a device."""
    slot = make_slot("0001-a", current=True, model_id=text)
    write_device(tmp_path, "van", {"slots": [slot, make_slot("0000-z", state="failed", reason=text)]})
    rows = read_devices(tmp_path)
    page = Cells()
    page.feed(to_html(rows))
    assert len(page.texts) == len(TITLES) and {"script", "img", "a"}.isdisjoint(page.elements)
    assert page.texts[1] == rows[0].model
    head, cells = csv.reader(io.StringIO(to_csv(rows)))
    assert len(head) == len(cells) == len(TITLES) and not cells[1].startswith(("=", "+", "-", "@"))
    last = to_markdown(rows).splitlines()[-1]
    assert (
        last.replace("\\|", "").count("|") == len(TITLES) + 1
        and "<s" not in last.replace("\\<", "")
        and "\x1b" not in last
    )


def test_a_device_without_an_answer_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints Markdown, writes the files asked for, and overwrites only with --force."""
    write_device(tmp_path / "in", "a", {"error": "Connection refused"})
    write_device(tmp_path / "in", "b", {"slots": []})
    write_device(tmp_path / "in", "c", {"slots": [make_slot("0001-a", current=True)]})
    assert main(["fleet-table", str(tmp_path / "in")]) == 0
    output = capsys.readouterr().out
    assert output.startswith("3 devices: 2 without a model, 1 net 2, 2 in trouble\n")
    assert "Connection refused" in output and "nothing is installed" in output
    outs = ["-o", str(tmp_path / "t.csv"), "-o", str(tmp_path / "t.html")]
    assert main(["fleet-table", str(tmp_path / "in"), *outs]) == 0
    assert len(list(csv.DictReader((tmp_path / "t.csv").open(encoding="utf-8")))) == 3
    assert main(["fleet-table", str(tmp_path / "in"), *outs]) == 2
    assert main(["fleet-table", str(tmp_path / "in"), *outs, "--force"]) == 0
    assert main(["fleet-table", str(tmp_path / "in"), "-o", str(tmp_path / "t.pdf")]) == 2
    assert main(["fleet-table", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.parametrize(
    ("health", "age", "well", "state"),
    [
        ('{"state": "idle", "error": null}', 0, True, "idle"),
        ('{"state": "blocked", "error": "the disk is full"}', 0, False, "blocked"),
        ('{"state": "stopped", "error": null}', 0, False, "stopped"),
        ('{"state": "idle", "error": null}', 7200, False, "gone"),
        ("[]", 0, False, "unknown"),
        ("{", 0, False, "unknown"),
        (None, 0, False, "unknown"),
    ],
)
def test_a_service_is_judged_by_its_health(
    tmp_path: Path, health: str | None, age: float, well: bool, state: str
) -> None:
    """A fresh file of a working service is healthy; blocked, stopped, old or damaged is not: exit status 1."""

    def judge() -> tuple[int, dict[str, Any]]:
        ran = subprocess.run([sys.executable, "-I", HEALTH, tmp_path, "3600"], capture_output=True, text=True)
        return ran.returncode, json.loads(ran.stdout)

    assert judge() == (0, {"well": True, "state": "none", "why": "no service was set up"})
    (tmp_path / "service.json").write_text(json.dumps({"out": str(tmp_path)}))
    if health is not None:
        path = tmp_path / "health.json"
        path.write_text(health)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    code, found = judge()
    assert (code, found["well"], found["state"]) == (0 if well else 1, well, state)
    if health is None:
        (tmp_path / "loop.sh").write_text("")
        assert judge()[1]["state"] == "loop"


@pytest.mark.parametrize("file", ["service.json", "health.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "deep", "large"])
def test_a_hostile_health_file_is_not_healthy(tmp_path: Path, file: str, kind: str) -> None:
    """A pipe or a device that the service's user put there is not waited for; the answer is one JSON object."""
    (tmp_path / "service.json").write_text(json.dumps({"out": str(tmp_path)}))
    (tmp_path / "health.json").write_text('{"state": "idle"}')
    path = tmp_path / file
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("[" * (100_000 if kind == "deep" else 9_000_000))
    command = [sys.executable, "-I", HEALTH, tmp_path, "3600"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = json.loads(ran.stdout)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert not found["well"] and found["state"] == "unknown"


def test_the_playbook_is_in_the_wheel() -> None:
    """Each of its files is in the wheel's list, and its folders are among the packages whose data is included."""
    files = list_files()
    listed = (ROOT / ".ci/wheel-files.txt").read_text().split()
    assert [str(path.relative_to(ROOT)) for path in files if str(path.relative_to(ROOT)) not in listed] == []
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in files}
    included = setup["packages"]["find"]["include"]
    assert [folder for folder in folders if not any(fnmatchcase(folder, pattern) for pattern in included)] == []
    assert setup["package-data"]["*"] == ["*.yml", "*.ini"]


def test_the_playbook_is_valid() -> None:
    """It parses, uses Ansible's own modules alone, and every default that operators may set is on the page."""
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the playbook")
    inner = {"edge_seg_stage", "edge_seg_poll_seconds", "edge_seg_package"}
    short = PAGE.replace("`_tries`", "edge_seg_health_tries").replace("`_delay`", "edge_seg_health_delay")
    for path in list_files():
        found = yaml.safe_load(path.read_text("utf-8")) if path.suffix == ".yml" else None
        if path.parent.name == "tasks":
            for task in found:
                assert "name" in task and any(key.startswith("ansible.builtin.") for key in task), task
        if path.parent.name == "defaults":
            assert [name for name in found if name not in short and name not in inner] == []


def list_files() -> list[Path]:
    return [path for path in FLEET.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
