"""How is a comparison printed, as text for a terminal or as Markdown?"""

from __future__ import annotations

from benchmarks.result.specification import COMPARED_SCORES
from benchmarks.result.wording import escape_markdown, format_count
from evidence.change import NO_CHANGE, write_difference, write_ratio
from evidence.document import make_table

from .compare import PLURALS, Comparison, ComparisonRow, to_letter
from .differences import Change, choose_formatter

ASSERTED = ("faster", "slower", "smaller", "larger", "better", "worse")  # verdicts that the digits have to show


def render_comparison(comparison: Comparison, form: str = "text") -> str:
    """Return the comparison as a table for a terminal ("text") or in "markdown"."""
    if form == "markdown":
        return render_markdown(comparison)
    field = f" ({comparison.field} differs)" if comparison.field else ""
    lines = [f"{len(comparison.names)} {PLURALS[comparison.dimension]}{field}"]
    lines += [
        f"{to_letter(k)}  {name}, run {id_}"
        for k, (name, id_) in enumerate(zip(comparison.names, comparison.ids, strict=True))
    ]
    subject = ""
    for row in comparison.rows:
        if row.subject != subject:
            subject = row.subject
            lines += ["", subject]
        cells = [f"{format_value(row, k):<28}" for k in range(len(row.values))]
        sign = "−" if row.figure in COMPARED_SCORES else "/"
        changes = [
            f"{to_letter(k)}{sign}A {format_verdict(row.figure, change)}"
            for k, change in enumerate(row.changes)
            if change
        ]
        lines.append(f"  {row.figure:<11}{''.join(cells)}{'   '.join(changes)}".rstrip())
    return "\n".join([*lines, *(f"\n{line}" for line in list_notes(comparison))])


def render_markdown(comparison: Comparison) -> str:
    """Return the comparison as a Markdown table."""
    head = ["", "", *(f"{to_letter(k)}: {name}" for k, name in enumerate(comparison.names))]
    head += [f"{to_letter(k)} against A" for k in range(1, len(comparison.names))]
    rows = []
    for row in comparison.rows:
        cells = [row.subject, row.figure, *(format_value(row, k) for k in range(len(row.values)))]
        cells += [format_verdict(row.figure, change) if change else "" for change in row.changes[1:]]
        rows.append(map(escape_markdown, cells))
    table = make_table([*map(escape_markdown, head)], rows)
    return "\n".join([table, *(f"\n{escape_markdown(line)}" for line in list_notes(comparison))])


def list_notes(comparison: Comparison) -> list[str]:
    """Return what could not be compared with the reasons, and the comparison's notes."""
    whys: dict[str, list[str]] = {}
    for part, why in comparison.not_compared.items():
        whys.setdefault(why, []).append(part)
    return [*(f"not compared: {', '.join(parts)}: {why}" for why, parts in whys.items()), *comparison.notes]


def format_value(row: ComparisonRow, number: int) -> str:
    """Return a value with its interval; sizes that differ and look alike in MB are written in bytes."""
    value, interval = row.values[number], row.intervals[number]
    if value is None:
        return "not measured"
    formatter = choose_formatter(row.figure)
    if row.figure == "size" and any(one != value and one and formatter(one) == formatter(value) for one in row.values):
        return f"{format_count(value)} bytes"
    bounds = ", ".join(formatter(bound).removesuffix(" ms") for bound in interval or ())
    return f"{formatter(value)} [{bounds}]" if bounds else formatter(value)


def format_verdict(figure: str, change: Change, limit: float = 0.0) -> str:
    """Return a change with its interval and its verdict; `limit`: of a gate, which the digits must not contradict."""
    asserted = change.verdict in ASSERTED
    if figure not in COMPARED_SCORES:
        apart = 1 + limit if asserted else None
        return f"{write_ratio(change.value, change.low, change.high, apart)} {change.verdict}"
    apart = -limit if asserted else None
    written = str(write_difference(change.value, change.low, change.high, apart))
    return written if (written, change.verdict) == (NO_CHANGE, "no difference") else f"{written} {change.verdict}"
