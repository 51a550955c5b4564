"""How fast a variant is and what memory it takes, by `python -m benchmarks run`, as a user would measure it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.contract import read_contract

from .child import run_module

ENGINES = ("keras-fp32", "litert-fp32", "litert-drq")
TIMED = 16  # test slices that are timed on
Facts = dict[str, Any]


def pick_timed(test: Path, dest: Path) -> Path:
    """Return a folder of links to some test images, spread evenly."""
    if not dest.is_dir():
        images = sorted((test / "images").iterdir())
        making = dest.with_name(f".{dest.name}")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        for image in images[:: max(1, len(images) // TIMED)][:TIMED]:
            (making / image.name).symlink_to(image.resolve())
        making.replace(dest)
    return dest


def measure_speed(files: Mapping[str, Path], images: Path, threads: int) -> Facts:
    """Benchmark as a user does: all engines in turns, each in its own process; return latency and memory by engine.

    files: by engine, the trained model first and then what was made of it.
    """
    out = files["keras-fp32"].with_suffix(".bench")
    how = ("--images", images, "--threads", threads, "-o", out, "--no-report", "--no-pictures", "--force")
    status, said = run_module("benchmarks", "run", *(files[engine] for engine in ENGINES), *how)
    if status not in (0, 3):
        return {"why": f"python -m benchmarks ended with exit {status} ({said})"}
    result = json.loads((out / "result.json").read_text())
    keys = ("keras-fp32", f"fp32-litert-{threads}", f"drq-litert-{threads}")
    return {
        "validity": result["validity"],
        "drq_sha256": result["model"]["contract"]["model"]["sha256"],
        "engines": {engine: pick_speed(result["subjects"][key]) for engine, key in zip(ENGINES, keys, strict=True)},
    }


def pick_speed(subject: Mapping[str, Any]) -> Facts:
    """Return what the table shows of a benchmark's subject."""
    if subject["status"] != "ok":
        return {"why": subject["reason"]}
    latency = {name: subject["latency"][name] for name in ("p50_ms", "interval_p50", "mean_ms", "n")}
    return {**latency, "peak_rss_bytes": subject["memory"]["peak_rss_bytes"]}


def judge_timing(bench: Mapping[str, Any], drq: Path) -> Facts:
    """Return the benchmark's own verdict; one that was kept may be of another layout than is scored here."""
    if "validity" not in bench:
        return {"status": "none", "reasons": [bench["why"]]}
    if read_contract(drq).model.sha256 == bench["drq_sha256"]:
        return dict(bench["validity"])
    reasons = [*bench["validity"]["reasons"], "the DRQ file timed has another layout than the one scored"]
    return {"status": "inconclusive", "reasons": reasons}
