"""Which parts does a report have, in any medium? Chapters of tables, charts, facts, pictures and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.result.quoted import Missing, Number, Text, compose, to_plain

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
    "Every figure in the order of the report, with all digits, and its path in result.json or its formula of such "
    "paths. Given and assumed values are marked."
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
    heading: str
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


def leave_out_empty(table: Table) -> tuple[Table, Text]:
    """Return a table without the columns and rows that have no number in any cell, and what was left out, in words."""
    first = table.words
    columns = range(first, len(table.head))
    kept = [row for row in table.rows if first == len(table.head) or not all(is_empty(row[at]) for at in columns)]
    shown = [at for at in range(len(table.head)) if at < first or not all(is_empty(row[at]) for row in kept)]
    rows = tuple(tuple(row[at] for at in shown) for row in kept)
    left: list[tuple[str, list[Text]]] = [
        (to_plain(row[0]), list(row[first:])) for row in table.rows if row not in kept
    ]
    left += [(table.head[at], [row[at] for row in kept]) for at in columns if kept and at not in shown]
    slim = Table(tuple(table.head[at] for at in shown), rows, first, table.title)
    return slim, compose("Not measured: {}.", join_left_out(left)) if left else ()


def is_empty(cell: Text) -> bool:
    """Return whether a cell has nothing to say."""
    return all(isinstance(piece, Missing) or piece in ("", "–") for piece in cell)


def join_left_out(left: Sequence[tuple[str, list[Text]]]) -> Text:
    """Return the names of what was left out of a table, each with the first reason that one of its cells gives."""
    names = []
    for name, cells in left:
        whys = [piece.why for cell in cells for piece in cell if isinstance(piece, Missing) and piece.why]
        names.append(f"{name} ({whys[0]})" if whys else name)
    return ("; ".join(names),)


def list_filled(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return a chapter's blocks, each table without what is empty, followed by a sentence on that."""
    found: list[Block] = []
    for block in blocks:
        if not isinstance(block, Table):
            found.append(block)
            continue
        table, note = leave_out_empty(block)
        found += [table] if table.rows else []
        found += [Sentence(note)] if note else []
    return tuple(found)


def list_texts(report: Report) -> Iterator[Text]:
    """Yield every text of a report in reading order."""
    yield from list_first_texts(report.first)
    for chapter in report.chapters:
        yield from list_chapter_texts(chapter)


def list_first_texts(first: FirstPage) -> Iterator[Text]:
    """Yield every text of the first page in reading order."""
    yield from first.reasons
    yield first.subtitle
    yield first.verdict
    for answer in first.answers:
        yield answer.words
        yield from answer.details
    yield from list_block_texts(first.figures)
    yield from first.limits


def list_chapter_texts(chapter: Chapter) -> Iterator[Text]:
    """Yield every text of a chapter in reading order."""
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
    return {one.id: (number, one) for number, one in enumerate(list_numbers(list_texts(report)), 1)}


def list_numbers(texts: Iterable[Text]) -> list[Number]:
    """Return the numbers of texts in reading order, each id once."""
    found: dict[str, Number] = {}
    for text in texts:
        for piece in text:
            if isinstance(piece, Number):
                found.setdefault(piece.id, piece)
    return list(found.values())


def list_sources(report: Report) -> list[tuple[str, list[Number]]]:
    """Return the first page and the chapters by title, each with the numbers that appear there for the first time."""
    parts = [("Summary", list(list_first_texts(report.first)))]
    parts += [(chapter.title, list(list_chapter_texts(chapter))) for chapter in report.chapters]
    seen: set[str] = set()
    found = []
    for title, texts in parts:
        numbers = [one for one in list_numbers(texts) if one.id not in seen]
        seen |= {one.id for one in numbers}
        found += [(title, numbers)] if numbers else []
    return found
