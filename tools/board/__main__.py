"""Does edge-seg hold on a booted arm64 machine? An emulated one, not a Raspberry Pi: see docs/operate.md.

    python tools/board FOLDER make [--wheels DIR]    the stick, the disk, the first kit on it
    python tools/board FOLDER masks sandbox watchdog rollback starts    these, on one boot
    python tools/board FOLDER cut-update cut-install cut-segment --cuts 10    the power; the last two: so often

By the Python of an environment of the checkout, as root, on Debian with qemu-system-arm. Each check prints a line. A
check that fails is one line and exit status 1; the disk is left as it is. FOLDER takes 4 GB.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:1] = [str(Path(__file__).parent)]

from board import CHECK, Reference, wait_for_service  # noqa: E402
from checks import (  # noqa: E402
    check_masks,
    check_sandbox,
    check_starts,
    check_stopped_child,
    check_stopped_service,
    install,
)
from machine import BoardError, Machine  # noqa: E402
from power import check_rollback, cut_bad_update, cut_installing, cut_segmenting  # noqa: E402
from stick import make_stick  # noqa: E402

CHECKS = ("make", "masks", "sandbox", "watchdog", "rollback", "starts", "cut-update", "cut-install", "cut-segment")
SLICES = 150
IMAGE_S = 30.0  # which an image takes there: the power is cut within them


def main() -> int:
    """Run the checks that are asked for."""
    parser = argparse.ArgumentParser(prog="board", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("checks", nargs="+", choices=CHECKS)
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--image-s", type=float, default=IMAGE_S, help="seconds that an image takes there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wheels", type=Path, help="the dependencies' wheels (default: downloaded)")
    args = parser.parse_args()
    if "make" in args.checks:
        args.folder.mkdir(parents=True, exist_ok=True)
        stick = make_stick(args.folder, args.wheels, SLICES)
        subprocess.run([str(Path(__file__).with_name("make_image")), str(args.folder), str(stick)], check=True)
    machine = Machine(args.folder, random.Random(args.seed + 1))
    # The unit that reads all of the slot's files after a start would be in the way; each cut is followed by it.
    print(f"booted in {machine.boot(*([] if 'make' in args.checks else [CHECK])):.0f} s", flush=True)
    try:
        if "make" not in args.checks:
            wait_for_service(machine, check=False)
        run_checks(machine, args)
        machine.shut_down()
    except BoardError as error:
        print(f"board: error: {error}", file=sys.stderr)
        return 1
    finally:
        machine.cut()
    return 0


def run_checks(machine: Machine, args: argparse.Namespace) -> None:
    """Run the checks on a booted board. Raises: BoardError."""
    rng = random.Random(args.seed)

    def refer() -> Reference:
        return Reference(args.folder / "stick" / "images")

    steps: dict[str, list[Callable[[], object]]] = {
        "make": [lambda: install(machine)],
        "masks": [lambda: check_masks(machine, refer())],
        "sandbox": [lambda: check_sandbox(machine)],
        "watchdog": [lambda: check_stopped_child(machine), lambda: check_stopped_service(machine)],
        "rollback": [lambda: check_rollback(machine)],
        "starts": [lambda: check_starts(machine)],
        "cut-update": [lambda: cut_bad_update(machine)],
        "cut-install": [lambda: cut_installing(machine, args.cuts, rng)],
        "cut-segment": [lambda: cut_segmenting(machine, refer(), args.cuts, args.image_s, rng)],
    }
    for check in args.checks:
        for step in steps[check]:
            started = time.monotonic()
            print(f"{check}: {step()} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
