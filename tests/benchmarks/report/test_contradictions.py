"""No report contradicts itself: results of every kind, read as a reader reads them, in Markdown and on the page."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from drawn_result import FP32, HEADLINE, Result, draw_result

from benchmarks.report.html import to_html
from benchmarks.report.markdown import to_markdown
from benchmarks.report.sizing import Workload
from benchmarks.report.write import make_report
from benchmarks.result.file import check_result, read_result
from benchmarks.result.quoted import to_plain
from benchmarks.verdicts.claims_file import PAPER
from benchmarks.verdicts.compare import compare_results
from benchmarks.verdicts.comparison_table import render_comparison

RECORD = Path(__file__).parents[3] / "records" / "default-benchmark" / "result.json"
EMPTY = ("", "–", "not measured")
FALSE_ALARMS = {"value": 0.0625, "interval": [0.01, 0.13], "n": 32}
NOTHING = {"value": None, "interval": [None, None], "n": 0}
SOME = ("alone", "masks", "float", "peers", "lesions", "unpaired")


def draw_kind(alone: bool, masks: bool, original: bool, peers: bool, lesions: bool, unpaired: bool) -> Result:
    """A result of one model or of several, with or without masks, original, peers, lesions and pairs."""

    def change(result: Result) -> None:
        roles = {"subject"} | ({"baseline"} if original else set()) | ({"peer"} if peers else set())
        result["subjects"] = {
            key: one
            for key, one in result["subjects"].items()
            if one["role"] in roles and (one["role"] != "subject" or key == HEADLINE or not alone)
        }
        result["pairs"] = result["pairs"] if original and not unpaired else []
        mine, theirs = result["accuracy"][HEADLINE], result["accuracy"][FP32]
        for entry in (mine, theirs):
            entry["false_alarms"] = dict(FALSE_ALARMS)
            if not lesions:
                entry.update(dict.fromkeys(("dice", "lesion_iou", "hd95_px", "lesion_area_error"), NOTHING))
        if not lesions:
            mine["difference"].update(dict.fromkeys(("dice", "lesion_iou"), NOTHING))
        if not (masks and original):
            mine["difference"] = mine["agreement"] = None
        result["accuracy"] = {FP32: theirs, HEADLINE: mine} if original else {HEADLINE: mine}
        if not masks:
            result["data"]["masks"] = None
            mine |= {"against": FP32, "changed_pixels": 0.0002}
            result["accuracy"] = {HEADLINE: mine} if original else None
            if not original:
                result["accuracy_why"], result["worst"] = "neither masks nor an FP32 baseline to compare with", []

    result = draw_result(change=change)
    check_result(result)
    return result


KINDS = [dict(zip(SOME, kind, strict=True)) for kind in itertools.product((True, False), repeat=len(SOME))]


def name_kind(kind: dict[str, bool]) -> str:
    return "-".join(name if yes else f"no {name}" for name, yes in kind.items())


def list_tables(markdown: str) -> Iterator[list[list[str]]]:
    """The tables of a Markdown text, as rows of cells, without the rule below the head."""
    for block in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.M):
        rows = [[cell.strip(" *") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


def check_tables(markdown: str) -> None:
    """Every table has rows, and every column of it something to say."""
    for head, *rows in list_tables(markdown):
        if head == ["", ""]:
            continue  # facts: labels with texts
        assert rows, head
        for number, name in enumerate(head[1:], 1):
            cells = [row[number].partition(" \\(")[0] for row in rows]
            assert not all(cell in EMPTY for cell in cells), (head[0], name)


def check_words(text: str) -> None:
    """No zero has a sign, and no ratio that is printed as 1.00 is called larger or smaller."""
    assert not re.search(r"[−+-]0(\.0+)?(?![\d.])", text)
    assert not re.search(r"\b1\.00(\\?| \[[^]]*\]) (times|larger|smaller|faster|slower|· faster|· slower)", text)


@pytest.mark.parametrize("kind", KINDS, ids=name_kind)
def test_no_report_contradicts_itself(kind: dict[str, bool]) -> None:
    """What was measured is on the first page and not called unmeasured; what was not has no table, column or number."""
    result = draw_kind(*kind.values())
    report = make_report(result, Workload(price=100, studies_per_day=9), PAPER)
    markdown = to_markdown(report)
    first = markdown.partition("\n## Latency")[0]
    check_tables(markdown)
    check_words(first)
    assert "None" not in first
    masks, original, lesions = kind["masks"], kind["float"], kind["lesions"]
    if masks:
        entry = result["accuracy"][HEADLINE]
        shown = [f"{entry['mean_iou']['value']:.4f}", "6.25 %", *([f"{entry['dice']['value']:.4f}"] if lesions else [])]
        for number in shown:
            assert number in first
        assert "ccuracy was not measured" not in first and "not measured against masks" not in first
        assert "no masks were given" not in first and "no true masks" not in first
    else:
        assert "against the masks" not in first and "with a lesion" not in first
        assert ("ccuracy was not measured" in first) == (not original)
        assert "Accuracy: *not measured" in first or original
    assert ("## Against the float model" in first) == original
    assert ("no float model was measured" in first.lower()) == (masks and not original)
    assert ("without a float baseline" in first) == (not original)
    if not original:
        assert "in proportion" not in first and FP32 not in first and result["subjects"].get(FP32) is None
    if masks and original and lesions:
        assert "slice by slice" in first
    for part, words in {"sustained": "Sustained work", "end_to_end": "Reading and writing", "soak": "Growth"}.items():
        assert result[part] is not None and f"{words}: *not measured" not in first


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[8], KINDS[24], KINDS[-1]], ids=name_kind)
def test_the_page_has_what_the_markdown_has(kind: dict[str, bool]) -> None:
    """The HTML page has no empty cell columns either, and the same heading above its figures."""
    report = make_report(draw_kind(*kind.values()), Workload())
    page = to_html(report, {})
    for table in re.findall(r"<tbody>(.*?)</tbody>", page, flags=re.DOTALL):
        assert "<td" in table
        texts = [
            [html.unescape(re.sub(r"<sup>.*?</sup>|<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?</td>", row)]
            for row in table.split("<tr")[1:]
        ]
        for column in list(zip(*texts, strict=True))[1:]:
            assert not all(cell.partition(" (")[0] in EMPTY for cell in column)
    assert f"<h2>{report.first.heading}</h2>" in page
    check_words(html.unescape(re.sub(r"<[^>]+>", "", page[page.index("<h1>") : page.index("<nav")])))


def test_a_change_too_small_to_print_is_no_change() -> None:
    """A difference whose interval rounds to zero is "no change" in verdict, answer and table; no sign, no loss."""
    tiny = {"value": -0.000004, "interval": [-0.00001, 0.00002], "n": 160}

    def change(result: Result) -> None:
        result["accuracy"][HEADLINE]["difference"].update(dict.fromkeys(("dice", "lesion_iou", "mean_iou"), tiny))

    markdown = to_markdown(make_report(draw_result(change=change), Workload()))
    first = markdown.partition("\n## Latency")[0]
    assert "mean Dice: no change" in first and "**No change**" in first
    assert "0.0000" not in first and "significant" not in first and "falls" not in first


def test_a_loss_too_small_for_four_decimals_has_more() -> None:
    """A significant loss of 0.00003 is printed as that, not as 0.0000."""
    loss = {"value": -0.00003, "interval": [-0.00005, -0.00001], "n": 160}

    def change(result: Result) -> None:
        result["accuracy"][HEADLINE]["difference"]["dice"] = loss

    first = make_report(draw_result(change=change), Workload()).first
    assert "−0.00003 [−0.00005, −0.00001], a significant loss" in to_plain(first.verdict)
    assert to_plain(first.answers[-1].words) == "Dice falls by 0.00003"


def test_few_slices_give_a_difference_and_no_interval() -> None:
    """One slice with a lesion has a difference, which is printed, and called uncertain, not unmeasured."""
    single = {"value": -0.02, "interval": [None, None], "n": 1}

    def change(result: Result) -> None:
        result["accuracy"][HEADLINE]["difference"]["dice"] = single

    first = make_report(draw_result(change=change), Workload()).first
    words = to_plain(first.verdict) + to_plain(first.answers[-1].words)
    assert "−0.0200" in words and "too few slices" in words and "not measured" not in words


def test_sizes_that_differ_are_said_and_shown_to_differ() -> None:
    """0.346 against 0.347 MB is 1.003 larger; two sizes that look alike in MB are printed in bytes."""

    def resize(size: int) -> Result:
        return draw_result(change=lambda result: result["subjects"][HEADLINE]["file"].update(bytes=size))

    for one, other, words in (
        (346_000, 347_000, "0.346 MB 0.347 MB B/A 1.003 larger"),
        (347_000, 346_000, "0.347 MB 0.346 MB B/A 0.997 smaller"),
        (33_967_820, 33_967_821, "33,967,820 bytes 33,967,821 bytes B/A 1.00000003 larger"),
        (33_967_820, 33_967_820, "34.0 MB 34.0 MB B/A 1.00 the same"),
    ):
        text = render_comparison(compare_results([resize(one), resize(other)]))
        line = next(line for line in text.splitlines() if line.startswith("  size"))
        assert " ".join(line.split()[1:]) == words


def test_no_answer_points_to_what_is_not_there() -> None:
    """Worst cases, stages and sustained work are referred to only where the report has them."""
    whole = to_markdown(make_report(draw_result(), Workload()))
    bare = to_markdown(make_report(draw_result(worst=[], end_to_end=None, sustained=None), Workload()))
    for words in ("worst cases are shown", "See the first page, From file to mask, Sustained work"):
        assert words in whole and words not in bare
    assert "See the first page, Latency" in bare


def test_the_committed_result_s_report_does_not_contradict_itself() -> None:
    """The same rules for the record of the embedded model."""
    markdown = to_markdown(make_report(read_result(RECORD), Workload()))
    check_tables(markdown)
    check_words(markdown.partition("\n## Where each figure")[0])
