"""Which subject of a result is the main one, which is its baseline, and in which order are all listed?"""

from __future__ import annotations

from .lookup import Result, find, find_number
from .wording import escape_hidden

ROLES = ("subject", "baseline", "peer")


def list_subjects(result: Result) -> list[str]:
    """Return the keys of all subjects by role, the fastest first, those without a time last."""
    keys = list(find(result, "subjects") or {})
    return sorted(keys, key=lambda key: (rank_role(result, key), get_p50(result, key) or float("inf"), key))


def list_measured(result: Result) -> list[str]:
    """Return the keys of the subjects that were measured, in the same order."""
    return [key for key in list_subjects(result) if find(result, f"subjects.{key}.status") == "ok"]


def rank_role(result: Result, key: str) -> int:
    """Return the position of a subject's role in ROLES; one that is unknown comes last."""
    role = get_role(result, key)
    return ROLES.index(role) if role in ROLES else len(ROLES)


def get_role(result: Result, key: str) -> str:
    """Return a subject's role; "peer" where it has none."""
    return str(find(result, f"subjects.{key}.role") or "peer")


def get_p50(result: Result, key: str) -> float | None:
    """Return the median of a subject's latency in milliseconds."""
    return find_number(result, f"subjects.{key}.latency.p50_ms")


def get_name(result: Result, key: str) -> str:
    """Return a subject's name for readers."""
    return escape_hidden(find(result, f"subjects.{key}.name") or key)


def choose_headline(result: Result) -> str | None:
    """Return the subject of the first page: the one measured end to end, else the sustained one, else the fastest."""
    mine = [key for key in list_measured(result) if get_role(result, key) == "subject"]
    chosen = [find(result, "end_to_end.subject"), find(result, "sustained.subject")]
    return next((key for key in chosen if key in mine), mine[0] if mine else None)


def choose_baseline(result: Result, key: str) -> str | None:
    """Return the float baseline closest to a subject: same model, paired with it, same engine, same threads."""
    others = [other for other in list_measured(result) if other != key and is_float_baseline(result, other)]
    return min(others, key=lambda other: rank_baseline(result, key, other), default=None)


def is_float_baseline(result: Result, key: str) -> bool:
    """Return whether a subject is a baseline whose weights are float: "fp32", or "stock-fp32"."""
    return get_role(result, key) == "baseline" and "fp32" in str(find(result, f"subjects.{key}.recipe"))


def rank_baseline(result: Result, key: str, other: str) -> tuple[bool, ...]:
    """Return how a baseline differs from a subject, the most important difference first: the least is the closest."""
    mine, theirs = (find(result, f"subjects.{one}") or {} for one in (key, other))
    stems = [str(find(one, "file.name")).partition(".")[0] for one in (mine, theirs)]
    return (
        theirs.get("recipe") != "fp32",
        stems[0] != stems[1],
        find_pair(result, key, other) is None,
        *(mine.get(field) != theirs.get(field) for field in ("engine", "threads")),
    )


def find_pair(result: Result, subject: str, baseline: str) -> str | None:
    """Return the path of the pair of these two; None where they were not paired."""
    for number, pair in enumerate(find(result, "pairs") or []):
        if (pair.get("subject"), pair.get("baseline")) == (subject, baseline):
            return f"pairs.{number}"
    return None


def list_sweeps(result: Result) -> dict[str, list[str]]:
    """Return the subjects that differ in threads alone, by engine and recipe, of two thread counts or more."""
    groups: dict[str, list[str]] = {}
    for key in list_measured(result):
        label = ", ".join(str(find(result, f"subjects.{key}.{field}")) for field in ("engine", "recipe"))
        if isinstance(find(result, f"subjects.{key}.threads"), int):
            groups.setdefault(escape_hidden(label), []).append(key)
    for keys in groups.values():
        keys.sort(key=lambda key: int(find(result, f"subjects.{key}.threads")))
    return {label: keys for label, keys in groups.items() if len({get_threads(result, key) for key in keys}) > 1}


def get_threads(result: Result, key: str) -> int:
    """Return a subject's number of threads; 0 where it has none."""
    return int(find(result, f"subjects.{key}.threads") or 0)


def find_scores(result: Result, key: str) -> str | None:
    """Return the `accuracy` entry that applies to a subject: its own, or the same file's with other threads."""
    entries = find(result, "accuracy") or {}
    return key if key in entries else next((other for other in entries if is_same_file(result, key, other)), None)


def is_same_file(result: Result, one: str, other: str) -> bool:
    """Return whether two subjects are the same file on the same engine: threads do not change masks."""
    fields = ("engine", "file.sha256")
    values = [find(result, f"subjects.{key}.{field}") for key in (one, other) for field in fields]
    return None not in values and values[:2] == values[2:]
