"""Which parts does a report have, in any medium? Chapters of tables, charts, facts, pictures and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.result.quoted import Number, Text

from .sizing import Workload


@dataclass(frozen=True)
class Sentence:
    """A paragraph."""

    text: Text


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first `words` columns hold text, the others numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    words: int = 1
    title: str = ""


@dataclass(frozen=True)
class Facts:
    """Labels with their texts."""

    rows: tuple[tuple[str, Text], ...]
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart by its name in charts.CHARTS, with its caption."""

    name: str
    caption: Text


@dataclass(frozen=True)
class Picture:
    """A PNG and its caption."""

    data: bytes
    caption: Text


@dataclass(frozen=True)
class Pictures:
    """Several pictures."""

    items: tuple[Picture, ...]


Block = Sentence | Table | Facts | Chart | Pictures
SOURCES_TITLE = "Where each figure comes from"
SOURCES_LEAD = (
    "The superscript number after a figure, its value with all digits, and its path in result.json or its formula of "
    "such paths. Given and assumed values are marked."
)


@dataclass(frozen=True)
class Chapter:
    """A chapter: its anchor for links, title, introduction and blocks."""

    anchor: str
    title: str
    lead: Text
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Answer:
    """One question of the first page: the answer in a few words, and its details."""

    question: str
    words: Text
    details: tuple[Text, ...]


@dataclass(frozen=True)
class FirstPage:
    """The first page; `status` and `reasons` are the run's validity, `rate` is in slices an hour."""

    status: str
    reasons: tuple[Text, ...]
    title: str
    subtitle: Text
    verdict: Text
    answers: tuple[Answer, ...]
    figures: Table
    limits: tuple[Text, ...]
    work: Workload
    rate: float | None


@dataclass(frozen=True)
class Report:
    """A whole report: the first page and the chapters."""

    id: str
    first: FirstPage
    chapters: tuple[Chapter, ...]


def list_texts(report: Report) -> Iterator[Text]:
    """Yield every text of a report in reading order."""
    first = report.first
    yield from first.reasons
    yield first.subtitle
    yield first.verdict
    for answer in first.answers:
        yield answer.words
        yield from answer.details
    yield from list_block_texts(first.figures)
    yield from first.limits
    for chapter in report.chapters:
        yield chapter.lead
        for block in chapter.blocks:
            yield from list_block_texts(block)


def list_block_texts(block: Block) -> Iterator[Text]:
    """Yield every text of a block in reading order."""
    if isinstance(block, Sentence):
        yield block.text
    elif isinstance(block, Table):
        for row in block.rows:
            yield from row
    elif isinstance(block, Facts):
        yield from (text for _, text in block.rows)
    elif isinstance(block, Chart):
        yield block.caption
    else:
        yield from (picture.caption for picture in block.items)


def count_numbers(report: Report) -> dict[str, tuple[int, Number]]:
    """Return every number of a report by its id, with its index from 1 in reading order."""
    found: dict[str, tuple[int, Number]] = {}
    for text in list_texts(report):
        for piece in text:
            if isinstance(piece, Number):
                found.setdefault(piece.id, (len(found) + 1, piece))
    return found
