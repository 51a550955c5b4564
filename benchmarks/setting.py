"""The chapters on what was measured on and what exactly was measured: the machine, its state, hashes, the command."""

from __future__ import annotations

from .blocks import Block, Chapter, Facts, Table
from .numbers import (
    Missing,
    Number,
    Result,
    Say,
    Text,
    cite,
    cite_words,
    find,
    find_number,
    flow,
    printable,
    say_count,
    say_figure,
    say_gb,
    say_mb,
    say_plain,
)
from .subjects import list_measured, name_of

FACTS = {  # in this order and these words; what the result has more follows under its own names
    "board": "Board",
    "cpu": "Processor",
    "architecture": "Architecture",
    "cores": "Cores",
    "threads_per_core": "Threads per core",
    "allowed_cores": "Cores that the run could use",
    "features": "Features",
    "max_mhz": "Highest frequency, MHz",
    "min_mhz": "Lowest frequency, MHz",
    "governor": "Governor",
    "ram_bytes": "Memory",
    "swap_bytes": "Swap",
    "os": "System",
    "kernel": "Kernel",
    "glibc": "C library",
    "python": "Python",
    "virtual": "Virtual machine",
    "container": "Container",
    "throttled_since_boot": "Throttled since boot",
}
NONE_IS_NO = ("virtual", "container")
STATES: dict[str, tuple[str, Say]] = {
    "load_1m": ("Load, 1 minute", say_figure),
    "busy_percent": ("Processors busy, %", say_figure),
    "others_percent": ("Busy with other programs, %", say_figure),
    "busiest_other": ("Busiest other program", say_figure),
    "steal_percent": ("Taken by the host, %", say_figure),
    "temperature_c": ("Temperature, °C", say_figure),
    "mhz": ("Frequency, MHz", say_figure),
    "governor": ("Governor", say_figure),
    "throttled": ("Throttled", say_count),
    "swapped_pages": ("Pages swapped", say_count),
    "free_memory_bytes": ("Free memory", say_mb),
    "swap_used_bytes": ("Swap in use", say_mb),
}


def tell_machine(result: Result) -> Chapter:
    """The device: facts, state before, during and after, versions."""
    facts = find(result, "machine.facts") or {}
    names = [name for name in FACTS if name in facts] + [name for name in facts if name not in {*FACTS, "versions"}]
    rows = tuple((FACTS.get(name, printable(name)), cite_fact(result, name)) for name in names)
    blocks: list[Block] = [Facts(rows, "Facts")]
    states = [name for name in STATES if any(name in state for state in list_states(result))]
    if states:
        cells = tuple(((STATES[name][0],), *cite_state(result, name)) for name in states)
        blocks.append(Table(("State", "before", "during, least to most", "after"), cells))
    versions = sorted(facts.get("versions") or {})
    if versions:
        found = ((printable(name), (cite_words(result, f"machine.facts.versions.{name}"),)) for name in versions)
        blocks.append(Facts(tuple(found), "Versions"))
    lead = "What was measured on, and how it was doing. What the system did not tell is not measured."
    return Chapter("machine", "The machine", (lead,), tuple(blocks))


def list_states(result: Result) -> list[Result]:
    """Return all states of the machine that the result has."""
    return [
        find(result, "machine.before") or {},
        *(find(result, "machine.during") or []),
        find(result, "machine.after") or {},
    ]


def cite_fact(result: Result, name: str) -> Text:
    """Return a fact in words."""
    path = f"machine.facts.{name}"
    value = find(result, path)
    if name.endswith("_bytes"):
        return (cite(result, path, say_gb),)
    if isinstance(value, list | dict):
        return (", ".join(map(printable, value)) or "none",)
    return ("no",) if value is None and name in NONE_IS_NO else (cite_words(result, path),)


def cite_state(result: Result, name: str) -> tuple[Text, Text, Text]:
    """Return one figure of the machine's state before, during and after the run."""
    say = STATES[name][1]
    before, after = (cite_moment(result, f"machine.{when}.{name}", say) for when in ("before", "after"))
    return before, cite_during(result, name, say), after


def cite_moment(result: Result, path: str, say: Say) -> Text:
    """Return a state's figure, or its words."""
    value = find(result, path)
    return (cite_words(result, path) if isinstance(value, bool | str) else cite(result, path, say),)


def cite_during(result: Result, name: str, say: Say) -> Text:
    """Return a figure's range over the run, or the words that it took."""
    states = find(result, "machine.during") or []
    words = [state[name] for state in states if isinstance(state.get(name), str)]
    if words:
        return (", ".join(map(printable, dict.fromkeys(words))),)
    flags = [state[name] for state in states if isinstance(state.get(name), bool)]
    if flags:
        return ("no" if not any(flags) else "yes" if all(flags) else "yes, for a time",)
    values = {k: value for k, state in enumerate(states) if (value := find_number(state, name)) is not None}
    if not values:
        return (Missing(),)
    ends = (min(values, key=lambda k: values[k]), max(values, key=lambda k: values[k]))
    least, most = (cite(result, f"machine.during.{k}.{name}", say) for k in ends)
    if isinstance(least, Number) and isinstance(most, Number) and least.text == most.text:
        return (least,)
    return flow(least, " to ", most)


def tell_sources(result: Result) -> Chapter:
    """What was measured, by its hashes, and how the program was called."""
    command = " ".join(map(str, find(result, "command") or []))
    rows: tuple[tuple[str, Text], ...] = (
        (
            "Run",
            flow(cite_words(result, "id"), ", ", cite_words(result, "created"), " to ", cite_words(result, "finished")),
        ),
        ("Command", (printable(f"python -m benchmarks {command}"),)),
        ("Protocol", tell_protocol(result)),
        ("edge-seg", flow(cite_words(result, "project.version"), ", commit ", cite_words(result, "project.commit"))),
        ("Model", tell_model(result)),
        ("Trained model, SHA-256", (cite_words(result, "model.source_sha256"),)),
        ("Images", flow(cite(result, "data.images", say_count), ", masks ", tell_masks(result))),
        ("Images, SHA-256", (cite_words(result, "data.sha256"),)),
    )
    files = tuple(
        (
            (name_of(result, key),),
            (f"subjects.{key}",),
            (cite_words(result, f"subjects.{key}.file.name"),),
            (cite_words(result, f"subjects.{key}.file.sha256"),),
        )
        for key in list_measured(result)
    )
    lead = "What exactly was measured, and how: enough to do it again."
    return Chapter(
        "sources", "Sources", (lead,), (Facts(rows), Table(("Subject", "id", "file", "SHA-256"), files, words=4))
    )


def tell_protocol(result: Result) -> Text:
    """Return how much was measured."""
    return flow(
        cite_words(result, "settings.mode"),
        ": ",
        cite(result, "settings.samples", say_count),
        " samples or more of each subject in ",
        cite(result, "settings.rounds", say_count),
        " rounds, seed ",
        cite(result, "settings.seed", lambda seed: f"{seed:.0f}"),
    )


def tell_model(result: Result) -> Text:
    """Return the model's name, size and input."""
    sides = range(len(find(result, "model.input_shape") or []))
    shape = flow(*(flow(" × ", cite(result, f"model.input_shape.{k}", say_plain)) for k in sides))
    return flow(
        cite_words(result, "model.id"),
        ", version ",
        cite_words(result, "model.version"),
        ", ",
        cite(result, "model.parameters", say_count),
        " parameters, input ",
        shape[1:] or Missing(),
    )


def tell_masks(result: Result) -> Number | Missing | str:
    """Return how many masks were given."""
    return "none" if find(result, "data.masks") is None else cite(result, "data.masks", say_count)
