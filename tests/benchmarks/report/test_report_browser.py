"""The report in headless Chromium: on a phone, on a desk, on paper, and what its script computes."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_result import HEADLINE, Result, draw_result, write_drawn_report

from benchmarks.report.sizing import Workload, cost_per_thousand, count_devices
from benchmarks.report.write import write_reports
from benchmarks.verdicts.claims_file import PAPER

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome to render the page")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(write_drawn_report() / "report.html", tmp_path_factory.mktemp("report")))


def run_browser(page: Path, *options: str) -> tuple[str, str]:
    """What the browser prints with these options, and what it complained about; it can reach no network."""
    command = [
        str(CHROMIUM),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
        *("--proxy-server=127.0.0.1:9", "--enable-logging=stderr", "--virtual-time-budget=3000", *options),
        f"--user-data-dir={page.parent / 'profile'}",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def with_script(page: Path, name: str, script: str, **values: str) -> Path:
    """A copy of the page with other values in its form, without its policy, that runs a script at its end."""
    text = page.read_text("utf-8")
    for field, value in values.items():
        text, changed = re.subn(f'(name="{field}"[^>]*value=")[^"]*"', rf'\g<1>{value}"', text)
        assert changed == 1
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    copy = page.with_name(name)
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    return copy


def read_sum(dom: str) -> str:
    found = re.search(r'<output id="sum">(.*?)</output>', dom)
    assert found
    return html.unescape(found[1])


def test_the_script_runs_without_a_complaint(page: Path) -> None:
    """With the network out of reach the page shows its form, computes the first page's figures, and logs nothing."""
    dom, complaints = run_browser(page, "--dump-dom")
    assert complaints == ""
    words = read_sum(dom)
    assert words.startswith("1 device · 0.012 per 1,000 slices · 1 device for every ")
    found = re.search(r"1 device for every (\d+) studies", words)
    assert found and f">{found[1]}</a>" in dom  # the figure of the page itself
    assert '<form id="site"' in dom and "hidden" not in dom.split('<form id="site"')[1].split(">")[0]


def test_the_script_computes_as_the_report_does(page: Path) -> None:
    """Other figures in the form give the devices and the cost that benchmarks.report.sizing gives for them."""
    given = {"studies_per_day": 3000.0, "slices_per_study": 150.0, "hours_per_day": 6.0, "price": 99999.0}
    copy = with_script(page, "other.html", "", **{name: f"{value:g}" for name, value in given.items()})
    dom, _ = run_browser(copy, "--dump-dom")
    rate = re.search(r'data-rate="([\d.]+)"', dom)
    assert rate
    work, hourly = Workload(**given), float(rate[1])
    devices, cost = count_devices(work, hourly), cost_per_thousand(work, hourly)
    assert devices and devices > 1 and cost
    assert read_sum(dom).startswith(f"{devices} devices · {cost:.2f} per 1,000 slices")


MEASURE = """
const list = names => [...document.querySelectorAll(names)];
const wider = e => e.scrollWidth > e.clientWidth + 1;
const wide = list("body, table, .wide, dl, form, figure").filter(wider);
const out = list("body *").filter(e => {
  const box = e.getBoundingClientRect();
  return box.width > 0 && (box.left < -0.5 || box.right > innerWidth + 0.5);
});
const clipped = list("td, dd, p, li").filter(e => e.offsetParent && wider(e));
const cells = list("td .n").filter(e => e.offsetParent).length;
const tell = e => e.tagName + " " + e.className + " " + e.textContent.trim().slice(0, 30);
const faults = [...wide, ...out, ...clipped].map(tell), page = document.documentElement.scrollWidth;
parent.postMessage(JSON.stringify({width: innerWidth, page, cells, faults}), "*");
"""


def alone(result: Result) -> None:
    """One file, without a float model."""
    result["subjects"] = {HEADLINE: result["subjects"][HEADLINE]}
    result["pairs"], result["accuracy"] = [], {HEADLINE: result["accuracy"][HEADLINE]}
    result["accuracy"][HEADLINE] |= {"difference": None, "agreement": None}


def crowded(result: Result) -> None:
    """All scores, long names, a slow device: figures of many digits."""
    for key, subject in result["subjects"].items():
        subject["name"] = f"Static {key} of quantized-resunet-with-attention-gates on LiteRT, 64 threads"
        if subject["status"] == "ok":
            latency = subject["latency"]
            scaled = {name: 987.6 * value for name, value in latency.items() if name.endswith("_ms")}
            latency |= scaled | {"interval_p50": [987.6 * bound for bound in latency["interval_p50"]]}
    for entry in result["accuracy"].values():
        entry["false_alarms"] = {"value": 0.0625, "interval": [0.0123, 0.1342], "n": 32}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("change", [None, alone, crowded], ids=["whole", "alone", "crowded"])
def test_nothing_sticks_out_of_the_screen(tmp_path: Path, width: int, change: Callable[[Result], None] | None) -> None:
    """On a phone and on a desk no table, cell or chart is wider than the screen, and nothing scrolls sideways."""
    if change:
        write_reports(draw_result(change=change), tmp_path, price=120, studies_per_day=40, claims=PAPER, currency="EUR")
    else:
        shutil.copy(write_drawn_report() / "report.html", tmp_path)
    copy = with_script(tmp_path / "report.html", f"wide{width}.html", MEASURE)
    frame = copy.with_name(f"frame{width}.html")  # a window is never narrower than 500, a frame may be
    listen = "<script>addEventListener('message', event => { document.title = event.data })</script>"
    frame.write_text(f"{listen}<iframe src='{copy.name}' width='{width}' height='900' style='border: 0'></iframe>")
    dom, _ = run_browser(frame, "--window-size=1400,1000", "--hide-scrollbars", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title
    found = json.loads(html.unescape(title[1]))
    assert found["page"] <= found["width"] == width
    assert found["cells"] > 50  # the tables are there, as cards on a phone
    assert found["faults"] == []


def test_the_first_page_is_one_sheet(page: Path) -> None:
    """Printed on A4 the first page ends on its sheet: the next chapter begins on the second."""
    pdf = page.with_name("print.pdf")
    run_browser(page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    assert pdf.read_bytes().startswith(b"%PDF")
    if shutil.which("pdftotext"):
        done = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True)
        first, second = done.stdout.split("\f")[:2]
        assert "Not a medical device" in first and second.strip().startswith("Latency")
