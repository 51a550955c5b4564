"""How long one image takes: a slot's own Python runs `-m deploy.clock MODEL RUNS`, which prints {"median_ms": …}."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

LEAST, SECONDS = 3, 5  # a slow device is measured no longer than it takes to know that it is slow


def measure_ms(model: Path, runs: int) -> float:
    """Return the median time of one image of the model's own size, from array to mask.

    Of at most `runs`, after one that does not count.
    """
    import numpy as np

    from edge_runtime.contract import read_contract
    from edge_runtime.session import Session

    contract = read_contract(model)
    shape = contract.input.shape[1:-1] + ((3,) if contract.input.colour == "rgb" else ())  # (H, W) or (H, W, 3)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    session = Session.load(model)
    times: list[float] = []
    for _ in range(runs + 1):
        if len(times) > LEAST and sum(times) > 1000 * SECONDS:
            break
        started = time.perf_counter()
        session.segment(image)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[1:])


if __name__ == "__main__":
    print(json.dumps({"median_ms": measure_ms(Path(sys.argv[1]), int(sys.argv[2]))}))
