"""What do the chapters on memory, energy, claims and the ECLAIR questions say, and what does the glossary define?"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.blocks import Block, Chapter, Chart, Facts, Sentence, Table
from benchmarks.result.lookup import Result, find
from benchmarks.result.quoted import (
    Missing,
    Text,
    compose,
    find_reason,
    quote,
    quote_cells,
    quote_interval,
    quote_words,
)
from benchmarks.result.roles import choose_headline, get_name, list_measured
from benchmarks.result.wording import escape_hidden, format_count, format_figure, format_mb
from benchmarks.verdicts.claims import ClaimVerdict

from .eclair import list_questions
from .speed import to_mark

GLOSSARY = (
    ("Slice", ("One image of a study, cut through the body.",)),
    ("Segmentation, mask", ("The pixels that the model classifies as lesion.",)),
    ("FP32", ("The model with weights of 32 bits, as trained.",)),
    (
        "DRQ",
        ("Dynamic-range quantization: weights stored in 8 bits, sums made with inputs scaled to 8 bits on the fly.",),
    ),
    ("INT8", ("Weights and intermediate results in 8 bits, their ranges set beforehand on sample images.",)),
    ("LiteRT", ("The interpreter that runs .tflite files on the device, formerly TensorFlow Lite.",)),
    ("Baseline", ("What the model is compared with, named by file, engine and threads.",)),
    ("Latency", ("The time of one inference, tensor in and output out, without reading and writing files.",)),
    (
        "p50, p90, p99",
        ("Half, nine tenths, 99 of 100 runs took no longer. p99 of fewer than 100 runs is the slowest.",),
    ),
    (
        "Interval",
        ("The 95 % confidence interval, by resampling whole rounds, or images.",),
    ),
    ("Spread", ("The median absolute deviation, divided by the median.",)),
    ("RSS, PSS", ("Memory of the process as the system counts it: shared pages counted whole, and by share.",)),
    ("MB", ("1,000,000 bytes.",)),
    (
        "Dice",
        ("Twice the common pixels, divided by the pixels of both masks: 1 is the same mask, 0 no pixel in common.",),
    ),
    ("IoU", ("The common pixels by the pixels of either mask. BinaryIoU: mean of the lesion's and the background's.",)),
    ("HD95", ("How far the outlines lie apart, in pixels of the image, the worst 5 % of points left out.",)),
    ("False alarms", ("The share of images without a true lesion on which one was predicted.",)),
    ("Steal", ("Processor time that the host of a virtual machine gave to other guests.",)),
    ("Throttling", ("The processor's reduction of its speed because of heat or low voltage.",)),
)


def render_memory(result: Result) -> Chapter:
    """Return the chapter on memory, its growth, and the energy of a slice."""
    rows = []
    for key in list_measured(result):
        fields = ("baseline_rss_bytes", "loaded_rss_bytes", "peak_rss_bytes", "loaded_pss_bytes", "peak_pss_bytes")
        file = quote(result, f"subjects.{key}.file.bytes", format_mb)
        rows.append(
            ((get_name(result, key),), (file,), *quote_cells(result, f"subjects.{key}.memory", fields, format_mb))
        )
    blocks: list[Block] = []
    if rows:
        head = ("", "file", "RSS, empty", "RSS, loaded", "RSS, peak", "PSS, loaded", "PSS, peak")
        caption = "Resident memory of the measuring process. From subjects.*.memory."
        blocks = [Chart("memory", (caption,)), Table(head, tuple(rows))]
    lead = "The size of the file and the memory of the process that runs it; the two differ."
    return Chapter("memory", "Memory and energy", (lead,), (*blocks, *render_soak(result), render_energy(result)))


def render_soak(result: Result) -> tuple[Block, ...]:
    """Return the result of the soak test."""
    if find(result, "soak") is None:
        return (Sentence(compose("Growth over many runs: {}.", Missing(find_reason(result, "soak")))),)
    verdict = "does not grow" if find(result, "soak.verdict") == "flat" else "grows"
    text = compose(
        "Over {} inferences of {} memory {}: {} bytes a run {}.",
        quote(result, "soak.runs", format_count),
        get_name(result, str(find(result, "soak.subject"))),
        verdict,
        quote(result, "soak.slope_bytes_per_run", format_figure),
        quote_interval(result, "soak.interval", format_figure),
    )
    return Sentence(text), Chart("soak", ("Memory over the runs. From soak.rss_bytes.",))


def render_energy(result: Result) -> Block:
    """Return the measured energy, or the reason why there is none."""
    if find(result, "energy") is None:
        return Sentence(compose("Energy: {}.", Missing(find_reason(result, "energy"))))
    joules = quote(result, "energy.joules_per_image", lambda value: f"{format_figure(value)} J")
    idle = quote(result, "energy.idle_watts", lambda value: f"{format_figure(value)} W")
    rows = (("Source", (quote_words(result, "energy.source"),)), ("A slice", (joules,)), ("Idle", (idle,)))
    return Facts(rows, "Energy")


def render_claims(verdicts: Sequence[ClaimVerdict], title: str) -> Chapter:
    """Return the chapter on the claims; a claim with several baselines is printed once."""
    rows: list[tuple[Text, ...]] = []
    for number, verdict in enumerate(verdicts):
        again = number and verdicts[number - 1].claim == verdict.claim
        says = "" if again else escape_hidden(verdict.claim.says)
        rows.append(((says,), (verdict.baseline or "–",), (to_mark(verdict.verdict),), verdict.reason))
    lead = (
        f"Claims of {escape_hidden(title)}, checked against this run. A ratio depends on its baseline: each is named."
    )
    return Chapter("claims", "Claims", (lead,), (Table(("Claim", "Baseline", "Verdict", "Why"), tuple(rows), words=4),))


def render_eclair(result: Result) -> Chapter:
    """Return the chapter on the questions of the ECLAIR guidelines."""
    lead = (
        "Questions recommended by the ECLAIR guidelines (Omoumi et al. 2021, European Radiology, PMC8128726), and this "
        "report's answers."
    )
    table = Table(("Heading", "Question", "Answer"), list_questions(result, choose_headline(result)), words=3)
    return Chapter("eclair", "Questions before a purchase", (lead,), (table,))
