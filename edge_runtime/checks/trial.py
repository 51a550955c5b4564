"""How fast is one engine on a few drawn images, in processes of its own, since its driver may crash?"""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.inference.engine_verdict import EngineTrial
from edge_runtime.system.process import end_with_parent, module_command, package_environment

from .trial_main import MASKS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LIMIT_S = 90.0  # the first compilation of a GPU's shaders takes long; a driver that hangs takes longer
MEASURED_S = 1.0


@dataclass(frozen=True)
class TrialMasks:
    """The masks of the drawn images on one engine."""

    labels: npt.NDArray[np.uint8]  # (DRAWN, ...)
    probability: npt.NDArray[np.float32]  # (DRAWN, ...)


def try_engine(model: Path, trial: EngineTrial, limit_s: float = LIMIT_S) -> tuple[EngineTrial, TrialMasks | None]:
    """Return a trial with its figures, and its masks; or with the reason why there are none.

    Each worker is a process, as in a folder run; all measure at once.
    """
    import tempfile

    from edge_runtime.inference.engines.registry import ENGINES

    spec = {**asdict(trial), "module": ENGINES[trial.engine][0], "model": str(model.resolve()), "seconds": MEASURED_S}
    try:
        with tempfile.TemporaryDirectory(prefix="edge-seg-") as folder:
            folders = [Path(folder, str(number)) for number in range(trial.workers)]
            found = measure_together(lambda number: start_worker(spec, folders[number]), trial.workers, limit_s)
            speed = round(sum(worker["images_per_second"] for worker in found), 2)
            memory = sum(worker["peak_rss_bytes"] for worker in found)
            return replace(trial, images_per_second=speed, peak_rss_bytes=memory), read_masks(folders[0] / MASKS)
    except TrialFailed as error:
        return replace(trial, why_not=str(error)), None
    except TimeoutError:
        return replace(trial, why_not=f"it did not answer within {limit_s:g} s"), None
    except (OSError, ValueError, KeyError) as error:
        return replace(trial, why_not=f"it could not be tried ({error})"), None


def measure_together(
    start: Callable[[int], subprocess.Popen[bytes]], workers: int, limit_s: float
) -> list[dict[str, Any]]:
    """Start workers, wait until all are ready, let all measure at once; return the object that each prints then.

    A worker prints one JSON object when it is ready, waits for a line, measures, and prints another.
    Raises: TrialFailed if a worker fails; TimeoutError after `limit_s` seconds.
    """
    end = time.monotonic() + limit_s
    pool: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        for number in range(workers):  # one after another: the first packs the weights that the others map
            pool.append(stack.enter_context(start(number)))
            stack.callback(pool[-1].kill)
            read_message(pool[-1], end)
        for process in pool:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        return [read_message(process, end) for process in pool]


class TrialFailed(Exception):
    """An engine could not be measured; the text says why."""


def start_worker(spec: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """Return a process that loads the engine and segments in `folder`, where a crash leaves its core too."""
    folder.mkdir()
    command = module_command("edge_runtime.checks.trial_main", json.dumps(spec), folder)
    pipe, devnull = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        command,
        env=package_environment(),
        stdin=pipe,
        stdout=pipe,
        stderr=devnull,
        cwd=folder,
        preexec_fn=end_with_parent(),  # a driver that hangs does not read that its pipe was closed
    )


def read_message(process: subprocess.Popen[bytes], end: float) -> dict[str, Any]:
    """Return the next JSON object that a process prints; libraries may print other lines.

    Raises: TrialFailed with its reason or how it ended; TimeoutError at `end` on the monotonic clock.
    """
    assert process.stdout is not None
    line = b""
    while True:
        if not select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError
        byte = process.stdout.read1(1)  # type: ignore[attr-defined]
        line += byte
        if byte not in (b"", b"\n"):
            continue
        found = parse_message(line)
        if found is not None and "why_not" in found:
            raise TrialFailed(found["why_not"])
        if found is not None:
            return found
        if not byte:
            raise TrialFailed(f"it crashed, exit status {process.wait()}")
        line = b""


def parse_message(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a line holds, None for any other."""
    try:
        found = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def read_masks(path: Path) -> TrialMasks:
    """Read the masks that a worker wrote."""
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return TrialMasks(arrays["labels"], arrays["probability"])
