"""How is a report laid out as an A4 PDF, with charts as vectors? Needs matplotlib and reportlab."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from benchmarks.report import blocks
from benchmarks.report.blocks import (
    SOURCES_LEAD,
    SOURCES_TITLE,
    Answer,
    Block,
    Chapter,
    Chart,
    Facts,
    FirstPage,
    Pictures,
    Report,
    Sentence,
    count_numbers,
    list_sources,
)
from benchmarks.report.chapters.first_page import TITLES
from benchmarks.result.quoted import Mark, Missing, Number, Text, to_plain
from benchmarks.result.wording import format_full

from .figures import Drawing
from .fonts import BOLD, REGULAR, to_markup

INK, MUTED, FAINT, RULE = HexColor("#1a1d21"), HexColor("#5c6670"), HexColor("#8a939c"), HexColor("#dfe3e7")
RED, WASH = HexColor("#b3261e"), HexColor("#fdeceb")
TONES = {"good": "#00674b", "bad": "#b3261e", "open": "#5c6670"}
LEFT, BOTTOM, TOP = 56.5, 50.0, 46.0
WIDTH, HEIGHT = A4[0] - 2 * LEFT, A4[1] - BOTTOM - TOP
GAP = 18.0  # between the two columns of the index
Markup = Callable[[Text], str]


def make_style(size: float, leading: float, font: str = REGULAR, colour: Any = INK, **more: Any) -> ParagraphStyle:
    """Return a paragraph style."""
    return ParagraphStyle("", fontName=font, fontSize=size, leading=leading, textColor=colour, splitLongWords=1, **more)


TITLE = make_style(21, 25, BOLD, spaceAfter=4)
SUB = make_style(8.5, 12, colour=MUTED)
VERDICT = make_style(12.5, 17.5, spaceBefore=9, spaceAfter=11)
HEADING = make_style(15, 19, BOLD, spaceBefore=7, spaceAfter=4)
SMALL_HEADING = make_style(10, 13, BOLD, spaceBefore=12, spaceAfter=3)
LEAD = make_style(9.5, 13.5, colour=HexColor("#3b434b"), spaceAfter=8)
BODY = make_style(9, 13, spaceBefore=6, spaceAfter=4)
QUESTION = make_style(8.5, 11, BOLD, MUTED)
BIG = make_style(14.5, 17.5, BOLD, spaceBefore=1, spaceAfter=3)
DETAIL = make_style(8, 11, colour=HexColor("#3b434b"), spaceBefore=2)
CELL, CELL_RIGHT = make_style(7.6, 10), make_style(7.6, 10, alignment=TA_RIGHT)
HEAD, HEAD_RIGHT = make_style(7.2, 9.5, BOLD, MUTED), make_style(7.2, 9.5, BOLD, MUTED, alignment=TA_RIGHT)
CAPTION = make_style(7.2, 9.6, colour=MUTED, spaceBefore=2, spaceAfter=8)
ENTRY = make_style(6, 7.6, leftIndent=10, firstLineIndent=-10)
PART = make_style(7.2, 9.5, BOLD, spaceBefore=6, spaceAfter=2)
WARNING = make_style(10.5, 14, BOLD)
REASON = make_style(9, 12.5, leftIndent=9, bulletIndent=0)


def to_pdf(report: Report, charts: dict[str, Figure]) -> bytes:
    """Return the report as a PDF; the same report gives the same bytes."""
    write, buffer = make_markup(report), io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=f"{report.first.title}: benchmark report",
        author="edge-seg",
        subject=f"run {report.id}",
        invariant=1,  # no date, no random id: the same bytes for the same result
        lang="en",
    )
    whole = Frame(LEFT, BOTTOM, WIDTH, HEIGHT, 0, 0, 0, 0)
    column = (WIDTH - GAP) / 2
    columns = [Frame(LEFT + k * (column + GAP), BOTTOM, column, HEIGHT, 0, 0, 0, 0) for k in (0, 1)]

    def decorate(canvas: Any, _: Any) -> None:
        draw_margins(canvas, report)

    document.addPageTemplates([PageTemplate("page", [whole], decorate), PageTemplate("index", columns, decorate)])
    story: list[Any] = [*build_first_page(report.first, charts, write), PageBreak()]
    for chapter in report.chapters:
        story += build_chapter(chapter, charts, write)
    document.build([*story, *build_index(report), PageCount()])
    return buffer.getvalue()


def make_markup(report: Report) -> Markup:
    """Return a function from a text to reportlab's markup; its numbers link to the index, without a mark."""
    index = count_numbers(report)

    def write(text: Text) -> str:
        parts = []
        for piece in text:
            if isinstance(piece, Number):
                words = to_markup(piece.text.replace(" ", "\u00a0"))
                parts.append(f'<a href="#n{index[piece.id][0]}">{words}</a>')
            elif isinstance(piece, Missing):
                parts.append(f'<font color="#5c6670"><i>{to_markup(to_plain(piece))}</i></font>')
            elif isinstance(piece, Mark):
                parts.append(f'<font color="{TONES[piece.tone]}"><b>{to_markup(piece.text)}</b></font>')
            else:
                parts.append("<br/>" if piece == "\n" else to_markup(piece))
        return "".join(parts)

    return write


def draw_margins(canvas: Any, report: Report) -> None:
    """Draw the footer of a page, with the status of a run that is not valid."""
    canvas.saveState()
    canvas.setFont(REGULAR, 7)
    canvas.setFillColor(MUTED)
    canvas.drawString(LEFT, 28, f"edge-seg benchmark report · run {report.id} · not a medical device")
    page = f"page {canvas.getPageNumber()} of "
    canvas.drawRightString(LEFT + WIDTH - 12, 28, page)
    canvas.translate(LEFT + WIDTH - 11.5, 28)
    canvas.doForm("total")
    canvas.translate(-(LEFT + WIDTH - 11.5), -28)
    if report.first.status != "valid":
        canvas.setFillColor(RED)
        canvas.setFont(BOLD, 7)
        canvas.drawCentredString(A4[0] / 2, 16, f"{report.first.status} run")
    canvas.restoreState()


class PageCount(Flowable):  # type: ignore[misc]  # reportlab comes without types
    """The number of pages, known on the last one: a form that all pages show."""

    def wrap(self, *room: float) -> tuple[float, float]:
        """Return no size; reportlab asks before it draws."""
        return 0, 0

    def draw(self) -> None:
        """Draw the number into the form."""
        canvas = self.canv
        pages = str(canvas.getPageNumber())
        canvas.beginForm("total", 0, -2, 20, 10)
        canvas.setFont(REGULAR, 7)
        canvas.setFillColor(MUTED)
        canvas.drawString(0, 0, pages)
        canvas.endForm()


class Anchor(Flowable):  # type: ignore[misc]
    """A chapter's entry in the document's outline, and the line above it."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__()
        self.name, self.title = name, title

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        """Return the width of the page; reportlab asks before it draws."""
        self.width = width
        return width, 1

    def draw(self) -> None:
        """Draw the line and set the bookmark."""
        self.canv.bookmarkPage(self.name)
        self.canv.addOutlineEntry(self.title, self.name, 0)
        self.canv.setStrokeColor(INK)
        self.canv.setLineWidth(0.8)
        self.canv.line(0, 0, self.width, 0)


def build_first_page(first: FirstPage, charts: dict[str, Figure], write: Markup) -> list[Any]:
    """Return the first page."""
    story: list[Any] = [Anchor("first", "Summary"), Spacer(0, 9)]
    if first.status != "valid":
        story += [make_banner(first, write), Spacer(0, 12)]
    story += [
        Paragraph(to_markup(first.title, BOLD), TITLE),
        Paragraph(write(first.subtitle), SUB),
        Paragraph(write(first.verdict), VERDICT),
        make_answers(first.answers, write),
        Paragraph(first.heading, SMALL_HEADING),
    ]
    if first.status == "valid" and "gains" in charts:  # else the reasons need its place, and the table says the same
        story.append(Drawing(charts["gains"]))
    table = [Spacer(0, 4), make_table(first.figures, write)] if first.figures.rows else []
    story += [*table, Paragraph("Limits", SMALL_HEADING)]
    for number, limit in enumerate(first.limits):
        words = write(limit)
        story.append(Paragraph(f"<b>{words}</b>" if number == 0 else words, DETAIL))
    return story


def make_banner(first: FirstPage, write: Markup) -> Table:
    """Return what a run that is not valid shows before all else."""
    void = first.status == "invalid"
    colour = "#ffffff" if void else "#7a1710"
    reasons = [write(reason) for reason in first.reasons] or ["The result gives no reason."]
    words = [Paragraph(f'<font color="{colour}">{TITLES.get(first.status, TITLES["invalid"])}</font>', WARNING)]
    words += [Paragraph(f'<font color="{colour}">{reason}</font>', REASON, bulletText="–") for reason in reasons]
    frame = [("BACKGROUND", (0, 0), (-1, -1), RED if void else WASH), ("BOX", (0, 0), (-1, -1), 0.8, RED)]
    return Table([[words]], [WIDTH], style=[*frame, *pad(11, 11, 8, 10)])


def pad(left: float, right: float, top: float, bottom: float) -> list[Any]:
    """Return the space around a table's cells."""
    sides = {"LEFTPADDING": left, "RIGHTPADDING": right, "TOPPADDING": top, "BOTTOMPADDING": bottom}
    return [("VALIGN", (0, 0), (-1, -1), "TOP"), *((side, (0, 0), (-1, -1), space) for side, space in sides.items())]


def make_answers(answers: Sequence[Answer], write: Markup) -> Table:
    """Return the four questions with their answers, two a row."""
    cells = [
        [Paragraph(answer.question, QUESTION), Paragraph(write(answer.words), BIG),
         *(Paragraph(write(detail), DETAIL) for detail in answer.details)]
        for answer in answers
    ]  # fmt: skip
    rows = [[cells[k], "", cells[k + 1]] for k in range(0, len(cells), 2)]
    column = (WIDTH - 24) / 2
    rules = [("LINEABOVE", (at, row), (at, row), 1.2, INK) for row in range(len(rows)) for at in (0, 2)]
    return Table(rows, [column, 24, column], style=[*pad(0, 0, 5, 9), *rules])


def build_chapter(chapter: Chapter, charts: dict[str, Figure], write: Markup) -> list[Any]:
    """Return a chapter, its heading on the page of the following block."""
    head = [
        Anchor(chapter.anchor, chapter.title),
        Paragraph(to_markup(chapter.title, BOLD), HEADING),
        Paragraph(write(chapter.lead), LEAD),
    ]
    body = [flowable for block in chapter.blocks for flowable in build_block(block, charts, write)]
    kept = 2 if body and isinstance(body[0], Drawing) else 0  # a chart and its caption stay with the heading
    return [CondPageBreak(150), KeepTogether([*head, *body[:kept]]), *body[kept:], Spacer(0, 26)]


def build_block(block: Block, charts: dict[str, Figure], write: Markup) -> list[Any]:
    """Return a block; nothing for a chart without data."""
    if isinstance(block, Sentence):
        return [Paragraph(write(block.text), BODY)]
    if isinstance(block, Chart):
        return [Drawing(charts[block.name]), Paragraph(write(block.caption), CAPTION)] if block.name in charts else []
    if isinstance(block, Pictures):
        return [make_pictures(block, write)]
    title = [Paragraph(to_markup(block.title, BOLD), SMALL_HEADING)] if block.title else [Spacer(0, 6)]
    made = make_facts(block, write) if isinstance(block, Facts) else make_table(block, write)
    return [CondPageBreak(70), *title, made]


CELLS = [*pad(0, 7, 2.2, 2.8), ("RIGHTPADDING", (-1, 0), (-1, -1), 0)]


def make_facts(block: Facts, write: Markup) -> Table:
    """Return labels with their texts."""
    rows = [
        [Paragraph(f'<font color="#5c6670">{to_markup(label)}</font>', CELL), Paragraph(write(text), CELL)]
        for label, text in block.rows
    ]
    return Table(rows, [0.27 * WIDTH, 0.73 * WIDTH], style=[*CELLS, ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE)])


def make_table(block: blocks.Table, write: Markup) -> Table:
    """Return a table, its numbers right-aligned, its head repeated on every page."""
    sides = [(HEAD, CELL) if k < block.words else (HEAD_RIGHT, CELL_RIGHT) for k in range(len(block.head))]
    head = [Paragraph(to_markup(word, BOLD), style) for word, (style, _) in zip(block.head, sides, strict=True)]
    rows = [[Paragraph(write(cell), style) for cell, (_, style) in zip(row, sides, strict=True)] for row in block.rows]
    rules = [
        ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
        ("LINEBELOW", (0, 1), (-1, -1), 0.4, RULE),
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
    ]
    return Table([head, *rows], share_width(block), repeatRows=1, style=[*CELLS, *rules])


def share_width(block: blocks.Table) -> list[float]:
    """Return the columns' widths: as needed, limited to fit the page, the spare width distributed."""
    needs = []
    for at, head in enumerate(block.head):
        lines = [line for row in block.rows for line in measure_lines(row[at])]
        needs.append(9 + max([*map(measure_head, head.split()), *lines], default=0.0))
    widths = limit_widths(needs)
    wanted = [
        max(0.0, min(96.0, measure_head(head) + 9) - width) for head, width in zip(block.head, widths, strict=True)
    ]
    spare = WIDTH - sum(widths)
    granted = min(1.0, spare / sum(wanted)) if sum(wanted) else 0.0
    widths = [width + granted * want for width, want in zip(widths, wanted, strict=True)]
    spare = WIDTH - sum(widths)
    return [width + spare * (0.4 if at == 0 else 0.6 / max(1, len(widths) - 1)) for at, width in enumerate(widths)]


def limit_widths(needs: Sequence[float]) -> list[float]:
    """Return widths that fit the page: columns that need less than an equal share get what they need."""
    widths, room, left = dict[int, float](), WIDTH, dict(enumerate(needs))
    while left:
        equal = room / len(left)
        small = {at: need for at, need in left.items() if need <= equal} or dict.fromkeys(left, equal)
        widths |= small
        room -= sum(small.values())
        left = {at: need for at, need in left.items() if at not in small}
    return [widths[at] for at in range(len(needs))]


def measure_lines(text: Text) -> list[float]:
    """Return the widths of a cell's lines."""
    words = "".join(piece if isinstance(piece, str) else piece.text for piece in text)
    return [stringWidth(line, REGULAR, 7.6) for line in words.split("\n")]


def measure_head(word: str) -> float:
    """Return the width of words in a table's head."""
    return float(stringWidth(word, BOLD, 7.2))


def make_pictures(block: Pictures, write: Markup) -> Table:
    """Return pictures with their captions, two a row."""
    column = (WIDTH - 12) / 2
    cells = []
    for picture in block.items:
        width, height = ImageReader(io.BytesIO(picture.data)).getSize()
        scale = min(column / width, 240 / height)
        cells.append(
            [
                Image(io.BytesIO(picture.data), width * scale, height * scale, hAlign="LEFT"),
                Paragraph(write(picture.caption), CAPTION),
            ]
        )
    cells += [[]] * (len(cells) % 2)
    rows = [[cells[k], cells[k + 1]] for k in range(0, len(cells), 2)]
    return Table(rows, [column + 12, column], style=[*CELLS, ("RIGHTPADDING", (0, 0), (0, -1), 12)])


def build_index(report: Report) -> list[Any]:
    """Return the sources of all figures, in two narrow columns."""
    story: list[Any] = [NextPageTemplate("index"), PageBreak(), Anchor("figures", SOURCES_TITLE)]
    story += [Paragraph(SOURCES_TITLE, HEADING), Paragraph(SOURCES_LEAD, DETAIL), Spacer(0, 8)]
    index = count_numbers(report)
    for title, numbers in list_sources(report):
        story.append(Paragraph(to_markup(title, BOLD), PART))
        for one in numbers:
            words = f'<a name="n{index[one.id][0]}"/>{to_markup(one.text)}'
            full = "" if one.text == format_full(one.value) else f" &nbsp;{to_markup(format_full(one.value))}"
            story.append(Paragraph(f'{words}<font color="#5c6670">{full} &nbsp;{to_markup(one.id)}</font>', ENTRY))
    return story
