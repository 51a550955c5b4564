"""How long does one image take? A slot's own Python runs `-m deploy.clock MODEL RUNS`, which prints {"median_ms": …}.

Installers of earlier versions run this module in newer slots: its name, arguments and output stay.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

MIN_IMAGES, MAX_SECONDS = 3, 5  # a slow device takes fewer images than asked for


def measure_ms(model: Path, runs: int) -> float:
    """Return the median time of one image of the model's input size, from array to mask: of at most `runs`.

    One image before them warms up and is not counted.
    """
    import numpy as np

    from edge_runtime.contract.tail import read_contract
    from edge_runtime.inference.session import Session

    contract = read_contract(model)
    shape = contract.input.shape[1:-1] + ((3,) if contract.input.colour == "rgb" else ())  # (H, W) or (H, W, 3)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    session = Session.load(model)
    times: list[float] = []
    for _ in range(runs + 1):
        if len(times) > MIN_IMAGES and sum(times) > 1000 * MAX_SECONDS:
            break
        started = time.perf_counter()
        session.segment(image)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[1:])


if __name__ == "__main__":
    print(json.dumps({"median_ms": measure_ms(Path(sys.argv[1]), int(sys.argv[2]))}))
