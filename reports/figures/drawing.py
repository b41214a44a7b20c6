"""This module draws figures as SVG with matplotlib and converts them to PNG or PDF. Equal data give equal bytes.

Only the object-oriented interface is used: no global state, no display. Names are text, never mathematics: a `$` in
the name of a variant is a dollar sign.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ablations.errors import OutputError
from reports.content.blocks import Figure, FigureKind
from reports.content.formatting import printable
from reports.figures.heat_maps import draw_classes, draw_entropy
from reports.figures.lines import draw_curves, draw_grid, draw_profile
from reports.figures.style import BLACK, HALF_WIDTH, PALETTE, PANEL, WIDTH, colour_of, distinct, short_name
from reports.figures.tradeoff import OURS, PUBLISHED, STATIC

ImageFormat = Literal["svg", "png", "pdf"]

_TALLEST = 8.0
"""Inches: rows that would be taller are set closer, whatever becomes of their names."""
_ROOM, _CLOSEST = 2.6, 0.15
"""Inches: rows that would be taller than the first are set closer, down to the second, at which names are legible."""
_MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "o")
_WIDE = 3.0
"""Counts that differ by less than this factor have an even axis: a logarithmic one would have hardly a tick."""
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    # Names within the SVG are hashes: without a fixed salt they differ from run to run.
    "svg.hashsalt": "dyconv-ablations",
    "svg.fonttype": "path",
    # A `$` in a name is a dollar sign.
    "text.parse_math": False,
    "text.usetex": False,
    "savefig.dpi": 160,
}
_PPI = 160.0
"""Resolution of figures as PNG, in pixels per inch."""
_CLAIM_LINE = 44
"""Characters of a line that names a claim."""
_FEW_CLAIMS = 10
_FAR = 12.0
"""Differences beyond so many sizes of interest get a logarithmic axis."""
_MOST_NAMED = 150
"""Names of more rows would be too small to read and take most of the time of a drawing."""
_PAGE = b"""#set document(date: none)
#set page(width: auto, height: auto, margin: 0pt)
#image(bytes(sys.inputs.drawing), format: "svg")
"""

_drawn: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()
"""Figures drawn before, as SVG: several documents show them, and their other formats are made of it."""


def draw(figure: Figure, image_format: ImageFormat) -> bytes:
    """Return the drawn figure; equal tables give equal bytes. Its letters are outlines, which need no font.

    Raises:
        OutputError: If Typst refuses the drawing.
    """
    if figure not in _drawn:
        _drawn[figure] = _svg(figure)
    return _drawn[figure] if image_format == "svg" else _converted(_drawn[figure], image_format)


def _svg(figure: Figure) -> bytes:
    with mpl.rc_context(), warnings.catch_warnings():
        # A character that no font has is drawn as a box, which is all that can be done about it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # A user's own settings of matplotlib must not change a report.
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        buffer = io.BytesIO()
        _paint(figure).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _converted(svg: bytes, image_format: ImageFormat) -> bytes:
    """Return a drawing as PNG or PDF: a tenth of the time that drawing it once more would take."""
    import typst

    # Letters are outlines already, so that no font has to be looked for.
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False)
    inputs = {"drawing": svg.decode("utf-8")}
    try:
        converted: bytes = typst.compile(_PAGE, format=image_format, ppi=_PPI, font_paths=fonts, sys_inputs=inputs)
    except typst.TypstError as error:
        raise OutputError(f"Typst could not convert a figure: {error}") from None
    return converted


def _paint(figure: Figure) -> Canvas:
    """Paint a figure and lay it out."""
    # A drawing sets its own height, and the width only where it needs less.
    canvas = Canvas(layout="constrained", figsize=(HALF_WIDTH if figure.half else WIDTH, 1))
    FigureCanvasAgg(canvas)
    _PAINTERS[figure.kind](canvas, figure.data, figure.axis)
    engine = canvas.get_layout_engine()
    assert engine is not None
    # Laid out now, so that saving need not do it again.
    engine.execute(canvas)
    # Not "none", which leaves a placeholder: a figure that has one is drawn twice when it is saved.
    canvas.set_layout_engine(None)
    return canvas


def _draw_accuracy(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    networks, variants = distinct(data["network"]), distinct(data["variant"])
    # Of many rows, each is set closer, so that two figures share a page.
    height = min(0.24, max(_ROOM / len(variants), _CLOSEST), _TALLEST / len(variants))
    # Beside a drawing of half the width, long names take two lines.
    is_wrapped = canvas.get_figwidth() < WIDTH and max(map(len, variants)) > PANEL
    if is_wrapped:
        height = 0.28
    # Names of networks stand above the panels; a study without inspected networks has none.
    title_height = 0.2 if networks != [""] else 0
    canvas.set_figheight(0.75 + height * len(variants) + title_height)
    panels = canvas.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    rows = {variant: row for row, variant in enumerate(variants)}
    for index, (axes, network) in enumerate(zip(panels, networks, strict=True)):
        _paint_intervals(axes, data[data["network"] == network], rows, colour_of(index))
        axes.set_title(short_name(network), fontsize="medium")
    if len(variants) <= _MOST_NAMED:
        # The print shrinks with the rows, so that names do not overlap.
        size = min(8.5, 60 * height)
        names = list(map(short_name, variants))
        if is_wrapped:
            names = ["\n".join(textwrap.wrap(name, PANEL)) for name in names]
            size = 7.0
        panels[0].set_yticks(range(len(variants)), names, fontsize=size)
    else:
        panels[0].yaxis.set_major_formatter(lambda row, _: f"{row + 1:.0f}")
        panels[0].set_ylabel("row of the table")
    # Upside down, so that rows run from top to bottom as in the table.
    panels[0].set_ylim(len(variants) - 0.4, -0.6)
    canvas.supxlabel(axis, fontsize="medium")


def _paint_intervals(axes: Axes, data: pd.DataFrame, rows: dict[str, int], colour: str) -> None:
    # Dots of single seeds stand a little below the bar of their row.
    dot_positions = [rows[variant] + 0.24 for variant in data["variant"]]
    axes.plot(data["value"], dot_positions, "o", mfc="none", mec=colour, mew=0.8, ms=3, alpha=0.8, ls="none")
    means = data.drop_duplicates("variant").dropna(subset=["mean"])
    row_positions = [rows[variant] for variant in means["variant"]]
    axes.hlines(row_positions, means["low"], means["high"], color=colour, lw=1.4)
    axes.plot(means["mean"], row_positions, "o", color=colour, ms=4.6, ls="none")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _draw_claims(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw a panel per unit: a row per claim, its interval, and the published difference."""
    units = distinct(data["unit"])
    counts = [int((data["unit"] == unit).sum()) for unit in units]
    # Of many claims, each has one line, so that all of them fit on the first page.
    height, lines = (0.26, 2) if len(data) <= _FEW_CLAIMS else (0.16, 1)
    canvas.set_figheight(0.35 + sum(0.55 + height * count for count in counts))
    panels = canvas.subplots(len(units), 1, squeeze=False, height_ratios=[1.2 + count for count in counts])[:, 0]
    for axes, unit in zip(panels, units, strict=True):
        rows = data[data["unit"] == unit]
        _paint_claims(axes, rows, lines)
        axes.set_xlabel(f"{axis} ({short_name(unit)})")


def _paint_claims(axes: Axes, rows: pd.DataFrame, lines: int) -> None:
    positions = range(len(rows))
    size = float(rows["size"].max())
    axes.axvspan(-size, size, color="#EEEEEE", lw=0)
    axes.axvline(0, color=BLACK, lw=0.6)
    axes.hlines(positions, rows["low"], rows["high"], color=colour_of(0), lw=1.6)
    axes.plot(rows["value"], positions, "o", color=colour_of(0), ms=4.6, ls="none")
    axes.plot(rows["published"], positions, "D", mfc="none", mec=colour_of(1), mew=1.1, ms=4.6, ls="none")
    farthest = rows[["value", "low", "high", "published"]].abs().max().max()
    if farthest > _FAR * size:
        # Differences of tenths and of tens stand beside each other: even steps would hide the former.
        axes.set_xscale("symlog", linthresh=size, linscale=0.8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    names = []
    for claim in rows["claim"]:
        wrapped = textwrap.wrap(printable(claim), _CLAIM_LINE, max_lines=lines, placeholder=" …")
        names.append("\n".join(wrapped))
    axes.set_yticks(positions, names, fontsize=8 if lines > 1 else 7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _draw_pareto(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw accuracy against multiply-adds: all trials, the front, its members' intervals over repeats."""
    canvas.set_figheight(3.2)
    axes = canvas.subplots()
    axes.plot(data["multiply_adds"], data["top1"], "o", color="#9A9A9A", ms=3.2, ls="none", label="trial")
    front = data[data["in_front"]].sort_values("multiply_adds")
    axes.plot(
        front["multiply_adds"], front["top1"], "-o", color=colour_of(0), mfc="white", ms=4.6, lw=1.2, label="front"
    )
    repeated = front.dropna(subset=["mean"])
    if len(repeated):
        x, colour = repeated["multiply_adds"], colour_of(1)
        axes.vlines(x, repeated["low"], repeated["high"], color=colour, lw=1.4)
        axes.plot(x, repeated["mean"], "o", color=colour, ms=4.2, ls="none", label="front, again")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("multiply-adds (M)")
    axes.set_ylabel(axis)
    canvas.legend(loc="outside right upper")


def _draw_importance(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw a panel per method: the share of each factor, its interval, and the level of chance."""
    factors, methods = distinct(data["factor"]), distinct(data["method"])
    canvas.set_figheight(0.9 + 0.32 * len(factors))
    panels = canvas.subplots(1, len(methods), sharey=True, sharex=True, squeeze=False)[0]
    for index, (axes, method) in enumerate(zip(panels, methods, strict=True)):
        _paint_shares(axes, data[data["method"] == method], factors, colour_of(index))
        axes.set_title(method, fontsize="medium")
    panels[0].set_yticks(range(len(factors)), factors)
    # Upside down, in the order of the table.
    panels[0].set_ylim(len(factors) - 0.5, -0.5)
    canvas.supxlabel(axis, fontsize="medium")


def _paint_shares(axes: Axes, data: pd.DataFrame, factors: list[str], colour: str) -> None:
    row_positions = list(map(factors.index, data["factor"]))
    axes.hlines(row_positions, data["low"], data["high"], color=colour, lw=1.4)
    axes.plot(data["value"], row_positions, "o", color=colour, ms=4.6, ls="none")
    axes.plot(data["chance"], row_positions, "|", color="#333333", ms=11, mew=1.2, ls="none")
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _draw_effects(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw every effect of a factorial with its interval, those of as many factors in one colour."""
    terms = distinct(data["term"])
    height = min(0.24, max(_ROOM / len(terms), _CLOSEST), _TALLEST / len(terms))
    canvas.set_figheight(0.75 + height * len(terms))
    axes = canvas.subplots()
    axes.axvline(0, color="#333333", lw=0.8)
    for index, order in enumerate(distinct(data["order"])):
        effects = data[data["order"] == order]
        row_positions = list(map(terms.index, effects["term"]))
        axes.hlines(row_positions, effects["low"], effects["high"], color=colour_of(index), lw=1.4)
        axes.plot(effects["value"], row_positions, "o", color=colour_of(index), ms=4.6, ls="none")
    axes.set_yticks(range(len(terms)), list(map(short_name, terms)), fontsize=min(8.5, 60 * height))
    # Upside down, so that rows run from top to bottom as in the table.
    axes.set_ylim(len(terms) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(axis)


def _draw_tradeoff(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw accuracy against multiply-adds, a panel per set of images; published networks are lighter."""
    panels = distinct(data["panel"])
    canvas.set_figheight(2.5)
    subplots = canvas.subplots(1, len(panels), squeeze=False)[0]
    subject = "kind"
    if data["kind"].nunique() <= 2 and data["backbone"].nunique() > 1:
        # Static networks are hollow, so that colours can tell backbones apart.
        subject = "backbone"
    styles = _tradeoff_styles(distinct(data[subject]))
    for axes, panel in zip(subplots, panels, strict=True):
        points = data[data["panel"] == panel]
        _paint_tradeoff(axes, points, subject, styles)
        title = panel
        if len(panels) > 1:
            title = f"{points['source'].iloc[0]}: {panel}"
        axes.set_title("\n".join(textwrap.wrap(short_name(title), 2 * PANEL)), fontsize="medium")
    canvas.supxlabel("multiply-adds (M)", fontsize="medium")
    subplots[0].set_ylabel(axis)
    handles = []
    for label, (colour, marker) in styles.items():
        face = "white" if label == STATIC else colour
        line = Line2D([], [], color=colour, marker=marker, mfc=face, ms=4.6, lw=1.2, label=short_name(str(label)))
        handles.append(line)
    canvas.legend(handles=handles, loc="outside right upper")


def _tradeoff_styles(labels: list[str]) -> dict[str, tuple[str, str]]:
    """Return a colour and a marker for each label; static networks are black circles."""
    colours = [colour for colour in PALETTE if colour != BLACK]
    styles = {label: (BLACK, "o") for label in labels if label == STATIC}
    for index, label in enumerate(label for label in labels if label != STATIC):
        styles[label] = (colours[index % len(colours)], _MARKERS[index % len(_MARKERS)])
    return styles


def _paint_tradeoff(axes: Axes, data: pd.DataFrame, subject: str, styles: dict[str, tuple[str, str]]) -> None:
    # Published networks come first, so that ours lie over them.
    for source, alpha in ((PUBLISHED, 0.45), (OURS, 1.0)):
        points = data[data["source"] == source]
        _paint_links(axes, points, alpha)
        for (*_, label), line in points.groupby(["backbone", "depth", "kind"], sort=False, dropna=False):
            colour, marker = styles[line[subject].iloc[0]]
            ordered = line.sort_values("multiply_adds")
            face = "white" if label == STATIC else colour
            axes.vlines(ordered["multiply_adds"], ordered["low"], ordered["high"], color=colour, lw=1.2, alpha=alpha)
            axes.plot(
                ordered["multiply_adds"],
                ordered["mean"],
                color=colour,
                marker=marker,
                mfc=face,
                ms=4.6,
                lw=1.2,
                alpha=alpha,
            )
    unsure = data[data["confidence"].isin(["B", "C"])]
    for mark, point in zip(unsure["confidence"], unsure[["multiply_adds", "mean"]].to_numpy(), strict=True):
        axes.annotate(mark, tuple(point), xytext=(4, -7), textcoords="offset points", fontsize=6.5, color="#666666")
    _scale_multiply_adds(axes, data["multiply_adds"])


def _paint_links(axes: Axes, points: pd.DataFrame, alpha: float) -> None:
    """Draw a grey line from each static network to those of its size that improve on it."""
    for _, network in points.groupby(["backbone", "depth", "width"], dropna=False):
        static, others = network[network["kind"] == STATIC], network[network["linked"]]
        for begin in static[["multiply_adds", "mean"]].to_numpy():
            for end in others[["multiply_adds", "mean"]].to_numpy():
                axes.plot([begin[0], end[0]], [begin[1], end[1]], color="#BBBBBB", lw=0.8, alpha=alpha, zorder=1)


def _scale_multiply_adds(axes: Axes, counts: pd.Series) -> None:
    """Set a logarithmic axis in millions, or an even one where the networks are about equally large."""
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if counts.max() > _WIDE * counts.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


_PAINTERS: dict[FigureKind, Callable[[Canvas, pd.DataFrame, str], None]] = {
    "accuracy": _draw_accuracy,
    "claims": _draw_claims,
    "curves": draw_curves,
    "entropy": draw_entropy,
    "profile": draw_profile,
    "classes": draw_classes,
    "pareto": _draw_pareto,
    "importance": _draw_importance,
    "tradeoff": _draw_tradeoff,
    "effects": _draw_effects,
    "grid": draw_grid,
}
"""The functions that draw on a canvas a table whose values have the name of an axis."""
