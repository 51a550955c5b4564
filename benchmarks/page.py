"""The report as one HTML page: styles, figures, pictures and its one script within it, nothing from the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib import resources

import jinja2
from markupsafe import Markup

from .blocks import Chart, Facts, Pictures, Report, Table, count_numbers
from .buyer import TITLES
from .numbers import Mark, Number, say_full

INPUTS = (  # the fields of Workload that a reader may change in the page
    ("studies_per_day", "Studies a day"),
    ("slices_per_study", "Slices a study"),
    ("hours_per_day", "Hours a day"),
    ("busy", "Busy share"),
    ("price", "Price of a device"),
    ("years", "Years of use"),
    ("days_per_year", "Days a year"),
)
KINDS = {  # what the template tells apart
    "number_piece": Number,
    "mark_piece": Mark,
    "table_block": Table,
    "chart_block": Chart,
    "facts_block": Facts,
    "pictures_block": Pictures,
}
# The same arithmetic as benchmarks.sizing; without JavaScript the form stays hidden and nothing is lost but it.
SCRIPT = """
const form = document.getElementById("site"), rate = Number(form.dataset.rate);
const say = (value, digits) => value.toLocaleString("en", {maximumFractionDigits: digits});
function reckon() {
  const get = name => form.elements[name].value === "" ? NaN : Number(form.elements[name].value);
  const daily = rate * get("hours_per_day") * get("busy"), slices = get("studies_per_day") * get("slices_per_study");
  const most = daily / get("slices_per_study"), devices = Math.max(1, Math.ceil(slices / daily - 1e-9));
  const cost = devices * get("price") / (slices * get("days_per_year") * get("years")) * 1000;
  const parts = [];
  if (Number.isFinite(devices)) parts.push(say(devices, 0) + (devices === 1 ? " device" : " devices"));
  if (Number.isFinite(cost)) parts.push(say(cost, cost >= 0.1 ? 2 : 4) + " per 1,000 slices");
  const studies = say(most < 10 ? most : Math.floor(most), 1);
  if (Number.isFinite(most)) parts.push("1 device for every " + studies + " studies a day");
  document.getElementById("sum").textContent = parts.join(" \\u00b7 ");
}
form.addEventListener("input", reckon);
form.addEventListener("submit", event => event.preventDefault());
form.hidden = false;
reckon();
"""


def to_html(report: Report, charts: dict[str, dict[str, str]]) -> str:
    """Return the page: styles, script and figures within it."""
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    page.tests |= {name: is_a(kind) for name, kind in KINDS.items()}
    page.filters |= {"data_url": to_data_url, "csp_hash": to_csp_hash, "full": say_full}
    source = resources.files("benchmarks").joinpath("report.html").read_text("utf-8")
    return page.from_string(source).render(
        report=report,
        index=count_numbers(report),
        banner=TITLES.get(report.first.status, TITLES["invalid"]),
        charts={name: {width: Markup(svg) for width, svg in drawn.items()} for name, drawn in charts.items()},
        inputs=[(name, words, to_input(getattr(report.first.work, name))) for name, words in INPUTS],
        script=Markup(SCRIPT),
    )


def to_input(value: float | None) -> str:
    """Return what stands in a field of the form."""
    return "" if value is None else f"{value:.12g}"


def is_a(kind: type) -> Callable[[object], bool]:
    """Return a test for the template."""
    return lambda value: isinstance(value, kind)


def to_data_url(data: bytes) -> str:
    """Return a PNG as an address that needs no network."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def to_csp_hash(script: str) -> str:
    """Return the hash by which the page allows this script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
