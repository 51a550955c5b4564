"""What all command lines share: one version, levels of messages, completion in a shell, and no noise of libraries."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from edge_runtime.models import DEFAULT
from edge_runtime.system.command.completion import to_completion
from reference.data.phantom import draw_folder

ROOT = Path(__file__).parents[3]
PARSERS = {  # program: module and function
    "edge-seg": ("edge_runtime.cli.options", "make_parser"),
    "edge-convert": ("convert.__main__", "build_parser"),
    "edge-bench": ("benchmarks.options", "make_parser"),
    "edge-deploy": ("deploy.__main__", "build_parser"),
}
NOISE = """
import os, sys
from edge_runtime.errors import EdgeSegError
from edge_runtime.system.command import Parser, run_command_line
from edge_runtime.system.command.common_options import add_common_options
from edge_runtime.system.terminal import print_message
class Accelerator:
    def __del__(self):
        os.write(2, b"DestroyAccelerator: ptr=0x7f\\n")
kept = Accelerator()
def run():
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
    print_message("program", "a message")
    if sys.argv[-1] == "error":
        raise EdgeSegError("a.png", "why", "fix")
    if sys.argv[-1] == "bug":
        raise KeyError("a bug")
    return 0
parser = Parser("program")
add_common_options(parser)
parser.parse_args(sys.argv[1:-1])
sys.exit(run_command_line("program", run, "nothing"))
"""


def make(program: str) -> argparse.ArgumentParser:
    module, function = PARSERS[program]
    parser = getattr(import_module(module), function)()
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


@pytest.mark.parametrize("program", PARSERS)
def test_every_program_has_the_projects_version(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--version of all programs is pyproject.toml's, where the package is installed, and the changelog's newest."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    with pytest.raises(SystemExit) as left:
        make(program).parse_args(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out in (f"{program} {stated}\n", f"{program} source\n")
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## [")]
    assert headings[0] == "## [Unreleased]" and headings[1].startswith(f"## [{stated}]")


def run_noise(*arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, "-c", NOISE, *arguments], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stderr.splitlines()


def test_libraries_are_not_heard() -> None:
    """What native code writes to stderr, at work and at exit, is shown with a bug and with --log-level debug alone."""
    assert run_noise("good") == (0, ["program: a message"])
    assert run_noise("--log-level", "error", "good") == (0, [])
    assert run_noise("error") == (1, ["program: a message", "program: error: a.png: why; fix"])
    assert run_noise("--log-level", "error", "error") == (1, ["program: error: a.png: why; fix"])
    status, lines = run_noise("--log-level", "debug", "error")
    assert status == 1 and any("XNNPACK" in line for line in lines) and "DestroyAccelerator: ptr=0x7f" in lines
    assert "Traceback (most recent call last):" in lines and "program: error: a.png: why; fix" in lines
    status, lines = run_noise("bug")
    assert status == 1 and any("XNNPACK" in line for line in lines) and lines[-1] == "KeyError: 'a bug'"


def test_an_evaluation_prints_nothing_of_libraries(tmp_path: Path) -> None:
    """LiteRT's own messages do not reach the user of another command either."""
    draw_folder(4, tmp_path, size=64)
    folders = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    command = [sys.executable, "-m", "reference", "evaluate", str(DEFAULT), *folders]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout
    assert [line for line in done.stderr.splitlines() if not line.startswith("reference: ")] == []


@pytest.fixture
def complete() -> Callable[..., list[str]]:
    """What bash proposes for a program and its words; the last word is being typed."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")

    def propose(program: str, *words: str) -> list[str]:
        script = to_completion(make(program), "bash")
        typed = " ".join(f"'{word}'" for word in (program, *words))
        function = next(line for line in script.splitlines() if line.endswith("() {"))[:-4]
        code = (
            f"{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        environment = {"PATH": os.environ["PATH"]}
        done = subprocess.run([bash, "--norc", "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stderr == ""
        return done.stdout.split()

    return propose


def test_bash_proposes_what_the_parser_takes(complete: Callable[..., list[str]]) -> None:
    """Options, values and commands; of a command its own options; nothing where a file name is due."""
    assert complete("edge-seg", "--over") == [one for one in all_options(make("edge-seg")) if one.startswith("--over")]
    assert sorted(complete("edge-seg", "a.png", "-")) == sorted(all_options(make("edge-seg")))
    assert complete("edge-seg", "--engine", "op") == ["openvino"]
    assert complete("edge-seg", "sli") == []
    assert complete("edge-deploy", "ins") == ["installer", "install"]
    assert complete("edge-bench", "run", "m.tflite", "--mas") == ["--masks"]
    assert complete("edge-bench", "run", "--mode", "p") == ["paper"]
    assert "--masks" not in complete("edge-bench", "--")


def all_options(parser: argparse.ArgumentParser) -> list[str]:
    """Every option that the parser's own help names."""
    lines = [line.strip() for line in parser.format_help().splitlines() if line.startswith("  -")]
    return [word for line in lines for word in re.findall(r"(?:^|, )(--?[\w-]+)", line.split("  ")[0])]


@pytest.mark.parametrize("program", PARSERS)
def test_every_shell_gets_every_long_option(program: str) -> None:
    """The scripts of zsh and fish name what bash's does; fish's lines are its `complete`."""
    parser = make(program)
    zsh, fish = to_completion(parser, "zsh"), to_completion(parser, "fish")
    assert (
        zsh.startswith("autoload -U +X bashcompinit") and f"complete -o default -F _{program.replace('-', '_')}" in zsh
    )
    for option in (one for action in parser._actions for one in action.option_strings if one.startswith("--")):
        assert option in zsh and f" -l {option[2:]}" in fish
    for line in fish.splitlines():
        assert shlex.split(line)[:3] == ["complete", "-c", program]
