"""The chapters on speed: one inference, against baselines, from file to mask, by threads, and over minutes."""

from __future__ import annotations

from collections.abc import Sequence

from .blocks import Block, Chapter, Chart, Facts, Table
from .numbers import (
    Mark,
    Missing,
    Number,
    Result,
    Say,
    Text,
    cite,
    cite_cells,
    cite_interval,
    cite_words,
    derive,
    find,
    find_number,
    flow,
    printable,
    say_count,
    say_figure,
    say_ms,
    say_percent,
    say_plain,
    say_ratio,
    tell_why,
)
from .subjects import choose_headline, list_measured, list_subjects, list_sweeps, name_of, threads_of

STAGES = ("decode", "preprocess", "infer", "postprocess", "write")
MINUTE = {  # field: words, print
    "n": ("Slices in the minute", say_count),
    "p50_ms": ("p50, ms", say_figure),
    "p90_ms": ("p90, ms", say_figure),
    "p99_ms": ("p99, ms", say_figure),
    "temperature_c": ("Temperature, °C", say_figure),
    "mhz": ("Frequency, MHz", say_figure),
}
LEAST_IS_WORST = ("n", "mhz")
GOOD, BAD = ("faster", "reproduced"), ("slower", "not reproduced")


def mark(verdict: str) -> Mark:
    """Return a verdict with its tone."""
    return Mark(printable(verdict), "good" if verdict in GOOD else "bad" if verdict in BAD else "open")


def tell_latency(result: Result) -> Chapter:
    """Every subject's time for one slice, and those that were not measured."""
    measured = list_measured(result)
    blocks: list[Block] = []
    if measured:
        caption = (
            "A dot for each inference, the middle half as a bar, p50 as a line. Blue: this model; orange: baselines; "
            "grey: peers. From subjects.*.latency.samples."
        )
        blocks = [Chart("latency", (caption,)), tabulate_times(result, measured), tabulate_starts(result, measured)]
    left_out = [key for key in list_subjects(result) if key not in measured]
    if left_out:
        rows = tuple((name_of(result, key), tell_absence(result, key)) for key in left_out)
        blocks.append(Facts(rows, "Not measured"))
    lead = "The time of one inference: the model alone, without reading and writing files."
    return Chapter("latency", "Latency", (lead,), tuple(blocks))


def tell_absence(result: Result, key: str) -> Text:
    """Return why a subject was not measured."""
    status = printable(find(result, f"subjects.{key}.status"))
    return flow(f"{status}: ", cite_words(result, f"subjects.{key}.reason"))


def tabulate_times(result: Result, keys: Sequence[str]) -> Table:
    """Return the percentiles of all subjects."""
    rows = []
    for key in keys:
        path = f"subjects.{key}.latency"
        p50 = flow(
            cite(result, f"{path}.p50_ms", say_figure), " ", cite_interval(result, f"{path}.interval_p50", say_figure)
        )
        rest = cite_cells(result, path, ("p90_ms", "p95_ms", "p99_ms", "mean_ms", "least_ms", "most_ms"), say_figure)
        rows.append(((name_of(result, key),), (cite(result, f"{path}.n", say_count),), p50, *rest))
    head = ("Milliseconds for one slice", "n", "p50 [95\u00a0%]", "p90", "p95", "p99", "mean", "least", "most")
    return Table(head, tuple(rows))


def tabulate_starts(result: Result, keys: Sequence[str]) -> Table:
    """Return what passes before the first result, and how steady the times are."""
    rows = []
    for key in keys:
        path = f"subjects.{key}"
        rows.append((
            (name_of(result, key),),
            *cite_cells(result, path, ("import_ms", "load_ms", "first_ms"), say_figure),
            (cite(result, f"{path}.warm_up.runs", say_count),),
            (cite_words(result, f"{path}.warm_up.stable"),),
            (cite(result, f"{path}.latency.spread", say_percent),),
            (cite(result, f"{path}.latency.per_second", say_figure),),
        ))  # fmt: skip
    head = ("Start and steadiness", "libraries, ms", "load, ms", "first, ms", "warm-up runs", "settled", "spread")
    return Table((*head, "per second"), tuple(rows))


def tell_ratios(result: Result) -> Chapter:
    """Every pair that was measured in turns, with its interval and verdict."""
    title, rows = "Against the baselines", []
    for number, pair in enumerate(find(result, "pairs") or []):
        path = f"pairs.{number}"
        interval = cite_interval(result, f"{path}.interval", say_ratio) or (Missing(),)
        names = [(name_of(result, str(pair.get(side))),) for side in ("subject", "baseline")]
        rows.append(
            (*names, (cite(result, f"{path}.ratio_p50", say_ratio),), interval, (mark(str(pair.get("verdict"))),))
        )
    if not rows:
        return Chapter("ratios", title, flow("Ratios: ", Missing("no pair was measured"), "."), ())
    lead = (
        "Pairs were measured in turns, round by round, so that both met the same disturbances. 0.50 is half the time; "
        "a difference is only told where the whole interval says so."
    )
    head = ("Subject", "Baseline", "ratio of p50", "95\u00a0% interval", "verdict")
    chart = Chart("ratios", ("The ratio of the medians and its 95\u00a0% interval. From pairs.",))
    return Chapter("ratios", title, (lead,), (chart, Table(head, tuple(rows), words=2)))


def tell_stages(result: Result) -> Chapter:
    """From the file to the written mask."""
    title = "From file to mask"
    if find(result, "end_to_end") is None:
        return Chapter("stages", title, flow("The whole way: ", Missing(tell_why(result, "end_to_end")), "."), ())
    rows = []
    for name in STAGES:
        path = f"end_to_end.stages.{name}"
        cells = cite_cells(result, path, ("p50_ms", "p90_ms", "p99_ms", "total_ms"), say_figure)
        rows.append(((name,), *cells, (cite_share_of_wall(result, f"{path}.total_ms"),)))
    other = "end_to_end.other_ms"
    rows.append(
        (("other",), ("–",), ("–",), ("–",), (cite(result, other, say_figure),), (cite_share_of_wall(result, other),))
    )
    lead = flow(
        cite(result, "end_to_end.images", say_count),
        " images, ",
        cite(result, "end_to_end.images_per_s", say_figure),
        f" a second, with {name_of(result, str(find(result, 'end_to_end.subject')))}. ",
        "The stages and what lies between them add up to ",
        cite(result, "end_to_end.wall_ms", say_ms),
        " by the clock.",
    )
    chart = Chart("stages", ("One slice, mean of all images. From end_to_end.stages.",))
    return Chapter(
        "stages", title, lead, (chart, Table(("Stage, ms", "p50", "p90", "p99", "total", "share"), tuple(rows)))
    )


def cite_share_of_wall(result: Result, path: str) -> Number | Missing:
    """Return a time in proportion to the whole by the clock."""
    whole = "end_to_end.wall_ms"
    part, wall = find_number(result, path), find_number(result, whole)
    if part is None or not wall:
        return Missing()
    return derive(say_percent(part / wall), part / wall, f"{path} / {whole}", path, whole)


def tell_threads(result: Result) -> Chapter:
    """What more threads bring."""
    sweeps = list_sweeps(result)
    if not sweeps:
        why = Missing("one number of threads was asked for")
        return Chapter("threads", "Threads", flow("How the time falls with more threads: ", why, "."), ())
    counts = sorted({threads_of(result, key) for keys in sweeps.values() for key in keys})
    rows = []
    for label, keys in sweeps.items():
        found = {threads_of(result, key): key for key in keys}
        paths = (f"subjects.{found.get(count, '')}.latency.p50_ms" for count in counts)
        rows.append(((label,), *((cite(result, path, say_figure),) for path in paths)))
    chart = Chart("sweep", ("p50 by threads. From subjects.*.latency.p50_ms.",))
    table = Table(("p50 in ms by threads", *map(str, counts)), tuple(rows))
    return Chapter("threads", "Threads", tell_best(result, sweeps), (chart, table))


def tell_best(result: Result, sweeps: dict[str, list[str]]) -> Text:
    """Return which number of threads is the quickest for the first page's subject."""
    headline = choose_headline(result)
    mine = next((keys for keys in sweeps.values() if headline in keys), next(iter(sweeps.values())))
    best = min(mine, key=lambda key: find_number(result, f"subjects.{key}.latency.p50_ms") or float("inf"))
    return flow(
        "One slice is quickest with ",
        cite(result, f"subjects.{best}.threads", say_plain),
        f" thread{'s' * (threads_of(result, best) > 1)} here: ",
        cite(result, f"subjects.{best}.latency.p50_ms", say_ms),
        ". Several processes of one thread each may do more slices an hour; that is not measured here.",
    )


def tell_sustained(result: Result) -> Chapter:
    """Whether the device keeps its pace."""
    title, minutes = "Sustained work", find(result, "sustained.minutes") or []
    if not minutes:
        return Chapter(
            "sustained", title, flow("Work without a pause: ", Missing(tell_why(result, "sustained")), "."), ()
        )
    differs = bool(find(result, "sustained.differs"))
    lead = flow(
        "After ",
        cite(result, "settings.sustain_minutes", say_plain),
        " minutes without a pause one slice takes ",
        cite(result, "sustained.ratio_last_to_first", say_ratio),
        f" times as long as in the first minute: {'more' if differs else 'no more'} than 10\u00a0% apart",
        ", so the first page reckons with it." if differs else ".",
    )
    rows = []
    for field, (words, say) in MINUTE.items():
        ends = ((cite(result, f"sustained.minutes.{at}.{field}", say),) for at in (0, len(minutes) - 1))
        rows.append(((words,), *ends, (cite_worst(result, len(minutes), field, say),)))
    name = name_of(result, str(find(result, "sustained.subject")))
    chart = Chart("sustained", (f"Minute by minute, {name}. From sustained.minutes.",))
    return Chapter(
        "sustained", title, lead, (chart, Table(("", "first minute", "last minute", "worst minute"), tuple(rows)))
    )


def cite_worst(result: Result, minutes: int, field: str, say: Say) -> Number | Missing:
    """Return the worst of the minutes: the fewest slices and megahertz, the most of all else."""
    values = {}
    for k in range(minutes):
        value = find_number(result, f"sustained.minutes.{k}.{field}")
        if value is not None:
            values[k] = value
    if not values:
        return Missing()
    worst = (min if field in LEAST_IS_WORST else max)(values, key=lambda k: values[k])
    return cite(result, f"sustained.minutes.{worst}.{field}", say)
