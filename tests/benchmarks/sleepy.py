"""A child as measure/child/main.py, with engines for tests: of a known speed, leaking, crashing, returning NaN.

Their model is a file whose text is a number: the milliseconds that an inference takes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measure.child import main as child_main
from benchmarks.subjects import runtimes
from benchmarks.subjects.runtimes import Array, LoadedModel, Runtime

KEPT: list[Array] = []


def open_sleepy(path: Path, threads: int, trust: str) -> LoadedModel:
    seconds = float(path.read_text()) / 1000

    def infer(tensor: Array) -> Array:
        time.sleep(seconds)
        return np.clip(tensor[..., :1], 0, 1).astype(np.float32)

    return LoadedModel(infer, parameters=7)


def open_leaking(path: Path, threads: int, trust: str) -> LoadedModel:
    size = int(path.read_text())

    def infer(tensor: Array) -> Array:
        KEPT.append(np.ones(size, np.uint8))
        return np.zeros((1, 1, 1, 1), np.float32)

    return LoadedModel(infer)


def open_nan(path: Path, threads: int, trust: str) -> LoadedModel:
    return LoadedModel(lambda tensor: np.full(tensor.shape, np.nan, np.float32))


def open_crashing(path: Path, threads: int, trust: str) -> LoadedModel:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def open_noisy(path: Path, threads: int, trust: str) -> LoadedModel:
    print("a library's banner")  # would break the protocol, were it still on the pipe
    os.write(1, b"and one from C\n")
    return open_sleepy(path, threads, trust)


def open_hanging(path: Path, threads: int, trust: str) -> LoadedModel:
    time.sleep(600)
    raise AssertionError


OPENERS = {"sleepy": open_sleepy, "leaking": open_leaking, "nan": open_nan, "crashing": open_crashing,
           "noisy": open_noisy, "hanging": open_hanging}  # fmt: skip
runtimes.RUNTIMES.update({name: Runtime((), (), opener) for name, opener in OPENERS.items()})
runtimes.RUNTIMES["lacking"] = Runtime(("a_package_that_is_not_there",), (), open_sleepy)

if __name__ == "__main__":
    sys.exit(child_main.main())
