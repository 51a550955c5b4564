"""What does the first page answer? Which device, how many, at what cost, and what is lost, before a purchase."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.report.blocks import Answer, FirstPage, Table, leave_out_empty
from benchmarks.report.sizing import Workload, cost_per_thousand, count_capacity, count_devices
from benchmarks.result.lookup import Result, find, find_number
from benchmarks.result.quoted import (
    Missing,
    Number,
    Text,
    assume,
    compose,
    derive,
    find_reason,
    quote,
    quote_ratio,
    quote_words,
)
from benchmarks.result.roles import choose_baseline, choose_headline, find_pair, find_scores, get_name
from benchmarks.result.wording import (
    Formatter,
    escape_hidden,
    format_cost,
    format_count,
    format_datetime,
    format_figure,
    format_gb,
    format_mb,
    format_ms,
    format_percent,
    format_plain,
    format_score,
)

from .loss import format_accuracy_clause, list_score_rows, render_loss

TITLES = {
    "valid": "Valid run",
    "inconclusive": "Inconclusive run: its figures are indications only",
    "invalid": "Invalid run: its figures must not be used",
}
NOTICE = "Not a medical device: for research and evaluation; no result may steer diagnosis or treatment."
DAILY = "hours per day * busy share"  # in formulas: assumptions of benchmarks.report.sizing
P99 = "latency.p99_ms"  # printed with the number of runs
HEADLINE_LABELS = {"p90_ms": "Model alone, p90", "mean_ms": "Model alone, mean"}  # of other modes
FIGURES: tuple[tuple[str, str, Formatter], ...] = (
    ("Model alone, p50", "latency.p50_ms", format_ms),
    ("Model alone, p99", P99, format_ms),
    ("File", "file.bytes", format_mb),
    ("Memory of the process, peak", "memory.peak_rss_bytes", format_mb),
    ("First result, with the model loaded", "first_ms", format_ms),
)
OPTIONAL = {
    "sustained": "Sustained work",
    "soak": "Growth of memory over many runs",
    "end_to_end": "Reading and writing files",
    "accuracy": "Accuracy",
}


@dataclass(frozen=True)
class Rate:
    """The throughput of one device: slices an hour, seconds a slice, and a description of what they cover."""

    per_hour: Number
    seconds: Number
    words: Text
    whole: bool  # from file to written mask, not the model alone


def render_first_page(result: Result, work: Workload) -> FirstPage:
    """Return the first page of a result."""
    status = str(find(result, "validity.status") or "invalid")
    reasons = range(len(find(result, "validity.reasons") or []))
    key = choose_headline(result)
    rate = compute_rate(result, key)
    usable = rate if status != "invalid" else None
    figures, note = leave_out_empty(render_figures(result, key, rate))
    return FirstPage(
        status=status,
        reasons=tuple((quote_words(result, f"validity.reasons.{k}"),) for k in reasons),
        title=f"{escape_hidden(find(result, 'model.id') or 'A model')} on {name_device_inline(result)}",
        subtitle=format_run(result),
        verdict=format_verdict(result, status, key),
        answers=(
            render_device(result, key),
            render_device_count(result, work, usable),
            render_cost(result, work, usable),
            render_loss(result, key),
        ),
        heading="Against the float model" if key and choose_baseline(result, key) else "In figures",
        figures=figures,
        limits=(*list_limits(result), *((note,) if note else ())),
        work=work,
        rate=float(usable.per_hour.value) if usable else None,
    )


def format_run(result: Result) -> Text:
    """Return the date of the run, the version, and the run's id."""
    moment = format_datetime(str(find(result, "created")))
    version, run = quote_words(result, "project.version"), quote_words(result, "id")
    return compose("Measured on {} with edge-seg {} · run {}", moment, version, run)


def name_device(result: Result) -> str:
    """Return the device to order: the board, or else the processor."""
    facts = find(result, "machine.facts") or {}
    cpu = escape_hidden(facts.get("cpu") or "an unnamed processor")
    return f"Virtual machine, {cpu}" if facts.get("virtual") else escape_hidden(facts.get("board") or cpu)


def name_device_inline(result: Result) -> str:
    """Return the device's name within a sentence."""
    name = name_device(result)
    return f"a {name[0].lower()}{name[1:]}" if find(result, "machine.facts.virtual") else name


def compute_rate(result: Result, key: str | None) -> Rate | None:
    """Return slices an hour and seconds a slice: end to end if measured, the sustained figure if it differs."""
    whole = find(result, "end_to_end.subject") == key and bool(find_number(result, "end_to_end.images_per_s"))
    path = "end_to_end.images_per_s" if whole else f"subjects.{key}.latency.per_second"
    per_second = find_number(result, path)
    if not key or not per_second:
        return None
    slower = "sustained.ratio_last_to_first"
    ratio = find_number(result, slower) if find(result, "sustained.subject") == key else None
    scope = "from file to written mask" if whole else "the model alone, without reading and writing files"
    if ratio is None:
        steady: Text = ("a short run: sustained work was not measured",)
    else:
        steady = compose("sustained over {} minutes", quote(result, "settings.sustain_minutes", format_plain))
    factor, formula = 1.0, path
    paths: tuple[str, ...] = (path,)
    if ratio and ratio > 1 and find(result, "sustained.differs"):
        factor, formula, paths = ratio, f"{path} / {slower}", (path, slower)
    per_hour, seconds = 3600 * per_second / factor, factor / per_second
    return Rate(
        derive(format_count(float(f"{per_hour:.3g}")), per_hour, f"3600 * {formula}", *paths),
        derive(f"{format_figure(seconds)} s", seconds, f"1 / ({formula})", *paths),
        compose("{}, {}", scope, steady),
        whole,
    )


def format_verdict(result: Result, status: str, key: str | None) -> Text:
    """Return the outcome in a sentence."""
    if status == "invalid":
        return ("This run supports no decision. Measure again without the causes above.",)
    if key is None:
        return ("The model could not be measured: no run of it succeeded.",)
    prefix = "Indicated, but not certain: " if status == "inconclusive" else ""
    speed, size, change = format_speed(result, key), format_size(result, key), format_accuracy_clause(result, key)
    useless = format_useless(result, key)
    return compose("{}{}{}{}{}{}.", useless, prefix, get_name(result, key), speed, size, change)


def format_useless(result: Result, key: str) -> Text:
    """Return that the original scores no better than an empty mask against true masks; nothing where it does."""
    scored = find_scores(result, key)
    original = str(find(result, f"accuracy.{scored}.difference.against") or scored)
    entry = f"accuracy.{original}"
    iou, rows = find_number(result, f"{entry}.mean_iou.value"), find(result, f"{entry}.per_image") or []
    if find(result, f"{entry}.against") != "masks" or iou is None or any("tn" not in row for row in rows):
        return ()
    free, lesion = (sum(row[a] + row[b] for row in rows) for a, b in (("tn", "fp"), ("tp", "fn")))
    empty = free / (free + lesion) / 2 if lesion else math.nan  # background's IoU, and 0 of the lesion
    if not iou <= empty:
        return ()
    against = derive(format_score(empty), empty, f"mean IoU of empty masks: {entry}.per_image", f"{entry}.per_image")
    words = "{} is no better than an empty mask: mean IoU {} against {}. "
    return compose(words, get_name(result, original), quote(result, f"{entry}.mean_iou.value", format_score), against)


def format_speed(result: Result, key: str) -> Text:
    """Return the subject's speed against its float baseline, as part of a sentence."""
    base = choose_baseline(result, key)
    if base is None:
        return compose(" was measured without a float baseline and takes {} a slice", quote_p50(result, key))
    path, name = find_pair(result, key, base), get_name(result, base)
    if path is None or not find_number(result, f"{path}.ratio_p50"):
        return compose(" takes {} a slice, not timed in turns with {}", quote_p50(result, key), name)
    verdict = find(result, f"{path}.verdict")
    if verdict == "slower":
        return compose(" takes {} times as long as {}", quote_ratio(result, path), name)
    if verdict == "faster":
        return compose(" is {} times as fast as {}", quote_ratio(result, path, inverse=True), name)
    if verdict == "no difference":
        return (f" is as fast as {name} within this run's precision",)
    return (f" was not shown to be faster or slower than {name}",)


def quote_p50(result: Result, key: str) -> Number | Missing:
    """Return a subject's median time of one inference."""
    return quote(result, f"subjects.{key}.latency.p50_ms", format_ms)


def format_size(result: Result, key: str) -> Text:
    """Return the file's size against the baseline's, as part of a sentence."""
    share = quote_share(result, key, choose_baseline(result, key), "file.bytes")
    if not isinstance(share, Number):
        return ()
    return (", in a file of the same size",) if share.value == 1 else compose(", in a file of {} of its size", share)


def quote_share(result: Result, key: str | None, base: str | None, field: str) -> Number | Missing:
    """Return one subject's figure as a percentage of another's."""
    paths = f"subjects.{key}.{field}", f"subjects.{base}.{field}"
    one, other = (find_number(result, path) for path in paths)
    if not one or not other:
        return Missing()
    return derive(format_percent(one / other), one / other, f"{paths[0]} / {paths[1]}", *paths)


def render_device(result: Result, key: str | None) -> Answer:
    """Return the answer on the measured device."""
    facts = "machine.facts"
    cpu, cores = quote_words(result, f"{facts}.cpu"), quote(result, f"{facts}.cores", format_count)
    details: list[Text] = [
        compose("{}, {} cores, {} of memory", cpu, cores, quote(result, f"{facts}.ram_bytes", format_gb)),
        (quote_words(result, f"{facts}.os"),),
        (f"Run as: {get_name(result, key)}" if key else "The model could not be run.",),
        ("Only this device was measured; another one needs its own run.",),
    ]
    return Answer("Which device?", (name_device(result),), tuple(details))


def render_device_count(result: Result, work: Workload, rate: Rate | None) -> Answer:
    """Return the answer on the number of devices for the day's studies; none without a usable rate."""
    question = "How many?"
    if rate is None:
        return Answer(question, ("Not stated",), (("No speed of this run can be relied on.",),))
    hourly, paths = float(rate.per_hour.value), rate.per_hour.paths
    studies = count_capacity(work, hourly)
    shown = format_count(math.floor(studies)) if studies >= 10 else f"{studies:.2g}"
    capacity = derive(shown, studies, f"({rate.per_hour.id}) * {DAILY} / slices per study", *paths)
    keeps = compose(
        "One device processes {} slices an hour ({}), enough for {} studies a day of {}",
        rate.per_hour,
        rate.words,
        capacity,
        quote_assumptions(work),
    )
    devices = count_devices(work, hourly)
    if devices is None:
        return Answer(
            question,
            compose("1 device for every {} studies a day", capacity),
            (keeps, ("Studies a day: not given.",)),
        )
    formula = f"studies per day * slices per study / (({rate.per_hour.id}) * {DAILY}), rounded up"
    wanted = quote_given(result, "studies_per_day", work.studies_per_day)
    plural = "device" if devices == 1 else "devices"
    number = derive(format_count(devices), devices, formula, *paths)
    return Answer(question, compose("{} {} for {} studies a day", number, plural, wanted), (keeps,))


def quote_given(result: Result, name: str, value: float | None) -> Number:
    """Return a given figure, with its path if the result's settings hold it."""
    if find_number(result, f"settings.{name}") == value:
        return Number(format_plain(value or 0), value or 0, (f"settings.{name}",))
    return assume(format_plain(value or 0), value or 0, f"given: {name.replace('_', ' ')}")


def quote_assumptions(work: Workload) -> Text:
    """Return the assumptions of the number of devices."""
    return compose(
        "{} slices, in {} hours, {} busy at most.",
        assume(format_plain(work.slices_per_study), work.slices_per_study, "assumed: slices per study"),
        assume(format_plain(work.hours_per_day), work.hours_per_day, "assumed: hours per day"),
        assume(f"{100 * work.busy:.0f} %", work.busy, "assumed: busy share"),
    )


def render_cost(result: Result, work: Workload, rate: Rate | None) -> Answer:
    """Return the answer on the devices' cost of 1,000 slices, and on the energy of one if it was measured."""
    question, energy = "At what cost?", format_energy(result)
    if rate is None:
        return Answer(question, ("Not stated",), (("No speed of this run can be relied on.",), energy))
    cost = cost_per_thousand(work, float(rate.per_hour.value))
    if cost is None:
        given = {"the price of a device": work.price, "studies a day": work.studies_per_day}
        lacking = [name for name, value in given.items() if not value]
        return Answer(question, ("Not given",), ((f"It needs {' and '.join(lacking)}.",), energy))
    unit = f" {work.currency}" if work.currency else ""
    unnamed = "" if work.currency else " The price's currency was not given (--currency)."
    details = compose(
        "Devices at {}{} each, used for {} years of {} days.{} "
        "Electricity, people, support and software are not included.",
        quote_given(result, "price", work.price),
        unit,
        assume(format_plain(work.years), work.years, "assumed: years"),
        assume(format_plain(work.days_per_year), work.days_per_year, "assumed: days per year"),
        unnamed,
    )
    yearly = "studies per day * slices per study * days per year"
    formula = f"devices * price * 1000 / ({yearly} * years), with the devices for {rate.per_hour.id}"
    shown = derive(format_cost(cost), cost, formula, *rate.per_hour.paths)
    return Answer(question, compose("{}{} per 1,000 slices", shown, unit), (details, energy))


def format_energy(result: Result) -> Text:
    """Return the energy of a slice, or the reason why it is unknown."""
    joules = quote(
        result, "energy.joules_per_image", lambda value: f"{format_figure(value)} J", find_reason(result, "energy")
    )
    if isinstance(joules, Missing):
        return compose("Energy: {}.", joules)
    return compose("Energy: {} a slice, measured with {}.", joules, quote_words(result, "energy.source"))


def render_figures(result: Result, key: str | None, rate: Rate | None) -> Table:
    """Return the first page's table: this model and, if there is one, its float baseline with their ratio."""
    base = choose_baseline(result, key) if key else None
    label = "One slice, from file to mask" if not rate or rate.whole else "One slice, the model alone"
    rows: list[tuple[Text, ...]] = list_score_rows(result, key, base)
    rows += [
        ((label,), (rate.seconds if rate else Missing(),), ("–",), ("–",)),
        (("Slices an hour",), (rate.per_hour if rate else Missing(),), ("–",), ("–",)),
    ]
    field = str(find(result, "settings.headline"))
    headline = [(HEADLINE_LABELS[field], f"latency.{field}", format_ms)] if field in HEADLINE_LABELS else []
    for words, field, formatter in (*headline, *FIGURES):
        mine, theirs = (quote(result, f"subjects.{one}.{field}", formatter) for one in (key, base))
        share = quote_share(result, key, base, field)
        runs = compose(" of {} runs", quote(result, f"subjects.{key}.latency.n", format_count)) if field == P99 else ()
        rows.append((compose("{}{}", words, runs), (mine,), (theirs,), (share,)))
    if base is None:
        return Table(("", "this model"), tuple(row[:2] for row in rows))
    return Table(("", "this model", get_name(result, base), "against it"), tuple(rows))


def list_limits(result: Result) -> tuple[Text, ...]:
    """Return the limits of this page, the most important first."""
    limits: list[Text] = [(NOTICE,)]
    if use := find(result, "model.contract.intended_use"):
        limits.append((f"Intended use, as stated in the model's contract: {escape_hidden(use)}",))
    if find(result, "machine.facts.virtual"):
        kind = quote_words(result, "machine.facts.virtual")
        limits.append(compose("A virtual machine, detected by {}: other machines share the processor.", kind))
    sizes = find(result, "data.sizes") or {}
    usual = f", most of them {escape_hidden(max(sizes, key=lambda size: sizes[size]))} pixels" if sizes else ""
    images = quote(result, "data.images", format_count)
    limits.append(
        compose(
            "Measured with {} images{}; accuracy holds for these alone and is no clinical evaluation.", images, usual
        )
    )
    absent = {words: find_reason(result, part) for part, words in OPTIONAL.items() if find(result, part) is None}
    limits += [compose("{}: {}.", words, Missing(why)) for words, why in absent.items() if why]
    unexplained = [words for words, why in absent.items() if not why]
    if unexplained:
        limits.append(compose("{}: {}.", "; ".join(unexplained), Missing()))
    return tuple(limits)
