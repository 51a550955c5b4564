"""The report on paper: A4, designed for it, with figures as lines and letters. Needs matplotlib and reportlab."""

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

from . import blocks
from .blocks import Answer, Block, Chapter, Chart, Facts, FirstPage, Pictures, Report, Sentence, count_numbers
from .buyer import TITLES
from .numbers import Mark, Missing, Number, Text, plain, say_full
from .typeface import BOLD, REGULAR, to_markup
from .vector import Drawing

INK, MUTED, FAINT, RULE = HexColor("#1a1d21"), HexColor("#5c6670"), HexColor("#8a939c"), HexColor("#dfe3e7")
RED, WASH = HexColor("#b3261e"), HexColor("#fdeceb")
TONES = {"good": "#00674b", "bad": "#b3261e", "open": "#5c6670"}
LEFT, BOTTOM, TOP = 56.5, 50.0, 46.0
WIDTH, HEIGHT = A4[0] - 2 * LEFT, A4[1] - BOTTOM - TOP
GAP = 18.0  # between the two columns of the index
Markup = Callable[..., str]  # (text, size of its letters) -> markup


def make_style(size: float, leading: float, font: str = REGULAR, colour: Any = INK, **more: Any) -> ParagraphStyle:
    """Return a style; reportlab wants a name that nobody reads."""
    return ParagraphStyle("", fontName=font, fontSize=size, leading=leading, textColor=colour, splitLongWords=1, **more)


TITLE = make_style(21, 25, BOLD, spaceAfter=4)
SUB = make_style(8.5, 12, colour=MUTED)
VERDICT = make_style(12.5, 17.5, spaceBefore=12, spaceAfter=16)
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
ENTRY = make_style(6, 7.6, leftIndent=17, firstLineIndent=-17)
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
    story: list[Any] = [*list_first_page(report.first, charts, write), PageBreak()]
    for chapter in report.chapters:
        story += list_chapter(chapter, charts, write)
    document.build([*story, *list_index(report), Total()])
    return buffer.getvalue()


def make_markup(report: Report) -> Markup:
    """Return what turns a text into reportlab's markup, its figures leading to the index."""
    index = count_numbers(report)

    def write(text: Text, size: float = 8.0) -> str:
        raised = f'<super size="{max(4.4, 0.42 * size):.1f}" rise="{0.4 * size:.1f}"><font color="#8a939c">'
        parts = []
        for piece in text:
            if isinstance(piece, Number):
                number = index[piece.id][0]
                words = to_markup(piece.text.replace(" ", "\u00a0"))
                parts.append(f'{words}<a href="#n{number}">{raised}{number}</font></super></a>')
            elif isinstance(piece, Missing):
                parts.append(f'<font color="#5c6670"><i>{to_markup(plain(piece))}</i></font>')
            elif isinstance(piece, Mark):
                parts.append(f'<font color="{TONES[piece.tone]}"><b>{to_markup(piece.text)}</b></font>')
            else:
                parts.append("<br/>" if piece == "\n" else to_markup(piece))
        return "".join(parts)

    return write


def draw_margins(canvas: Any, report: Report) -> None:
    """Draw what every page has at its foot; a run that is not valid says so on each."""
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


class Total(Flowable):  # type: ignore[misc]  # reportlab comes without types
    """The number of pages, which only the last one knows: a form that all pages show."""

    def wrap(self, *room: float) -> tuple[float, float]:
        """Return no size; reportlab asks before it draws."""
        return 0, 0

    def draw(self) -> None:
        """Fill in the form."""
        canvas = self.canv
        pages = str(canvas.getPageNumber())
        canvas.beginForm("total", 0, -2, 20, 10)
        canvas.setFont(REGULAR, 7)
        canvas.setFillColor(MUTED)
        canvas.drawString(0, 0, pages)
        canvas.endForm()


class Anchor(Flowable):  # type: ignore[misc]
    """A chapter's place in the document's outline, and the line above it."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__()
        self.name, self.title = name, title

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        """Return the width of the page; reportlab asks before it draws."""
        self.width = width
        return width, 1

    def draw(self) -> None:
        """Draw the line and leave the bookmark."""
        self.canv.bookmarkPage(self.name)
        self.canv.addOutlineEntry(self.title, self.name, 0)
        self.canv.setStrokeColor(INK)
        self.canv.setLineWidth(0.8)
        self.canv.line(0, 0, self.width, 0)


def list_first_page(first: FirstPage, charts: dict[str, Figure], write: Markup) -> list[Any]:
    """Return the buyer's page."""
    story: list[Any] = [Anchor("first", "Summary"), Spacer(0, 9)]
    if first.status != "valid":
        story += [make_banner(first, write), Spacer(0, 12)]
    story += [
        Paragraph(to_markup(first.title, BOLD), TITLE),
        Paragraph(write(first.subtitle), SUB),
        Paragraph(write(first.verdict, 12.5), VERDICT),
        make_answers(first.answers, write),
        Paragraph("Against the float model", SMALL_HEADING),
    ]
    if first.status == "valid" and "gains" in charts:  # else the reasons need its place, and the table says the same
        story.append(Drawing(charts["gains"]))
    story += [Spacer(0, 4), make_table(first.figures, write), Paragraph("Limits", SMALL_HEADING)]
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
    """Return the four questions, two a row."""
    cells = [
        [Paragraph(answer.question, QUESTION), Paragraph(write(answer.words, 14.5), BIG),
         *(Paragraph(write(detail), DETAIL) for detail in answer.details)]
        for answer in answers
    ]  # fmt: skip
    rows = [[cells[k], "", cells[k + 1]] for k in range(0, len(cells), 2)]
    column = (WIDTH - 24) / 2
    rules = [("LINEABOVE", (at, row), (at, row), 1.2, INK) for row in range(len(rows)) for at in (0, 2)]
    return Table(rows, [column, 24, column], style=[*pad(0, 0, 5, 13), *rules])


def list_chapter(chapter: Chapter, charts: dict[str, Figure], write: Markup) -> list[Any]:
    """Return a chapter, its heading kept with what follows."""
    head = [
        Anchor(chapter.anchor, chapter.title),
        Paragraph(to_markup(chapter.title, BOLD), HEADING),
        Paragraph(write(chapter.lead), LEAD),
    ]
    body = [flowable for block in chapter.blocks for flowable in list_block(block, charts, write)]
    led = 2 if body and isinstance(body[0], Drawing) else 0  # a chart and its caption stay with the heading
    return [CondPageBreak(150), KeepTogether([*head, *body[:led]]), *body[led:], Spacer(0, 26)]


def list_block(block: Block, charts: dict[str, Figure], write: Markup) -> list[Any]:
    """Return a block; a chart that the result has no data for is nothing."""
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
    """Return labels and what belongs to them."""
    rows = [
        [Paragraph(f'<font color="#5c6670">{to_markup(label)}</font>', CELL), Paragraph(write(text), CELL)]
        for label, text in block.rows
    ]
    return Table(rows, [0.27 * WIDTH, 0.73 * WIDTH], style=[*CELLS, ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE)])


def make_table(block: blocks.Table, write: Markup) -> Table:
    """Return a table, its figures to the right, its head on every page."""
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
    """Return the columns' widths: what each needs, the widest cut back to fit the page, what is left over shared."""
    needs = []
    for at, head in enumerate(block.head):
        lines = [line for row in block.rows for line in measure_lines(row[at])]
        needs.append(9 + max([*map(measure_head, head.split()), *lines], default=0.0))
    widths = cut_back(needs)
    wishes = [
        max(0.0, min(96.0, measure_head(head) + 9) - width) for head, width in zip(block.head, widths, strict=True)
    ]
    spare = WIDTH - sum(widths)
    granted = min(1.0, spare / sum(wishes)) if sum(wishes) else 0.0
    widths = [width + granted * wish for width, wish in zip(widths, wishes, strict=True)]
    spare = WIDTH - sum(widths)
    return [width + spare * (0.4 if at == 0 else 0.6 / max(1, len(widths) - 1)) for at, width in enumerate(widths)]


def cut_back(needs: Sequence[float]) -> list[float]:
    """Return widths that fit the page together: those that need less than an equal share get it whole."""
    widths, room, left = dict[int, float](), WIDTH, dict(enumerate(needs))
    while left:
        equal = room / len(left)
        small = {at: need for at, need in left.items() if need <= equal} or dict.fromkeys(left, equal)
        widths |= small
        room -= sum(small.values())
        left = {at: need for at, need in left.items() if at not in small}
    return [widths[at] for at in range(len(needs))]


def measure_lines(text: Text) -> list[float]:
    """Return the widths of a cell's lines; what is missing may be broken anywhere."""
    words = "".join(piece if isinstance(piece, str) else piece.text for piece in text)
    raised = sum(7.5 for piece in text if isinstance(piece, Number))
    return [stringWidth(line, REGULAR, 7.6) + raised for line in words.split("\n")]


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


def list_index(report: Report) -> list[Any]:
    """Return where each figure comes from, in two narrow columns."""
    story: list[Any] = [NextPageTemplate("index"), PageBreak(), Anchor("figures", "Where each figure comes from")]
    lead = (
        "The small raised number behind a figure, its value in full, and its path in result.json, or the formula that "
        "made it from such paths. What was given or assumed says so."
    )
    story += [Paragraph("Where each figure comes from", HEADING), Paragraph(lead, DETAIL), Spacer(0, 8)]
    for number, one in count_numbers(report).values():
        source = f'<font color="#5c6670">{to_markup(one.id)}</font>'
        raised = f'<a name="n{number}"/><font color="#8a939c">{number}</font>'
        story.append(Paragraph(f"{raised} &nbsp;{to_markup(say_full(one.value))} &nbsp;{source}", ENTRY))
    return story
