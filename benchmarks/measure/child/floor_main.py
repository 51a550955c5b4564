"""What processor time does each step cost that a slice cannot do without, alone and one after the other?

`python -m benchmarks.measure.child.floor_main REQUEST`, a JSON object {model or null, engine, gallery, files}. Prints
{"ready": true}, waits for a line, measures while other workers do the same, and prints {"steps": {step: ms a slice}}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.folder.gallery.thumbnails import draw_sprite
from edge_runtime.folder.pipeline import OVERLAY_QUALITY
from edge_runtime.images.overlay import draw_overlay, to_picture
from edge_runtime.images.write import encode_jpeg, encode_mask
from edge_runtime.inference.postprocess import to_labels, to_probability
from edge_runtime.inference.session import Session
from edge_runtime.system.process import keep_freed_memory

MIN_MEASURED_S = 5.0
STEPS = ("decode", "resize", "infer", "threshold", "encode")


@contextmanager
def add_time(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the processor time of this process, all its threads, to a step."""
    started = time.process_time()
    yield
    seconds[step] += time.process_time() - started


def time_steps(model: Path | None, engine: str, gallery: bool, files: Sequence[Path]) -> dict[str, float]:
    """Return the milliseconds of each step for a slice, once all workers are ready.

    Decoding is OpenCV's alone, without checks; encoding is that of mask, overlay and gallery picture, which are drawn
    outside the time.
    """
    keep_freed_memory()
    cv2.setNumThreads(1)
    session, seconds, done = Session.load(model, engine, 1), dict.fromkeys(STEPS, 0.0), 0
    contract = session.contract
    colours = [label.colour for label in contract.output.lesions]
    contents = [np.fromfile(path, np.uint8) for path in files]
    session.segment(np.zeros((64, 64), np.uint8))
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    while time.perf_counter() < started + MIN_MEASURED_S:
        with add_time(seconds, "decode"):
            image = np.asarray(cv2.imdecode(contents[done % len(contents)], cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH))
        with add_time(seconds, "resize"):
            tensor = session.preprocess(image)
        with add_time(seconds, "infer"):
            output = session.engine.infer(tensor)
        with add_time(seconds, "threshold"):
            probability = to_probability(output, *image.shape[:2])
            labels, _ = to_labels(probability, session.threshold, contract.output.activation)
        picture = to_picture(image)
        overlay, sprite = draw_overlay(picture, labels, colours), draw_sprite(picture, labels, colours)
        mask = labels if len(colours) > 1 else np.asarray((labels > 0) * 255, np.uint8)
        with add_time(seconds, "encode"):
            encode_mask(mask)
            encode_jpeg(overlay, OVERLAY_QUALITY, sharp=True)
            if gallery:
                encode_jpeg(sprite)
        done += 1
    return {step: 1000 * spent / done for step, spent in seconds.items()}


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    model = Path(request["model"]) if request["model"] else None
    found = time_steps(model, request["engine"], request["gallery"], [Path(file) for file in request["files"]])
    print(json.dumps({"steps": found}))
