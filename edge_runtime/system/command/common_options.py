"""Which options do all command lines have? --version, --log-level and, where it is a command's name, --completion."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from edge_runtime.system.terminal import LOG_LEVELS, set_log_level
from edge_runtime.system.versions import find_own_version

from .completion import SHELLS, to_completion


class Version(argparse.Action):
    """Looks up the version only when it is asked for: --help need not wait for that."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print the version and exit."""
        print(parser.prog, find_own_version())
        parser.exit()


class LogLevel(argparse.Action):
    """Sets the level as soon as it is read, so that it holds for what the command says of its other options."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: object) -> None:
        """Set the level of this process."""
        set_log_level(values)


class Completion(argparse.Action):
    """Prints a script for a shell, made of the parser."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: object) -> None:
        """Print the script and exit."""
        print(to_completion(parser, values), end="")
        parser.exit()


def add_common_options(parser: argparse.ArgumentParser, completion: bool = True) -> None:
    """Add the options that all programs have. completion: the program is a command by its own name."""
    parser.add_argument(
        "--log-level",
        action=LogLevel,
        choices=LOG_LEVELS,
        default=argparse.SUPPRESS,
        help="error: nothing but errors; info (default); debug: what libraries print too, and where an error came from",
    )
    if completion:
        parser.add_argument(
            "--completion",
            action=Completion,
            choices=SHELLS,
            default=argparse.SUPPRESS,
            help="print a script that completes this command in a shell, and exit",
        )
    parser.add_argument(
        "--version", action=Version, nargs=0, default=argparse.SUPPRESS, help="show the version and exit"
    )
