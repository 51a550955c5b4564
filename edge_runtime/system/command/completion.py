"""Which script completes a command's options in bash, zsh and fish? Made of its parser, so that it has all of them."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

SHELLS = ("bash", "zsh", "fish")
BASH = """\
# bash completion for {program}; made by: {program} --completion {name}
{function}() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} word command=""
    COMPREPLY=()
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in {commands}) command=$word; break;; esac
    done
    case "$command $previous" in
{choices}
    esac
    if [[ $current == -* ]]; then
        case "$command" in
{options}
        esac
    elif [[ -z $command ]]; then
        COMPREPLY=($(compgen -W "{words}" -- "$current"))
    fi
}}
complete -o default -F {function} {program}
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def to_completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script that completes commands, options and their values; file names are left to the shell."""
    if shell == "fish":
        return "".join(f"{line}\n" for line in list_fish_lines(parser))
    commands = find_commands(parser)
    parsers = {"": parser, **commands}
    values = [
        format_case(12, f"{name} {option}", map(str, action.choices), " return;;")
        for name, one in parsers.items()
        for action in one._actions
        if action.choices and not isinstance(action.choices, Mapping)
        for option in action.option_strings
    ]
    options = [format_case(12, name, list_options(one), ";") for name, one in parsers.items()]
    script = BASH.format(
        program=parser.prog,
        name=shell,
        function="_" + re.sub(r"\W", "_", parser.prog),
        commands="|".join(commands) or '""',
        choices="\n".join(values) or "        *) ;;",
        options="\n".join(options),
        words=" ".join(commands),
    )
    return (ZSH if shell == "zsh" else "") + script


def format_case(indent: int, case: str, words: Iterable[str], end: str) -> str:
    """Return a case of a bash script that proposes words."""
    return f'{" " * indent}"{case}") COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$current"));{end}'


def find_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of a command's commands, such as `run`, by their names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def list_options(parser: argparse.ArgumentParser) -> list[str]:
    """Return all options of a parser, such as --force."""
    return [option for action in parser._actions for option in action.option_strings]


def list_fish_lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a line of fish for each command and each option, with its help and its values."""
    commands = find_commands(parser)
    for name in commands:
        yield f"complete -c {parser.prog} -n __fish_use_subcommand -f -a {name}"
    for name, one in {"": parser, **commands}.items():
        where = f" -n '__fish_seen_subcommand_from {name}'" if name else ""
        for action in one._actions:
            flags = "".join(map(format_fish_flag, action.option_strings))
            if flags:
                choices = [] if isinstance(action.choices, Mapping) else list(map(str, action.choices or ()))
                takes = f" -x -a {shlex.quote(' '.join(choices))}" if choices else "" if action.nargs == 0 else " -r"
                words = "" if action.help in (None, argparse.SUPPRESS) else " ".join(str(action.help).split())
                described = f" -d {shlex.quote(words.replace('%%', '%'))}" if words else ""
                yield f"complete -c {parser.prog}{where}{flags}{takes}{described}"


def format_fish_flag(option: str) -> str:
    """Return an option as fish's `complete` takes it."""
    return f" -l {option[2:]}" if option.startswith("--") else f" -s {option[1:]}"
