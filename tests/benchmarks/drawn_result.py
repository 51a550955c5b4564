"""Draws a complete, plausible result of a benchmark from a seed, and the same with parts missing: no machine needed."""

from __future__ import annotations

import atexit
import base64
import copy
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.report.write import write_reports
from reference.data.phantom import draw_phantom

Result = dict[str, Any]
Column = npt.NDArray[np.float64]

# key: name, role, engine, threads, recipe, p50 in ms, bytes of the file, MiB at the peak
SUBJECTS: dict[str, tuple[str, str, str, int, str, float, int, int]] = {
    "drq-litert-1": ("edge-seg DRQ on LiteRT, 1 thread", "subject", "litert", 1, "drq", 412.0, 33_967_820, 151),
    "drq-litert-2": ("edge-seg DRQ on LiteRT, 2 threads", "subject", "litert", 2, "drq", 219.0, 33_967_820, 154),
    "drq-litert-4": ("edge-seg DRQ on LiteRT, 4 threads", "subject", "litert", 4, "drq", 128.0, 33_967_820, 158),
    "fp32-litert-1": ("LiteRT FP32, 1 thread", "baseline", "litert", 1, "fp32", 1105.0, 133_101_560, 339),
    "fp32-litert-2": ("LiteRT FP32, 2 threads", "baseline", "litert", 2, "fp32", 583.0, 133_101_560, 343),
    "fp32-litert-4": ("LiteRT FP32, 4 threads", "baseline", "litert", 4, "fp32", 334.0, 133_101_560, 348),
    "keras-fp32": ("Keras FP32 (tf.function)", "baseline", "keras", 4, "fp32", 471.0, 134_217_728, 919),
    "stock-drq-litert-4": (
        "Stock DRQ, 4 threads",
        "baseline",
        "litert",
        4,
        "stock-drq",
        2310.0,
        33_554_432,
        171,
    ),
    "onnxruntime-fp32": ("onnxruntime FP32, 4 threads", "peer", "onnxruntime", 4, "fp32", 302.0, 133_400_000, 271),
}
ABSENT = {
    "openvino-fp32": ("OpenVINO FP32, 4 threads", "openvino", "the openvino package is not installed"),
    "tflite-runtime-drq": ("tflite-runtime DRQ", "tflite-runtime", "no wheel for Python 3.13 on aarch64"),
}
HEADLINE, FP32 = "drq-litert-4", "fp32-litert-4"
STAGES = {"decode": 5.2, "preprocess": 1.9, "infer": 128.6, "postprocess": 2.4, "write": 6.1}
METRICS = ("lesion_iou", "mean_iou", "dice", "hd95_px", "lesion_area_error")
ENERGY_WHY = "no sensor: neither RAPL, NVML nor the Pi 5's PMIC answered, and no meter file was given"


def draw_result(seed: int = 1, change: Callable[[Result], object] | None = None, **parts: Any) -> Result:
    """A result of format edge-seg-benchmark/2; `parts` replace top-level fields, `change` edits what is left."""
    result = copy.deepcopy(draw_whole(seed)) | parts
    if change:
        change(result)
    return seal(result)


@cache
def write_drawn_report() -> Path:
    """The folder of a report of the whole result, 40 studies a day, a price of 120: written once, removed at exit."""
    folder = Path(tempfile.mkdtemp(prefix="drawn-report-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_reports(draw_result(), folder, price=120, studies_per_day=40)
    return folder


def seal(result: Result) -> Result:
    """The result as a reader of its file would have it, NumPy's numbers turned into Python's, with its id."""
    fields = {key: value for key, value in result.items() if key != "id"}
    canonical = json.dumps(
        fields,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
        default=lambda value: value.item(),
    )
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
    return {"id": digest[:16]} | json.loads(canonical)


@cache
def draw_whole(seed: int) -> Result:
    """The result with nothing missing, not to be written to."""
    rng = np.random.default_rng(seed)
    result: Result = {
        "format": "edge-seg-benchmark/2",
        "created": "2026-11-20T21:04:11Z",
        "finished": "2026-11-20T22:19:47Z",
        "project": {"version": "0.2.0", "commit": "9f3c1e7"},
        "command": ["run", "resunet-ag.keras", "--images", "images", "--masks", "masks", "--sustain", "30"],
        "settings": {
            "mode": "standard",
            "samples": 60,
            "threads": [1, 2, 4],
            "engines": ["litert"],
            "rounds": 30,
            "seed": seed,
            "sustain_minutes": 30,
            "soak_runs": 2000,
            "peers": True,
        },
        "machine": draw_machine(rng),
        "data": {"images": 160, "masks": 160, "sha256": "5d" * 32, "sizes": {"512x512": 148, "256x256": 12}},
        "model": {
            "id": "resunet-ag",
            "version": "1",
            "source_sha256": "a7" * 32,
            "recipe": "drq",
            "input_shape": [1, 224, 224, 3],
            "parameters": 33_363_217,
            "contract": {"threshold": {"value": 0.5}, "intended_use": "Research on brain MR slices."},
        },
        "subjects": {key: draw_subject(rng, key) for key in SUBJECTS} | draw_absent(),
        "energy": None,
        "energy_why": ENERGY_WHY,
        "validity": {"status": "valid", "reasons": []},
    }
    result["pairs"] = [draw_pair(result, HEADLINE, key) for key in (FP32, "keras-fp32", "stock-drq-litert-4")]
    result["end_to_end"] = draw_end_to_end(rng)
    result["sustained"] = draw_sustained(rng)
    result["soak"] = draw_soak(rng)
    result["accuracy"], result["worst"] = draw_accuracy(rng)
    return seal(result)


def draw_machine(rng: np.random.Generator) -> Result:
    def state(at_s: float) -> Result:
        heat = 46 + 17 * (1 - np.exp(-at_s / 900))
        return {
            "load_1m": round(float(0.2 + 3.6 * (at_s > 0) + rng.normal(0, 0.1)), 2),
            "free_memory_bytes": 7_212_000_000 - int(rng.integers(0, 10**8)),
            "swap_used_bytes": 0,
            "temperature_c": round(float(heat + rng.normal(0, 0.3)), 1),
            "mhz": 2400.0,
            "governor": "performance",
            "throttled": False,
            "throttled_by": [],
            "busy_percent": round(96.0 * (at_s > 0) + float(rng.uniform(0, 2)), 2),
            "steal_percent": 0.0,
            "swapped_pages": 0,
        }

    versions = {"edge-seg": "0.2.0", "numpy": "2.4.6", "ai-edge-litert": "2.3.0", "opencv-python-headless": "4.13.0.92"}
    facts = {
        "board": "Raspberry Pi 5 Model B Rev 1.0",
        "cpu": "ARM Cortex-A76",
        "architecture": "aarch64",
        "features": ["asimd", "asimdhp", "asimddp"],
        "cores": 4,
        "threads_per_core": 1,
        "allowed_cores": 4,
        "max_mhz": 2400.0,
        "min_mhz": 1500.0,
        "governor": "performance",
        "ram_bytes": 8_453_947_392,
        "swap_bytes": 209_698_816,
        "os": "Debian GNU/Linux 13 (trixie)",
        "kernel": "6.12.34+rpt-rpi-2712",
        "glibc": "glibc 2.41",
        "python": "3.13.5",
        "versions": versions,
        "virtual": None,
        "container": None,
        "throttled_since_boot": [],
    }
    return {
        "facts": facts,
        "before": {"at": "2026-11-20T21:04:11Z"} | state(0),
        "during": [{"at_s": at, "others_percent": 0.4} | state(at) for at in range(30, 4530, 60)],
        "after": {"at": "2026-11-20T22:19:47Z"} | state(4530),
    }


def draw_samples(
    rng: np.random.Generator, p50: float, rounds: int = 30, each: int = 2, drift: float = 0.01
) -> list[list[float]]:
    """Milliseconds as a quiet machine gives them: rounds differ a little, and each has a tail to the right."""
    samples = []
    for number in range(rounds):
        centre = p50 * np.exp(rng.normal(0, drift))
        samples += [[number, round(float(centre * (0.985 + noise)), 4)] for noise in rng.gamma(2.0, 0.008, each)]
    return samples


def draw_latency(samples: list[list[float]]) -> Result:
    """A result's latency for samples; percentiles by the nearest rank."""
    times = sorted(ms for _, ms in samples)
    rank = {f"p{p}_ms": times[max(0, -(-p * len(times) // 100) - 1)] for p in (50, 90, 95, 99)}
    p50, mean = rank["p50_ms"], float(np.mean(times))
    return {
        "samples": samples,
        "n": len(times),
        "mean_ms": mean,
        **rank,
        "least_ms": times[0],
        "most_ms": times[-1],
        "interval_p50": [p50 * 0.99, p50 * 1.012],
        "spread": float(np.median(np.abs(np.array(times) - p50)) / p50),
        "per_second": 1000 / mean,
    }


def draw_subject(rng: np.random.Generator, key: str) -> Result:
    name, role, engine, threads, recipe, p50, size, peak = SUBJECTS[key]
    sha256 = hashlib.sha256(recipe.encode()).hexdigest()
    return {
        "name": name,
        "role": role,
        "status": "ok",
        "engine": engine,
        "threads": threads,
        "recipe": recipe,
        "versions": {"ai-edge-litert": "2.3.0"} if engine == "litert" else {engine: "1.31.1"},
        "file": {"name": f"resunet-ag.{recipe}.tflite", "bytes": size, "sha256": sha256},
        "import_ms": 210.5,
        "load_ms": round(p50 * 0.6, 2),
        "first_ms": round(p50 * 1.7, 2),
        "warm_up": {"runs": 12, "stable": True},
        "latency": draw_latency(draw_samples(rng, p50)),
        "memory": {
            "baseline_rss_bytes": 41 << 20,
            "loaded_rss_bytes": int((peak << 20) * 0.93),
            "peak_rss_bytes": peak << 20,
            "loaded_pss_bytes": int((peak << 20) * 0.88),
            "peak_pss_bytes": int((peak << 20) * 0.95),
        },
    }


def draw_absent() -> Result:
    return {
        key: {"name": name, "role": "peer", "engine": engine, "status": "absent", "reason": reason}
        for key, (name, engine, reason) in ABSENT.items()
    }


def draw_pair(result: Result, subject: str, baseline: str) -> Result:
    p50s = [result["subjects"][key]["latency"]["p50_ms"] for key in (subject, baseline)]
    ratio = p50s[0] / p50s[1]
    verdict = "faster" if ratio < 0.98 else "slower"
    names = {"subject": subject, "baseline": baseline}
    return names | {"ratio_p50": ratio, "interval": [ratio * 0.985, ratio * 1.016], "verdict": verdict}


def draw_end_to_end(rng: np.random.Generator, images: int = 160) -> Result:
    stages = {}
    for name, p50 in STAGES.items():
        times = np.sort(p50 * (0.985 + rng.gamma(2.0, 0.012, images)))
        ranks = {"p50_ms": times[images // 2 - 1], "p90_ms": times[int(images * 0.9) - 1], "p99_ms": times[-2]}
        stages[name] = ranks | {"mean_ms": times.mean(), "total_ms": times.sum()}
    total, other = sum(stage["total_ms"] for stage in stages.values()), 96.0
    return {
        "subject": HEADLINE,
        "images": images,
        "wall_ms": total + other,
        "stages": stages,
        "other_ms": other,
        "images_per_s": images / ((total + other) / 1000),
    }


def draw_sustained(rng: np.random.Generator) -> Result:
    minutes = []
    for minute in range(30):
        slow = 1 + 0.14 * (1 - np.exp(-minute / 6))
        p50 = 128 * slow * float(np.exp(rng.normal(0, 0.004)))
        heat = round(46 + 31 * (1 - float(np.exp(-minute / 7))), 1)
        times = {"p50_ms": p50, "p90_ms": p50 * 1.03, "p99_ms": p50 * 1.09}
        state = {"temperature_c": heat, "mhz": round(2400 / slow)}
        minutes.append({"minute": minute, "n": int(60000 / (p50 * 1.01))} | times | state)
    ratio = minutes[-1]["p50_ms"] / minutes[0]["p50_ms"]
    return {"subject": HEADLINE, "minutes": minutes, "ratio_last_to_first": ratio, "differs": bool(ratio > 1.1)}


def draw_soak(rng: np.random.Generator) -> Result:
    rss = [[run, int((157 << 20) + 120_000 * np.tanh(run / 60) + rng.normal(0, 9000))] for run in range(0, 2000, 20)]
    slope = {"slope_bytes_per_run": 1.4, "interval": [-2.1, 5.2], "verdict": "flat"}
    return {"subject": HEADLINE, "runs": 2000, "rss_bytes": rss} | slope


def draw_accuracy(rng: np.random.Generator, n: int = 160) -> tuple[Result, list[Result]]:
    """Scores of FP32 and of the quantized model on the same images, and the quantized model's five worst."""
    files, areas = [f"slice-{number:03}.png" for number in range(n)], rng.integers(200, 2000, n)
    one = draw_rows(rng, files, areas, np.clip(rng.beta(7, 1.4, n), 0.05, 0.99))
    near = np.array([row["dice"] for row in one]) + rng.normal(-0.0002, 0.002, n)
    other = draw_rows(rng, files, areas, np.clip(near, 0, 1))
    like = draw_rows(rng, files, areas, np.clip(1 - rng.gamma(1.2, 0.002, n), 0, 1))
    scored = score_rows(rng, other)
    scored["difference"] = {"against": FP32} | {
        name: draw_score(rng, other, name, less=one) for name in ("lesion_iou", "mean_iou", "dice")
    }
    scored["agreement"] = score_rows(rng, like, FP32) | {"changed_pixels": 0.00021}
    del scored["agreement"]["per_image"]
    worst = sorted(other, key=lambda row: float(row["dice"]))[:5]
    pictures = [
        {"file": row["file"], "subject": HEADLINE, "dice": row["dice"], "picture": draw_picture(k)}
        for k, row in enumerate(worst)
    ]
    return {FP32: score_rows(rng, one), HEADLINE: scored}, pictures


def draw_rows(rng: np.random.Generator, files: list[str], areas: Any, dice: Column) -> list[Result]:
    """Counts of pixels that give about these scores, and the scores that they give."""
    rows = []
    for file, area, score in zip(files, areas.tolist(), dice.tolist(), strict=True):
        found = int(area * rng.uniform(0.9, 1.1))
        hit = min(round(score * (area + found) / 2), area, found)
        counts = {"tp": hit, "fp": found - hit, "fn": area - hit, "tn": 512 * 512 - found - area + hit}
        scores = {
            "lesion_iou": hit / (area + found - hit),
            "dice": 2 * hit / (area + found),
            "hd95_px": 40 * (1 - score) ** 2,
        }
        rows.append({"file": file} | counts | scores | {"lesion_area_error": abs(area - found) / area, "alarm": None})
    return rows


def pool(rows: list[Result], name: str, index: Any) -> Column:
    """A score of the images of each row of `index`, as specified: IoUs of all pixels, others means."""
    if name not in ("lesion_iou", "mean_iou"):
        return np.array([row[name] for row in rows])[index].mean(axis=1)
    names = ("tp", "fp", "fn", "tn")
    tp, fp, fn, tn = (np.array([row[part] for row in rows])[index].sum(axis=1) for part in names)
    lesion = tp / (tp + fp + fn)
    return lesion if name == "lesion_iou" else (lesion + tn / (tn + fp + fn)) / 2


def score_rows(rng: np.random.Generator, rows: list[Result], against: str = "masks") -> Result:
    scores = {name: draw_score(rng, rows, name) for name in METRICS}
    return {"against": against, "n": len(rows), "changed_pixels": None} | scores | {"per_image": rows}


def draw_score(rng: np.random.Generator, rows: list[Result], name: str, less: list[Result] | None = None) -> Result:
    """The score of all rows, and its interval from two hundred draws: enough for a drawing."""
    n = len(rows)
    index = np.concatenate([np.arange(n)[None], rng.integers(0, n, (200, n))])
    values = pool(rows, name, index) - (pool(less, name, index) if less else 0)
    return {"value": values[0], "interval": list(np.quantile(values[1:], [0.025, 0.975])), "n": n}


@cache
def draw_picture(seed: int) -> str:
    """A drawn slice, the same with the truth's outline, and with what was found tinted: PNG, base64."""
    phantom = draw_phantom(np.random.default_rng(seed), "glioma", (128, 128))
    grey = np.repeat(phantom.image[..., None], 3, axis=2)
    edge = cv2.Canny(phantom.mask.astype(np.uint8) * 255, 50, 150)[..., None] > 0
    outline = np.where(edge, np.array([115, 158, 0], np.uint8), grey)
    found = np.roll(phantom.mask, 3, axis=1)[..., None]
    tinted = np.where(found, (grey * 0.5 + np.array([40, 40, 120])).astype(np.uint8), grey)
    ok, data = cv2.imencode(".png", np.concatenate([grey, outline, tinted], axis=1))
    assert ok
    return base64.b64encode(data.tobytes()).decode()


def remove(*paths: str) -> Callable[[Result], None]:
    """What sets the fields at these paths to null, as a run that did not measure them would."""

    def change(result: Result) -> None:
        for path in paths:
            *steps, last = path.split(".")
            place = result
            for step in steps:
                place = place[step]
            place[last] = None

    return change
