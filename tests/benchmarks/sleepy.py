"""A child as benchmarks.child, with engines that the tests need: of a known speed, leaking, crashing, answering NaN.

Their model is a file whose text is a number: the milliseconds that an inference takes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import child, engines
from benchmarks.engines import Array, Kind, Opened

KEPT: list[Array] = []


def open_sleepy(path: Path, threads: int, trust: str) -> Opened:
    seconds = float(path.read_text()) / 1000

    def infer(tensor: Array) -> Array:
        time.sleep(seconds)
        return np.clip(tensor[..., :1], 0, 1).astype(np.float32)

    return Opened(infer, parameters=7)


def open_leaking(path: Path, threads: int, trust: str) -> Opened:
    size = int(path.read_text())

    def infer(tensor: Array) -> Array:
        KEPT.append(np.ones(size, np.uint8))
        return np.zeros((1, 1, 1, 1), np.float32)

    return Opened(infer)


def open_nan(path: Path, threads: int, trust: str) -> Opened:
    return Opened(lambda tensor: np.full(tensor.shape, np.nan, np.float32))


def open_crashing(path: Path, threads: int, trust: str) -> Opened:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def open_noisy(path: Path, threads: int, trust: str) -> Opened:
    print("a library's banner")  # would break the protocol, were it still on the pipe
    os.write(1, b"and one from C\n")
    return open_sleepy(path, threads, trust)


def open_hanging(path: Path, threads: int, trust: str) -> Opened:
    time.sleep(600)
    raise AssertionError


OPENERS = {"sleepy": open_sleepy, "leaking": open_leaking, "nan": open_nan, "crashing": open_crashing,
           "noisy": open_noisy, "hanging": open_hanging}  # fmt: skip
engines.KINDS.update({name: Kind((), (), opener) for name, opener in OPENERS.items()})
engines.KINDS["lacking"] = Kind(("a_package_that_is_not_there",), (), open_sleepy)

if __name__ == "__main__":
    sys.exit(child.main())
