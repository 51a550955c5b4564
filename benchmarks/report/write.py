"""How is a report written? One HTML page without network access, a PDF, Markdown and a CSV, from the result alone.

Needs jinja2, matplotlib and reportlab, which are imported when a report is written.
"""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.report.chapters.accuracy import render_accuracy
from benchmarks.report.chapters.first_page import render_first_page
from benchmarks.report.chapters.machine_and_sources import render_machine, render_sources
from benchmarks.report.chapters.memory_energy_claims import GLOSSARY, render_claims, render_eclair, render_memory
from benchmarks.report.chapters.speed import (
    render_latency,
    render_ratios,
    render_stages,
    render_sustained,
    render_threads,
)
from benchmarks.result.lookup import Result, find
from benchmarks.result.wording import escape_hidden
from benchmarks.verdicts.claims import check_claims
from benchmarks.verdicts.claims_file import read_claims
from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.system.files import write_file

from .blocks import Chapter, Facts, Report, list_filled
from .csv import to_csv
from .markdown import to_markdown
from .sizing import Workload

NEEDED = ("jinja2", "matplotlib", "reportlab")
INSTALL = "pip install '.[benchmarks]'; `run` measures without them with --no-report"


def write_reports(
    result: Result,
    folder: Path,
    price: float | None = None,
    studies_per_day: float | None = None,
    claims: Path | None = None,
    slices_per_study: float | None = None,
    currency: str | None = None,
) -> list[Path]:
    """Write report.html, report.pdf, report.md and summary.csv into a folder; return their paths.

    price: of one device, in `currency`; both and studies_per_day: by default as in the result's settings. claims: a
    file as benchmarks/verdicts/claims.toml; without one no claim is judged. The same result gives the same bytes.

    Raises: EdgeSegError if a package is missing or the claims cannot be read; OutputError if a file cannot be written.
    """
    require_packages()
    from benchmarks.report.pdf.document import to_pdf

    from .charts import DESK, PAGE, PHONE, draw_charts, to_svg
    from .html import to_html

    report = make_report(result, to_workload(result, price, studies_per_day, slices_per_study, currency), claims)
    drawn = [(medium.name, draw_charts(result, medium)) for medium in (DESK, PHONE)]
    charts = {
        name: {medium: to_svg(figures[name], f"{name}-{medium}") for medium, figures in drawn} for name in drawn[0][1]
    }
    made = {
        "report.html": to_html(report, charts).encode(),
        "report.pdf": to_pdf(report, draw_charts(result, PAGE)),
        "report.md": to_markdown(report).encode(),
        "summary.csv": to_csv(result).encode(),
    }
    for name, data in made.items():
        write_file(folder / name, data)
    return [folder / name for name in made]


def require_packages() -> None:
    """Import all that a report needs: a package may be there and broken. Raises: EdgeSegError naming the extra."""
    missing = []
    for name in NEEDED:
        try:
            import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise EdgeSegError("report", f"it needs {' and '.join(missing)}", INSTALL)


def to_workload(
    result: Result,
    price: float | None,
    studies: float | None,
    slices: float | None,
    currency: str | None = None,
) -> Workload:
    """Return the workload as given, else from the result's settings. Raises: UsageError."""
    given = {
        "price": find(result, "settings.price") if price is None else price,
        "studies_per_day": find(result, "settings.studies_per_day") if studies is None else studies,
    } | ({} if slices is None else {"slices_per_study": slices})
    for name, value in given.items():
        if value is not None and (not math.isfinite(value) or value < 0 or (value == 0 and name == "slices_per_study")):
            option = f"--{name.replace('_', '-')} {value}"
            raise UsageError(option, "it is not a number above 0", "give one, or leave it out")
    return Workload(**given, currency=escape_hidden(currency or find(result, "settings.currency") or ""))


def make_report(result: Result, work: Workload, claims: Path | None = None) -> Report:
    """Return the report, independent of its medium; claims are judged only where a file of them is given."""
    chapters = (
        render_latency(result),
        render_ratios(result),
        render_stages(result),
        render_threads(result),
        render_sustained(result),
        render_memory(result),
        render_accuracy(result),
        *((render_claims(check_claims(result, claims), read_claims(claims)[0]),) if claims else ()),
        render_machine(result),
        render_sources(result),
        render_eclair(result),
        Chapter("glossary", "Glossary", ("Terms of this report.",), (Facts(GLOSSARY),)),
    )
    filled = tuple(replace(chapter, blocks=list_filled(chapter.blocks)) for chapter in chapters)
    return Report(escape_hidden(find(result, "id")), render_first_page(result, work), filled)
