"""How is a report written as Markdown? Charts and pictures are left out."""

from __future__ import annotations

from benchmarks.report.chapters.first_page import TITLES
from benchmarks.result.quoted import NEW_LINE, Missing, Piece, Text, to_plain
from benchmarks.result.wording import escape_markdown, format_full
from edge_runtime.errors import printable_lines
from evidence.document import make_table

from .blocks import (
    SOURCES_LEAD,
    SOURCES_TITLE,
    Answer,
    Block,
    Chapter,
    Chart,
    Facts,
    FirstPage,
    Report,
    Sentence,
    Table,
    list_sources,
)

SOURCE_RULE = ("---:", "---:", "---")


def to_markdown(report: Report) -> str:
    """Return the report as Markdown; the table at its end has the source of every figure."""
    lines = render_first_page(report.first)
    for chapter in report.chapters:
        lines += render_chapter(chapter)
    lines += [f"## {SOURCES_TITLE}", "", SOURCES_LEAD, ""]
    for title, numbers in list_sources(report):
        rows = [tuple(map(escape_markdown, (one.text, format_full(one.value), one.id))) for one in numbers]
        lines += [f"### Sources of {title}", "", make_table(("printed", "value", "source"), rows, SOURCE_RULE), ""]
    return printable_lines("\n".join(lines).rstrip("\n") + "\n")


def write(text: Text) -> str:
    """Return a text; what is missing is in italics."""
    return "".join(map(write_piece, text))


def write_piece(piece: Piece) -> str:
    """Return a piece of a text."""
    words = " " if piece == NEW_LINE else escape_markdown(to_plain(piece))
    return f"*{words}*" if isinstance(piece, Missing) else words


def render_first_page(first: FirstPage) -> list[str]:
    """Return the first page's lines; a run that is not valid begins with the reasons."""
    lines = []
    if first.status != "valid":
        title = TITLES.get(first.status, TITLES["invalid"])
        lines += [f"> **{title}**", ">", *(f"> - {write(reason)}" for reason in first.reasons), ""]
    lines += [f"# {escape_markdown(first.title)}", "", write(first.subtitle), "", f"**{write(first.verdict)}**", ""]
    for answer in first.answers:
        lines += render_answer(answer)
    limits = (f"- {write(limit)}" for limit in first.limits)
    table = [render_table(first.figures), ""] if first.figures.rows else []
    return [*lines, f"## {first.heading}", "", *table, "## Limits", "", *limits, ""]


def render_answer(answer: Answer) -> list[str]:
    """Return the lines of one question of the first page."""
    details = (f"- {write(detail)}" for detail in answer.details)
    return [f"## {answer.question}", "", f"**{write(answer.words)}**", "", *details, ""]


def render_chapter(chapter: Chapter) -> list[str]:
    """Return a chapter's lines."""
    lines = [f"## {chapter.title}", "", write(chapter.lead), ""]
    for block in chapter.blocks:
        found = render_block(block)
        lines += [*found, ""] if found else []
    return lines


def render_block(block: Block) -> list[str]:
    """Return a block's lines; none for a chart."""
    if isinstance(block, Sentence):
        return [write(block.text)]
    if isinstance(block, Chart):
        return []
    title = [f"### {escape_markdown(block.title)}", ""] if isinstance(block, Table | Facts) and block.title else []
    if isinstance(block, Table):
        return [*title, render_table(block)]
    if isinstance(block, Facts):
        rows = (f"| {escape_markdown(label)} | {write(text)} |" for label, text in block.rows)
        return [*title, "| | |", "| --- | --- |", *rows]
    return [f"- {write(picture.caption)}" for picture in block.items]


def render_table(table: Table) -> str:
    """Return a table."""
    rule = ["---" if k < table.words else "---:" for k in range(len(table.head))]
    return make_table([*map(escape_markdown, table.head)], [map(write, row) for row in table.rows], rule)
