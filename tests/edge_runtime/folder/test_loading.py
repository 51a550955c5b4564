"""A process that hangs while it loads the model: it has a limit, a stop ends it at once, and health says what it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from folder_runs import draw_folder

# The child imports it before anything else. Loads hang from the one with this number on.
HANGS = """
import os, sys, time
if sys.argv[:1] == ["-m"] and "edge_runtime.folder.pools.child_main" in sys.orig_argv:
    folder = os.environ["LOADS"]
    number = len(os.listdir(folder))
    open(os.path.join(folder, str(os.getpid())), "w").close()
    if number >= int(os.environ["HANGS_FROM"]):
        import edge_runtime.inference.session as session
        session.Session.load = classmethod(lambda cls, *args, **kwargs: time.sleep(1000))
"""
LIMITED = """
import sys
from edge_runtime.folder.pools import child_process
child_process.MAX_LOAD_S = float(sys.argv[1])
from edge_runtime.cli import main
sys.exit(main(sys.argv[2:]))
"""


class Command:
    """A started edge-seg whose loads hang from one of a number on."""

    def __init__(self, tmp_path: Path, hangs_from: int, limit_s: float, *args: object) -> None:
        self.loads = tmp_path / "loads"
        for folder in (self.loads, tmp_path / "faults"):
            folder.mkdir()
        (tmp_path / "faults" / "sitecustomize.py").write_text(HANGS)
        paths = os.pathsep.join([str(tmp_path / "faults"), os.environ["PYTHONPATH"]])
        more = {"PYTHONPATH": paths, "LOADS": str(self.loads), "HANGS_FROM": str(hangs_from)}
        command = [sys.executable, "-c", LIMITED, str(limit_s), "--threads", "1", "--workers", "1", "--quiet"]
        self.process = subprocess.Popen(
            [*command, *map(str, args)], stderr=subprocess.PIPE, text=True, env={**os.environ, **more}
        )

    def wait_for(self, reached: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not reached():
            assert time.monotonic() < until and self.process.poll() is None
            time.sleep(0.05)

    def count_loads(self) -> int:
        return len(list(self.loads.iterdir()))

    def end(self) -> tuple[int, str]:
        """Exit status and stderr; no child is left."""
        try:
            _, errors = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        for path in self.loads.iterdir():
            until = time.monotonic() + 10
            while Path(f"/proc/{path.name}").exists() and time.monotonic() < until:
                time.sleep(0.05)
            assert not Path(f"/proc/{path.name}").exists()
        return self.process.returncode, errors


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "in", 3)


def read_health(out: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads((out / "health.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found


@pytest.mark.parametrize("mode", ["run", "service"])
def test_a_first_load_that_hangs_has_a_limit(images: Path, tmp_path: Path, mode: str) -> None:
    """It ends the command with one line that names the engine and the limit; OUT is not made."""
    args = [images] if mode == "run" else ["--watch", images]
    status, errors = Command(tmp_path, 0, 2, *args, "-o", tmp_path / "out", "--max-seconds", "1").end()
    assert status == 1
    assert len(errors.splitlines()) == 1 and "loads the model took longer than 2 s" in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("mode", ["run", "service"])
def test_a_stop_during_loading_ends_it_at_once(images: Path, tmp_path: Path, mode: str, how: int) -> None:
    """SIGTERM and Ctrl-C end the command and the process that hangs, long before the limit."""
    args = [images] if mode == "run" else ["--watch", images]
    command = Command(tmp_path, 0, 1000, *args, "-o", tmp_path / "out")
    command.wait_for(lambda: command.count_loads() == 1)
    time.sleep(1)
    sent = time.monotonic()
    command.process.send_signal(how)
    status, errors = command.end()
    assert time.monotonic() - sent < 10
    assert status == (130 if mode == "run" else 0) and "Traceback" not in errors


def test_a_killed_command_leaves_no_process_that_loads(images: Path, tmp_path: Path) -> None:
    """A process that hangs ends with its parent, however that ends."""
    command = Command(tmp_path, 0, 1000, images, "-o", tmp_path / "out")
    command.wait_for(lambda: command.count_loads() == 1)
    time.sleep(1)
    command.process.kill()
    assert command.end()[0] == -signal.SIGKILL


def test_a_replacement_that_hangs_is_told_and_has_a_limit(images: Path, tmp_path: Path) -> None:
    """While no process can segment, health.json says "starting" and why, not idle; after the limit the service ends."""
    out = tmp_path / "out"
    command = Command(tmp_path, 1, 20, "--watch", images, "-o", out, "--settle", "0.1", "--max-seconds", "20")
    command.wait_for(lambda: read_health(out).get("state") == "idle" and read_health(out).get("done") == 3)
    (child,) = list(command.loads.iterdir())
    os.kill(int(child.name), signal.SIGKILL)
    (images / "new.png").write_bytes((images / "00.png").read_bytes())
    command.wait_for(lambda: "is being loaded again" in str(read_health(out).get("error")))
    assert read_health(out)["state"] == "starting"
    status, errors = command.end()
    assert status == 1
    assert len(errors.splitlines()) == 1 and "loads the model took longer than 20 s" in errors


def test_a_service_whose_replacement_hangs_is_stopped_at_once(images: Path, tmp_path: Path) -> None:
    """The image that waits for it is done at the next start."""
    out = tmp_path / "out"
    command = Command(tmp_path, 1, 1000, "--watch", images, "-o", out, "--settle", "0.1")
    command.wait_for(lambda: read_health(out).get("state") == "idle" and read_health(out).get("done") == 3)
    (child,) = list(command.loads.iterdir())
    os.kill(int(child.name), signal.SIGKILL)
    (images / "new.png").write_bytes((images / "00.png").read_bytes())
    command.wait_for(lambda: command.count_loads() == 2)
    sent = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    assert command.end() == (0, "")
    assert time.monotonic() - sent < 10
    assert read_health(out)["state"] == "stopped"
