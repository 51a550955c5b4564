"""Pages as Markdown and HTML: what stands in a cell comes out of it again, and nothing else does."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from evidence.document import (
    Heading,
    Picture,
    Points,
    Table,
    escape_markdown,
    make_table,
    rule_table,
    to_code,
    to_html,
    to_markdown,
)

HOSTILE = ("a|b", "a\\|b", "<i>x</i>", "a & b", "*b*", "`c`", "[d](e)", "_f_", "|")


def split_row(line: str) -> list[str]:
    """A row's cells as GitHub reads them: pipes part them, but for those after a backslash."""
    assert line.startswith("| ") and line.endswith(" |")
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def unescape(text: str) -> str:
    """What Markdown shows of escaped text."""
    for name, letter in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(name, letter)
    return re.sub(r"\\(.)", r"\1", text)


class Cells(HTMLParser):
    """Gathers the texts of elements by name."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))


def test_a_table_has_its_rows_and_its_rule() -> None:
    """A line for the head, one for the rule, one for each row."""
    assert make_table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert make_table(("a",), [], ["---:"]) == "| a |\n| ---: |"
    assert rule_table(("a", "b", "c"), [("1", "2", "3")], 2) == "| a | b | c |\n| :-- | :-- | --: |\n| 1 | 2 | 3 |"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_stays_a_cell(text: str) -> None:
    """A pipe in a cell parts nothing, escaped before or not; what is escaped is not escaped again."""
    for cell in (text, escape_markdown(text), to_code(text)):
        rows = [split_row(line) for line in make_table(("one", "two"), [(cell, "end")]).splitlines()]
        assert [len(row) for row in rows] == [2, 2, 2] and rows[2][1] == "end"
    assert unescape(split_row(make_table(("",), [(escape_markdown(text),)]).splitlines()[-1])[0]) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_escaped_text_is_shown_as_it_stands(text: str) -> None:
    """Also with the few marks that a room escapes; a name as code has no mark that ends it."""
    assert unescape(escape_markdown(text)) == text
    assert unescape(escape_markdown(text, "\\`*[]|")) == text
    assert "<" not in escape_markdown(text)
    assert to_code(text).count("`") == 2 and "\n" not in to_code(f"{text}\nmore")
    assert to_code("") == ""


def test_a_page_is_the_same_in_both_forms() -> None:
    """Heading, paragraph, list, table and picture come in order; in HTML the picture is inside and text is escaped."""
    table = Table(("", "n"), [("<b>", "1"), ("a|b", "2")])
    blocks = [Heading("Title & more", 1), "Text <i>", Points(("one", "two")), table, Picture("p.png", "shown")]
    assert to_markdown(blocks) == (
        "# Title & more\n\nText <i>\n\n- one\n- two\n\n|  | n |\n| --- | ---: |\n| <b> | 1 |\n| a\\|b | 2 |\n\n"
        "![shown](p.png)\n"
    )
    page = Cells()
    html = to_html(blocks, {"p.png": b"PNG"})
    page.feed(html)
    shown = [pair for pair in page.texts if pair[1].strip() and pair[0] != "style"]
    assert shown == [
        ("title", "Title & more"), ("h1", "Title & more"), ("p", "Text <i>"), ("li", "one"), ("li", "two"),
        ("th", "n"), ("td", "<b>"), ("td", "1"), ("td", "a|b"), ("td", "2"),
    ]  # fmt: skip
    assert 'src="data:image/png;base64,UE5H" alt="shown"' in html and "http" not in html
