"""How are a report's charts drawn? Each is a function of the result and of the medium. Needs matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from benchmarks.result.lookup import Result, find, find_number
from benchmarks.result.roles import (
    choose_baseline,
    choose_headline,
    get_name,
    get_p50,
    get_role,
    get_threads,
    list_measured,
    list_sweeps,
)
from benchmarks.result.wording import (
    escape_hidden,
    format_figure,
    format_mb,
    format_percent,
    format_score,
    shorten,
)
from evidence.change import write_ratio

INK, MUTED, FAINT, RULE = "#1a1d21", "#5c6670", "#8a939c", "#e1e5e9"
SKY, GREEN, BLUE, ORANGE, VERMILLION, PURPLE = "#56B4E9", "#009E73", "#0072B2", "#E69F00", "#D55E00", "#CC79A7"
ROLES = {"subject": BLUE, "baseline": ORANGE, "peer": FAINT}  # all colours but the greys: Okabe and Ito
STAGES = {"decode": SKY, "preprocess": GREEN, "infer": BLUE, "postprocess": ORANGE, "write": PURPLE, "other": "#c3c9cf"}
MAX_POINTS = 100  # of one row: more would overlap


@dataclass(frozen=True)
class Medium:
    """What a chart is drawn for: its width and font size, in points."""

    name: str
    width: float
    letter: float

    @property
    def wide(self) -> bool:
        """Whether labels fit beside the marks."""
        return self.width > 40 * self.letter


DESK, PHONE, PAGE = Medium("desk", 720, 12), Medium("phone", 342, 12), Medium("page", 482, 8)

RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, selectable, and in the reader's own letters
    "svg.hashsalt": "edge-seg",
    "text.parse_math": False,  # a model may be named $x$
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same layout everywhere
    "axes.linewidth": 0.8,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "path.simplify": False,
}


@contextmanager
def use_style(letter: float = 10) -> Iterator[None]:
    """Use this report's style, independent of the user's matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**RC, "font.size": letter})
        yield


def draw_charts(result: Result, medium: Medium) -> dict[str, Figure]:
    """Return the charts that the result has data for, by name."""
    with use_style(medium.letter):
        drawn = {name: draw(result, medium) for name, draw in CHARTS.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def to_svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element without prolog and date, with the page's font and unique ids."""
    buffer = io.StringIO()
    with use_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<svg [^>]*viewBox=\"([^\"]+)\"[^>]*>", r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = svg.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: (?:(\d+) )?([\d.]+)px [^;\"]+", r"font-weight: \1; font-size: \2px", svg)
    svg = svg.replace("font-weight: ; ", "")
    return re.sub(r' (d|x|y|transform)="([^"]*)"', lambda found: f' {found[1]}="{round_all(found[2])}"', svg)


def round_all(numbers: str) -> str:
    """Return coordinates to a hundredth of a point, on one line."""
    return " ".join(re.sub(r"(\.\d\d)\d+", r"\1", numbers).split())


def make_axes(
    medium: Medium, height: float, left: float = 0.0, bottom: float = 3.2, top: float = 0.3, right: float | None = None
) -> Axes:
    """Return the axes of a new figure; its height and margins are in units of the font size."""
    em = medium.letter
    figure = Figure(figsize=(medium.width / 72, height * em / 72), dpi=72)
    right = (0.9 if left else 0.0) if right is None else right  # rows are flush with the text around them
    across = 1 - (left + right) * em / medium.width
    axes = figure.add_axes((left * em / medium.width, bottom / height, across, 1 - (bottom + top) / height))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=0.4 * em, labelsize=0.9 * em)
    axes.set_axisbelow(True)
    return axes


def make_rows(medium: Medium, count: int, title: str, row: float = 3.3) -> Axes:
    """Return axes for `count` rows, each with its label above its marks, which are at y = row."""
    axes = make_axes(medium, count * row + 3.6)
    axes.set_ylim(count - 0.6, -0.75)
    axes.set_yticks([])
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_xlabel(title, loc="left", fontsize=0.9 * medium.letter)
    return axes


def finish_rows(axes: Axes) -> Figure | None:
    """Return the axes' figure, the outermost tick labels aligned inwards."""
    low, high = axes.transAxes.transform([(0, 0), (1, 0)])[:, 0]
    for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        share = (axes.transData.transform((tick, 0))[0] - low) / (high - low)
        label.set_horizontalalignment("left" if share < 0.01 else "right" if share > 0.97 else "center")
    return axes.get_figure(root=True)


def write_row(axes: Axes, medium: Medium, row: int, label: str, figures: str, strong: bool = False) -> None:
    """Write a row's label at its left and its figures at its right, above its marks."""
    room = max(14, int(medium.width / (0.62 * medium.letter)) - len(figures) - 3)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "bbox": box, "zorder": 5}
    axes.text(0, row - 0.42, shorten(label, room), ha="left", weight="bold" if strong else "normal", **style)
    axes.text(1, row - 0.42, figures, ha="right", color=MUTED, fontsize=0.95 * medium.letter, **style)


def scale_time(axes: Axes, medium: Medium, low: float, high: float) -> bool:
    """Set an axis of milliseconds, linear from zero, or logarithmic for a wide range; return whether it is."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    if high <= 6 * low:
        axes.set_xlim(0, high * 1.06)
        axes.xaxis.set_major_locator(MaxNLocator(8 if medium.wide else 4))
        return False
    axes.set_xscale("log")
    axes.set_xlim(low / 1.2, high * 1.2)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 300 * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(FixedLocator([]))
    return True


def thin(values: list[float]) -> list[float]:
    """Return at most MAX_POINTS of the values, evenly from the smallest to the largest."""
    ordered = sorted(values)
    step = max(1.0, (len(ordered) - 1) / (MAX_POINTS - 1))
    return [ordered[round(k * step)] for k in range(min(len(ordered), MAX_POINTS))]


def draw_gains(result: Result, medium: Medium) -> Figure | None:
    """Draw the first page's subject against its float baseline: time, file and memory, the baseline at 100 %."""
    mine = choose_headline(result)
    base = choose_baseline(result, mine) if mine else None
    fields = {
        "Time for one slice, model only": "latency.p50_ms",
        "File": "file.bytes",
        "Memory, peak": "memory.peak_rss_bytes",
    }
    found = [
        (label, one, other)
        for label, path in fields.items()
        if (one := find_number(result, f"subjects.{mine}.{path}"))
        and (other := find_number(result, f"subjects.{base}.{path}"))
    ]
    if not found:
        return None
    axes = make_rows(medium, len(found), f"per cent of {shorten(get_name(result, str(base)), 34)}")
    for row, (label, one, other) in enumerate(found):
        axes.barh(row, 100, height=0.34, color=RULE)
        axes.barh(row, 100 * one / other, height=0.34, color=BLUE)
        write_row(axes, medium, row, label, format_percent(one / other), strong=True)
    most = max(100.0, *(100 * one / other for _, one, other in found))
    axes.set_xlim(0, most * 1.001)
    axes.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]) if most <= 130 else MaxNLocator(4))
    return finish_rows(axes)


def draw_latency(result: Result, medium: Medium) -> Figure | None:
    """Draw every inference as a dot, the middle half as a bar, p50 as a line."""
    times = {key: list_times(result, key) for key in list_measured(result)}
    times = {key: values for key, values in times.items() if values}
    if not times:
        return None
    low, high = min(map(min, times.values())), max(map(max, times.values()))
    axes = make_rows(medium, len(times), "")
    log = scale_time(axes, medium, low, high)
    axes.set_xlabel("ms, model only" + (" · logarithmic" if log else ""), loc="left", fontsize=0.9 * medium.letter)
    for row, (key, values) in enumerate(times.items()):
        colour, ordered = ROLES.get(get_role(result, key), FAINT), sorted(values)
        quarter, p50 = (
            len(ordered) // 4,
            find_number(result, f"subjects.{key}.latency.p50_ms") or ordered[len(ordered) // 2],
        )
        dots = thin(values)
        heights = [row + 0.34 * ((0.618034 * k) % 1 - 0.5) for k in range(len(dots))]
        axes.hlines(
            row, ordered[quarter], ordered[-quarter - 1], colors=colour, linewidth=0.75 * medium.letter, alpha=0.25
        )
        axes.scatter(dots, heights, s=(0.28 * medium.letter) ** 2, color=colour, alpha=0.5, linewidths=0)
        axes.vlines(p50, row - 0.22, row + 0.22, colors=INK, linewidth=0.16 * medium.letter)
        p90 = find_number(result, f"subjects.{key}.latency.p90_ms")
        figures = f"p50 {format_figure(p50)}" + (f" · p90 {format_figure(p90)}" if p90 and medium.wide else "")
        write_row(axes, medium, row, get_name(result, key), figures, strong=get_role(result, key) == "subject")
    return finish_rows(axes)


def list_times(result: Result, key: str) -> list[float]:
    """Return a subject's milliseconds of all rounds."""
    return [float(sample[1]) for sample in find(result, f"subjects.{key}.latency.samples") or []]


def draw_ratios(result: Result, medium: Medium) -> Figure | None:
    """Draw the ratio of medians of every pair with its interval; 1 is as fast as the baseline."""
    rows = []
    for pair in find(result, "pairs") or []:
        ratio, low, high = (
            find_number(pair, "ratio_p50"),
            find_number(pair, "interval.0"),
            find_number(pair, "interval.1"),
        )
        if ratio and low and high and low > 0:
            rows.append((pair, ratio, low, high))
    if not rows:
        return None
    title = "time relative to the baseline · logarithmic · left of 1 is faster"
    axes = make_rows(medium, len(rows), title if medium.wide else "time by the baseline's · left of 1 is faster")
    least, most = min(0.8, *(row[2] for row in rows)) / 1.15, max(1.25, *(row[3] for row in rows)) * 1.15
    axes.set_xscale("log")
    axes.set_xlim(least, most)
    marks = [mark for mark in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if least <= mark <= most]
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.axvline(1, color=INK, linewidth=1)
    for row, (pair, ratio, low, high) in enumerate(rows):
        colour = {"faster": BLUE, "slower": VERMILLION}.get(str(pair.get("verdict")), FAINT)
        axes.hlines(row, low, high, colors=colour, linewidth=0.25 * medium.letter)
        axes.plot([ratio], [row], "o", color=colour, markersize=0.6 * medium.letter)
        label = get_name(result, str(pair.get("baseline")))
        if len({str(other.get("subject")) for other, *_ in rows}) > 1:
            label = f"{get_name(result, str(pair.get('subject')))} / {label}"
        apart = 1.0 if pair.get("verdict") in ("faster", "slower") else None
        written = write_ratio(ratio, low, high, apart).value
        write_row(axes, medium, row, label, f"{written} · {escape_hidden(pair.get('verdict'))}")
    return finish_rows(axes)


def draw_stages(result: Result, medium: Medium) -> Figure | None:
    """Draw the stages of one slice, from the file to the written mask, as one bar."""
    images = find_number(result, "end_to_end.images")
    stages = {name: find_number(result, f"end_to_end.stages.{name}.total_ms") for name in STAGES if name != "other"}
    stages["other"] = find_number(result, "end_to_end.other_ms")
    parts = [(name, total / images) for name, total in stages.items() if images and total and total > 0]
    if not parts or len(parts) < 2:
        return None
    columns = min(len(parts), 6 if medium.wide else 2)
    lines = -(-len(parts) // columns)
    axes = make_axes(medium, 7.4 + 2.9 * lines, bottom=3.8 + 2.9 * lines)
    whole, done = sum(ms for _, ms in parts), 0.0
    axes.set_xlim(0, whole)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(8 if medium.wide else 4))
    axes.set_xlabel("ms for one slice, from file to written mask", loc="left", fontsize=0.9 * medium.letter)
    em = medium.letter
    for number, (name, ms) in enumerate(parts):
        axes.barh(0.5, ms, left=done, height=0.86, color=STAGES[name], edgecolor="white", linewidth=1)
        done += ms
        x = (number % columns) / columns
        y = -(4.6 + 2.9 * (number // columns)) / 3.3
        axes.text(x, y, "■", transform=axes.transAxes, color=STAGES[name], fontsize=1.1 * em, va="center")
        axes.text(x + 1.3 * em / medium.width, y, name, transform=axes.transAxes, va="center")
        axes.text(x + 1.3 * em / medium.width, y - 1.15 / 3.3, f"{format_figure(ms)} ms · {100 * ms / whole:.0f} %",
                  transform=axes.transAxes, va="center", color=MUTED, fontsize=0.9 * em)  # fmt: skip
    return finish_rows(axes)


def draw_sweep(result: Result, medium: Medium) -> Figure | None:
    """Draw the time for one slice by threads, a line for each model and engine with its name at the end."""
    sweeps, em = list_sweeps(result), medium.letter
    if not sweeps:
        return None
    axes = make_axes(medium, 21, left=4.2, bottom=3.4, top=1.6, right=8.5)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    lines = {
        label: [(get_threads(result, key), get_p50(result, key) or 0.0) for key in keys]
        for label, keys in sweeps.items()
    }
    for label, points in lines.items():
        colour = ROLES.get(get_role(result, sweeps[label][0]), FAINT)
        axes.plot(*zip(*points, strict=True), "-o", color=colour, linewidth=0.17 * em, markersize=0.5 * em)
    counts = sorted({count for points in lines.values() for count, _ in points})
    room = 0.08 * (counts[-1] - counts[0])
    axes.set_xlim(counts[0] - room, counts[-1] + room)
    axes.set_ylim(0, 1.1 * max(ms for points in lines.values() for _, ms in points))
    unit = axes.get_ylim()[1] / (16 * em)  # milliseconds a point: the axes are 16 letters high
    ends = dict(zip(lines, separate([points[-1][1] for points in lines.values()], 1.3 * em * unit), strict=True))
    for label, points in lines.items():
        away = (0.8 * em, (ends[label] - points[-1][1]) / unit)
        axes.annotate(shorten(label, 17), points[-1], xytext=away, textcoords="offset points", va="center")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlabel("threads", loc="left", fontsize=0.9 * em)
    label_vertical_axis(axes, medium, "ms, p50, model only")
    return axes.get_figure(root=True)


def separate(positions: list[float], gap: float) -> list[float]:
    """Return the positions, moved up as little as needed to be a gap apart."""
    moved: dict[int, float] = {}
    last = float("-inf")
    for k in sorted(range(len(positions)), key=lambda k: positions[k]):
        moved[k] = last = max(positions[k], last + gap)
    return [moved[k] for k in range(len(positions))]


def label_vertical_axis(axes: Axes, medium: Medium, words: str) -> None:
    """Write the vertical axis' label above it, horizontally."""
    axes.annotate(words, (0, 1), xycoords="axes fraction", xytext=(-3.8 * medium.letter, 0.7 * medium.letter),
                  textcoords="offset points", color=MUTED, fontsize=0.9 * medium.letter)  # fmt: skip


def draw_memory(result: Result, medium: Medium) -> Figure | None:
    """Draw the process' memory before the model is loaded, with it loaded, and at its peak."""
    parts = ("baseline_rss_bytes", "loaded_rss_bytes", "peak_rss_bytes")
    rows = []
    for key in list_measured(result):
        values = [find_number(result, f"subjects.{key}.memory.{part}") for part in parts]
        if values[2]:
            rows.append((key, [value or 0.0 for value in values]))
    if not rows:
        return None
    axes = make_rows(
        medium,
        len(rows),
        "MB of the process (RSS) · dark: interpreter and libraries · full: model loaded · pale: peak",
        row=3.0,
    )
    if not medium.wide:
        axes.set_xlabel("MB · dark: empty · full: loaded · pale: peak", loc="left", fontsize=0.9 * medium.letter)
    for row, (key, (base, loaded, peak)) in enumerate(rows):
        colour = ROLES.get(get_role(result, key), FAINT)
        axes.barh(row, peak / 1e6, height=0.3, color=colour, alpha=0.35)
        axes.barh(row, loaded / 1e6, height=0.3, color=colour)
        axes.barh(row, base / 1e6, height=0.3, color=INK, alpha=0.45)
        write_row(axes, medium, row, get_name(result, key), format_mb(peak), strong=get_role(result, key) == "subject")
    axes.set_xlim(0, max(values[2] for _, values in rows) / 1e6 * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(8 if medium.wide else 4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return finish_rows(axes)


def draw_soak(result: Result, medium: Medium) -> Figure | None:
    """Draw the process' memory over the soak's runs."""
    points = [(float(run), float(size) / 1e6) for run, size in find(result, "soak.rss_bytes") or []]
    if len(points) < 2:
        return None
    axes = make_axes(medium, 15, left=4.2, bottom=3.4, top=1.6)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    runs, sizes = zip(*points, strict=True)
    axes.plot(runs, sizes, color=BLUE, linewidth=0.14 * medium.letter)
    middle = sum(sizes) / len(sizes)
    reach = max(max(sizes) - middle, middle - min(sizes), 0.02 * middle) * 1.15  # a flat line should look flat
    axes.set_ylim(middle - reach, middle + reach)
    axes.set_xlim(runs[0], runs[-1])
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(6 if medium.wide else 4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlabel("inferences", loc="left", fontsize=0.9 * medium.letter)
    label_vertical_axis(axes, medium, "MB of the process (RSS); the axis does not begin at zero")
    return axes.get_figure(root=True)


def draw_sustained(result: Result, medium: Medium) -> Figure | None:
    """Draw the minutes of sustained work: p50 and p90, and below them temperature and frequency if known."""
    minutes = find(result, "sustained.minutes") or []
    if len(minutes) < 2:
        return None
    below = [(field, words) for field, words in (("temperature_c", "°C"), ("mhz", "MHz"))
             if any(find_number(minute, field) is not None for minute in minutes)]  # fmt: skip
    em, height = medium.letter, 15.0 + 8 * len(below)
    figure = Figure(figsize=(medium.width / 72, height * em / 72), dpi=72)
    left, across = 4.2 * em / medium.width, 1 - 7.2 * em / medium.width
    x = [float(minute["minute"]) + 1 for minute in minutes]
    top = figure.add_axes((left, (height - 11.6) / height, across, 10 / height))
    for field, colour in (("p90_ms", SKY), ("p50_ms", BLUE)):
        values = [find_number(minute, field) for minute in minutes]
        draw_series(top, medium, x, values, colour, field.removesuffix("_ms"), "bottom" if field == "p90_ms" else "top")
    top.set_ylim(0, top.get_ylim()[1] * 1.08)
    label_vertical_axis(top, medium, "ms for one slice, model only")
    panels = [top]
    for number, (field, words) in enumerate(below):
        panel = figure.add_axes((left, (height - 19.6 - 8 * number) / height, across, 5.4 / height))
        draw_series(panel, medium, x, [find_number(minute, field) for minute in minutes], INK)
        low, high = panel.get_ylim()
        panel.set_ylim(max(0, low - 0.2 * (high - low) - 1), high + 0.2 * (high - low) + 1)
        label_vertical_axis(panel, medium, words)
        panels.append(panel)
    for panel in panels:
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(length=0, pad=0.4 * em, labelsize=0.9 * em, labelbottom=panel is panels[-1])
        panel.grid(axis="y", color=RULE, linewidth=0.7)
        panel.set_xlim(x[0] - 0.5, x[-1] + 0.5)
        panel.xaxis.set_major_locator(MaxNLocator(10 if medium.wide else 5, integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(4 if panel is top else 2))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    panels[-1].set_xlabel("minute", loc="left", fontsize=0.9 * em)
    return figure


def draw_series(
    axes: Axes,
    medium: Medium,
    x: list[float],
    values: list[float | None],
    colour: str,
    label: str = "",
    side: str = "top",
) -> None:
    """Draw a line with gaps for missing values, its name at its end, above or below it."""
    y = [float("nan") if value is None else value for value in values]
    axes.plot(x, y, "-o", color=colour, linewidth=0.15 * medium.letter, markersize=0.22 * medium.letter)
    last = next((k for k in range(len(values) - 1, -1, -1) if values[k] is not None), None)
    if last is not None and label:
        away = (0.5 * medium.letter, 0.1 * medium.letter * (1 if side == "bottom" else -1))
        axes.annotate(label, (x[last], y[last]), xytext=away, textcoords="offset points", va=side, color=MUTED)


def draw_accuracy(result: Result, medium: Medium) -> Figure | None:
    """Draw the mean Dice of every scored subject with its interval."""
    rows = []
    for key in find(result, "accuracy") or {}:
        dice, low, high = (
            find_number(result, f"accuracy.{key}.dice.{part}") for part in ("value", "interval.0", "interval.1")
        )
        if dice is not None:
            rows.append((key, dice, dice if low is None else low, dice if high is None else high))
    if not rows:
        return None
    references = {str(find(result, f"accuracy.{key}.against")) for key, *_ in rows}
    words = f"mean Dice against {escape_hidden(references.pop())}, " if len(references) == 1 else "mean Dice, "
    words += "95 % interval" + (" · the axis does not begin at zero" if medium.wide else "")
    axes = make_rows(medium, len(rows), words)
    for row, (key, dice, low, high) in enumerate(rows):
        colour = ROLES.get(get_role(result, key), FAINT)
        axes.hlines(row, low, high, colors=colour, linewidth=0.25 * medium.letter)
        axes.plot([dice], [row], "o", color=colour, markersize=0.6 * medium.letter)
        against = f", against {escape_hidden(find(result, f'accuracy.{key}.against'))}" if references else ""
        label = get_name(result, key) + against
        write_row(axes, medium, row, label, format_score(dice), strong=get_role(result, key) == "subject")
    low, high = min(row[2] for row in rows), max(row[3] for row in rows)
    room = max(0.15 * (high - low), 0.005)
    axes.set_xlim(max(0, low - room), min(1, high + room))
    axes.xaxis.set_major_locator(MaxNLocator(6 if medium.wide else 4))
    return finish_rows(axes)


CHARTS = {
    "gains": draw_gains,
    "latency": draw_latency,
    "ratios": draw_ratios,
    "stages": draw_stages,
    "sweep": draw_sweep,
    "sustained": draw_sustained,
    "memory": draw_memory,
    "soak": draw_soak,
    "accuracy": draw_accuracy,
}
