"""What do the chapters on the machine and the sources say? Facts, state, versions, hashes, the command."""

from __future__ import annotations

from benchmarks.report.blocks import Block, Chapter, Facts, Table
from benchmarks.result.lookup import Result, find, find_number
from benchmarks.result.quoted import Missing, Number, Text, compose, quote, quote_words
from benchmarks.result.roles import get_name, list_measured
from benchmarks.result.wording import (
    Formatter,
    escape_hidden,
    format_count,
    format_figure,
    format_gb,
    format_mb,
    format_plain,
)

FACTS = {  # labels, in this order; other facts follow under their own names
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
STATES: dict[str, tuple[str, Formatter]] = {
    "load_1m": ("Load, 1 minute", format_figure),
    "busy_percent": ("Processors busy, %", format_figure),
    "others_percent": ("Busy with other programs, %", format_figure),
    "busiest_other": ("Busiest other program", format_figure),
    "steal_percent": ("Taken by the host, %", format_figure),
    "temperature_c": ("Temperature, °C", format_figure),
    "mhz": ("Frequency, MHz", format_figure),
    "governor": ("Governor", format_figure),
    "throttled": ("Throttled", format_count),
    "swapped_pages": ("Pages swapped", format_count),
    "free_memory_bytes": ("Free memory", format_mb),
    "swap_used_bytes": ("Swap in use", format_mb),
}


def render_machine(result: Result) -> Chapter:
    """Return the chapter on the machine: facts, state before, during and after, versions."""
    facts = find(result, "machine.facts") or {}
    names = [name for name in FACTS if name in facts] + [name for name in facts if name not in {*FACTS, "versions"}]
    rows = tuple((FACTS.get(name, escape_hidden(name)), quote_fact(result, name)) for name in names)
    blocks: list[Block] = [Facts(rows, "Facts")]
    states = [name for name in STATES if any(name in state for state in list_states(result))]
    if states:
        cells = tuple(((STATES[name][0],), *quote_state(result, name)) for name in states)
        blocks.append(Table(("State", "before", "during, least to most", "after"), cells))
    versions = sorted(facts.get("versions") or {})
    if versions:
        found = ((escape_hidden(name), (quote_words(result, f"machine.facts.versions.{name}"),)) for name in versions)
        blocks.append(Facts(tuple(found), "Versions"))
    lead = "The machine and its state during the run. Facts that the system did not provide are marked as not measured."
    return Chapter("machine", "The machine", (lead,), tuple(blocks))


def list_states(result: Result) -> list[Result]:
    """Return all states of the machine in a result."""
    return [
        find(result, "machine.before") or {},
        *(find(result, "machine.during") or []),
        find(result, "machine.after") or {},
    ]


def quote_fact(result: Result, name: str) -> Text:
    """Return a fact, formatted."""
    path = f"machine.facts.{name}"
    value = find(result, path)
    if name.endswith("_bytes"):
        return (quote(result, path, format_gb),)
    if isinstance(value, list | dict):
        return (", ".join(map(escape_hidden, value)) or "none",)
    return ("no",) if value is None and name in NONE_IS_NO else (quote_words(result, path),)


def quote_state(result: Result, name: str) -> tuple[Text, Text, Text]:
    """Return one figure of the machine's state before, during and after the run."""
    formatter = STATES[name][1]
    before, after = (quote_state_at(result, f"machine.{when}.{name}", formatter) for when in ("before", "after"))
    return before, quote_range(result, name, formatter), after


def quote_state_at(result: Result, path: str, formatter: Formatter) -> Text:
    """Return a state's number or text."""
    value = find(result, path)
    return (quote_words(result, path) if isinstance(value, bool | str) else quote(result, path, formatter),)


def quote_range(result: Result, name: str, formatter: Formatter) -> Text:
    """Return a figure's range during the run, or its different texts."""
    states = find(result, "machine.during") or []
    words = [state[name] for state in states if isinstance(state.get(name), str)]
    if words:
        return (", ".join(map(escape_hidden, dict.fromkeys(words))),)
    flags = [state[name] for state in states if isinstance(state.get(name), bool)]
    if flags:
        return ("no" if not any(flags) else "yes" if all(flags) else "yes, for a time",)
    values = {k: value for k, state in enumerate(states) if (value := find_number(state, name)) is not None}
    if not values:
        return (Missing(),)
    ends = (min(values, key=lambda k: values[k]), max(values, key=lambda k: values[k]))
    least, most = (quote(result, f"machine.during.{k}.{name}", formatter) for k in ends)
    if isinstance(least, Number) and isinstance(most, Number) and least.text == most.text:
        return (least,)
    return compose("{} to {}", least, most)


def render_sources(result: Result) -> Chapter:
    """Return the chapter on what was measured: command, protocol, files and hashes."""
    command = " ".join(map(str, find(result, "command") or []))
    rows: tuple[tuple[str, Text], ...] = (
        (
            "Run",
            compose(
                "{}, {} to {}",
                quote_words(result, "id"),
                quote_words(result, "created"),
                quote_words(result, "finished"),
            ),
        ),
        ("Command", (escape_hidden(f"python -m benchmarks {command}"),)),
        ("Protocol", format_protocol(result)),
        (
            "edge-seg",
            compose("{}, commit {}", quote_words(result, "project.version"), quote_words(result, "project.commit")),
        ),
        ("Model", format_model(result)),
        ("Trained model, SHA-256", (quote_words(result, "model.source_sha256"),)),
        ("Images", compose("{}, masks {}", quote(result, "data.images", format_count), format_mask_count(result))),
        ("Images, SHA-256", (quote_words(result, "data.sha256"),)),
    )
    files = tuple(
        (
            (get_name(result, key),),
            (f"subjects.{key}",),
            (quote_words(result, f"subjects.{key}.file.name"),),
            (quote_words(result, f"subjects.{key}.file.sha256"),),
        )
        for key in list_measured(result)
    )
    lead = "What exactly was measured, and how: enough to repeat it."
    return Chapter(
        "sources", "Sources", (lead,), (Facts(rows), Table(("Subject", "id", "file", "SHA-256"), files, words=4))
    )


def format_protocol(result: Result) -> Text:
    """Return the mode, and the numbers of samples and rounds."""
    return compose(
        "{}: {} samples or more of each subject in {} rounds, seed {}",
        quote_words(result, "settings.mode"),
        quote(result, "settings.samples", format_count),
        quote(result, "settings.rounds", format_count),
        quote(result, "settings.seed", lambda seed: f"{seed:.0f}"),
    )


def format_model(result: Result) -> Text:
    """Return the model's name, size and input."""
    sides = range(len(find(result, "model.input_shape") or []))
    shape = tuple(piece for k in sides for piece in (" × ", quote(result, f"model.input_shape.{k}", format_plain)))
    return compose(
        "{}, version {}, {} parameters, input {}",
        quote_words(result, "model.id"),
        quote_words(result, "model.version"),
        quote(result, "model.parameters", format_count),
        shape[1:] or Missing(),
    )


def format_mask_count(result: Result) -> Number | Missing | str:
    """Return the number of masks."""
    return "none" if find(result, "data.masks") is None else quote(result, "data.masks", format_count)
