"""No name out of a file steers a terminal: what the four commands print holds no control characters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from import_graph import FILES, ROOT

EVIL = "\x1b]0;owned\x07\x9b31m\r\b"  # sets a title, colours, goes back


def run(module: str, *arguments: object, folder: Path) -> str:
    """Return all that a command prints, and check that there is some."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(command, capture_output=True, cwd=folder, env=environment, timeout=120)
    assert done.returncode not in (0, -11), done
    text = (done.stdout + done.stderr).decode("utf-8")
    assert text and "Traceback" not in text, text
    return text


def find_controls(text: str) -> list[str]:
    """Return the characters that a terminal would take for an order."""
    return [char for char in text if (ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160]


COMMANDS: dict[str, Sequence[object]] = {
    "edge_runtime.cli": [f"{EVIL}.png"],
    "convert": [f"{EVIL}.keras"],
    "benchmarks": ["report", f"{EVIL}.json"],
    "deploy": ["verify", f"{EVIL}.kit", "--pub", f"{EVIL}.pub"],
}


@pytest.mark.parametrize("module", COMMANDS)
def test_a_file_that_is_not_there(tmp_path: Path, module: str) -> None:
    """Its name is printed without its escape sequences."""
    assert find_controls(run(module, *COMMANDS[module], folder=tmp_path)) == []


@pytest.mark.parametrize("module", COMMANDS)
def test_an_option_that_is_none(tmp_path: Path, module: str) -> None:
    """Neither does argparse repeat them."""
    assert find_controls(run(module, f"--{EVIL}", EVIL, folder=tmp_path)) == []


@pytest.mark.parametrize("name", [f"{EVIL}.keras", "plain.keras"])
def test_a_layer_of_a_model(tmp_path: Path, name: str) -> None:
    """Names of files, layers, classes and modules that a refused model gives."""
    pytest.importorskip("tensorflow")
    from keras_nets import functional, layer, write_archive

    for evil in (layer("Lambda", EVIL), layer(EVIL, "x", module=EVIL), layer("Gate", "x", registered_name=f"a>{EVIL}")):
        write_archive(tmp_path / name, functional(evil))
        found = run("convert", name, folder=tmp_path)
        assert find_controls(found) == [] and "owned" in found


def test_a_contract_file(tmp_path: Path) -> None:
    """A TOML file with escapes in keys and values."""
    (tmp_path / "m.keras").write_bytes(b"PK")
    for text in ('"\\u001b]0;owned\\u0007" = 1\n', 'activation = "\\u001b]0;owned\\u0007"\n', "\x1b]0;owned\x07 = 1\n"):
        (tmp_path / "m.contract.toml").write_text(text)
        assert find_controls(run("convert", "m.keras", folder=tmp_path)) == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parts[0] in ("convert", "benchmarks", "deploy")], ids=str
)
def test_one_function_prints(path: Path) -> None:
    """No file of the rooms prints text by itself; children print JSON to their parents."""
    lines = [line.strip() for line in (ROOT / path).read_text("utf-8").splitlines()]
    found = [line for line in lines if line.startswith("print(") and not line.startswith("print(json.dumps(")]
    assert found == []


def test_reports_hold_no_control_characters() -> None:
    """What goes into the pages, Markdown and HTML, is there without them."""
    from edge_runtime.folder.gallery.page import to_page
    from evidence.document import Heading, Points, Table, to_html, to_markdown

    blocks = [Heading(EVIL), Table([EVIL], [[EVIL]]), Points([EVIL]), EVIL]
    pages = (to_markdown(blocks), to_html(blocks, {}), to_page([], {"model_id": EVIL, "intended_use": EVIL}))
    assert [find_controls(page) for page in pages] == [[], [], []]
    assert all("owned" in page for page in pages)
