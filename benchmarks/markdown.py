"""The report as Markdown, for those who read it in a terminal or a repository; charts and pictures are left out."""

from __future__ import annotations

from collections.abc import Callable

from .blocks import Answer, Block, Chapter, Chart, Facts, FirstPage, Report, Sentence, Table, count_numbers
from .buyer import TITLES
from .numbers import NEW_LINE, Missing, Number, Piece, Text, escape_markdown, plain, say_full

Write = Callable[[Text], str]


def to_markdown(report: Report) -> str:
    """Return the report as Markdown; small raised numbers lead to the table at its end."""
    index = count_numbers(report)

    def write_piece(piece: Piece) -> str:
        if isinstance(piece, Number):
            return f"{escape_markdown(piece.text)}<sup>{index[piece.id][0]}</sup>"
        words = " " if piece == NEW_LINE else escape_markdown(plain(piece))
        return f"*{words}*" if isinstance(piece, Missing) else words

    def write(text: Text) -> str:
        return "".join(map(write_piece, text))

    lines = first_lines(report.first, write)
    for chapter in report.chapters:
        lines += chapter_lines(chapter, write)
    lines += ["## Where each figure comes from", "", "| No. | value | source |", "| ---: | ---: | --- |"]
    for number, one in index.values():
        lines.append(f"| {number} | {escape_markdown(say_full(one.value))} | {escape_markdown(one.id)} |")
    return "\n".join(lines) + "\n"


def first_lines(first: FirstPage, write: Write) -> list[str]:
    """Return the first page's lines; a run that is not valid begins with why."""
    lines = []
    if first.status != "valid":
        title = TITLES.get(first.status, TITLES["invalid"])
        lines += [f"> **{title}**", ">", *(f"> - {write(reason)}" for reason in first.reasons), ""]
    lines += [f"# {escape_markdown(first.title)}", "", write(first.subtitle), "", f"**{write(first.verdict)}**", ""]
    for answer in first.answers:
        lines += answer_lines(answer, write)
    limits = (f"- {write(limit)}" for limit in first.limits)
    return [*lines, "## In figures", "", *table_lines(first.figures, write), "", "## Limits", "", *limits, ""]


def answer_lines(answer: Answer, write: Write) -> list[str]:
    """Return the lines of one of the buyer's questions."""
    details = (f"- {write(detail)}" for detail in answer.details)
    return [f"## {answer.question}", "", f"**{write(answer.words)}**", "", *details, ""]


def chapter_lines(chapter: Chapter, write: Write) -> list[str]:
    """Return a chapter's lines; charts and pictures are the page's and the PDF's alone."""
    lines = [f"## {chapter.title}", "", write(chapter.lead), ""]
    for block in chapter.blocks:
        found = block_lines(block, write)
        lines += [*found, ""] if found else []
    return lines


def block_lines(block: Block, write: Write) -> list[str]:
    """Return a block's lines."""
    if isinstance(block, Sentence):
        return [write(block.text)]
    if isinstance(block, Chart):
        return []
    title = [f"### {escape_markdown(block.title)}", ""] if isinstance(block, Table | Facts) and block.title else []
    if isinstance(block, Table):
        return [*title, *table_lines(block, write)]
    if isinstance(block, Facts):
        rows = (f"| {escape_markdown(label)} | {write(text)} |" for label, text in block.rows)
        return [*title, "| | |", "| --- | --- |", *rows]
    return [f"- {write(picture.caption)}" for picture in block.items]


def table_lines(table: Table, write: Write) -> list[str]:
    """Return a table's lines."""
    rule = ["---" if k < table.words else "---:" for k in range(len(table.head))]
    rows = [[write(cell) for cell in row] for row in table.rows]
    return [f"| {' | '.join(cells)} |" for cells in ([escape_markdown(word) for word in table.head], rule, *rows)]
