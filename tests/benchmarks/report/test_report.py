"""The report from a result alone: its first page, the source of every figure, and no content that could run."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import math
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from drawn_result import ABSENT, ENERGY_WHY, FP32, HEADLINE, SUBJECTS, Result, draw_result, remove, write_drawn_report

from benchmarks.report.blocks import Report, count_numbers, list_texts
from benchmarks.report.charts import CHARTS, DESK, PAGE, draw_charts, to_svg
from benchmarks.report.csv import to_csv
from benchmarks.report.html import to_html
from benchmarks.report.markdown import to_markdown
from benchmarks.report.pdf.document import to_pdf
from benchmarks.report.pdf.figures import MAX_HEIGHT, Drawing
from benchmarks.report.sizing import Workload, cost_per_thousand, count_capacity, count_devices
from benchmarks.report.write import make_report, to_workload, write_reports
from benchmarks.result.file import check_result
from benchmarks.result.lookup import find
from benchmarks.result.quoted import Missing, Number, to_plain
from benchmarks.result.wording import escape_hidden, escape_markdown, format_figure, format_mb, format_ms
from benchmarks.verdicts.claims_file import PAPER
from edge_runtime.errors import EdgeSegError, UsageError
from evidence.change import write_difference

FILES = ["report.html", "report.pdf", "report.md", "summary.csv"]
NASTY = "<script>alert(1)</script>|=1+1|`x`[a](b)$x^2$\x1b[31m\u202egnp.exe\n"


@pytest.fixture(scope="module")
def written() -> Path:
    folder = write_drawn_report()
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return (written / "report.html").read_text("utf-8")


def report_of(result: Result, **work: Any) -> Report:
    return make_report(result, Workload(**work))


def read_page(result: Result, **work: Any) -> str:
    """The page without its charts, which take the time."""
    return to_html(report_of(result, **work), {})


class Words(HTMLParser):
    """Collects a page's text, with what stands inside figures (and their raised numbers) apart."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.figures, self.inside = [""], [""], 0
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside += tag in ("a", "sup", "style", "script", "form")

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag in ("a", "sup", "style", "script", "form")

    def handle_data(self, data: str) -> None:
        (self.figures if self.inside else self.words).append(data)


def read_words(text: str) -> Words:
    parser = Words()
    parser.feed(text)
    return parser


def first_page(text: str) -> str:
    return text[text.index('<section class="first">') : text.index("<nav")]


# The source of every figure


def test_every_id_resolves(page: str) -> None:
    """Every figure's path leads to its value in result.json, and every path in a formula leads to something."""
    result = draw_result()
    numbers = count_numbers(report_of(result, price=120, studies_per_day=40))
    assert len(numbers) > 300
    for name, (_, number) in numbers.items():
        for path in number.paths:
            assert find(result, path) is not None, path
            assert path in name or not number.formula
        if not number.formula:
            assert find(result, name) == number.value
    shown = {attrs["data-id"] for _, attrs in read_words(page).elements if "data-id" in attrs}
    assert shown == numbers.keys()


def test_ids_lead_to_the_table_at_the_end(page: str) -> None:
    """Every figure links to a row of the last table, which gives its value in full and its id."""
    links = set(re.findall(r'<a class="n" href="#(n\d+)"', page))
    assert links and links == set(re.findall(r'<tr id="(n\d+)">', page))
    value = draw_result()["subjects"][HEADLINE]["latency"]["p50_ms"]
    assert f"<td>{value!r}</td><td><code>subjects.{HEADLINE}.latency.p50_ms</code></td>" in page


def test_no_figure_of_the_first_page_is_without_an_id(page: str) -> None:
    """On the first page no digit stands outside a figure, but in names and in the few words given here."""
    words = " ".join(read_words(re.sub(r"<svg.*?</svg>", "", first_page(page), flags=re.DOTALL)).words)
    result = draw_result()
    known = [subject["name"] for subject in result["subjects"].values()]
    known += ["Raspberry Pi 5 Model B Rev 1.0", "20 November 2026, 21:04 UTC", "1,000 slices", "1 is perfect"]
    known += ["95\u00a0%", "p50", "p99", "Pi 5's PMIC", "512x512"]
    for name in known:
        words = words.replace(name, "")
    assert not re.findall(r".{20}\d.{5}", words.replace("\n", " "))


def test_the_figures_are_the_results_own(page: str) -> None:
    """Figures printed on the page, looked up by id, are the result's at that path, formatted independently here."""
    result = draw_result()
    printed = dict(reversed(re.findall(r'data-id="([^"]+)"[^>]*>([^<]+)</a>', page)))  # the first of each
    subject = result["subjects"][HEADLINE]
    assert printed[f"subjects.{HEADLINE}.latency.p50_ms"] == f"{subject['latency']['p50_ms']:.0f} ms"
    assert printed[f"subjects.{HEADLINE}.file.bytes"] == "34.0 MB"
    assert printed[f"accuracy.{HEADLINE}.dice.value"] == f"{result['accuracy'][HEADLINE]['dice']['value']:.4f}"
    assert printed["pairs.0.ratio_p50"] == f"{result['pairs'][0]['ratio_p50']:.2f}"
    assert printed["data.images"] == "160"


# The questions of the first page


def answers(result: Result, **work: Any) -> dict[str, tuple[str, str]]:
    first = report_of(result, **work).first
    return {one.question: (to_plain(one.words), " ".join(map(to_plain, one.details))) for one in first.answers}


def test_the_first_page_answers_the_four_questions() -> None:
    """Which device, how many, at what cost, what is lost: each with the figures of a naive computation."""
    result = draw_result()
    hourly = 3600 * result["end_to_end"]["images_per_s"] / result["sustained"]["ratio_last_to_first"]
    found = answers(result, price=1000, studies_per_day=2000)
    assert found["Which device?"][0] == "Raspberry Pi 5 Model B Rev 1.0"
    devices = math.ceil(2000 * 200 / (hourly * 8 * 0.7))
    assert devices > 1 and found["How many?"][0] == f"{devices} devices for 2,000 studies a day"
    assert f"{float(f'{hourly:.3g}'):,.0f} slices an hour" in found["How many?"][1]
    cost = devices * 1000 / (2000 * 200 * 250 * 5) * 1000
    assert found["At what cost?"][0] == f"{cost:.2g} per 1,000 slices"
    change = result["accuracy"][HEADLINE]["difference"]["dice"]
    lost = f"Dice falls by {-change['value']:.4f}" if change["interval"][1] < 0 else "No loss found"
    assert found["What is lost?"][0] == lost


def test_missing_inputs_are_marked() -> None:
    """Without price and studies the page says 'not given', and still how many studies one device can process."""
    found = answers(draw_result())
    assert re.fullmatch(r"1 device for every \d+ studies a day", found["How many?"][0])
    assert "Studies a day: not given." in found["How many?"][1]
    assert found["At what cost?"][0] == "Not given"
    assert "the price of a device and studies a day" in found["At what cost?"][1]
    assert "the price of a device." in answers(draw_result(), studies_per_day=40)["At what cost?"][1]


def test_assumptions_are_on_the_page() -> None:
    """Slices a study, hours, load, years and days are printed beside what rests on them, and are called assumed."""
    numbers = count_numbers(report_of(draw_result(), price=120, studies_per_day=40))
    assumed = {name.removeprefix("assumed: "): one.value for name, (_, one) in numbers.items() if "assumed: " in name}
    work = Workload()
    assert assumed == {
        "slices per study": work.slices_per_study,
        "hours per day": work.hours_per_day,
        "busy share": work.busy,
        "years": work.years,
        "days per year": work.days_per_year,
    }


def test_a_rate_counts_as_sustained_only_where_it_differs() -> None:
    """Where sustained work is within 10 % the short figure is used; where it was not measured the page states it."""
    short = draw_result(change=lambda result: result["sustained"].update(differs=False, ratio_last_to_first=1.04))
    first = report_of(short).first
    assert first.rate == pytest.approx(3600 * short["end_to_end"]["images_per_s"])
    alone = draw_result(change=remove("sustained", "end_to_end"))
    assert report_of(alone).first.rate == pytest.approx(3600 * alone["subjects"][HEADLINE]["latency"]["per_second"])
    words = answers(alone)["How many?"][1]
    assert "the model alone" in words and "sustained work was not measured" in words


@pytest.mark.parametrize(("status", "stands"), [("invalid", False), ("inconclusive", True)])
def test_the_report_of_a_run_that_is_not_valid_begins_with_the_reasons(status: str, stands: bool) -> None:
    """The banner with every reason comes before the title; an invalid run states neither number nor cost."""
    reasons = ["the host took 9.1 % of the processor time", "drq-litert-4: times spread by 31 %"]
    result = draw_result(validity={"status": status, "reasons": reasons})
    text = read_page(result, price=120, studies_per_day=40)
    body = re.sub(r"<[^>]+>", "", re.sub(r"<sup>.*?</sup>", "", text[text.index("<body>") :]))
    head = body[: body.index("resunet-ag on")]
    assert all(reason in head for reason in reasons)
    assert f'class="banner {status}"' in text
    found = answers(result, price=120, studies_per_day=40)
    assert (found["How many?"][0] != "Not stated") == (found["At what cost?"][0] != "Not stated") == stands
    assert ("data-rate" in text) == stands
    markdown = to_markdown(report_of(result))
    assert markdown.startswith("> **I") and escape_markdown(reasons[1]) in markdown.partition("\n# ")[0]


def read_pdf(data: bytes) -> list[tuple[str, str]]:
    """The texts of a PDF that reportlab wrote, page by page, each with the sizes of its letters: (sizes, text)."""
    pages = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", data, flags=re.DOTALL):
        try:
            drawn = zlib.decompress(base64.a85decode(stream.strip(), adobe=stream.strip().startswith(b"<~")))
        except (ValueError, zlib.error):
            drawn = read_a85(stream)
        sizes = " ".join(sorted({size.decode() for size in re.findall(rb"/F\d\S* ([\d.]+) Tf", drawn)}))
        texts = re.findall(rb"\(((?:[^()\\]|\\.)*)\) Tj", drawn)
        words = " ".join(re.sub(rb"\\([()\\])", rb"\1", text).decode("latin-1") for text in texts)
        if len(words) > 20:  # not the number of all pages, which is a form of its own
            pages.append((sizes, re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), words)))
    return pages


def read_a85(stream: bytes) -> bytes:
    """A stream in Ascii85 without its opening mark, decompressed; b"" where it is of another kind."""
    try:
        return zlib.decompress(base64.a85decode(stream.strip().removesuffix(b"~>")))
    except (ValueError, zlib.error):
        return b""


def test_the_pdf_shows_no_ids_among_the_words(written: Path) -> None:
    """No letter of the report's pages is as small as a raised number, sentences stand as on screen, ids at the end."""
    pages = read_pdf((written / "report.pdf").read_bytes())
    joined = [re.sub(r"\s+", " ", text.replace("\xa0", " ")) for _, text in pages]
    index = next(number for number, text in enumerate(joined) if "Where each figure comes from" in text)
    assert index > 3 and "1 device for 40 studies a day" in joined[0]
    for (sizes, _), text in zip(pages[:index], joined, strict=False):
        assert all(float(size) >= 7 for size in sizes.split() if float(size) != 1), sizes
        assert f"subjects.{HEADLINE}.latency" not in text
    listed = " ".join(joined[index:])
    for path in (f"subjects.{HEADLINE}.latency.p50_ms", "end_to_end.stages.infer.p50_ms", "settings.samples"):
        assert path in listed
    assert repr(draw_result()["subjects"][HEADLINE]["latency"]["p50_ms"]) in listed


def test_the_first_page_of_the_pdf_is_one_sheet(written: Path) -> None:
    """Latency is on sheet 2, of a valid run with its chart and of the committed one, which begins with reasons."""
    record = Path(__file__).parents[3] / "records" / "default-benchmark" / "report.pdf"
    for path in (written / "report.pdf", record):
        (_, first), (_, second) = read_pdf(path.read_bytes())[:2]
        assert "Not a medical device" in first and "Latency" not in first
        assert "Latency" in second and "The time of one inference" in second


def test_markdown_has_the_figures_bare_and_their_sources_at_its_end(written: Path) -> None:
    """A sentence reads without numbers of numbers; each figure's id is in the tables at the end, once."""
    text = (written / "report.md").read_text("utf-8")
    body, _, sources = text.partition("\n## Where each figure comes from")
    assert "**1 device for 40 studies a day**" in body and "<sup>" not in text
    ids = [
        line.split(" | ")[2].removesuffix(" |")
        for line in sources.splitlines()
        if re.match(r"\| [^|]+ \| .* \|$", line)
    ]
    numbers = count_numbers(report_of(draw_result(), price=120, studies_per_day=40))
    assert sorted(one for one in ids if one not in ("source", "---")) == sorted(map(escape_markdown, numbers))


def test_no_claim_is_judged_without_a_file() -> None:
    """Nobody's model is measured by another one's claims; with --claims they have their chapter, and its entry."""
    without, with_paper = make_report(draw_result(), Workload()), make_report(draw_result(), Workload(), PAPER)
    for text in (to_html(without, {}), to_markdown(without)):
        assert "reproduced" not in text and "Aprianto" not in text and "Claims" not in text
    assert [chapter.anchor for chapter in with_paper.chapters if chapter.anchor == "claims"] == ["claims"]
    assert "Aprianto" in to_html(with_paper, {}) and "reproduced" in to_markdown(with_paper)


@pytest.mark.parametrize(("given", "kept", "shown"), [("EUR", None, "EUR"), (None, "CHF", "CHF"), ("€", "CHF", "€")])
def test_a_cost_has_its_currency(given: str | None, kept: str | None, shown: str) -> None:
    """Of --currency, else of the run's own settings: beside price and cost, and in the form."""
    result = draw_result(change=lambda one: one["settings"].update({"currency": kept} if kept else {}))
    check_result(result)
    work = to_workload(result, 1000, 40, None, given)
    report = make_report(result, work)
    words, details = next(
        (to_plain(one.words), to_plain(one.details[0]))
        for one in report.first.answers
        if one.question == "At what cost?"
    )
    cost = 1000 / (40 * 200 * 250 * 5) * 1000
    assert words == f"{cost:.2f} {shown} per 1,000 slices"
    assert f"Devices at 1,000 {shown} each" in details and "currency" not in details
    page = to_html(report, {})
    assert f'data-currency="{shown}"' in page and f"Price of a device, {shown}" in page


def test_a_price_without_a_currency_says_so() -> None:
    """No currency is guessed: the page says that it was not given, and how to give it."""
    found = answers(draw_result(), price=1000, studies_per_day=40)["At what cost?"]
    assert found[0] == "0.10 per 1,000 slices" and "currency was not given (--currency)" in found[1]


# What is missing


@pytest.mark.parametrize("part", ["end_to_end", "sustained", "soak", "accuracy", "energy"])
def test_what_is_missing_is_marked_with_its_reason(part: str) -> None:
    """A part that is null is 'not measured' on page and Markdown, with the reason that the result gives."""
    result = draw_result(change=remove(part), **{f"{part}_why": "nobody <asked>"})
    report = report_of(result)
    whys = [piece.why for text in list_texts(report) for piece in text if isinstance(piece, Missing)]
    assert "nobody <asked>" in whys
    assert "not measured (nobody &lt;asked&gt;)" in html.unescape(to_html(report, {})).replace(
        "<asked>", "&lt;asked&gt;"
    )
    assert r"not measured \(nobody &lt;asked&gt;\)" in to_markdown(report)


def test_the_barest_result_still_makes_a_report(tmp_path: Path) -> None:
    """With one subject, no pairs and every optional part null all four files are written."""

    def strip(result: Result) -> None:
        remove("end_to_end", "sustained", "soak", "accuracy", "data.masks", "model.parameters", "project.commit")(
            result
        )
        result["subjects"] = {HEADLINE: result["subjects"][HEADLINE]}
        result["subjects"][HEADLINE]["memory"] |= {"loaded_pss_bytes": None, "peak_pss_bytes": None}
        result["pairs"] = result["worst"] = result["machine"]["during"] = []
        result["machine"]["facts"] = dict.fromkeys(result["machine"]["facts"])
        result["energy_why"] = ENERGY_WHY

    write_reports(draw_result(change=strip), tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "was measured without a float baseline" in text
    assert ENERGY_WHY in html.unescape(text)
    assert text.count("not measured") > 20


def test_nothing_that_ran_still_makes_a_report(tmp_path: Path) -> None:
    """A result in which every subject failed gives a report that states it."""

    def fail(result: Result) -> None:
        left_out = {"status": "failed", "reason": "it crashed"}
        result["subjects"] = {key: {"name": key, "role": "subject", "engine": "x"} | left_out for key in SUBJECTS}
        remove("end_to_end", "sustained", "soak", "accuracy")(result)
        result["pairs"] = result["worst"] = []

    write_reports(draw_result(change=fail), tmp_path)
    assert "no run of it succeeded" in (tmp_path / "report.html").read_text()


def test_absent_peers_are_named_with_their_reason(page: str) -> None:
    """Every peer that was not there is listed with why."""
    for name, _, reason in ABSENT.values():
        assert name in page and reason in page


# Nothing runs, nothing is fetched


def test_the_page_needs_no_network(page: str) -> None:
    """No element of the page points anywhere but into the page itself; the policy allows one script and no other."""
    for tag, attrs in read_words(page).elements:
        for name in ("src", "href", "action", "xlink:href", "srcset", "poster"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"@import|url\((?!#)|//fonts", page[page.index("<style>") : page.index("</style>")])
    assert "default-src 'none'" in page
    assert page.count("<script>") == page.count("<script") == 1


def make_nasty(result: Result) -> None:
    result["model"] |= {"id": NASTY, "version": NASTY, "contract": {"intended_use": NASTY}}
    result["machine"]["facts"] |= {
        "board": NASTY,
        "cpu": NASTY,
        NASTY: NASTY,
        "features": [NASTY],
        "versions": {"numpy": NASTY},
    }
    result["validity"] = {"status": "inconclusive", "reasons": [NASTY]}
    result["command"] = [NASTY]
    result["energy_why"] = NASTY
    result["data"]["sizes"] = {NASTY: 3}
    for subject in result["subjects"].values():
        subject["name"] = "=" + NASTY
        subject["engine"], subject["recipe"] = NASTY, "fp32" + NASTY
        subject |= {"reason": "-" + NASTY} if subject["status"] != "ok" else {}
        if "file" in subject:
            subject["file"]["name"] = "@" + NASTY
    for case in result["worst"]:
        case["file"] = NASTY


@pytest.fixture(scope="module")
def nasty() -> Result:
    return draw_result(change=make_nasty)


def test_markup_in_names_stays_text(nasty: Result) -> None:
    """Names with markup, control characters and mathematics appear as text: no element and no script is theirs."""
    charts = {name: {"desk": to_svg(drawn, name), "phone": ""} for name, drawn in draw_charts(nasty, DESK).items()}
    assert charts.keys() == CHARTS.keys()
    text = to_html(report_of(nasty), charts)
    assert "<script>alert" not in text and text.count("<script") == 1
    assert "\x1b" not in text and "\u202e" not in text
    assert html.escape(escape_hidden(NASTY)[:20]) in text
    assert "$x^2$" in charts["latency"]["desk"] or "…" in charts["latency"]["desk"]


def test_nasty_names_in_the_pdf(nasty: Result) -> None:
    """The same names do not stop the PDF, nor do letters that its fonts lack."""
    nasty = nasty | {"model": nasty["model"] | {"id": "脑 <b>&amp; \U0001f9e0 ü"}}
    charts = draw_charts(nasty, PAGE)
    assert to_pdf(report_of(nasty), {"latency": charts["latency"]}).startswith(b"%PDF-1.")


def test_a_chart_of_many_candidates_fits_its_page() -> None:
    """A chart grows with what is compared; one taller than the page is made smaller, and the PDF is written."""
    figures = draw_charts(draw_result(), PAGE)
    figures["latency"].set_size_inches(6.5, 40)
    assert to_pdf(report_of(draw_result()), figures).startswith(b"%PDF-1.")
    assert Drawing(figures["latency"]).height == MAX_HEIGHT


def test_markdown_tables_keep_their_columns(nasty: Result) -> None:
    """In Markdown a bar or a line break in a name opens no new cell, and no tag is left."""
    text = to_markdown(report_of(nasty))
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1, block
    assert re.findall(r"<[^>]*>", text) == []


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_has_no_formula_and_every_column(nasty: Result) -> None:
    """No cell begins as a formula does, negative numbers excepted; every row has every column."""
    rows = read_csv(to_csv(nasty))
    assert len(rows) == len(nasty["subjects"])
    for cell in (cell for row in rows for cell in row.values()):
        assert cell is not None
        assert not cell.startswith(("=", "+", "@", "\t", "\r")) and not re.match(r"-[^0-9]", cell)


def test_the_csv_holds_the_figures_in_full() -> None:
    """summary.csv has a row for each subject with the result's own digits, and 'not measured' where there are none."""
    result = draw_result()
    rows = {row["subject"]: row for row in read_csv(to_csv(result))}
    assert rows.keys() == result["subjects"].keys()
    assert float(rows[HEADLINE]["p90_ms"]) == result["subjects"][HEADLINE]["latency"]["p90_ms"]
    assert float(rows[FP32]["dice_low"]) == result["accuracy"][FP32]["dice"]["interval"][0]
    assert rows["openvino-fp32"]["p50_ms"] == "not measured"
    assert rows["openvino-fp32"]["reason"] == ABSENT["openvino-fp32"][2]


@pytest.mark.parametrize("picture", ["", "!!", base64.b64encode(b"<svg onload=alert(1)>").decode(), None, 7])
def test_what_is_no_png_is_no_picture(picture: Any) -> None:
    """A worst case whose picture is not PNG data is left out."""
    result = draw_result(worst=[{"file": "a.png", "subject": HEADLINE, "dice": 0.1, "picture": picture}])
    assert "<img" not in read_page(result)


def test_worst_cases_are_shown(page: str) -> None:
    """Every worst case of the result is a picture on the page with its name and score."""
    for case in draw_result()["worst"]:
        assert f"data:image/png;base64,{case['picture']}" in page
        assert case["file"] in page and f"{case['dice']:.4f}" in page


# The same bytes


def test_the_same_result_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    """Another process with another hash seed writes all four files byte for byte alike."""
    (tmp_path / "result.json").write_text(json.dumps(draw_result()))
    code = f"""
import json, pathlib
from benchmarks.report.write import write_reports
folder = pathlib.Path({str(tmp_path)!r})
write_reports(json.loads((folder / "result.json").read_text()), folder, price=120, studies_per_day=40)
"""
    environment = os.environ | {"PYTHONHASHSEED": "1234", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name


def test_the_settings_of_the_run_are_the_default(tmp_path: Path) -> None:
    """Price and studies that the result has kept are used, and cited by their path."""
    result = draw_result(change=lambda one: one["settings"].update(price=75.5, studies_per_day=12))
    work = to_workload(result, None, None, None)
    assert (work.price, work.studies_per_day) == (75.5, 12)
    assert {"settings.price", "settings.studies_per_day"} <= count_numbers(make_report(result, work)).keys()
    assert to_workload(result, 80, None, 30).price == 80


@pytest.mark.parametrize("given", [{"price": -1}, {"studies_per_day": math.nan}, {"slices_per_study": 0}])
def test_impossible_inputs_are_usage_errors(given: dict[str, float], tmp_path: Path) -> None:
    """A negative price, NaN studies or no slices is refused before anything is written."""
    with pytest.raises(UsageError):
        write_reports(draw_result(), tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without reportlab the error names what to install."""
    monkeypatch.setitem(sys.modules, "reportlab", None)  # then its import fails, as without it
    with pytest.raises(EdgeSegError, match=r"reportlab; pip install '\.\[benchmarks\]'"):
        write_reports(draw_result(), tmp_path)


# Arithmetic and letters


def naive_devices(studies: float, slices: float, hourly: float, hours: float, busy: float) -> int:
    devices = 1
    while devices * hourly * hours * busy < studies * slices:
        devices += 1
    return devices


@pytest.mark.parametrize("studies", [0, 1, 28, 29, 56, 57, 1000])
def test_devices_are_the_fewest_that_keep_up(studies: float) -> None:
    """The number of devices is the least whose day holds the day's slices, counted up one by one here."""
    work = Workload(studies_per_day=studies)
    assert count_devices(work, 1000.0) == naive_devices(studies, 200, 1000.0, 8, 0.7)
    assert count_capacity(work, 1000.0) == pytest.approx(28)


def test_cost_is_linear_in_price() -> None:
    """Twice the price is twice the cost; without price or studies there is none."""
    costs = [cost_per_thousand(Workload(30, price), 1000.0) for price in (10, 20)]
    assert costs[1] == pytest.approx(2 * (costs[0] or 0))
    assert cost_per_thousand(Workload(30, None), 1000.0) is cost_per_thousand(Workload(0, 10), 1000.0) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_figure(0), "0"),
        (format_figure(0.00044449), "0.000444"),
        (format_figure(9.996), "10.0"),
        (format_figure(999.6), "1,000"),
        (format_figure(-21.4), "−21.4"),
        (format_figure(1234567.8), "1,234,568"),
        (format_ms(28.74), "28.7 ms"),
        (format_mb(33_967_820), "34.0 MB"),
        (str(write_difference(-0.0004, None, None)), "−0.0004"),
        (str(write_difference(-0.00001, -0.001, 0.001)), "0.0000 [−0.0010, +0.0010]"),
        (str(write_difference(0.0004, None, None)), "+0.0004"),
        (escape_hidden("a\x00b\n\u202e\udcff"), "a\\x00b\\n\\u202e\\udcff"),
        (escape_markdown("a|b*<i>_x_`"), "a\\|b\\*&lt;i&gt;\\_x\\_\\`"),
    ],
)
def test_formats(text: str, expected: str) -> None:
    """Three digits, true minus signs, no minus before nothing, no letter that a medium could take for its own."""
    assert text == expected


def test_paths() -> None:
    """A path walks keys and list positions, and leads to None where there is nothing."""
    tree: Result = {"a": [{"b": 1}], "0": 2}
    assert [find(tree, path) for path in ("a.0.b", "0", "a.1", "a.b", "a.0.b.c", "")] == [1, 2, None, None, None, None]


def walk_numbers(report: Report) -> Iterator[Number]:
    yield from (piece for text in list_texts(report) for piece in text if isinstance(piece, Number))


def test_one_id_is_one_figure() -> None:
    """Wherever an id is printed, it stands for the same value."""
    values: dict[str, float | str] = {}
    for number in walk_numbers(report_of(draw_result(), price=120, studies_per_day=40)):
        assert values.setdefault(number.id, number.value) == number.value


def test_the_method_page_states_the_constants_of_the_code() -> None:
    """The constants that docs/benchmarks.md names are those of the code."""
    from benchmarks.measure import rounds, timing_statistics
    from benchmarks.report import sizing
    from benchmarks.report.chapters import first_page
    from benchmarks.subjects import images
    from benchmarks.verdicts import differences, validity

    text = " ".join((Path(__file__).parents[3] / "docs/benchmarks.md").read_text("utf-8").split())
    work, modes = sizing.Workload(), rounds.MODES
    for words in (
        f"on up to {images.MAX_TIMED} images in turn",
        f"{rounds.MIN_WARM_UP} to {rounds.MAX_WARM_UP} runs, {rounds.MAX_WARM_UP_S:g} seconds at most",
        f"two windows of {timing_statistics.WINDOW} runs differ by no more than "
        f"{100 * timing_statistics.STABLE_CHANGE:g} %",
        f"Then {rounds.ROUNDS} rounds",
        f"takes {modes['standard'].samples} samples (`--samples`, at least {rounds.MIN_SAMPLES})",
        f"at least {modes['single-stream'].samples:,} samples and {rounds.SINGLE_STREAM_S:g} s",
        f"`paper` {modes['paper'].samples}",
        f"took more than {validity.MAX_STEAL_PERCENT:g} % of the processor time",
        f"more than {validity.MAX_SWAPPED_PAGES} pages were swapped",
        f"more than {validity.MAX_OTHERS_PERCENT:g} % of the processors were busy",
        f"by more than {100 * validity.MAX_SPREAD:g} %; a warm-up",
        f"more than {100 * validity.MAX_UNACCOUNTED:g} % of the time end to end",
        f"more than {100 * validity.MAX_FLOAT_CHANGED:g} % of the other's pixels",
        f"lies more than {100 * timing_statistics.MARGIN:g} % from 1",
        f"within {100 * timing_statistics.EQUIVALENCE_MARGIN:g} % of 1",
        f"Fewer than {differences.MIN_ROUNDS} rounds",
        f"Fewer than {differences.MIN_IMAGES} images",
        f"reaches beyond {differences.SCORE_EQUIVALENCE_MARGIN:g}",
        f"× {work.hours_per_day:g} hours × {100 * work.busy:g} %",
        f"{work.slices_per_study:g} slices",
        f"over {work.years:g} years of {work.days_per_year:g} days",
    ):
        assert words in text, words
    assert first_page.NOTICE.startswith("Not a medical device")


@pytest.mark.parametrize("empty", [True, False])
def test_an_original_that_finds_nothing_is_said_first(empty: bool) -> None:
    """Scored no better than an empty mask, whose mean IoU is half the share of background, that begins the verdict."""
    result = draw_result()
    entry = result["accuracy"][FP32]
    if empty:
        for row in entry["per_image"]:
            row.update(tp=0, fp=row["fp"] + row["tp"] // 2, fn=row["fn"] + row["tp"])
        rows = entry["per_image"]
        background = sum(row["tn"] for row in rows) / sum(row["tn"] + row["fp"] + row["fn"] for row in rows)
        entry["mean_iou"]["value"] = background / 2
    verdict = to_plain(report_of(result).first.verdict)
    assert ("is no better than an empty mask: mean IoU 0.4" in verdict) is empty
