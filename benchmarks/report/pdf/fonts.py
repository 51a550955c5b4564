"""Which fonts does the PDF use? Helvetica, and DejaVu Sans for other characters. Needs matplotlib and reportlab."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR, BOLD, OTHER = "Helvetica", "Helvetica-Bold", "DejaVu"
UNKNOWN = "\ufffd"


@cache
def load_other() -> frozenset[int]:
    """Register DejaVu Sans, which matplotlib contains; return its code points."""
    font = TTFont(OTHER, str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"))
    pdfmetrics.registerFont(font)
    return frozenset(font.face.charToGlyph)


def choose_font(letter: str, font: str) -> str:
    """Return the font for a letter."""
    try:
        letter.encode("cp1252")
        return font
    except UnicodeEncodeError:
        return OTHER


def split_runs(text: str, font: str = REGULAR) -> list[tuple[str, str]]:
    """Return a text as (font, run) pairs; characters of neither font become a replacement mark."""
    runs = []
    text = text.replace("\N{MINUS SIGN}", "\N{EN DASH}")  # Helvetica has no minus, and its dash is as long
    for name, letters in itertools.groupby(text, lambda letter: choose_font(letter, font)):
        run = "".join(letters)
        if name == OTHER:
            known = load_other()
            run = "".join(letter if ord(letter) in known else UNKNOWN for letter in run)
        runs.append((name, run))
    return runs


def to_markup(text: str, font: str = REGULAR) -> str:
    """Return a text as the markup of reportlab's paragraphs, escaped."""
    return "".join(
        escape(run) if name == font else f'<font name="{name}">{escape(run)}</font>'
        for name, run in split_runs(text, font)
    )
