"""The operator's page keeps its word: every command and option stands there, and what it says of errors is so."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from deploy.__main__ import build_parser, main

ROOT = Path(__file__).parents[2]
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
    """Each sentence of the table of errors stands in the sources, as far as it is not filled in."""
    sources = "".join(path.read_text("utf-8") for path in sorted((ROOT / "deploy").glob("*.py")))
    flat = re.sub(r'"\s*f?"', "", re.sub(r"\s+", " ", sources))
    rows = re.findall(r"^\| (`.*?) \|", PAGE.partition("## When it says no")[2], re.M)
    said = [sentence for row in rows for sentence in re.findall(r"`([^`]+)`", row)]
    assert len(said) > 25
    for sentence in said:
        for part in filter(None, re.split(r" ?… ?|: |; ", sentence)):
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
    """What cannot be meant ends with 2 and one line on stderr."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("edge-deploy: error: ") and said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_and_status_need_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Help is printed for every command; status of an empty folder says so and makes nothing."""
    for name in list_commands():
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        assert left.value.code == 0
    capsys.readouterr()
    assert main(["status", "--root", str(tmp_path / "none")]) == 0
    assert "nothing is installed" in capsys.readouterr().out and not (tmp_path / "none").exists()
    for command in ("check", "rollback"):
        assert main([command, "--root", str(tmp_path / "none")]) == 9
        assert "nothing is installed there" in capsys.readouterr().err and not (tmp_path / "none").exists()
