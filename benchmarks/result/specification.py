"""Which fields does a result file have? The specification in file.py as shapes that evidence.schema checks."""

from __future__ import annotations

from evidence.schema import (
    Each,
    Fields,
    Maybe,
    Named,
    amount,
    anything,
    count,
    flag,
    matching,
    number,
    one_of,
    row,
    text,
)

from .format_1 import FORMAT_1

FORMAT = "edge-seg-benchmark/2"
KEY = "[a-z0-9-]+"

key = matching(KEY, "a subject's key")
sha256 = matching("[0-9a-f]{64}", "a SHA-256 in lower-case hexadecimal")
when = matching(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "a UTC time as in ISO 8601")
interval = row(Maybe(number), Maybe(number))

SUBJECT = Fields(
    required={
        "name": text,
        "role": one_of("subject", "baseline", "peer"),
        "status": one_of("ok"),
        "engine": text,
        "threads": count,
        "recipe": text,
        "versions": Named(text),
        "file": Fields({"name": text, "bytes": count, "sha256": sha256}),
        "load_ms": amount,
        "first_ms": amount,
        "warm_up": Fields({"runs": count, "stable": flag}),
        "latency": Fields(
            {
                "samples": Each(row(count, amount)),
                "n": count,
                **dict.fromkeys(("mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "least_ms", "most_ms"), amount),
                "interval_p50": interval,
                "spread": amount,
                "per_second": amount,
            }
        ),
        "memory": Fields(
            {
                **dict.fromkeys(("baseline_rss_bytes", "loaded_rss_bytes", "peak_rss_bytes"), Maybe(count)),
                **dict.fromkeys(("loaded_pss_bytes", "peak_pss_bytes"), Maybe(count)),
            },
            {"baseline_pss_bytes": Maybe(count)},
        ),
    },
    optional={"import_ms": amount, "parameters": Maybe(count), "notes": Each(text)},
)
LEFT_OUT = Fields(
    {
        "name": text,
        "role": one_of("subject", "baseline", "peer"),
        "status": one_of("absent", "failed"),
        "reason": text,
    },
    {"engine": text},
)
STAGE = Fields({"p50_ms": amount, "total_ms": amount}, dict.fromkeys(("mean_ms", "p90_ms", "p99_ms"), amount))
SCORE = Fields({"value": Maybe(number), "interval": interval, "n": count})
SCORES = ("lesion_iou", "mean_iou", "dice", "hd95_px", "lesion_area_error")
COMPARED_SCORES = SCORES[:3]
SCORED = {"against": text, "n": count, **dict.fromkeys(SCORES, SCORE), "changed_pixels": Maybe(amount)}
DIFFERENCE = Fields({"against": key, **dict.fromkeys(COMPARED_SCORES, SCORE)})
RESULT = Fields(
    required={
        "format": one_of(FORMAT, FORMAT_1),
        "id": matching("[0-9a-f]{16}", "16 hexadecimal digits"),
        "created": when,
        "finished": when,
        "project": Fields({"version": text, "commit": Maybe(text)}),
        "command": Each(text),
        "settings": Fields(
            {
                "mode": one_of("standard", "single-stream", "paper"),
                "samples": count,
                "threads": Each(count),
                "engines": Each(text),
                "rounds": count,
                "seed": count,
                "sustain_minutes": Maybe(amount),
                "soak_runs": Maybe(count),
                "peers": flag,
            },
            {
                "headline": one_of("p50_ms", "p90_ms", "mean_ms"),
                "price": Maybe(amount),
                "studies_per_day": Maybe(amount),
                "currency": text,
            },
        ),
        "machine": Fields(
            {"facts": Named(anything), "before": Named(anything), "during": Each(Named(anything))}
            | {"after": Named(anything)}
        ),
        "data": Fields({"images": count, "masks": Maybe(count), "sha256": sha256, "sizes": Named(count, r"\d+x\d+")}),
        "model": Fields(
            {
                **dict.fromkeys(("id", "version", "recipe"), text),
                "source_sha256": sha256,
                "input_shape": Each(count),
                "parameters": Maybe(count),
                "contract": Named(anything),
            }
        ),
        "subjects": Named(anything, KEY),  # by status: see check_result
        "pairs": Each(
            Fields(
                {
                    "subject": key,
                    "baseline": key,
                    "ratio_p50": amount,
                    "interval": interval,
                    "verdict": one_of("faster", "slower", "no difference", "inconclusive"),
                }
            )
        ),
        "end_to_end": Maybe(
            Fields(
                {
                    "subject": key,
                    "images": count,
                    "wall_ms": amount,
                    "stages": Fields(
                        dict.fromkeys(("decode", "preprocess", "infer", "postprocess", "write"), STAGE),
                    ),
                    "other_ms": number,
                    "images_per_s": amount,
                },
                {"peak_rss_bytes": Maybe(count)},
            )
        ),
        "sustained": Maybe(
            Fields(
                {
                    "subject": key,
                    "minutes": Each(
                        Fields(
                            {
                                "minute": count,
                                "n": count,
                                **dict.fromkeys(("p50_ms", "p90_ms", "p99_ms"), amount),
                                "temperature_c": Maybe(number),
                                "mhz": Maybe(amount),
                            }
                        )
                    ),
                    "ratio_last_to_first": amount,
                    "differs": flag,
                }
            )
        ),
        "soak": Maybe(
            Fields(
                {
                    "subject": key,
                    "runs": count,
                    "rss_bytes": Each(row(count, count)),
                    "slope_bytes_per_run": number,
                    "interval": interval,
                    "verdict": one_of("flat", "grows"),
                }
            )
        ),
        "energy": Maybe(
            Fields(
                {
                    "source": text,
                    "subject": key,
                    "joules_per_image": amount,
                    "idle_watts": Maybe(amount),
                    "samples": anything,
                }
            )
        ),
        "accuracy": Maybe(
            Named(
                Fields(
                    {**SCORED, "per_image": Each(Named(anything))},
                    {
                        "false_alarms": SCORE,
                        "agreement": Maybe(Fields(SCORED)),
                        "difference": Maybe(DIFFERENCE),
                        "failed": count,
                        "why": text,
                    },
                ),
                KEY,
            )
        ),
        "worst": Each(
            Fields(
                {"file": text, "subject": key, "picture": text}, dict.fromkeys(("dice", "lesion_iou"), Maybe(number))
            )
        ),
        "validity": Fields({"status": one_of("valid", "inconclusive", "invalid"), "reasons": Each(text)}),
    },
    optional=dict.fromkeys(("energy_why", "end_to_end_why", "sustained_why", "soak_why", "accuracy_why"), text),
)
