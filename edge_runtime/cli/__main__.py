"""Which action does an `edge-seg` command line choose?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from edge_runtime.errors import EdgeSegError, EngineError, ModelError
from edge_runtime.system.command import run_command_line
from edge_runtime.system.needs import describe_limits, describe_shortage, is_shortage, spare_memory, to_shortage
from edge_runtime.system.quiet import open_missing_streams

from .options import PROGRAM, make_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = make_parser().parse_args(argv)
    open_missing_streams()
    spare_memory()  # before NumPy is imported

    def run() -> int:
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
    """Return the action of the command line; of several, the first. It alone is imported: each start counts."""
    retune = args.retune and not args.inputs and args.watch is None
    if args.info or retune or args.selftest or args.doctor:
        from .show import show_doctor, show_info, show_selftest

        return show_info if args.info or retune else show_selftest if args.selftest else show_doctor
    if args.list:
        from .series_list import list_series

        return list_series
    if args.watch is not None:
        from .watch import watch

        return watch
    from .roads import segment

    return segment


if __name__ == "__main__":
    sys.exit(main())
