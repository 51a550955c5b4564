"""How is a run stored? One JSON file with all raw measurements, from which reports are made.

Specification, edge-seg-benchmark/2
===================================
One JSON object, UTF-8, without NaN or infinity. A value that was not measured is null, with a reason beside it.
Milliseconds, bytes, seconds and joules carry their unit in the name. Times of day are UTC, ISO 8601. Every number has
an id, its path in this file (`subjects.drq.latency.p50_ms`), which reports print and link to.

    format      "edge-seg-benchmark/2"
    id          first 16 hex digits of the SHA-256 of the canonical JSON without `id`
    created     when the run began; `finished` when it ended
    project     {version, commit or null}
    command     [..] the arguments, without paths above the files' own names
    settings    {mode: "standard" | "single-stream" | "paper", samples, threads [..], engines [..], rounds, seed,
                 sustain_minutes, soak_runs, peers (bool)}; optional: headline "p50_ms" | "p90_ms" | "mean_ms", the
                 figure that the mode is judged by; price (of one device), its currency, studies_per_day: as the user
                 gave them
    machine     {facts: {...}, before: {...}, during: [{at_s, ...}], after: {...}}; see benchmarks.machine
    data        {images: n, masks: n or null, sha256 of names and bytes, sizes {"512x512": n}}
    model       {id, version, source_sha256, recipe, input_shape, parameters or null, contract {...}}
    subjects    {KEY: subject}; KEY is short, [a-z0-9-]+, e.g. "drq-litert-2", "fp32-litert-2", "keras-fp32"
    pairs       [{subject, baseline, ratio_p50, interval [low, high], verdict}]: paired within rounds, bootstrap 95 %;
                 verdict "faster" | "slower" | "no difference" | "inconclusive"
    end_to_end  null | {subject, images, wall_ms, stages {decode, preprocess, infer, postprocess, write: {p50_ms, ...,
                 total_ms}}, other_ms, images_per_s}; optional: peak_rss_bytes of that whole process, OpenCV and
                 writing included; mean_ms, p90_ms, p99_ms of a stage
    sustained   null | {subject, minutes: [{minute, n, p50_ms, p90_ms, p99_ms, temperature_c or null, mhz or null}],
                 ratio_last_to_first, differs (bool: by more than 10 %)}
    soak        null | {subject, runs, rss_bytes: [[run, bytes], ...], slope_bytes_per_run, interval [low, high],
                 verdict "flat" | "grows"}
    energy      null | {source, subject, joules_per_image, idle_watts or null, samples}; with `energy_why` when null
    accuracy    null | {KEY: {against: "masks" | KEY, n, lesion_iou, mean_iou, dice, hd95_px, lesion_area_error,
                 each {value, interval [low, high], n}; changed_pixels or null; per_image: [{file, ...}]}}; see below
    worst       [{file, subject, dice or lesion_iou, picture: PNG data, base64}]: at most ten
    validity    {status: "valid" | "inconclusive" | "invalid", reasons [..]}

`energy_why`, and where they are null `end_to_end_why`, `sustained_why`, `soak_why`, `accuracy_why` are texts.

A subject:

    name        for readers: "edge-seg DRQ on LiteRT, 2 threads"
    role        "subject" | "baseline" | "peer"
    status      "ok" | "absent" | "failed"; reason (one line) where not ok, and nothing but `engine` else then
    engine, threads, recipe, versions {package: version}
    file        {name, bytes, sha256}
    load_ms, first_ms
    warm_up     {runs, stable (bool)}
    latency     {samples: [[round, ms], ...], n, mean_ms, p50_ms, p90_ms, p95_ms, p99_ms, least_ms, most_ms,
                 interval_p50 [low, high], spread (MAD / p50), per_second}
    memory      {baseline_rss_bytes, loaded_rss_bytes, peak_rss_bytes, loaded_pss_bytes or null, peak_pss_bytes or null}
    optional    import_ms (the engine's libraries, not in load_ms); parameters; notes [..]; baseline_pss_bytes in memory

Baseline memory is the process with its libraries and the test tensors, before the model. Peak RSS is the kernel's own
high-water mark; peak PSS the highest of those read between rounds. A latency is one inference, tensor in and output
out, on images in turn; what goes before and after is in end_to_end.

Accuracy: `lesion_iou` and `mean_iou` (mean of lesion's and background's IoU) pool the pixels of all images; `dice`,
`hd95_px` and `lesion_area_error` (|found - true| / true) are means over the n images where they are defined: a lesion
in the truth, for hd95_px in the mask too. An image's tp, fp, fn and tn are pixels. Optional in an entry: false_alarms
{value, interval, n}, the share of images without a true lesion where one was found; agreement null | {against: KEY,
...}, the same five and changed_pixels with another subject's masks as the truth; difference null | {against: KEY,
lesion_iou, mean_iou, dice}, this subject's score less that one's, image by image; failed, the number of images without
a result, and why: values are null where it is not 0.

Percentiles are of all samples, by the nearest-rank rule: p99 of fewer than 100 samples is the largest one, and is
printed with n.

edge-seg-benchmark/1 differs in names alone (see format_1.py), and is still read.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NoReturn

from edge_runtime.errors import EdgeSegError
from edge_runtime.system.files import write_file
from evidence.schema import find_fault

from .format_1 import FORMAT_1, rename_fields
from .lookup import Result
from .specification import FORMAT, LEFT_OUT, RESULT, SUBJECT

MAX_BYTES = 256 << 20  # a hundred subjects of 10,000 samples are 20 MB
RUN_AGAIN = "run the benchmark again"
# A list of numbers over several lines. JSON texts hold no line breaks.
NUMBERS = re.compile(r"\[\n(?:[\s\d.,eE+-]|null)*\]")


def write_result(path: Path, result: Result) -> Result:
    """Write a result, checked, with its `id` computed; return it as written.

    Raises: EdgeSegError if it does not fit the specification; OutputError if it cannot be written.
    """
    complete: Result = {**result, "id": "0" * 16}
    check_result(complete, str(path))
    complete["id"] = compute_id(complete)
    text = json.dumps(complete, indent=1, ensure_ascii=False, allow_nan=False)
    write_file(path, (NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n").encode())
    return complete


def read_result(path: Path) -> Result:
    """Read a result file, of an earlier format with the names of today.

    Raises: EdgeSegError if it cannot be read, does not fit the specification or was edited after it was written.
    """
    written = parse_json(read_text(path), str(path))
    result: Result = rename_fields(written)
    check_result(result, str(path))
    if result["id"] != compute_id(written):
        raise EdgeSegError(str(path), "it was edited after it was written (its id does not fit)", RUN_AGAIN)
    return result


def check_result(result: Any, name: str = "result") -> None:
    """Check a result against the specification. Raises: EdgeSegError with the first fault."""
    found = result.get("format") if isinstance(result, dict) else None
    if isinstance(found, str) and found not in (FORMAT, FORMAT_1):  # another format has other fields
        raise EdgeSegError(name, f"its format is {found!r}", f"this version reads {FORMAT!r}")
    fault = find_fault(RESULT, result) or find_subject_fault(result) or find_unmeasured_reference(result)
    if fault:
        raise EdgeSegError(name, f"not a valid {FORMAT} result: {fault}", RUN_AGAIN)


def find_subject_fault(result: Result) -> str:
    """Return the first fault of a subject; one that was not measured has fewer fields."""
    for name, subject in result["subjects"].items():
        measured = isinstance(subject, dict) and subject.get("status") not in ("absent", "failed")
        fault = find_fault(SUBJECT if measured else LEFT_OUT, subject, f"subjects.{name}")
        if fault:
            return fault
    return ""


def find_unmeasured_reference(result: Result) -> str:
    """Return the first reference to a subject that was not measured."""
    measured = {name for name, subject in result["subjects"].items() if subject["status"] == "ok"}
    used = [
        (f"pairs.{i}.{side}", pair[side]) for i, pair in enumerate(result["pairs"]) for side in ("subject", "baseline")
    ]
    for part in ("end_to_end", "sustained", "soak", "energy"):
        used += [(f"{part}.subject", result[part]["subject"])] if result[part] else []
    used += [(f"worst.{i}.subject", item["subject"]) for i, item in enumerate(result["worst"])]
    for name, entry in (result["accuracy"] or {}).items():
        used += [("accuracy", name)]
        used += [(f"accuracy.{name}.against", entry["against"])] if entry["against"] != "masks" else []
    return next((f"{path} names {name!r}, which was not measured" for path, name in used if name not in measured), "")


def compute_id(result: Result) -> str:
    """Return the first 16 hex digits of the SHA-256 of a result's canonical JSON without `id`."""
    fields = {name: value for name, value in result.items() if name != "id"}
    try:
        line = json.dumps(fields, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return hashlib.sha256(line.encode()).hexdigest()[:16]
    except ValueError as error:
        raise EdgeSegError("result", f"it cannot be written as JSON ({error})", "report this") from None


def read_text(path: Path) -> str:
    """Return a result file's text. Raises: EdgeSegError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise EdgeSegError(str(path), f"more than {MAX_BYTES >> 20} MB", "give a result.json")
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise EdgeSegError(str(path), f"it cannot be read ({why})", "give a result.json") from None


def parse_json(source: str, name: str) -> Any:
    """Return the value of a JSON text; NaN, infinity and duplicate fields are refused. Raises: EdgeSegError."""

    def refuse_constant(found: str) -> NoReturn:
        raise ValueError(f"{found} is no number")

    def to_dict(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a field stands twice")
        return found

    try:
        return json.loads(source, parse_constant=refuse_constant, object_pairs_hook=to_dict)
    except (ValueError, RecursionError) as error:
        raise EdgeSegError(name, f"it is not valid JSON ({error})", RUN_AGAIN) from None
