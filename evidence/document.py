"""Pages of headings, paragraphs, lists, tables and pictures, as Markdown and as one HTML file; tables alone."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.errors import printable_lines

BARE_PIPE = re.compile(r"(?<!\\)\|")
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
    """A heading; level 1 is the page's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Table:
    """A header and rows of text; the first column is aligned left, the others right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG beside the page, and its description."""

    name: str
    text: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: Sequence[str]


Block = Heading | Table | Picture | Points | str  # a str is a paragraph


def to_markdown(blocks: Sequence[Block]) -> str:
    """Return the page as Markdown."""
    return printable_lines("\n\n".join(render_markdown(block) for block in blocks) + "\n")


def render_markdown(block: Block) -> str:
    """Return one block as Markdown."""
    if isinstance(block, Heading):
        return "#" * block.level + " " + block.text
    if isinstance(block, Picture):
        return f"![{block.text}]({block.name})"
    if isinstance(block, Table):
        return make_table(block.header, block.rows, ["---", *["---:"] * (len(block.header) - 1)])
    if isinstance(block, Points):
        return "\n".join(f"- {item}" for item in block.items)
    return block


def to_html(blocks: Sequence[Block], pictures: Mapping[str, bytes]) -> str:
    """Return the page as HTML with its pictures inside."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    body = "\n".join(render_html(block, pictures) for block in blocks)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    return printable_lines(f"<!doctype html><html lang=en>{head}\n{body}\n</html>\n")


def render_html(block: Block, pictures: Mapping[str, bytes]) -> str:
    """Return one block as HTML."""
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Picture):
        data = base64.b64encode(pictures[block.name]).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{html.escape(block.text)}">'
    if isinstance(block, Table):
        head = render_cells("th", block.header)
        rows = "".join(f"<tr>{render_cells('td', row)}</tr>" for row in block.rows)
        return f"<div><table><tr>{head}</tr>{rows}</table></div>"
    if isinstance(block, Points):
        return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in block.items) + "</ul>"
    return f"<p>{html.escape(block)}</p>"


def render_cells(tag: str, cells: Sequence[str]) -> str:
    """Return a table row's cells."""
    return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)


def make_table(head: Sequence[str], rows: Iterable[Iterable[str]], rule: Sequence[str] = ()) -> str:
    """Return a Markdown table; `rule` is its second line, by default "---" for each column. Bare pipes are escaped."""
    lines = [head, rule or ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(BARE_PIPE.sub(r"\|", cell) for cell in line) + " |" for line in lines)


def rule_table(heads: Sequence[str], rows: Iterable[Iterable[str]], words: int) -> str:
    """Return a Markdown table; the first `words` columns are text, the others numbers."""
    return make_table(heads, rows, [":--"] * words + ["--:"] * (len(heads) - words))


def escape_markdown(text: str, marks: str = "\\`*_{}[]()#+!|~$") -> str:
    """Return text that Markdown shows as it stands."""
    text = "".join(f"\\{letter}" if letter in marks else letter for letter in text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def to_code(name: str) -> str:
    """Return a name as code, on one line and safe in a table."""
    text = " ".join(name.replace("`", "'").replace("|", "\\|").split())
    return f"`{text}`" if text else ""


def to_heads(heads: Sequence[str], words: int) -> str:
    """Return header cells in HTML; the first `words` columns are text."""
    return "".join(f'<th class="{"t" if i < words else ""}">{html.escape(head)}</th>' for i, head in enumerate(heads))


def to_rows(rows: Sequence[Sequence[str]], words: int, mark: Callable[[str], str] | None = None) -> str:
    """Return table rows in HTML; `mark` gives the class of a last cell by its text."""
    rendered = []
    for row in rows:
        classes = ["t" if i < words else "" for i in range(len(row))]
        if mark:
            classes[-1] = mark(row[-1])
        cells = "".join(f'<td class="{k}">{html.escape(c)}</td>' for k, c in zip(classes, row, strict=True))
        rendered.append(f"<tr>{cells}</tr>")
    return "".join(rendered)
