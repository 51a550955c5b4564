"""How is a matplotlib figure drawn on a PDF page as vectors? Needs matplotlib and reportlab."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Line
from matplotlib.transforms import Transform
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import Flowable

from benchmarks.report.charts import use_style

from .fonts import BOLD, REGULAR, split_runs

MAX_HEIGHT = 600  # points: with heading and caption it fills an A4 page


class Drawing(Flowable):  # type: ignore[misc]  # reportlab comes without types
    """A figure as a block of a PDF page, in its own size unless it is too tall."""

    def __init__(self, figure: Figure) -> None:
        super().__init__()
        self.figure = figure
        width, height = (float(side) * 72 for side in figure.get_size_inches())
        self.whole, self.scale = (width, height), min(1.0, MAX_HEIGHT / height)
        self.width, self.height = width * self.scale, height * self.scale

    def wrap(self, *room: float) -> tuple[float, float]:
        """Return the size; reportlab asks before it draws."""
        return self.width, self.height

    def draw(self) -> None:
        """Draw on the canvas that reportlab has positioned."""
        self.figure.set_dpi(72)
        with use_style():
            self.canv.scale(self.scale, self.scale)
            self.figure.draw(Renderer(self.canv, *self.whole))


class Renderer(RendererBase):
    """Draws paths and text; matplotlib converts markers and collections to paths."""

    def __init__(self, canvas: Any, width: float, height: float) -> None:
        super().__init__()
        self.canvas, self.width, self.height = canvas, width, height

    def get_canvas_width_height(self) -> tuple[float, float]:
        return self.width, self.height

    def points_to_pixels(self, points: Any) -> Any:
        return points

    def flipy(self) -> bool:
        return False

    def get_text_width_height_descent(self, s: str, prop: FontProperties, ismath: Any) -> tuple[float, float, float]:
        size = prop.get_size_in_points()
        width = sum(stringWidth(run, font, size) for font, run in split_runs(s, choose_font(prop)))
        return width, 0.92 * size, 0.21 * size

    def draw_text(
        self, gc: GraphicsContextBase, x: float, y: float, s: str, prop: FontProperties, angle: float,
        ismath: Any = False, mtext: Any = None,
    ) -> None:  # fmt: skip
        self.canvas.saveState()
        self.canvas.setFillColorRGB(*gc.get_rgb()[:3])
        self.canvas.translate(x, y)
        self.canvas.rotate(angle)
        text = self.canvas.beginText(0, 0)
        for font, run in split_runs(s, choose_font(prop)):
            text.setFont(font, prop.get_size_in_points())
            text.textOut(run)
        self.canvas.drawText(text)
        self.canvas.restoreState()

    def draw_path(self, gc: GraphicsContextBase, path: Line, transform: Transform, rgbFace: Any = None) -> None:
        self.canvas.saveState()
        self.clip(gc)
        stroke = gc.get_linewidth() > 0 and gc.get_rgb()[3] > 0
        forced = gc.get_alpha() if gc.get_forced_alpha() else None
        if stroke:
            red, green, blue, alpha = gc.get_rgb()
            self.canvas.setStrokeColorRGB(red, green, blue, alpha if forced is None else forced)
            self.canvas.setLineWidth(gc.get_linewidth())
            self.canvas.setLineCap({"butt": 0, "round": 1, "projecting": 2}[gc.get_capstyle()])
            self.canvas.setLineJoin({"miter": 0, "round": 1, "bevel": 2}[gc.get_joinstyle()])
            offset, dashes = gc.get_dashes()
            if dashes is not None:
                self.canvas.setDash([float(dash) for dash in np.ravel(dashes)], offset)
        if rgbFace is not None:
            alpha = rgbFace[3] if len(rgbFace) > 3 else 1.0
            self.canvas.setFillColorRGB(*rgbFace[:3], alpha if forced is None else forced)
        self.canvas.drawPath(self.trace(path, transform), stroke=int(stroke), fill=int(rgbFace is not None))
        self.canvas.restoreState()

    def clip(self, gc: GraphicsContextBase) -> None:
        """Clip to the axes if the figure requires it."""
        bounds = gc.get_clip_rectangle()
        if bounds is not None:
            frame = self.canvas.beginPath()
            frame.rect(*bounds.bounds)
            self.canvas.clipPath(frame, stroke=0, fill=0)

    def trace(self, path: Line, transform: Transform) -> Any:
        """Return a path in reportlab's form."""
        traced = self.canvas.beginPath()
        at = (0.0, 0.0)
        for points, code in path.iter_segments(transform, simplify=False):
            if code == Line.MOVETO:
                traced.moveTo(*points)
            elif code == Line.LINETO:
                traced.lineTo(*points)
            elif code == Line.CURVE3:  # quadratic: its cubic has its control points two thirds of the way
                (x, y), (cx, cy, ex, ey) = at, points
                traced.curveTo(
                    x + (cx - x) / 1.5, y + (cy - y) / 1.5, ex + (cx - ex) / 1.5, ey + (cy - ey) / 1.5, ex, ey
                )
            elif code == Line.CURVE4:
                traced.curveTo(*points)
            elif code == Line.CLOSEPOLY:
                traced.close()
                continue
            at = (points[-2], points[-1])
        return traced


def choose_font(prop: FontProperties) -> str:
    """Return the page's font for a weight."""
    weight = prop.get_weight()
    return BOLD if weight in ("bold", "semibold") or (isinstance(weight, int) and weight >= 600) else REGULAR
