"""How many images a second does the engine alone segment in this process, while other workers do the same?

`python -m benchmarks.measure.child.throughput_main REQUEST`, a JSON object {model or null, engine, threads, files}.
Prints {"ready": true}, waits for a line, measures, and prints {"images_per_second": N}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.images.read import read_image
from edge_runtime.inference.session import Session

MIN_MEASURED_S = 3.0


def time_engine(model: Path | None, engine: str, threads: int, files: Sequence[Path]) -> float:
    """Return images a second on prepared tensors, once all workers are ready."""
    session = Session.load(model, engine, threads)
    tensors = [session.preprocess(read_image(path)) for path in files]
    for tensor in tensors[:3]:
        session.engine.infer(tensor)
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    done, started = 0, time.perf_counter()
    while time.perf_counter() < started + MIN_MEASURED_S:
        session.engine.infer(tensors[done % len(tensors)])
        done += 1
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    model = Path(request["model"]) if request["model"] else None
    speed = time_engine(model, request["engine"], request["threads"], [Path(file) for file in request["files"]])
    print(json.dumps({"images_per_second": speed}))
