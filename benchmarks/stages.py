"""The whole way from an image file to its output files, stage by stage, through the functions that `edge-seg` uses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from edge_runtime.folder import Options
from edge_runtime.images import decode_image, read_bytes
from edge_runtime.inputs import Input, name_input
from edge_runtime.session import Session
from edge_runtime.worker import Worker

from .samples import percentile

STAGES = ("decode", "preprocess", "infer", "postprocess", "write")
Times = dict[str, float]


def time_stages(model: Path, engine: str, threads: int, images: Sequence[Path], out: Path) -> dict[str, Any]:
    """Segment all images into `out` as a folder run does, masks, overlays and gallery pictures; return what each stage
    took. The first image is done once before, untimed."""
    session = Session.load(model, engine, threads)
    worker = Worker(out, session, lambda: session, Options(), {})
    items = [name_input(path, path.name) for path in images]
    time_image(items[0], session, worker)
    started = time.perf_counter()
    rows = [time_image(item, session, worker) for item in items]
    return to_stages(rows, 1000 * (time.perf_counter() - started))


def time_image(item: Input, session: Session, worker: Worker) -> Times:
    """Return the milliseconds of each stage of one image."""
    started = time.perf_counter()
    image = decode_image(read_bytes(item.path, item.file), item.file)
    decoded = time.perf_counter()
    result = session.segment(image)
    segmented = time.perf_counter()
    worker.measure(image, result)
    measured = time.perf_counter()
    worker.write(item, image, result)
    written = time.perf_counter()
    return {
        "decode": 1000 * (decoded - started),
        "preprocess": result.timings["preprocess_ms"],
        "infer": result.timings["infer_ms"],
        "postprocess": result.timings["postprocess_ms"] + 1000 * (measured - segmented),
        "write": 1000 * (written - measured),
    }


def to_stages(rows: Sequence[Times], wall_ms: float) -> dict[str, Any]:
    """Return a result's `end_to_end` but for its subject: each stage's times, and what no stage accounts for."""
    stages = {name: describe([row[name] for row in rows]) for name in STAGES}
    told = sum(stage["total_ms"] for stage in stages.values())
    return {
        "images": len(rows),
        "wall_ms": round(wall_ms, 4),
        "stages": stages,
        "other_ms": round(wall_ms - told, 4),
        "images_per_s": round(1000 * len(rows) / wall_ms, 4),
    }


def describe(times: Sequence[float]) -> Times:
    """Return a stage's percentiles, mean and sum."""
    shares = {f"p{share}_ms": round(percentile(times, share), 4) for share in (50, 90, 99)}
    return {**shares, "mean_ms": round(fmean(times), 4), "total_ms": round(sum(times), 4)}
