"""What the report says after its first page: the chapters in their order, with memory, claims, ECLAIR and glossary."""

from __future__ import annotations

from collections.abc import Sequence

from .blocks import Block, Chapter, Chart, Facts, Sentence, Table
from .claims import Verdict
from .eclair import list_questions
from .numbers import (
    Missing,
    Result,
    Text,
    cite,
    cite_cells,
    cite_interval,
    cite_words,
    find,
    flow,
    printable,
    say_count,
    say_figure,
    say_mb,
    tell_why,
)
from .pace import mark, tell_latency, tell_ratios, tell_stages, tell_sustained, tell_threads
from .scores import tell_accuracy
from .setting import tell_machine, tell_sources
from .subjects import choose_headline, list_measured, name_of

GLOSSARY = (
    ("Slice", ("One image of a study, cut through the body.",)),
    ("Segmentation, mask", ("The pixels that the model takes for a lesion.",)),
    ("FP32", ("The model with weights of 32 bits, as trained.",)),
    (
        "DRQ",
        ("Dynamic-range quantization: weights stored in 8 bits, sums made with inputs scaled to 8 bits on the fly.",),
    ),
    ("INT8", ("Weights and intermediate results in 8 bits, their ranges set beforehand on sample images.",)),
    ("LiteRT", ("The interpreter that runs .tflite files on the device, formerly TensorFlow Lite.",)),
    ("Baseline", ("What the model is held against, named for what it is: file, engine, threads.",)),
    ("Latency", ("The time of one inference, tensor in and output out, without reading and writing files.",)),
    (
        "p50, p90, p99",
        ("Half, nine tenths, 99 of 100 runs took no longer. p99 of fewer than 100 runs is the slowest.",),
    ),
    (
        "Interval",
        ("Where the figure lies in 95 of 100 such runs; whole rounds, or images, are drawn again and again.",),
    ),
    ("Spread", ("The median distance from the median, in proportion to it.",)),
    ("RSS, PSS", ("Memory of the process as the system counts it: shared pages counted whole, and by share.",)),
    ("MB", ("1,000,000 bytes.",)),
    ("Dice", ("Twice the common pixels by the pixels of both masks: 1 is the same mask, 0 no pixel in common.",)),
    ("IoU", ("The common pixels by the pixels of either mask. BinaryIoU: mean of the lesion's and the background's.",)),
    ("HD95", ("How far the outlines lie apart, in pixels of the image, the worst 5 % of points left out.",)),
    ("False alarms", ("The share of images without a true lesion on which one was found.",)),
    ("Steal", ("Processor time that the host of a virtual machine gave to others.",)),
    ("Throttling", ("The processor slowing itself down against heat or low voltage.",)),
)


def to_chapters(result: Result, verdicts: Sequence[Verdict], claims_title: str) -> tuple[Chapter, ...]:
    """Return the chapters of a result in reading order."""
    return (
        tell_latency(result),
        tell_ratios(result),
        tell_stages(result),
        tell_threads(result),
        tell_sustained(result),
        tell_memory(result),
        tell_accuracy(result),
        tell_claims(verdicts, claims_title),
        tell_machine(result),
        tell_sources(result),
        tell_eclair(result),
        Chapter("glossary", "Glossary", ("The words of this report.",), (Facts(GLOSSARY),)),
    )


def tell_memory(result: Result) -> Chapter:
    """What the process takes, whether it grows, and what energy a slice takes."""
    rows = []
    for key in list_measured(result):
        fields = ("baseline_rss_bytes", "loaded_rss_bytes", "peak_rss_bytes", "loaded_pss_bytes", "peak_pss_bytes")
        file = cite(result, f"subjects.{key}.file.bytes", say_mb)
        rows.append(((name_of(result, key),), (file,), *cite_cells(result, f"subjects.{key}.memory", fields, say_mb)))
    blocks: list[Block] = []
    if rows:
        head = ("", "file", "RSS, empty", "RSS, loaded", "RSS, peak", "PSS, loaded", "PSS, peak")
        caption = "Resident memory of the measuring process. From subjects.*.memory."
        blocks = [Chart("memory", (caption,)), Table(head, tuple(rows))]
    lead = "The file's size and the memory of the process that runs it are different things; both are given."
    return Chapter("memory", "Memory and energy", (lead,), (*blocks, *tell_soak(result), tell_energy(result)))


def tell_soak(result: Result) -> tuple[Block, ...]:
    """Whether memory grows over many runs."""
    if find(result, "soak") is None:
        return (Sentence(flow("Growth over many runs: ", Missing(tell_why(result, "soak")), ".")),)
    verdict = "does not grow" if find(result, "soak.verdict") == "flat" else "grows"
    said = flow(
        "Over ",
        cite(result, "soak.runs", say_count),
        f" inferences of {name_of(result, str(find(result, 'soak.subject')))} memory {verdict}: ",
        cite(result, "soak.slope_bytes_per_run", say_figure),
        " bytes a run ",
        cite_interval(result, "soak.interval", say_figure),
        ".",
    )
    return Sentence(said), Chart("soak", ("Memory over the runs. From soak.rss_bytes.",))


def tell_energy(result: Result) -> Block:
    """Energy as measured, or why it was not."""
    if find(result, "energy") is None:
        return Sentence(flow("Energy: ", Missing(tell_why(result, "energy")), "."))
    joules = cite(result, "energy.joules_per_image", lambda value: f"{say_figure(value)} J")
    idle = cite(result, "energy.idle_watts", lambda value: f"{say_figure(value)} W")
    rows = (("Source", (cite_words(result, "energy.source"),)), ("A slice", (joules,)), ("Idle", (idle,)))
    return Facts(rows, "Energy")


def tell_claims(verdicts: Sequence[Verdict], title: str) -> Chapter:
    """What became of the claims; one that is told against several baselines is said once."""
    rows: list[tuple[Text, ...]] = []
    for number, verdict in enumerate(verdicts):
        again = number and verdicts[number - 1].claim == verdict.claim
        says = "" if again else printable(verdict.claim.says)
        rows.append(((says,), (verdict.baseline or "–",), (mark(verdict.verdict),), verdict.reason))
    lead = f"Claims of {printable(title)}, held against this run. A ratio says as much as its baseline: each is named."
    return Chapter("claims", "Claims", (lead,), (Table(("Claim", "Baseline", "Verdict", "Why"), tuple(rows), words=4),))


def tell_eclair(result: Result) -> Chapter:
    """What a buyer should ask, and what of it is answered."""
    lead = (
        "The headings of the ECLAIR guidelines (Omoumi et al. 2021, European Radiology, PMC8128726), what this report "
        "answers to them, and what it does not."
    )
    table = Table(("Heading", "Question", "Answer"), list_questions(result, choose_headline(result)), words=3)
    return Chapter("eclair", "What a buyer should ask", (lead,), (table,))
