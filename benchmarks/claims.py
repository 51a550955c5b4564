"""Claims held against a result: reproduced, not reproduced or not comparable, with the reason and the baseline named.

Specification, edge-seg-claims/1
================================
A TOML file: `format`, `title` (where the claims stand), and tables `[[claim]]`, of which no other field is known:

    id          a short name
    says        the claim in words
    recipe      which of the result's files it is about: "drq", "int8", "fp32" ...
    figure      size | memory (bytes) | mean | p50 | p90 | p95 | p99 (latency, ms) | iou | binary_iou | dice
    kind        "value": the figure itself; "reduction": 1 - it / the baseline's; "drop": the baseline's score - it
    at_least    or at_most: the claimed value; the one excludes the other
    rounding    optional, >= 0: how far the claimed value may lie from what its words round
    against     [{engine, recipe}, ...] for a reduction or a drop: each baseline gets its own verdict
    parameters  optional, [least, most]: how many parameters the model that the claim is about has
    data        optional: "unpublished", or the `data.sha256` of the images that the claim is about

A claim is reproduced where the whole 95 % interval keeps it, not reproduced where none of the interval does, and not
comparable where the interval spans it, where what it is about was not measured, or where the run is invalid.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from edge_runtime.contract import near_miss
from edge_runtime.errors import EdgeSegError

from .differences import SCORES, TIMES, Change, pair_rounds, subtract_scores
from .numbers import (
    Number,
    Result,
    Text,
    cite,
    derive,
    find,
    find_number,
    flow,
    plain,
    printable,
    say_count,
    say_mb,
    say_ms,
    say_percent,
    say_score,
)
from .subjects import choose_headline, find_scores, list_measured, name_of, same_file

FORMAT = "edge-seg-claims/1"
KINDS = ("value", "reduction", "drop")
FIGURES = ("size", "memory", *TIMES, *SCORES)
MUST = ("id", "says", "recipe", "figure", "kind")
MAY = ("at_least", "at_most", "rounding", "against", "parameters", "data")
PATHS = {"size": "file.bytes", "memory": "memory.peak_rss_bytes"} | {name: f"latency.{name}_ms" for name in TIMES}
UNPUBLISHED = "unpublished"


@dataclass(frozen=True)
class Baseline:
    """What a claim compares with: an engine and the recipe of the file on it."""

    engine: str
    recipe: str


@dataclass(frozen=True)
class Claim:
    """One claim of a claims file; `limit` is at_least where `least`, else at_most."""

    id: str
    says: str
    recipe: str
    figure: str
    kind: str
    limit: float
    least: bool
    rounding: float
    against: tuple[Baseline, ...]
    parameters: tuple[float, float] | None
    data: str | None


@dataclass(frozen=True)
class Verdict:
    """What a result says to a claim, against one baseline; `baseline` is its name, "" where the claim has none."""

    claim: Claim
    baseline: str
    verdict: str  # "reproduced" | "not reproduced" | "not comparable"
    reason: Text

    def __str__(self) -> str:
        """Return the verdict in one line."""
        against = f", against {self.baseline}" if self.baseline else ""
        return f"{printable(self.claim.id)}{against}: {self.verdict}: {plain(self.reason)}"


def check_claims(result: Result, path: Path | None = None) -> list[Verdict]:
    """Return the verdicts on the claims of a file; without one, on the paper's.

    Raises: EdgeSegError if the file cannot be read or is no claims file.
    """
    _, claims = read_claims(path)
    return [verdict for claim in claims for verdict in check_claim(result, claim)]


def read_claims(path: Path | None = None) -> tuple[str, list[Claim]]:
    """Return the title and the claims of a file; without one, the paper's. Raises: EdgeSegError."""
    name = str(path or "claims.toml")
    try:
        text = (
            path.read_text("utf-8")
            if path
            else resources.files("benchmarks").joinpath("claims.toml").read_text("utf-8")
        )
        fields = tomllib.loads(text)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or f"not valid TOML ({error})"
        raise EdgeSegError(name, why, "give a claims file as benchmarks/claims.toml") from None
    return parse_claims(fields, name)


def parse_claims(fields: dict[str, Any], name: str) -> tuple[str, list[Claim]]:
    """Return the title and the claims that a file's fields say. Raises: EdgeSegError at the first unknown one."""
    refuse_unknown(fields, ("format", "title", "claim"), name, "")
    if fields.get("format") != FORMAT:
        fail(name, f"format is {fields.get('format')!r}", f"this version reads {FORMAT!r}")
    if not isinstance(fields.get("title"), str):
        fail(name, "title is not a text", "say where the claims stand")
    entries = fields.get("claim")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        fail(name, "it has no [[claim]]", "write at least one")
    return fields["title"], [parse_claim(entry, name, number) for number, entry in enumerate(entries, 1)]


def parse_claim(entry: dict[str, Any], name: str, number: int) -> Claim:
    """Return one claim, every field checked."""
    place = f"claim {number}: "
    refuse_unknown(entry, (*MUST, *MAY), name, place)
    for field in MUST:
        if not isinstance(entry.get(field), str) or not entry[field].strip():
            fail(name, f"{place}{field} is not a text", f'write {field} = "..."')
    for field, known in (("figure", FIGURES), ("kind", KINDS)):
        if entry[field] not in known:
            hint = near_miss(entry[field], known)
            fail(name, f"{place}{field} is {entry[field]!r}", hint or f"known are {', '.join(known)}")
    wanted = "drop" if entry["figure"] in SCORES else "reduction"
    if entry["kind"] not in ("value", wanted):
        fail(name, f"{place}a {entry['kind']} of {entry['figure']}", f'write kind = "{wanted}"')
    limit, rounding = parse_limit(entry, name, place)
    return Claim(
        id=entry["id"],
        says=entry["says"],
        recipe=entry["recipe"],
        figure=entry["figure"],
        kind=entry["kind"],
        limit=limit,
        least="at_least" in entry,
        rounding=rounding,
        against=parse_baselines(entry, name, place),
        parameters=parse_range(entry, name, place),
        data=parse_data(entry, name, place),
    )


def parse_limit(entry: dict[str, Any], name: str, place: str) -> tuple[float, float]:
    """Return the claimed value and how far it may be off."""
    if ("at_least" in entry) == ("at_most" in entry):
        fail(name, f"{place}it needs either at_least or at_most", "give one of them")
    limit: Any = entry.get("at_least", entry.get("at_most"))
    rounding: Any = entry.get("rounding", 0.0)
    for field, value in (("at_least" if "at_least" in entry else "at_most", limit), ("rounding", rounding)):
        if not is_number(value):
            fail(name, f"{place}{field} is no number", f"write {field} = 0.37")
    if rounding < 0:
        fail(name, f"{place}rounding is negative", "write how far the words may be off")
    return float(limit), float(rounding)


def parse_baselines(entry: dict[str, Any], name: str, place: str) -> tuple[Baseline, ...]:
    """Return what a claim compares with; a value has none, the others at least one."""
    found = entry.get("against", [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        fail(name, f"{place}against is no list of tables", 'write against = [{ engine = "keras", recipe = "fp32" }]')
    for one in found:
        refuse_unknown(one, ("engine", "recipe"), name, f"{place}against: ")
        if not all(isinstance(one.get(field), str) for field in ("engine", "recipe")):
            fail(name, f"{place}a baseline needs engine and recipe", 'write { engine = "keras", recipe = "fp32" }')
    if bool(found) != (entry["kind"] != "value"):
        fail(
            name,
            f"{place}a {entry['kind']} has {'a' if found else 'no'} baseline",
            "a reduction and a drop need against, a value has none",
        )
    return tuple(Baseline(one["engine"], one["recipe"]) for one in found)


def parse_range(entry: dict[str, Any], name: str, place: str) -> tuple[float, float] | None:
    """Return the range of parameters that a claim is about."""
    found = entry.get("parameters")
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != 2 or not all(map(is_number, found)) or found[0] > found[1]:
        fail(name, f"{place}parameters is not [least, most]", "write parameters = [33_000_000, 34_500_000]")
    return found[0], found[1]


def parse_data(entry: dict[str, Any], name: str, place: str) -> str | None:
    """Return the images that a claim is about."""
    found = entry.get("data")
    if found is not None and not (isinstance(found, str) and re.fullmatch(f"{UNPUBLISHED}|[0-9a-f]{{64}}", found)):
        hint = near_miss(found, (UNPUBLISHED,)) if isinstance(found, str) else ""
        fail(name, f"{place}data is {found!r}", hint or f'write "{UNPUBLISHED}" or the SHA-256 that a result gives')
    return found


def refuse_unknown(fields: dict[str, Any], known: tuple[str, ...], name: str, place: str) -> None:
    """Refuse the first field that is not known, with the near miss."""
    for field in fields:
        if field not in known:
            fail(
                name,
                f"{place}unknown field {field!r}",
                near_miss(field, known) or f"the fields here are {', '.join(known)}",
            )


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def fail(name: str, why: str, fix: str) -> NoReturn:
    raise EdgeSegError(name, why, fix)


def check_claim(result: Result, claim: Claim) -> list[Verdict]:
    """Return the verdicts on a claim, one for each baseline that it may mean."""
    why = tell_unfit(result, claim)
    subject = choose_subject(result, claim)
    if not why and subject is None:
        why = (f"no model of recipe {printable(claim.recipe)!r} was measured",)
    if why or subject is None:
        names = [name_baseline(result, one, subject) for one in claim.against] or [""]
        return [Verdict(claim, name, "not comparable", why) for name in names]
    if claim.kind == "value":
        return [judge_value(result, claim, subject)]
    return [judge_change(result, claim, subject, one) for one in claim.against]


def name_baseline(result: Result, baseline: Baseline, subject: str | None) -> str:
    """Return a baseline's name in the result, or words for one that it does not have."""
    found = choose_opponent(result, subject, baseline) if subject else None
    return name_of(result, found) if found else f"{printable(baseline.recipe)} on {printable(baseline.engine)}"


def tell_unfit(result: Result, claim: Claim) -> Text:
    """Return why a claim cannot be held against this result at all; empty if it can."""
    status = find(result, "validity.status")
    if status == "invalid" or (status != "valid" and claim.figure in TIMES):
        return (f"the run is {'inconclusive' if status == 'inconclusive' else 'invalid'}",)
    if claim.parameters:
        count = cite(result, "model.parameters", say_count)
        least, most = map(say_count, claim.parameters)
        about = f"the claim is about a net of {least} to {most} parameters"
        if not isinstance(count, Number):
            return (f"{about}, and those of this model were not counted",)
        if not claim.parameters[0] <= float(count.value) <= claim.parameters[1]:
            return flow("this model has ", count, f" parameters; {about}")
    if claim.data == UNPUBLISHED:
        return flow("the images that it was measured on are not published", tell_beside(result, claim))
    if claim.data and find(result, "data.sha256") != claim.data:
        return flow("it was measured on other images (data.sha256 differs)", tell_beside(result, claim))
    return ()


def tell_beside(result: Result, claim: Claim) -> Text:
    """Return what this result has beside a figure that it cannot be compared with."""
    subject = choose_subject(result, claim)
    cited = cite_value(result, claim, subject) if subject else None
    return flow("; this run's own images give ", cited) if isinstance(cited, Number) else ()


def choose_subject(result: Result, claim: Claim) -> str | None:
    """Return the subject of a claim's recipe: the first page's, else the quickest of ours, else of the others."""
    fitting = [key for key in list_measured(result) if find(result, f"subjects.{key}.recipe") == claim.recipe]
    first = choose_headline(result)
    if first in fitting:
        return first
    scored = [key for key in fitting if key in (find(result, "accuracy") or {})] if claim.figure in SCORES else []
    return next(iter(scored or fitting), None)


def choose_opponent(result: Result, subject: str, baseline: Baseline) -> str | None:
    """Return the subject that is a claim's baseline, with the subject's own number of threads where there is one."""
    threads = find(result, f"subjects.{subject}.threads")
    fitting = [key for key in list_measured(result) if fits(find(result, f"subjects.{key}"), baseline)]
    return min(fitting, key=lambda key: find(result, f"subjects.{key}.threads") != threads, default=None)


def fits(subject: Result, baseline: Baseline) -> bool:
    """Tell whether a subject is a claim's baseline."""
    return (subject["engine"], subject["recipe"]) == (baseline.engine, baseline.recipe)


def cite_value(result: Result, claim: Claim, subject: str) -> Number | None:
    """Return the figure that a claim is about."""
    if claim.figure in SCORES:
        found = cite(result, f"accuracy.{find_scores(result, subject)}.{claim.figure}.value", say_score)
    else:
        say = say_mb if claim.figure in ("size", "memory") else say_ms
        found = cite(result, f"subjects.{subject}.{PATHS[claim.figure]}", say)
    return found if isinstance(found, Number) else None


def judge_value(result: Result, claim: Claim, subject: str) -> Verdict:
    """Return the verdict on a claim about a figure itself."""
    cited = cite_value(result, claim, subject)
    if cited is None:
        return Verdict(claim, "", "not comparable", (f"{claim.figure} was not measured",))
    low = high = float(cited.value)
    if claim.figure in SCORES:
        path = f"accuracy.{find_scores(result, subject)}.{claim.figure}.interval"
        bounds = find_number(result, f"{path}.0"), find_number(result, f"{path}.1")
        low, high = (low if bounds[0] is None else bounds[0]), (high if bounds[1] is None else bounds[1])
    say = say_score if claim.figure in SCORES else say_mb if claim.figure in ("size", "memory") else say_ms
    verdict, why = judge(claim, low, high)
    name = name_of(result, subject)
    return Verdict(claim, "", verdict, flow(f"{name} has ", cited, f", claimed {tell_limit(claim, say)}", why))


def judge_change(result: Result, claim: Claim, subject: str, baseline: Baseline) -> Verdict:
    """Return the verdict on a claim that compares, against one baseline."""
    opponent = choose_opponent(result, subject, baseline)
    if opponent is None:
        return Verdict(
            claim, name_baseline(result, baseline, None), "not comparable", ("this baseline was not measured",)
        )
    name = name_of(result, opponent)
    measure = measure_drop if claim.kind == "drop" else measure_reduction
    measured = measure(result, claim, subject, opponent)
    if isinstance(measured, str):
        return Verdict(claim, name, "not comparable", (measured,))
    text, low, high = measured
    verdict, why = judge(claim, low, high)
    say = say_score if claim.kind == "drop" else say_percent
    return Verdict(claim, name, verdict, flow(text, f", claimed {tell_limit(claim, say)}", why))


Measured = tuple[Text, float, float] | str  # the figure in print and its interval, or why there is none


def measure_reduction(result: Result, claim: Claim, subject: str, opponent: str) -> Measured:
    """Return by how much a figure is smaller than the baseline's."""
    field = PATHS[claim.figure]
    paths = f"subjects.{subject}.{field}", f"subjects.{opponent}.{field}"
    one, other = (find_number(result, path) for path in paths)
    if not one or not other:
        return f"{claim.figure} was not measured of both"
    if claim.figure not in TIMES:
        share = 1 - one / other
        shown = derive(say_percent(share), share, f"1 - {paths[0]} / {paths[1]}", *paths)
        return flow("a reduction of ", shown), share, share
    change = pair_rounds(result, subject, opponent, claim.figure)
    if change.low is None or change.high is None:
        return "too few rounds tell how much they differ"
    samples = [f"subjects.{key}.latency.samples" for key in (subject, opponent)]
    return tell_reduction(change, samples[0], samples[1], claim.figure)


def tell_reduction(change: Change, one: str, other: str, figure: str) -> Measured:
    """Return a reduction in time with its interval; what grew is negative."""
    low, high = 1 - (change.high or 0), 1 - (change.low or 0)
    formula = f"1 - {figure} of {one} / {figure} of {other}, paired by rounds"
    shown = [
        derive(say_percent(value), value, formula + part, one, other)
        for value, part in ((1 - change.value, ""), (low, ", 95 % interval, low"), (high, ", 95 % interval, high"))
    ]
    return flow("a reduction of ", shown[0], " [", shown[1], ", ", shown[2], "]"), low, high


def measure_drop(result: Result, claim: Claim, subject: str, opponent: str) -> Measured:
    """Return by how much a score lies below the baseline's, image by image."""
    sources: list[tuple[str, ...]]
    entry, other = find_scores(result, subject), find_scores(result, opponent)
    against = find(result, f"accuracy.{entry}.difference.against")
    if against and same_file(result, str(against), opponent):
        path = f"accuracy.{entry}.difference.{claim.figure}"
        bounds = [find_number(result, f"{path}.{part}") for part in ("value", "interval.0", "interval.1")]
        sources = [(f"-{path}.{part}", f"{path}.{part}") for part in ("value", "interval.1", "interval.0")]
    elif entry and other:
        tables = f"accuracy.{entry}.per_image", f"accuracy.{other}.per_image"
        change = subtract_scores(find(result, f"accuracy.{other}"), find(result, f"accuracy.{entry}"), claim.figure)
        bounds = [change.value, change.low, change.high] if change else [None]
        formula = f"{claim.figure} of {tables[1]}, less that of {tables[0]}"
        sources = [(formula + part, *tables) for part in ("", ", 95 % interval, low", ", 95 % interval, high")]
    else:
        return "the scores of both on the same masks were not measured"
    if any(value is None for value in bounds):
        return f"no difference of {claim.figure} was measured"
    value, low, high = (float(bound) for bound in bounds if bound is not None)
    shown = [derive(say_score(-one), -one, *source) for one, source in zip((value, high, low), sources, strict=True)]
    return flow("a drop of ", shown[0], " [", shown[1], ", ", shown[2], "]"), -high, -low


def judge(claim: Claim, low: float, high: float) -> tuple[str, str]:
    """Return the verdict on an interval, and why it is none."""
    if claim.least:
        kept, broken = low >= claim.limit - claim.rounding, high < claim.limit - claim.rounding
    else:
        kept, broken = high <= claim.limit + claim.rounding, low > claim.limit + claim.rounding
    if kept or broken:
        return ("reproduced" if kept else "not reproduced"), ""
    return "not comparable", "; the interval spans that: this run cannot tell"


def tell_limit(claim: Claim, say: Any) -> str:
    """Return the claimed value in words."""
    rounded = f" ± {say(claim.rounding)}" if claim.rounding else ""
    return f"{'at least' if claim.least else 'at most'} {say(claim.limit)}{rounded}"
