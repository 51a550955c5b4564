"""How is a report written as one HTML page? With its styles, charts, pictures and script inside, without network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib import resources

import jinja2
from markupsafe import Markup

from benchmarks.report.chapters.first_page import TITLES
from benchmarks.result.quoted import Mark, Number
from benchmarks.result.wording import format_full
from edge_runtime.errors import printable_lines

from .blocks import SOURCES_LEAD, SOURCES_TITLE, Chart, Facts, Pictures, Report, Table, count_numbers

INPUTS = (  # fields of Workload that a reader may change in the page
    ("studies_per_day", "Studies a day"),
    ("slices_per_study", "Slices a study"),
    ("hours_per_day", "Hours a day"),
    ("busy", "Busy share"),
    ("price", "Price of a device"),
    ("years", "Years of use"),
    ("days_per_year", "Days a year"),
)
TEMPLATE_TESTS = {  # types that the template distinguishes
    "number_piece": Number,
    "mark_piece": Mark,
    "table_block": Table,
    "chart_block": Chart,
    "facts_block": Facts,
    "pictures_block": Pictures,
}
# The same arithmetic as benchmarks.report.sizing; without JavaScript the form stays hidden.
SCRIPT = """
const form = document.getElementById("site"), rate = Number(form.dataset.rate);
const unit = form.dataset.currency ? " " + form.dataset.currency : "";
const format = (value, digits) => value.toLocaleString("en", {maximumFractionDigits: digits});
function update() {
  const get = name => form.elements[name].value === "" ? NaN : Number(form.elements[name].value);
  const daily = rate * get("hours_per_day") * get("busy"), slices = get("studies_per_day") * get("slices_per_study");
  const capacity = daily / get("slices_per_study"), devices = Math.max(1, Math.ceil(slices / daily - 1e-9));
  const cost = devices * get("price") / (slices * get("days_per_year") * get("years")) * 1000;
  const parts = [];
  if (Number.isFinite(devices)) parts.push(format(devices, 0) + (devices === 1 ? " device" : " devices"));
  if (Number.isFinite(cost)) parts.push(format(cost, cost >= 0.1 ? 2 : 4) + unit + " per 1,000 slices");
  const studies = format(capacity < 10 ? capacity : Math.floor(capacity), 1);
  if (Number.isFinite(capacity)) parts.push("1 device for every " + studies + " studies a day");
  document.getElementById("sum").textContent = parts.join(" \\u00b7 ");
}
form.addEventListener("input", update);
form.addEventListener("submit", event => event.preventDefault());
form.hidden = false;
update();
"""


def to_html(report: Report, charts: dict[str, dict[str, str]]) -> str:
    """Return the page."""
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    page.tests |= {name: make_type_test(kind) for name, kind in TEMPLATE_TESTS.items()}
    page.filters |= {"data_url": to_data_url, "csp_hash": to_csp_hash, "full": format_full}
    source = resources.files("benchmarks.report").joinpath("report.html").read_text("utf-8")
    text = page.from_string(source).render(
        report=report,
        index=count_numbers(report),
        banner=TITLES.get(report.first.status, TITLES["invalid"]),
        charts={name: {width: Markup(svg) for width, svg in drawn.items()} for name, drawn in charts.items()},
        inputs=[(name, words, to_input(getattr(report.first.work, name))) for name, words in INPUTS],
        script=Markup(SCRIPT),
        sources_title=SOURCES_TITLE,
        sources_lead=SOURCES_LEAD,
    )
    return printable_lines(text)


def to_input(value: float | None) -> str:
    """Return the value of a form's field."""
    return "" if value is None else f"{value:.12g}"


def make_type_test(kind: type) -> Callable[[object], bool]:
    """Return a test of a type for the template."""
    return lambda value: isinstance(value, kind)


def to_data_url(data: bytes) -> str:
    """Return a PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def to_csp_hash(script: str) -> str:
    """Return the hash by which the content security policy allows this script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
