"""Does a result reproduce published claims? Each verdict names its reason and its baseline.

Specification, edge-seg-claims/1
================================
A TOML file: `format`, `title` (the claims' source), and tables `[[claim]]` with these fields and no others:

    id          a short name
    says        the claim in words
    recipe      which of the result's files it is about: "drq", "int8", "fp32" ...
    figure      size | memory (bytes) | mean | p50 | p90 | p95 | p99 (latency, ms) |
                lesion_iou | mean_iou (iou and binary_iou in older files) | dice
    kind        "value": the figure itself; "reduction": 1 - it / the baseline's; "drop": the baseline's score - it
    at_least    or at_most, not both: the claimed value
    rounding    optional, >= 0: by how much the claimed value may be rounded
    against     [{engine, recipe}, ...] for a reduction or a drop: each baseline gets its own verdict
    parameters  optional, [least, most]: the number of parameters of the claim's model
    data        optional: "unpublished", or the `data.sha256` of the claim's images

A claim is reproduced if the whole 95 % interval meets it, and not reproduced if none of the interval does. It is not
comparable if the interval spans it, if its figure was not measured, or if the run is invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.result.format_1 import to_file_path
from benchmarks.result.lookup import Result, find, find_number
from benchmarks.result.quoted import Number, Text, compose, derive, quote, to_plain
from benchmarks.result.roles import choose_headline, find_scores, get_name, is_same_file, list_measured
from benchmarks.result.specification import COMPARED_SCORES
from benchmarks.result.wording import Formatter, escape_hidden, format_count, format_percent, format_score
from evidence.change import write_difference

from .claims_file import UNPUBLISHED, Baseline, Claim, read_claims
from .differences import TIMES, Change, choose_formatter, compare_paired_rounds, subtract_scores

PATHS = {"size": "file.bytes", "memory": "memory.peak_rss_bytes"} | {name: f"latency.{name}_ms" for name in TIMES}


@dataclass(frozen=True)
class ClaimVerdict:
    """The verdict on a claim against one baseline; `baseline` is its name, "" where the claim has none."""

    claim: Claim
    baseline: str
    verdict: str  # "reproduced" | "not reproduced" | "not comparable"
    reason: Text

    def __str__(self) -> str:
        """Return the verdict in one line."""
        against = f", against {self.baseline}" if self.baseline else ""
        return f"{escape_hidden(self.claim.id)}{against}: {self.verdict}: {to_plain(self.reason)}"


def check_claims(result: Result, path: Path) -> list[ClaimVerdict]:
    """Return the verdicts on the claims of a file.

    Raises: EdgeSegError if the file cannot be read or is no claims file.
    """
    _, claims = read_claims(path)
    return [verdict for claim in claims for verdict in check_claim(result, claim)]


def check_claim(result: Result, claim: Claim) -> list[ClaimVerdict]:
    """Return the verdicts on a claim, one for each of its baselines."""
    why = explain_incomparable(result, claim)
    subject = choose_subject(result, claim)
    if not why and subject is None:
        why = (f"no model of recipe {escape_hidden(claim.recipe)!r} was measured",)
    if why or subject is None:
        names = [name_baseline(result, one, subject) for one in claim.against] or [""]
        return [ClaimVerdict(claim, name, "not comparable", why) for name in names]
    if claim.kind == "value":
        return [check_value(result, claim, subject)]
    return [check_change(result, claim, subject, one) for one in claim.against]


def name_baseline(result: Result, baseline: Baseline, subject: str | None) -> str:
    """Return a baseline's name in the result; one that was not measured is named by recipe and engine."""
    found = find_baseline(result, subject, baseline) if subject else None
    return get_name(result, found) if found else f"{escape_hidden(baseline.recipe)} on {escape_hidden(baseline.engine)}"


def explain_incomparable(result: Result, claim: Claim) -> Text:
    """Return why a claim cannot be compared with this result; empty if it can."""
    status = find(result, "validity.status")
    if status == "invalid" or (status != "valid" and claim.figure in TIMES):
        return (f"the run is {'inconclusive' if status == 'inconclusive' else 'invalid'}",)
    if claim.parameters:
        count = quote(result, "model.parameters", format_count)
        low, high = map(format_count, claim.parameters)
        about = f"the claim is about a net of {low} to {high} parameters"
        if not isinstance(count, Number):
            return (f"{about}, and those of this model were not counted",)
        if not claim.parameters[0] <= float(count.value) <= claim.parameters[1]:
            return compose("this model has {} parameters; {}", count, about)
    if claim.data == UNPUBLISHED:
        return compose("the images that it was measured on are not published{}", quote_own_figure(result, claim))
    if claim.data and find(result, "data.sha256") != claim.data:
        return compose("it was measured on other images (data.sha256 differs){}", quote_own_figure(result, claim))
    return ()


def quote_own_figure(result: Result, claim: Claim) -> Text:
    """Return this run's own figure, as part of a sentence."""
    subject = choose_subject(result, claim)
    quoted = quote_value(result, claim, subject) if subject else None
    return compose("; this run's own images give {}", quoted) if isinstance(quoted, Number) else ()


def choose_subject(result: Result, claim: Claim) -> str | None:
    """Return the subject of a claim's recipe: the first page's, else the fastest."""
    fitting = [key for key in list_measured(result) if find(result, f"subjects.{key}.recipe") == claim.recipe]
    first = choose_headline(result)
    if first in fitting:
        return first
    entries = find(result, "accuracy") or {}
    scored = [key for key in fitting if key in entries and claim.figure in COMPARED_SCORES]
    return next(iter(scored or fitting), None)


def find_baseline(result: Result, subject: str, baseline: Baseline) -> str | None:
    """Return the key of a claim's baseline, preferably one with the subject's number of threads."""
    threads = find(result, f"subjects.{subject}.threads")
    fitting = [key for key in list_measured(result) if is_baseline(find(result, f"subjects.{key}"), baseline)]
    return min(fitting, key=lambda key: find(result, f"subjects.{key}.threads") != threads, default=None)


def is_baseline(subject: Result, baseline: Baseline) -> bool:
    """Return whether a subject is a claim's baseline."""
    return (subject["engine"], subject["recipe"]) == (baseline.engine, baseline.recipe)


def quote_value(result: Result, claim: Claim, subject: str) -> Number | None:
    """Return a claim's figure, measured."""
    if claim.figure in COMPARED_SCORES:
        path = f"accuracy.{find_scores(result, subject)}.{claim.figure}.value"
    else:
        path = f"subjects.{subject}.{PATHS[claim.figure]}"
    found = quote(result, path, choose_formatter(claim.figure))
    return found if isinstance(found, Number) else None


def check_value(result: Result, claim: Claim, subject: str) -> ClaimVerdict:
    """Return the verdict on a claim about a value."""
    quoted = quote_value(result, claim, subject)
    if quoted is None:
        return ClaimVerdict(claim, "", "not comparable", (f"{claim.figure} was not measured",))
    low = high = float(quoted.value)
    if claim.figure in COMPARED_SCORES:
        path = f"accuracy.{find_scores(result, subject)}.{claim.figure}.interval"
        bounds = find_number(result, f"{path}.0"), find_number(result, f"{path}.1")
        low, high = (low if bounds[0] is None else bounds[0]), (high if bounds[1] is None else bounds[1])
    verdict, why = classify_interval(claim, low, high)
    claimed = format_limit(claim, choose_formatter(claim.figure))
    text = compose("{} has {}, claimed {}{}", get_name(result, subject), quoted, claimed, why)
    return ClaimVerdict(claim, "", verdict, text)


def check_change(result: Result, claim: Claim, subject: str, baseline: Baseline) -> ClaimVerdict:
    """Return the verdict on a reduction or a drop against one baseline."""
    baseline_key = find_baseline(result, subject, baseline)
    if baseline_key is None:
        return ClaimVerdict(
            claim, name_baseline(result, baseline, None), "not comparable", ("this baseline was not measured",)
        )
    name = get_name(result, baseline_key)
    measure = compute_drop if claim.kind == "drop" else compute_reduction
    measured = measure(result, claim, subject, baseline_key)
    if isinstance(measured, str):
        return ClaimVerdict(claim, name, "not comparable", (measured,))
    text, low, high = measured
    verdict, why = classify_interval(claim, low, high)
    formatter = format_score if claim.kind == "drop" else format_percent
    return ClaimVerdict(claim, name, verdict, compose("{}, claimed {}{}", text, format_limit(claim, formatter), why))


Effect = tuple[Text, float, float] | str  # the printed figure and its interval, or why there is none


def compute_reduction(result: Result, claim: Claim, subject: str, baseline_key: str) -> Effect:
    """Return the relative reduction of a figure against the baseline's."""
    field = PATHS[claim.figure]
    paths = f"subjects.{subject}.{field}", f"subjects.{baseline_key}.{field}"
    one, other = (find_number(result, path) for path in paths)
    if not one or not other:
        return f"{claim.figure} was not measured of both"
    if claim.figure not in TIMES:
        share = 1 - one / other
        shown = derive(format_percent(share), share, f"1 - {paths[0]} / {paths[1]}", *paths)
        return compose("a reduction of {}", shown), share, share
    change = compare_paired_rounds(result, subject, baseline_key, claim.figure)
    if change.low is None or change.high is None:
        return "too few rounds tell how much they differ"
    samples = [f"subjects.{key}.latency.samples" for key in (subject, baseline_key)]
    return describe_reduction(change, samples[0], samples[1], claim.figure)


def describe_reduction(change: Change, one: str, other: str, figure: str) -> Effect:
    """Return a reduction in time with its interval; an increase is negative."""
    low, high = 1 - (change.high or 0), 1 - (change.low or 0)
    formula = f"1 - {figure} of {one} / {figure} of {other}, paired by rounds"
    shown = [
        derive(format_percent(value), value, formula + part, one, other)
        for value, part in ((1 - change.value, ""), (low, ", 95 % interval, low"), (high, ", 95 % interval, high"))
    ]
    return compose("a reduction of {} [{}, {}]", shown[0], shown[1], shown[2]), low, high


def compute_drop(result: Result, claim: Claim, subject: str, baseline_key: str) -> Effect:
    """Return the drop of a score against the baseline's, paired by image."""
    sources: list[tuple[str, ...]]
    entry, other = find_scores(result, subject), find_scores(result, baseline_key)
    against = find(result, f"accuracy.{entry}.difference.against")
    if against and is_same_file(result, str(against), baseline_key):
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
    found = [[to_file_path(result, part) for part in source] for source in sources]
    decided = classify_interval(claim, -high, -low)[0] != "not comparable"
    written = write_difference(-value, -high, -low, get_bound(claim) if decided else None, signed=False)
    drops = zip((written.value, written.low, written.high), (-value, -high, -low), found, strict=True)
    shown = [derive(text, one, *source) for text, one, source in drops if text]
    if len(shown) == 1:
        return (shown[0],), -high, -low
    return compose("a drop of {} [{}, {}]", shown[0], shown[1], shown[2]), -high, -low


def classify_interval(claim: Claim, low: float, high: float) -> tuple[str, str]:
    """Return the verdict on an interval, and the reason if it spans the limit."""
    bound = get_bound(claim)
    kept, broken = (low >= bound, high < bound) if claim.is_minimum else (high <= bound, low > bound)
    if kept or broken:
        return ("reproduced" if kept else "not reproduced"), ""
    return "not comparable", "; the interval spans that: this run cannot tell"


def get_bound(claim: Claim) -> float:
    """Return the value that a claim's figure must not pass: its limit, widened by its rounding."""
    return claim.limit - claim.rounding if claim.is_minimum else claim.limit + claim.rounding


def format_limit(claim: Claim, formatter: Formatter) -> str:
    """Return the claimed limit as text."""
    rounded = f" ± {formatter(claim.rounding)}" if claim.rounding else ""
    return f"{'at least' if claim.is_minimum else 'at most'} {formatter(claim.limit)}{rounded}"
