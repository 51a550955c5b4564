"""A result as a report: one HTML page without network, a PDF, Markdown and a CSV; a pure function of the result.

Needs jinja2, matplotlib and reportlab, which are loaded when a report is written and not before.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

from edge_runtime.errors import EdgeSegError, UsageError
from edge_runtime.images import write_file

from .blocks import Report
from .buyer import to_first_page
from .chapters import to_chapters
from .claims import check_claims, read_claims
from .markdown import to_markdown
from .numbers import Result, find, printable
from .sizing import Workload
from .summary import to_csv

NEEDED = ("jinja2", "matplotlib", "reportlab")


def write_reports(
    result: Result,
    folder: Path,
    price: float | None = None,
    studies_per_day: float | None = None,
    claims: Path | None = None,
    slices_per_study: float | None = None,
) -> list[Path]:
    """Write report.html, report.pdf, report.md and summary.csv into a folder; return their paths.

    price: of one device; studies_per_day: None takes what the result's settings say, if anything. claims: a file as
    benchmarks/claims.toml, which is the default. The same result gives the same bytes.

    Raises: EdgeSegError if a package is missing or the claims cannot be read; OutputError if a file cannot be written.
    """
    require_packages()
    from .charts import DESK, PAGE, PHONE, draw_charts, to_svg
    from .page import to_html
    from .pdf import to_pdf

    report = to_report(result, to_workload(result, price, studies_per_day, slices_per_study), claims)
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
    """Refuse early, naming the extra, where a package of the report is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise EdgeSegError("report", f"it needs {' and '.join(missing)}", "pip install 'edge-seg[benchmarks]'")


def to_workload(result: Result, price: float | None, studies: float | None, slices: float | None) -> Workload:
    """Return the site's figures: as given, else as the result's settings have them. Raises: UsageError."""
    given = {
        "price": find(result, "settings.price") if price is None else price,
        "studies_per_day": find(result, "settings.studies_per_day") if studies is None else studies,
    } | ({} if slices is None else {"slices_per_study": slices})
    for name, value in given.items():
        if value is not None and (not math.isfinite(value) or value < 0 or (value == 0 and name == "slices_per_study")):
            option = f"--{name.replace('_', '-')} {value}"
            raise UsageError(option, "it is not a number above 0", "give one, or leave it out")
    return Workload(**given)


def to_report(result: Result, work: Workload, claims: Path | None = None) -> Report:
    """Return what the report says, whatever it is printed on."""
    title, _ = read_claims(claims)
    return Report(
        printable(find(result, "id")),
        to_first_page(result, work),
        to_chapters(result, check_claims(result, claims), title),
    )
