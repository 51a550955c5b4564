"""Which action does an `edge-seg` command line choose?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from edge_runtime.errors import EdgeSegError, EngineError, ModelError
from edge_runtime.system.command import run_command_line
from edge_runtime.system.needs import describe_limits, describe_shortage, is_shortage, spare_memory, to_shortage
from edge_runtime.system.quiet import hold_stderr, open_missing_streams

from .options import PROGRAM, make_parser
from .roads import segment
from .series_list import list_series
from .show import show_doctor, show_info, show_selftest
from .watch import watch


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = make_parser().parse_args(argv)
    open_missing_streams()
    spare_memory()  # before NumPy is imported

    def run() -> int:
        with hold_stderr():
            try:
                return choose_action(args)(args)
            except (EngineError, ModelError) as error:
                limits = describe_limits(args.max_memory and args.max_memory * 1_000_000)
                if not limits or error.what == "memory":
                    raise
                # Libraries refuse a model, or do not import, in many words where they get no memory.
                why = f"{error.why}, perhaps for want of memory: {limits}"
                raise type(error)(error.what, why, f"raise it, or {error.fix}") from None
            except Exception as error:
                if isinstance(error, EdgeSegError) or not is_shortage(error):
                    raise
                raise to_shortage(describe_shortage(error), describe_limits()) from None

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
