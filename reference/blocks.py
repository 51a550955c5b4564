"""A page of headings, paragraphs, lists, tables and pictures, as Markdown and as one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
div { overflow-x: auto; margin-bottom: 1.2rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 7rem }
img { max-width: 100%; background: #fff }
"""


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the page's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Table:
    """Rows of text below a header, the first column to the left."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG beside the page, and what it shows."""

    name: str
    text: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: Sequence[str]


Block = Heading | Table | Picture | Points | str  # a str is a paragraph


def to_markdown(blocks: Sequence[Block]) -> str:
    """Return the page as Markdown."""
    return "\n\n".join(write_markdown(block) for block in blocks) + "\n"


def write_markdown(block: Block) -> str:
    """Return one block as Markdown."""
    if isinstance(block, Heading):
        return "#" * block.level + " " + block.text
    if isinstance(block, Picture):
        return f"![{block.text}]({block.name})"
    if isinstance(block, Table):
        lines = [block.header, ["---", *["---:"] * (len(block.header) - 1)], *block.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    if isinstance(block, Points):
        return "\n".join(f"- {item}" for item in block.items)
    return block


def to_html(blocks: Sequence[Block], pictures: Mapping[str, bytes]) -> str:
    """Return the page as HTML with its pictures inside."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    body = "\n".join(write_html(block, pictures) for block in blocks)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en>{head}\n{body}\n</html>\n"


def write_html(block: Block, pictures: Mapping[str, bytes]) -> str:
    """Return one block as HTML."""
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Picture):
        data = base64.b64encode(pictures[block.name]).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{html.escape(block.text)}">'
    if isinstance(block, Table):
        head = write_cells("th", block.header)
        return (
            f"<div><table><tr>{head}</tr>"
            + "".join(f"<tr>{write_cells('td', row)}</tr>" for row in block.rows)
            + ("</table></div>")
        )
    if isinstance(block, Points):
        return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in block.items) + "</ul>"
    return f"<p>{html.escape(block)}</p>"


def write_cells(tag: str, cells: Sequence[str]) -> str:
    """Return a table row's cells."""
    return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
