"""Which action does an `edge-seg` command line choose?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from edge_runtime.system.command import run_command_line
from edge_runtime.system.quiet import hold_stderr, open_missing_streams

from .options import PROGRAM, make_parser
from .segment import segment
from .series_list import list_series
from .show import show_doctor, show_info, show_selftest
from .watch import watch


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = make_parser().parse_args(argv)
    open_missing_streams()

    def run() -> int:
        with hold_stderr():
            return choose_action(args)(args)

    return run_command_line(PROGRAM, run, "the same command goes on where it stopped")


def choose_action(args: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    """Return the action of the command line; of several, the first."""
    actions = {
        show_info: args.info or (args.retune and not args.inputs and args.watch is None),
        show_selftest: args.selftest,
        show_doctor: args.doctor,
        list_series: args.list,
        watch: args.watch is not None,
    }
    return next((action for action, chosen in actions.items() if chosen), segment)


if __name__ == "__main__":
    sys.exit(main())
