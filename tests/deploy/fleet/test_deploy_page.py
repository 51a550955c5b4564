"""The operator's page is complete and correct: every command and option is on it, and its error messages exist."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from deploy.__main__ import build_parser, main

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "operate.md").read_text("utf-8")


def list_commands() -> dict[str, argparse.ArgumentParser]:
    (commands,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(commands.choices)


def test_the_page_is_complete() -> None:
    """Every command of edge-deploy, and every option but the everyday ones."""
    for name, command in list_commands().items():
        assert re.search(rf"(edge-deploy|edge-deploy\.pyz|`audit) {name}|`{name}", PAGE), name
        options = {option for action in command._actions for option in action.option_strings}
        everyday = {"-h", "--help", "-o", "--force", "--json", "--user"}
        assert [option for option in sorted(options - everyday) if option not in PAGE] == []


def test_its_errors_are_those_of_the_programs() -> None:
    """Each message of the table of errors is in the sources, except for the parts that are filled in."""
    sources = "".join(path.read_text("utf-8") for path in sorted((ROOT / "deploy").rglob("*.py")))
    flat = re.sub(r'"\s*f?"', "", re.sub(r"\s+", " ", sources))
    rows = re.findall(r"^\| (`.*?) \|", PAGE.partition("## When it says no")[2], re.M)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(messages) > 25
    for message in messages:
        for part in filter(None, re.split(r" ?… ?|: |; ", message)):
            assert part in flat, part


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["install"],
        ["bundle", "m", "--target", "pi", "--key", "k", "-o", "o"],
        ["bundle", "m", "--target", "raspios-bookworm-arm64-py311", "--key", "k", "-o", "o", "--latency-ms", "-1"],
        ["install", "k", "--root", "r", "--pub", "missing"],
        ["audit", "record", "--root", "r"],
    ],
)
def test_a_wrong_command_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A usage error has exit status 2 and one line on stderr, with the command where the parser knows it."""
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as exit:  # of the parser
        code = exit.code
    assert code == 2
    output = capsys.readouterr()
    programs = ("edge-deploy", f"edge-deploy {arguments[0] if arguments else ''}")
    assert output.out == "" and output.err.startswith(tuple(f"{program}: error: " for program in programs))
    assert output.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_and_status_need_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Help is printed for every command; status of an empty folder says so and creates nothing."""
    for name in list_commands():
        with pytest.raises(SystemExit) as exit:
            main([name, "--help"])
        assert exit.value.code == 0
    capsys.readouterr()
    assert main(["status", "--root", str(tmp_path / "none")]) == 0
    assert "nothing is installed" in capsys.readouterr().out and not (tmp_path / "none").exists()
    for command in ("check", "rollback"):
        assert main([command, "--root", str(tmp_path / "none")]) == 9
        assert "nothing is installed there" in capsys.readouterr().err and not (tmp_path / "none").exists()
