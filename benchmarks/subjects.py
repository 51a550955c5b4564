"""Who is who in a result: which subject the first page is about, what it is held against, in which order all stand."""

from __future__ import annotations

from .numbers import Result, find, find_number, printable

ROLES = ("subject", "baseline", "peer")


def list_subjects(result: Result) -> list[str]:
    """Return the keys of all subjects: by role, then the quickest first, then those without a time."""
    keys = list(find(result, "subjects") or {})
    return sorted(keys, key=lambda key: (rank_role(result, key), time_of(result, key) or float("inf"), key))


def list_measured(result: Result) -> list[str]:
    """Return the keys of the subjects that ran, in the same order."""
    return [key for key in list_subjects(result) if find(result, f"subjects.{key}.status") == "ok"]


def rank_role(result: Result, key: str) -> int:
    role = role_of(result, key)
    return ROLES.index(role) if role in ROLES else len(ROLES)


def role_of(result: Result, key: str) -> str:
    return str(find(result, f"subjects.{key}.role") or "peer")


def time_of(result: Result, key: str) -> float | None:
    return find_number(result, f"subjects.{key}.latency.p50_ms")


def name_of(result: Result, key: str) -> str:
    """Return the name that a reader sees."""
    return printable(find(result, f"subjects.{key}.name") or key)


def choose_headline(result: Result) -> str | None:
    """Return the subject that the first page is about: the one run end to end, else sustained, else the quickest."""
    mine = [key for key in list_measured(result) if role_of(result, key) == "subject"]
    chosen = [find(result, "end_to_end.subject"), find(result, "sustained.subject")]
    return next((key for key in chosen if key in mine), mine[0] if mine else None)


def choose_baseline(result: Result, key: str) -> str | None:
    """Return the float baseline nearest to a subject: of the same model, paired with it, its engine, its threads."""
    others = [other for other in list_measured(result) if role_of(result, other) == "baseline" and other != key]
    return min(others, key=lambda other: tell_distance(result, key, other), default=None)


def tell_distance(result: Result, key: str, other: str) -> tuple[bool, ...]:
    """Return what keeps a baseline apart from a subject, the gravest first."""
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
    """Return the subjects that differ in nothing but threads, by what they share; only where there are two or more."""
    groups: dict[str, list[str]] = {}
    for key in list_measured(result):
        label = ", ".join(str(find(result, f"subjects.{key}.{field}")) for field in ("engine", "recipe"))
        if isinstance(find(result, f"subjects.{key}.threads"), int):
            groups.setdefault(printable(label), []).append(key)
    for keys in groups.values():
        keys.sort(key=lambda key: int(find(result, f"subjects.{key}.threads")))
    return {label: keys for label, keys in groups.items() if len({threads_of(result, key) for key in keys}) > 1}


def threads_of(result: Result, key: str) -> int:
    return int(find(result, f"subjects.{key}.threads") or 0)


def find_scores(result: Result, key: str) -> str | None:
    """Return the entry of `accuracy` that holds for a subject: its own, or that of the same file with other threads."""
    entries = find(result, "accuracy") or {}
    return key if key in entries else next((other for other in entries if same_file(result, key, other)), None)


def same_file(result: Result, one: str, other: str) -> bool:
    """Tell whether two subjects are one file on one engine: threads change no mask."""
    fields = ("engine", "file.sha256")
    told = [find(result, f"subjects.{key}.{field}") for key in (one, other) for field in fields]
    return None not in told and told[:2] == told[2:]
