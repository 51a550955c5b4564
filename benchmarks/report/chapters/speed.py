"""What do the chapters on speed say? One inference, ratios to baselines, end to end, threads, sustained work."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.blocks import Block, Chapter, Chart, Facts, Table
from benchmarks.result.lookup import Result, find, find_number
from benchmarks.result.quoted import (
    Mark,
    Missing,
    Number,
    Text,
    compose,
    derive,
    find_reason,
    quote,
    quote_cells,
    quote_interval,
    quote_ratio,
    quote_words,
)
from benchmarks.result.roles import choose_headline, get_name, get_threads, list_measured, list_subjects, list_sweeps
from benchmarks.result.wording import (
    Formatter,
    escape_hidden,
    format_count,
    format_figure,
    format_ms,
    format_percent,
    format_plain,
    format_ratio,
)

STAGES = ("decode", "preprocess", "infer", "postprocess", "write")
MINUTE = {  # field: label, format
    "n": ("Slices in the minute", format_count),
    "p50_ms": ("p50, ms", format_figure),
    "p90_ms": ("p90, ms", format_figure),
    "p99_ms": ("p99, ms", format_figure),
    "temperature_c": ("Temperature, °C", format_figure),
    "mhz": ("Frequency, MHz", format_figure),
}
LOW_IS_WORST = ("n", "mhz")
GOOD, BAD = ("faster", "reproduced"), ("slower", "not reproduced")


def to_mark(verdict: str) -> Mark:
    """Return a verdict with its tone."""
    return Mark(escape_hidden(verdict), "good" if verdict in GOOD else "bad" if verdict in BAD else "open")


def render_latency(result: Result) -> Chapter:
    """Return the chapter on every subject's time for one slice, with the unmeasured subjects."""
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
        rows = tuple((get_name(result, key), format_absence(result, key)) for key in left_out)
        blocks.append(Facts(rows, "Not measured"))
    lead = "The time of one inference: the model alone, without reading and writing files."
    return Chapter("latency", "Latency", (lead,), tuple(blocks))


def format_absence(result: Result, key: str) -> Text:
    """Return the reason why a subject was not measured."""
    status = escape_hidden(find(result, f"subjects.{key}.status"))
    return compose("{}: {}", status, quote_words(result, f"subjects.{key}.reason"))


def tabulate_times(result: Result, keys: Sequence[str]) -> Table:
    """Return the table of all subjects' percentiles."""
    rows = []
    for key in keys:
        path = f"subjects.{key}.latency"
        p50 = compose(
            "{} {}",
            quote(result, f"{path}.p50_ms", format_figure),
            quote_interval(result, f"{path}.interval_p50", format_figure),
        )
        rest = quote_cells(
            result, path, ("p90_ms", "p95_ms", "p99_ms", "mean_ms", "least_ms", "most_ms"), format_figure
        )
        rows.append(((get_name(result, key),), (quote(result, f"{path}.n", format_count),), p50, *rest))
    head = ("Milliseconds for one slice", "n", "p50 [95\u00a0%]", "p90", "p95", "p99", "mean", "least", "most")
    return Table(head, tuple(rows))


def tabulate_starts(result: Result, keys: Sequence[str]) -> Table:
    """Return the table of the times before the first result, and of the spread."""
    rows = []
    for key in keys:
        path = f"subjects.{key}"
        rows.append((
            (get_name(result, key),),
            *quote_cells(result, path, ("import_ms", "load_ms", "first_ms"), format_figure),
            (quote(result, f"{path}.warm_up.runs", format_count),),
            (quote_words(result, f"{path}.warm_up.stable"),),
            (quote(result, f"{path}.latency.spread", format_percent),),
            (quote(result, f"{path}.latency.per_second", format_figure),),
        ))  # fmt: skip
    head = ("Start and stability", "libraries, ms", "load, ms", "first, ms", "warm-up runs", "stable", "spread")
    return Table((*head, "per second"), tuple(rows))


def render_ratios(result: Result) -> Chapter:
    """Return the chapter on all pairs, with intervals and verdicts."""
    title, rows = "Against the baselines", []
    for number, pair in enumerate(find(result, "pairs") or []):
        path = f"pairs.{number}"
        ratio = quote_ratio(result, path)
        names = [(get_name(result, str(pair.get(side))),) for side in ("subject", "baseline")]
        rows.append(
            (
                *names,
                ratio[:1],
                ratio[2:] or (Missing(),),
                (to_mark(str(pair.get("verdict"))),),
            )
        )
    if not rows:
        return Chapter("ratios", title, compose("Ratios: {}.", Missing("no pair was measured")), ())
    lead = (
        "Pairs were measured in turns, round by round, so that disturbances affect both. 0.50 is half the time. A "
        "difference is reported only if the whole interval shows it."
    )
    head = ("Subject", "Baseline", "ratio of p50", "95\u00a0% interval", "verdict")
    chart = Chart("ratios", ("The ratio of the medians and its 95\u00a0% interval. From pairs.",))
    return Chapter("ratios", title, (lead,), (chart, Table(head, tuple(rows), words=2)))


def render_stages(result: Result) -> Chapter:
    """Return the chapter on the stages from the file to the written mask."""
    title = "From file to mask"
    if find(result, "end_to_end") is None:
        return Chapter("stages", title, compose("End to end: {}.", Missing(find_reason(result, "end_to_end"))), ())
    rows = []
    for name in STAGES:
        path = f"end_to_end.stages.{name}"
        cells = quote_cells(result, path, ("p50_ms", "p90_ms", "p99_ms", "total_ms"), format_figure)
        rows.append(((name,), *cells, (quote_share_of_total(result, f"{path}.total_ms"),)))
    other = "end_to_end.other_ms"
    rows.append(
        (
            ("other",),
            ("–",),
            ("–",),
            ("–",),
            (quote(result, other, format_figure),),
            (quote_share_of_total(result, other),),
        )
    )
    lead = compose(
        "{} images, {} a second, with {}. The stages and the time between them add up to {}.",
        quote(result, "end_to_end.images", format_count),
        quote(result, "end_to_end.images_per_s", format_figure),
        get_name(result, str(find(result, "end_to_end.subject"))),
        quote(result, "end_to_end.wall_ms", format_ms),
    )
    chart = Chart("stages", ("One slice, mean of all images. From end_to_end.stages.",))
    return Chapter(
        "stages", title, lead, (chart, Table(("Stage, ms", "p50", "p90", "p99", "total", "share"), tuple(rows)))
    )


def quote_share_of_total(result: Result, path: str) -> Number | Missing:
    """Return a time as a percentage of the wall time."""
    whole = "end_to_end.wall_ms"
    part, wall = find_number(result, path), find_number(result, whole)
    if part is None or not wall:
        return Missing()
    return derive(format_percent(part / wall), part / wall, f"{path} / {whole}", path, whole)


def render_threads(result: Result) -> Chapter:
    """Return the chapter on numbers of threads."""
    sweeps = list_sweeps(result)
    if not sweeps:
        why = Missing("only one number of threads was given")
        return Chapter("threads", "Threads", compose("Time by number of threads: {}.", why), ())
    counts = sorted({get_threads(result, key) for keys in sweeps.values() for key in keys})
    rows = []
    for label, keys in sweeps.items():
        found = {get_threads(result, key): key for key in keys}
        paths = (f"subjects.{found.get(count, '')}.latency.p50_ms" for count in counts)
        rows.append(((label,), *((quote(result, path, format_figure),) for path in paths)))
    chart = Chart("sweep", ("p50 by threads. From subjects.*.latency.p50_ms.",))
    table = Table(("p50 in ms by threads", *map(str, counts)), tuple(rows))
    return Chapter("threads", "Threads", format_best_threads(result, sweeps), (chart, table))


def format_best_threads(result: Result, sweeps: dict[str, list[str]]) -> Text:
    """Return the fastest number of threads of the first page's subject."""
    headline = choose_headline(result)
    mine = next((keys for keys in sweeps.values() if headline in keys), next(iter(sweeps.values())))
    best = min(mine, key=lambda key: find_number(result, f"subjects.{key}.latency.p50_ms") or float("inf"))
    return compose(
        "One slice is fastest with {} thread{} here: {}. Several processes of one thread each may process more slices "
        "an hour; that is not measured here.",
        quote(result, f"subjects.{best}.threads", format_plain),
        "s" * (get_threads(result, best) > 1),
        quote(result, f"subjects.{best}.latency.p50_ms", format_ms),
    )


def render_sustained(result: Result) -> Chapter:
    """Return the chapter on sustained work."""
    title, minutes = "Sustained work", find(result, "sustained.minutes") or []
    if not minutes:
        return Chapter(
            "sustained", title, compose("Work without a pause: {}.", Missing(find_reason(result, "sustained"))), ()
        )
    differs = bool(find(result, "sustained.differs"))
    lead = compose(
        "After {} minutes without a pause one slice takes {} times as long as in the first "
        "minute: {} than 10\u00a0% apart{}",
        quote(result, "settings.sustain_minutes", format_plain),
        quote(result, "sustained.ratio_last_to_first", format_ratio),
        "more" if differs else "no more",
        ", so the first page uses the sustained figure." if differs else ".",
    )
    rows = []
    for field, (words, formatter) in MINUTE.items():
        ends = ((quote(result, f"sustained.minutes.{at}.{field}", formatter),) for at in (0, len(minutes) - 1))
        rows.append(((words,), *ends, (quote_worst(result, len(minutes), field, formatter),)))
    name = get_name(result, str(find(result, "sustained.subject")))
    chart = Chart("sustained", (f"Minute by minute, {name}. From sustained.minutes.",))
    return Chapter(
        "sustained", title, lead, (chart, Table(("", "first minute", "last minute", "worst minute"), tuple(rows)))
    )


def quote_worst(result: Result, minutes: int, field: str, formatter: Formatter) -> Number | Missing:
    """Return the worst minute's value: the lowest of slices and frequency, the highest of all others."""
    values = {}
    for k in range(minutes):
        value = find_number(result, f"sustained.minutes.{k}.{field}")
        if value is not None:
            values[k] = value
    if not values:
        return Missing()
    worst = (min if field in LOW_IS_WORST else max)(values, key=lambda k: values[k])
    return quote(result, f"sustained.minutes.{worst}.{field}", formatter)
