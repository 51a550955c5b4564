"""How long does each stage from an image file to its output files take, in the functions that `edge-seg` uses?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.measure.timing_statistics import percentile
from edge_runtime.folder.inputs import Input
from edge_runtime.folder.outputs import Options
from edge_runtime.folder.pipeline import ImageProcessor
from edge_runtime.images.read import decode_image, read_bytes
from edge_runtime.inference.session import Session

STAGES = ("decode", "preprocess", "infer", "postprocess", "write")
Times = dict[str, float]


def time_stages(model: Path, engine: str, threads: int, images: Sequence[Path], out: Path) -> dict[str, Any]:
    """Segment all images into `out` as a folder run does, with overlays and gallery; return the stages' times.

    The first image is segmented once before, untimed.
    """
    session = Session.load(model, engine, threads)
    processor = ImageProcessor(out, session, lambda: session, Options(), {})
    items = [Input(path, path.name) for path in images]
    time_image(items[0], session, processor)
    started = time.perf_counter()
    rows = [time_image(item, session, processor) for item in items]
    return to_stages(rows, 1000 * (time.perf_counter() - started))


def time_image(item: Input, session: Session, processor: ImageProcessor) -> Times:
    """Return the milliseconds of each stage of one image."""
    started = time.perf_counter()
    image = decode_image(read_bytes(item.path, item.file), item.file)
    decoded = time.perf_counter()
    result = session.segment(image)
    segmented = time.perf_counter()
    processor.measure_result(image, result)
    measured = time.perf_counter()
    processor.write_outputs(item, image, result)
    written = time.perf_counter()
    return {
        "decode": 1000 * (decoded - started),
        "preprocess": result.timings["preprocess_ms"],
        "infer": result.timings["infer_ms"],
        "postprocess": result.timings["postprocess_ms"] + 1000 * (measured - segmented),
        "write": 1000 * (written - measured),
    }


def to_stages(rows: Sequence[Times], wall_ms: float) -> dict[str, Any]:
    """Return a result's `end_to_end` without its subject: each stage's times, and the time outside all stages."""
    stages = {name: summarize_stage([row[name] for row in rows]) for name in STAGES}
    total = sum(stage["total_ms"] for stage in stages.values())
    return {
        "images": len(rows),
        "wall_ms": round(wall_ms, 4),
        "stages": stages,
        "other_ms": round(wall_ms - total, 4),
        "images_per_s": round(1000 * len(rows) / wall_ms, 4),
    }


def summarize_stage(times: Sequence[float]) -> Times:
    """Return a stage's percentiles, mean and sum."""
    shares = {f"p{share}_ms": round(percentile(times, share), 4) for share in (50, 90, 99)}
    return {**shares, "mean_ms": round(fmean(times), 4), "total_ms": round(sum(times), 4)}
