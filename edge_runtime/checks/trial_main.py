"""What does a child process of a trial do? It loads an engine, segments drawn images and measures the speed."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import EdgeSegError, EngineError

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np
    import numpy.typing as npt

    from edge_runtime.contract.fields import Contract
    from edge_runtime.folder.records.journal import Outcome
    from edge_runtime.inference.session import Session

DRAWN, ROUNDS = 3, 3
MASKS = "masks.npz"
MAX_PENDING = 4  # images at a time in a process, as in a folder run


def draw_images(contract: Contract) -> list[npt.NDArray[np.uint8]]:
    """Return images, or volumes, of a size that no model has: a grey head with a bright, a dim and no lesion."""
    import numpy as np

    height, width = 200, 232
    y, x = np.mgrid[:height, :width].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 6, (height, width))
    drawn = []
    for brightness, side in ((140, 18), (60, 12), (0, 1)):
        head = ((y - height / 2) / 90) ** 2 + ((x - width / 2) / 78) ** 2 < 1
        lesion = ((y - 80) / side) ** 2 + ((x - 140) / (side + 4)) ** 2 < 1
        image = np.clip(head * (85 + noise) + lesion * brightness, 0, 255)
        flat = np.rint(image).astype(np.uint8)
        drawn.append(flat if contract.input.depth is None else np.repeat(flat[None], contract.input.depth, axis=0))
    return drawn


def measure_speed(session: Session, images: list[npt.NDArray[np.uint8]], folder: Path, seconds: float) -> float:
    """Return how many images a second this process reads, segments and writes, at twice their size."""
    from edge_runtime.folder.inputs import Input
    from edge_runtime.folder.outputs import Options
    from edge_runtime.folder.pipeline import ImageProcessor, Pipeline
    from edge_runtime.images.write import encode_png
    from edge_runtime.system.files import write_file

    options = Options()
    pipeline = Pipeline(ImageProcessor(folder / "out", session, lambda: session, options, {}), options.workers)
    items = []
    for number, image in enumerate(images):
        item = Input(folder / f"{number}.png", f"{number}.png")
        write_file(item.path, encode_png(image.repeat(2, 0).repeat(2, 1)))
        items.append(item)
    pending: deque[Future[Outcome]] = deque()
    done, submitted = 0, 0
    started = time.perf_counter()
    while pending or not done:
        while len(pending) < MAX_PENDING and (submitted < ROUNDS or time.perf_counter() < started + seconds):
            pending.append(pipeline.submit(items[submitted % len(items)]))
            submitted += 1
        row = pending.popleft().result().entry.row
        if row["status"] != "ok":
            raise EngineError("trial", row["error"])
        done += 1
    spent = time.perf_counter() - started
    pipeline.close()
    return done / spent


def measure_volumes(session: Session, volumes: list[npt.NDArray[np.uint8]], seconds: float) -> float:
    """Return how many volumes a second this process segments; a folder run does not take any."""
    done, started = 0, time.perf_counter()
    while done < ROUNDS or time.perf_counter() < started + seconds:
        session.segment(volumes[done % len(volumes)])
        done += 1
    return done / (time.perf_counter() - started)


def run_trial(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Try an engine: write the masks to `folder`, wait for a line, return the figures, or why there are none."""
    import numpy as np

    from edge_runtime.inference.engines.registry import ENGINES
    from edge_runtime.inference.session import Session

    ENGINES.setdefault(spec["engine"], (spec["module"], spec["engine"]))
    try:
        session = Session.load(spec["model"], spec["engine"], spec["threads"])
        images = draw_images(session.contract)
        results = [session.segment(image) for image in images]
        labels, probability = (np.stack([getattr(r, name) for r in results]) for name in ("labels", "probability"))
        np.savez(folder / MASKS, labels=labels, probability=probability)
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.readline()
        if session.contract.input.depth is None:
            speed = measure_speed(session, images, folder, spec["seconds"])
        else:
            speed = measure_volumes(session, images, spec["seconds"])
    except EdgeSegError as error:
        return {"why_not": error.why}
    return {"images_per_second": speed, "peak_rss_bytes": read_peak()}


def read_peak() -> int:
    """Return the peak memory of this process in bytes; 0 where that is not known."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(run_trial(json.loads(sys.argv[1]), Path(sys.argv[2]))), flush=True)
