"""How fast is a variant, and how much memory does it need? Measured by `python -m benchmarks run`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.contract.tail import read_contract
from edge_runtime.system.process import run_module

ENGINES = ("keras-fp32", "litert-fp32", "litert-drq")
TIMED_IMAGES = 16  # test slices used for timing
Facts = dict[str, Any]


def pick_timed(test: Path, dest: Path) -> Path:
    """Return a folder of links to some test images, spread evenly."""
    if not dest.is_dir():
        images = sorted((test / "images").iterdir())
        temporary = dest.with_name(f".{dest.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for image in images[:: max(1, len(images) // TIMED_IMAGES)][:TIMED_IMAGES]:
            (temporary / image.name).symlink_to(image.resolve())
        temporary.replace(dest)
    return dest


def measure_speed(files: Mapping[str, Path], images: Path, threads: int) -> Facts:
    """Benchmark all engines in turns, each in its own process; return latency and memory by engine.

    files: by engine, the trained model first, then the files converted from it.
    """
    out = files["keras-fp32"].with_suffix(".bench")
    options = ("--images", images, "--threads", threads, "-o", out, "--no-report", "--no-pictures", "--force")
    status, message = run_module("benchmarks", "run", *(files[engine] for engine in ENGINES), *options)
    if status not in (0, 3):
        return {"why": f"python -m benchmarks ended with exit {status} ({message})"}
    result = json.loads((out / "result.json").read_text())
    keys = ("keras-fp32", f"fp32-litert-{threads}", f"drq-litert-{threads}")
    return {
        "validity": result["validity"],
        "drq_sha256": result["model"]["contract"]["model"]["sha256"],
        "engines": {engine: pick_speed(result["subjects"][key]) for engine, key in zip(ENGINES, keys, strict=True)},
    }


def pick_speed(subject: Mapping[str, Any]) -> Facts:
    """Return the figures of a benchmark's subject that the table shows."""
    if subject["status"] != "ok":
        return {"why": subject["reason"]}
    latency = {name: subject["latency"][name] for name in ("p50_ms", "interval_p50", "mean_ms", "n")}
    return {**latency, "peak_rss_bytes": subject["memory"]["peak_rss_bytes"]}


def judge_timing(bench: Mapping[str, Any], drq: Path) -> Facts:
    """Return the benchmark's validity; an earlier one may be of another DRQ file than the one scored."""
    if "validity" not in bench:
        return {"status": "none", "reasons": [bench["why"]]}
    if read_contract(drq).model.sha256 == bench["drq_sha256"]:
        return dict(bench["validity"])
    reasons = [*bench["validity"]["reasons"], "the DRQ file timed has another layout than the one scored"]
    return {"status": "inconclusive", "reasons": reasons}
