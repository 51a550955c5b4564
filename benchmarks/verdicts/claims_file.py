"""Which claims does a claims file make? Read strictly; its format is specified in claims.py."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.result.format_1 import METRICS
from benchmarks.result.specification import COMPARED_SCORES
from edge_runtime.errors import EdgeSegError, near_miss
from evidence.schema import Each, Fields, amount, find_fault, matching, number, one_of, row, text

from .differences import TIMES

FORMAT = "edge-seg-claims/1"
KINDS = ("value", "reduction", "drop")
FIGURES = ("size", "memory", *TIMES, *COMPARED_SCORES)
UNPUBLISHED = "unpublished"
PAPER = Path(__file__).with_name("claims.toml")  # the claims of the paper that the reference models follow


def check_data(value: Any) -> str:
    """Return "" or what `data` should be, as a leaf of evidence.schema."""
    if isinstance(value, str) and re.fullmatch(f"{UNPUBLISHED}|[0-9a-f]{{64}}", value):
        return ""
    hint = near_miss(value, (UNPUBLISHED,)) if isinstance(value, str) else ""
    return f'"{UNPUBLISHED}" or the SHA-256 of a result' + (f"; {hint}" if hint else "")


words = matching(r"(?s).*\S.*", "a text")
CLAIM = Fields(
    {"id": words, "says": words, "recipe": words, "figure": one_of(*FIGURES, *METRICS), "kind": one_of(*KINDS)},
    {
        "at_least": number,
        "at_most": number,
        "rounding": amount,
        "against": Each(Fields({"engine": text, "recipe": text})),
        "parameters": row(number, number),
        "data": check_data,
    },
)
FILE = Fields({"format": one_of(FORMAT), "title": text, "claim": Each(CLAIM)})


@dataclass(frozen=True)
class Baseline:
    """A claim's baseline: an engine and the recipe of its file."""

    engine: str
    recipe: str


@dataclass(frozen=True)
class Claim:
    """One claim; `limit` is the file's `at_least` where `is_minimum`, else its `at_most`."""

    id: str
    says: str
    recipe: str
    figure: str
    kind: str
    limit: float
    is_minimum: bool
    rounding: float
    against: tuple[Baseline, ...]
    parameters: tuple[float, float] | None
    data: str | None


def read_claims(path: Path) -> tuple[str, list[Claim]]:
    """Return the title and the claims of a file. Raises: EdgeSegError."""
    name = str(path)
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or f"not valid TOML ({error})"
        raise EdgeSegError(name, why, "give a claims file as benchmarks/verdicts/claims.toml") from None
    return parse_claims(fields, name)


def parse_claims(fields: dict[str, Any], name: str) -> tuple[str, list[Claim]]:
    """Return the title and the claims of a file's fields. Raises: EdgeSegError for the first fault."""
    if fields.get("format") != FORMAT:
        raise EdgeSegError(name, f"format is {fields.get('format')!r}", f"this version reads {FORMAT!r}")
    fault = find_fault(FILE, fields) or ("" if fields["claim"] else "it has no [[claim]]")
    if fault:
        raise EdgeSegError(name, fault, "the format is specified in benchmarks/verdicts/claims.py")
    return fields["title"], [parse_claim(entry, f"{name}: claim.{k}") for k, entry in enumerate(fields["claim"])]


def parse_claim(entry: dict[str, Any], name: str) -> Claim:
    """Return one claim. Raises: EdgeSegError if its fields contradict each other."""
    figure, kind, against = METRICS.get(entry["figure"], entry["figure"]), entry["kind"], entry.get("against", [])
    wanted = "drop" if figure in COMPARED_SCORES else "reduction"
    low, high = entry.get("parameters", (0, 0))
    if kind not in ("value", wanted):
        raise EdgeSegError(name, f"a {kind} of {figure}", f'write kind = "{wanted}"')
    if ("at_least" in entry) == ("at_most" in entry):
        raise EdgeSegError(name, "it needs either at_least or at_most", "give one of them")
    if bool(against) != (kind != "value"):
        fix = "a reduction and a drop need against, a value has none"
        raise EdgeSegError(name, f"a {kind} has {'a' if against else 'no'} baseline", fix)
    if low > high:
        raise EdgeSegError(name, "parameters is not [least, most]", "write parameters = [33_000_000, 34_500_000]")
    return Claim(
        id=entry["id"],
        says=entry["says"],
        recipe=entry["recipe"],
        figure=figure,
        kind=kind,
        limit=float(entry["at_least"] if "at_least" in entry else entry["at_most"]),
        is_minimum="at_least" in entry,
        rounding=float(entry.get("rounding", 0.0)),
        against=tuple(Baseline(**one) for one in against),
        parameters=(low, high) if "parameters" in entry else None,
        data=entry.get("data"),
    )
