"""Which texts does a spreadsheet take for a formula, and how are they written into a CSV file and read back?

A text that begins so gets an apostrophe before it, by which a spreadsheet shows the rest as it stands. A text that
begins with apostrophes and then so gets one too, so that reading gives back every text as it was.
Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

import re

FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape_formula(text: str) -> str:
    """Return a text as it is written into a cell. Not for numbers: a negative one begins like a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def unescape_formula(cell: str) -> str:
    """Return the text that `escape_formula` made a cell of."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
