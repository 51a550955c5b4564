"""What a report is made of, whatever it is printed on: chapters of tables, charts, facts, pictures and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .numbers import Number, Text
from .sizing import Workload


@dataclass(frozen=True)
class Sentence:
    """A paragraph."""

    text: Text


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first `words` columns hold words, the others figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    words: int = 1
    title: str = ""


@dataclass(frozen=True)
class Facts:
    """Labels with what belongs to them."""

    rows: tuple[tuple[str, Text], ...]
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure by its name in charts.CHARTS, and what to see in it."""

    name: str
    caption: Text


@dataclass(frozen=True)
class Picture:
    """A PNG and its caption."""

    data: bytes
    caption: Text


@dataclass(frozen=True)
class Pictures:
    """Pictures one below the other."""

    items: tuple[Picture, ...]


Block = Sentence | Table | Facts | Chart | Pictures


@dataclass(frozen=True)
class Chapter:
    """A chapter: its name in links, its title, one sentence of what it says, and its blocks."""

    anchor: str
    title: str
    lead: Text
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Answer:
    """One of the buyer's questions: the answer in a few words, and what it rests on."""

    question: str
    words: Text
    details: tuple[Text, ...]


@dataclass(frozen=True)
class FirstPage:
    """What a buyer reads; `status` and `reasons` are the run's validity, `rate` its slices an hour."""

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
    """The whole: the first page and the chapters."""

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
    """Return every figure of a report by its id, counted from 1 in reading order: the small raised numbers."""
    found: dict[str, tuple[int, Number]] = {}
    for text in list_texts(report):
        for piece in text:
            if isinstance(piece, Number):
                found.setdefault(piece.id, (len(found) + 1, piece))
    return found
