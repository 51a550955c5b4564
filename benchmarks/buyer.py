"""The first page: which device, how many, at what cost, what is lost; for someone who buys and does not train nets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .blocks import Answer, FirstPage, Table
from .numbers import (
    Missing,
    Number,
    Result,
    Say,
    Text,
    assume,
    cite,
    cite_interval,
    cite_words,
    derive,
    find,
    find_number,
    flow,
    printable,
    say_change,
    say_cost,
    say_count,
    say_figure,
    say_gb,
    say_mb,
    say_moment,
    say_ms,
    say_percent,
    say_plain,
    say_ratio,
    say_score,
    say_times,
    tell_why,
)
from .sizing import Workload, cost_per_thousand, count_capacity, count_devices
from .subjects import choose_baseline, choose_headline, find_pair, find_scores, name_of

TITLES = {
    "valid": "Valid run",
    "inconclusive": "Inconclusive run: its figures are indications and settle nothing",
    "invalid": "Invalid run: do not decide on any figure of it",
}
NOTICE = "Not a medical device: for research and evaluation; no result may steer diagnosis or treatment."
DAILY = "hours per day * busy share"  # how the formulas name what benchmarks.sizing assumes
P99 = "latency.p99_ms"  # says little without the number of runs
HEADLINES = {"p90_ms": "Model alone, p90", "mean_ms": "Model alone, mean"}  # what other protocols are judged by
FIGURES: tuple[tuple[str, str, Say], ...] = (
    ("Model alone, p50", "latency.p50_ms", say_ms),
    ("Model alone, p99", P99, say_ms),
    ("File", "file.bytes", say_mb),
    ("Memory of the process, peak", "memory.peak_rss_bytes", say_mb),
    ("First result, with the model loaded", "first_ms", say_ms),
)
OPTIONAL = {
    "sustained": "Sustained work",
    "soak": "Growth of memory over many runs",
    "end_to_end": "Reading and writing files",
    "accuracy": "Accuracy",
}


@dataclass(frozen=True)
class Rate:
    """How much one device does: slices an hour, seconds a slice, and in words what they cover."""

    per_hour: Number
    seconds: Number
    words: Text
    whole: bool  # from file to written mask, not the model alone


def to_first_page(result: Result, work: Workload) -> FirstPage:
    """Return the first page of a result."""
    status = str(find(result, "validity.status") or "invalid")
    reasons = range(len(find(result, "validity.reasons") or []))
    key = choose_headline(result)
    rate = compute_rate(result, key)
    stands = rate if status != "invalid" else None
    return FirstPage(
        status=status,
        reasons=tuple((cite_words(result, f"validity.reasons.{k}"),) for k in reasons),
        title=f"{printable(find(result, 'model.id') or 'A model')} on {name_place(result)}",
        subtitle=tell_run(result),
        verdict=tell_verdict(result, status, key),
        answers=(
            tell_device(result, key),
            tell_number(result, work, stands),
            tell_cost(result, work, stands),
            tell_loss(result, key),
        ),
        figures=to_figures(result, key, rate),
        limits=list_limits(result),
        work=work,
        rate=float(stands.per_hour.value) if stands else None,
    )


def tell_run(result: Result) -> Text:
    """Return when the run was, with what, and its id."""
    moment = say_moment(str(find(result, "created")))
    version, run = cite_words(result, "project.version"), cite_words(result, "id")
    return flow(f"Measured on {moment} with edge-seg ", version, " · run ", run)


def name_device(result: Result) -> str:
    """Return what a buyer would order: the board, or else the processor."""
    facts = find(result, "machine.facts") or {}
    cpu = printable(facts.get("cpu") or "an unnamed processor")
    return f"Virtual machine, {cpu}" if facts.get("virtual") else printable(facts.get("board") or cpu)


def name_place(result: Result) -> str:
    """Return the device as it reads within a sentence."""
    name = name_device(result)
    return f"a {name[0].lower()}{name[1:]}" if find(result, "machine.facts.virtual") else name


def compute_rate(result: Result, key: str | None) -> Rate | None:
    """Return slices an hour and seconds a slice: end to end where measured, as sustained where that differs."""
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
        steady = flow("sustained over ", cite(result, "settings.sustain_minutes", say_plain), " minutes")
    factor, formula = 1.0, path
    paths: tuple[str, ...] = (path,)
    if ratio and ratio > 1 and find(result, "sustained.differs"):
        factor, formula, paths = ratio, f"{path} / {slower}", (path, slower)
    per_hour, seconds = 3600 * per_second / factor, factor / per_second
    return Rate(
        derive(say_count(float(f"{per_hour:.3g}")), per_hour, f"3600 * {formula}", *paths),
        derive(f"{say_figure(seconds)} s", seconds, f"1 / ({formula})", *paths),
        flow(scope, ", ", steady),
        whole,
    )


def tell_verdict(result: Result, status: str, key: str | None) -> Text:
    """Return what came out, in a sentence."""
    if status == "invalid":
        return ("Nothing can be decided on this run. Measure again once the reasons above are gone.",)
    if key is None:
        return ("The model could not be measured: no run of it succeeded.",)
    prefix = "Not settled, but indicated: " if status == "inconclusive" else ""
    speed, size, change = tell_speed(result, key), tell_size(result, key), tell_change(result, key)
    return flow(prefix, name_of(result, key), speed, size, change, ".")


def tell_speed(result: Result, key: str) -> Text:
    """Return how quick the subject is against its float baseline, as part of a sentence."""
    base = choose_baseline(result, key)
    path = find_pair(result, key, base) if base else None
    if base is None or path is None or not find_number(result, f"{path}.ratio_p50"):
        return (" was measured without a float baseline beside it",)
    verdict, name = find(result, f"{path}.verdict"), name_of(result, base)
    if verdict == "slower":
        interval = cite_interval(result, f"{path}.interval", say_ratio)
        return flow(" takes ", cite(result, f"{path}.ratio_p50", say_ratio), " times ", interval, f" as long as {name}")
    if verdict == "faster":
        low, high = invert(result, f"{path}.interval.1"), invert(result, f"{path}.interval.0")
        return flow(" is ", invert(result, f"{path}.ratio_p50"), " times [", low, ", ", high, f"] as fast as {name}")
    if verdict == "no difference":
        return (f" is as fast as {name} to within what this run can tell",)
    return (f" was not shown to be faster or slower than {name}",)


def invert(result: Result, path: str) -> Number | Missing:
    """Return a ratio of times as a ratio of speeds."""
    value = find_number(result, path)
    return derive(say_times(1 / value), 1 / value, f"1 / {path}", path) if value else Missing()


def tell_size(result: Result, key: str) -> Text:
    """Return the file's size against the baseline's, as part of a sentence."""
    share = cite_share(result, key, choose_baseline(result, key), "file.bytes")
    return flow(", in a file of ", share, " of its size") if isinstance(share, Number) else ()


def cite_share(result: Result, key: str | None, base: str | None, field: str) -> Number | Missing:
    """Return one subject's figure in proportion to another's."""
    paths = f"subjects.{key}.{field}", f"subjects.{base}.{field}"
    one, other = (find_number(result, path) for path in paths)
    if not one or not other:
        return Missing()
    return derive(say_percent(one / other), one / other, f"{paths[0]} / {paths[1]}", *paths)


def tell_change(result: Result, key: str) -> Text:
    """Return what quantization did to the masks, as part of a sentence."""
    path = f"accuracy.{find_scores(result, key)}.difference.dice"
    low, high = (find_number(result, f"{path}.interval.{side}") for side in (0, 1))
    if low is None or high is None:
        return ("; what it costs in accuracy was not measured against masks",)
    band = flow(cite(result, f"{path}.value", say_change), " ", cite_interval(result, f"{path}.interval", say_change))
    if low <= 0 <= high:
        return flow("; no loss of accuracy was found (mean Dice ", band, ")")
    return flow("; mean Dice changes by ", band, ", a loss beyond chance" if high < 0 else ", no loss")


def tell_device(result: Result, key: str | None) -> Answer:
    """Return which device this is about."""
    facts = "machine.facts"
    cpu, cores = cite_words(result, f"{facts}.cpu"), cite(result, f"{facts}.cores", say_count)
    details: list[Text] = [
        flow(cpu, ", ", cores, " cores, ", cite(result, f"{facts}.ram_bytes", say_gb), " of memory"),
        (cite_words(result, f"{facts}.os"),),
        (f"Run as: {name_of(result, key)}" if key else "Nothing of the model could be run.",),
        ("Only this device was measured; another one needs a run of its own.",),
    ]
    return Answer("Which device?", (name_device(result),), tuple(details))


def tell_number(result: Result, work: Workload, rate: Rate | None) -> Answer:
    """Return how many devices the day's studies need; nothing without a rate that stands."""
    question = "How many?"
    if rate is None:
        return Answer(question, ("Not stated",), (("No speed of this run can be relied on.",),))
    hourly, paths = float(rate.per_hour.value), rate.per_hour.paths
    most = count_capacity(work, hourly)
    shown = say_count(math.floor(most)) if most >= 10 else f"{most:.2g}"
    capacity = derive(shown, most, f"({rate.per_hour.id}) * {DAILY} / slices per study", *paths)
    keeps = flow(
        "One device does ",
        rate.per_hour,
        " slices an hour (",
        rate.words,
        "), enough for ",
        capacity,
        " studies a day of ",
        *cite_assumptions(work),
    )
    devices = count_devices(work, hourly)
    if devices is None:
        return Answer(
            question, flow("1 device for every ", capacity, " studies a day"), (keeps, ("Studies a day: not given.",))
        )
    formula = f"studies per day * slices per study / (({rate.per_hour.id}) * {DAILY}), rounded up"
    wanted = cite_given(result, "studies_per_day", work.studies_per_day)
    plural = "device" if devices == 1 else "devices"
    number = derive(say_count(devices), devices, formula, *paths)
    return Answer(question, flow(number, f" {plural} for ", wanted, " studies a day"), (keeps,))


def cite_given(result: Result, name: str, value: float | None) -> Number:
    """Return a figure that the site gave, with its path where the result has kept it."""
    if find_number(result, f"settings.{name}") == value:
        return Number(say_plain(value or 0), value or 0, (f"settings.{name}",))
    return assume(say_plain(value or 0), value or 0, f"given: {name.replace('_', ' ')}")


def cite_assumptions(work: Workload) -> Text:
    """Return what the number of devices assumes."""
    return flow(
        assume(say_plain(work.slices_per_study), work.slices_per_study, "assumed: slices per study"),
        " slices, in ",
        assume(say_plain(work.hours_per_day), work.hours_per_day, "assumed: hours per day"),
        " hours, ",
        assume(f"{100 * work.busy:.0f} %", work.busy, "assumed: busy share"),
        " busy at most.",
    )


def tell_cost(result: Result, work: Workload, rate: Rate | None) -> Answer:
    """Return what 1,000 slices cost in devices, and the energy of one where it was measured."""
    question, energy = "At what cost?", tell_energy(result)
    if rate is None:
        return Answer(question, ("Not stated",), (("No speed of this run can be relied on.",), energy))
    cost = cost_per_thousand(work, float(rate.per_hour.value))
    if cost is None:
        given = {"the price of a device": work.price, "studies a day": work.studies_per_day}
        lacking = [name for name, value in given.items() if not value]
        return Answer(question, ("Not given",), ((f"It needs {' and '.join(lacking)}.",), energy))
    details = flow(
        "Devices at ",
        cite_given(result, "price", work.price),
        " each, used for ",
        assume(say_plain(work.years), work.years, "assumed: years"),
        " years of ",
        assume(say_plain(work.days_per_year), work.days_per_year, "assumed: days per year"),
        " days; in the currency of the price. Electricity, people, support and software are not in it.",
    )
    yearly = "studies per day * slices per study * days per year"
    formula = f"devices * price * 1000 / ({yearly} * years), with the devices that {rate.per_hour.id} asks for"
    shown = derive(say_cost(cost), cost, formula, *rate.per_hour.paths)
    return Answer(question, flow(shown, " per 1,000 slices"), (details, energy))


def tell_energy(result: Result) -> Text:
    """Return the energy of a slice, or why it is not known."""
    joules = cite(result, "energy.joules_per_image", lambda value: f"{say_figure(value)} J", tell_why(result, "energy"))
    if isinstance(joules, Missing):
        return flow("Energy: ", joules, ".")
    return flow("Energy: ", joules, " a slice, measured with ", cite_words(result, "energy.source"), ".")


def tell_loss(result: Result, key: str | None) -> Answer:
    """Return what the small model loses against the float one, on the images that were given."""
    question, scores = "What is lost?", find_scores(result, key) if key else None
    if scores is None:
        why = tell_why(result, "accuracy")
        return Answer(question, ("Not measured",), ((f"Accuracy was not measured{f': {why}' if why else ''}.",),))
    entry = f"accuracy.{scores}"
    images = flow(" on ", cite(result, f"{entry}.dice.n", say_count), " slices with a lesion")
    dice = cite(result, f"{entry}.dice.value", say_score, printable(find(result, f"{entry}.why") or ""))
    interval = cite_interval(result, f"{entry}.dice.interval", say_score)
    against = find(result, f"{entry}.difference.against")
    if against:
        return tell_difference(result, entry, str(against), images)
    if find(result, f"{entry}.against") == "masks":
        details = flow("Dice ", dice, " ", interval, images, "; the float model was not scored beside it.")
        return Answer(question, ("Not compared",), (details,))
    changed = cite(result, f"{entry}.changed_pixels", say_percent)
    other = name_of(result, str(find(result, f"{entry}.against")))
    agreement = flow(
        f"Agreement with the masks of {other}", images, " ", interval, "; ", changed, " of pixels changed."
    )
    unknown = "Whether either is right was not measured: no masks were given."
    return Answer(question, flow("Dice ", dice, " with the float model"), (agreement, (unknown,)))


def tell_difference(result: Result, entry: str, against: str, images: Text) -> Answer:
    """Return the loss as found on masks, image by image."""
    path = f"{entry}.difference.dice"
    value, high = find_number(result, f"{path}.value"), find_number(result, f"{path}.interval.1")
    change = cite(result, f"{path}.value", say_change)
    words: Text = flow("Dice ", change)
    if value is not None and high is not None:
        fall = derive(say_score(-value), -value, f"-{path}.value", f"{path}.value")
        words = flow("Dice falls by ", fall) if high < 0 else ("No loss found",)
    both = flow(
        "Mean Dice (overlap with the true outlines, 1 is perfect): ",
        cite(result, f"{entry}.dice.value", say_score),
        " against ",
        cite(result, f"accuracy.{against}.dice.value", say_score),
        f" of {name_of(result, against)}",
        images,
        ".",
    )
    interval = cite_interval(result, f"{path}.interval", say_change)
    details = flow("Difference, slice by slice: ", change, " ", interval, ".")
    return Answer("What is lost?", words, (both, details, ("Other scanners and patients were not tested.",)))


def to_figures(result: Result, key: str | None, rate: Rate | None) -> Table:
    """Return the first page's table: this model, its float baseline, and the one by the other."""
    base = choose_baseline(result, key) if key else None
    label = "One slice, from file to mask" if not rate or rate.whole else "One slice, the model alone"
    rows: list[tuple[Text, ...]] = [
        ((label,), (rate.seconds if rate else Missing(),), ("–",), ("–",)),
        (("Slices an hour",), (rate.per_hour if rate else Missing(),), ("–",), ("–",)),
    ]
    judged = str(find(result, "settings.headline"))
    headline = [(HEADLINES[judged], f"latency.{judged}", say_ms)] if judged in HEADLINES else []
    for words, field, say in (*headline, *FIGURES):
        mine, theirs = (cite(result, f"subjects.{one}.{field}", say) for one in (key, base))
        share: Text = (cite_share(result, key, base, field),) if base else ("–",)
        runs = flow(" of ", cite(result, f"subjects.{key}.latency.n", say_count), " runs") if field == P99 else ()
        rows.append((flow(words, runs), (mine,), (theirs if base else "–",), share))
    return Table(
        ("", "this model", name_of(result, base) if base else "no float baseline", "in proportion"), tuple(rows)
    )


def list_limits(result: Result) -> tuple[Text, ...]:
    """Return what this page does not say, the most important first."""
    limits: list[Text] = [(NOTICE,)]
    if use := find(result, "model.contract.intended_use"):
        limits.append((f"Intended use, as the model states it: {printable(use)}",))
    if find(result, "machine.facts.virtual"):
        kind = cite_words(result, "machine.facts.virtual")
        limits.append(flow("A virtual machine, told by ", kind, ": its neighbours share the processor."))
    sizes = find(result, "data.sizes") or {}
    usual = f", most of them {printable(max(sizes, key=lambda size: sizes[size]))} pixels" if sizes else ""
    images = cite(result, "data.images", say_count)
    limits.append(
        flow("Measured with ", images, f" images{usual}; accuracy holds for these alone and is no clinical evaluation.")
    )
    for part, words in OPTIONAL.items():
        if find(result, part) is None:
            limits.append(flow(f"{words}: ", Missing(tell_why(result, part)), "."))
    return tuple(limits)
