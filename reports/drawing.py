"""Figures as data → SVG, PNG or PDF bytes with matplotlib. The same data give the same bytes.

Only the object-oriented interface is used: no global state, no display. Names are text, never mathematics: a `$` in
the name of a variant is a dollar sign.
"""

from __future__ import annotations

import io
import math
import warnings
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from reports.blocks import Figure
from reports.formatting import printable

ImageFormat = Literal["svg", "png", "pdf"]

WIDTH = 6.3
"""Inches: the width of the text on an A4 page."""

_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D1F")
"""Okabe and Ito's colours, told apart by colour-blind readers; the yellow is darkened to be seen on white."""
_DASHES = ("-", "--", "-.", ":")
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
    "svg.hashsalt": "dyconv-ablations",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "text.usetex": False,
    "savefig.dpi": 160,
}
_NO_DATE: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_LONGEST = 34


def draw(figure: Figure, image_format: ImageFormat) -> bytes:
    """Returns the drawn figure; equal figures give equal bytes."""
    painters = {"accuracy": _draw_accuracy, "curves": _draw_curves, "entropy": _draw_entropy}
    with mpl.rc_context(), warnings.catch_warnings():
        # A character that no font has is drawn as a box, which is all that can be done about it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        canvas = Canvas(layout="constrained")
        FigureCanvasAgg(canvas)
        painters[figure.kind](canvas, figure.data, figure.axis)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format=image_format, metadata=_NO_DATE[image_format])
    return buffer.getvalue()


def _name(text: str) -> str:
    clean = printable(text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"


def _draw_accuracy(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    networks, variants = list(dict.fromkeys(data["network"])), list(dict.fromkeys(data["variant"]))
    canvas.set_size_inches(WIDTH, 0.75 + 0.24 * len(variants) + (0.2 if networks != [""] else 0))
    panels = canvas.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    rows = {variant: row for row, variant in enumerate(variants)}
    for colour, (axes, network) in zip(_cycle(len(networks)), zip(panels, networks, strict=True), strict=True):
        _paint_intervals(axes, data[data["network"] == network], rows, colour)
        axes.set_title(_name(network), fontsize="medium")
    panels[0].set_yticks(range(len(variants)), [_name(variant) for variant in variants])
    panels[0].set_ylim(len(variants) - 0.4, -0.6)
    canvas.supxlabel(axis, fontsize="medium")


def _paint_intervals(axes: Axes, data: pd.DataFrame, rows: dict[str, int], colour: str) -> None:
    below = [rows[variant] + 0.24 for variant in data["variant"]]
    axes.plot(data["value"], below, "o", mfc="none", mec=colour, mew=0.8, ms=3, alpha=0.8, ls="none")
    means = data.drop_duplicates("variant").dropna(subset=["mean"])
    places = [rows[variant] for variant in means["variant"]]
    axes.hlines(places, means["low"], means["high"], color=colour, lw=1.4)
    axes.plot(means["mean"], places, "o", color=colour, ms=4.6, ls="none")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _draw_curves(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    canvas.set_size_inches(WIDTH, 2.9)
    axes = canvas.subplots()
    variants = list(dict.fromkeys(data["variant"]))
    for index, (colour, variant) in enumerate(zip(_cycle(len(variants)), variants, strict=True)):
        own = data[data["variant"] == variant]
        marker = "o" if len(own) < 15 else ""
        dashes = _DASHES[(index // len(_PALETTE)) % len(_DASHES)]
        axes.plot(own["step"], own["mean"], dashes, color=colour, lw=1.3, marker=marker, ms=3, label=_name(variant))
        axes.fill_between(own["step"], own["low"], own["high"], color=colour, alpha=0.12, lw=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(axis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    canvas.legend(loc="outside right center", ncols=1 + (len(variants) - 1) // 14)


def _draw_entropy(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    networks = list(dict.fromkeys(data["network"]))
    across = min(4, len(networks))
    down = math.ceil(len(networks) / across)
    canvas.set_size_inches(WIDTH if across > 2 else WIDTH * 0.7, 0.6 + 1.75 * down)
    panels = canvas.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    image = None
    for axes, network in zip(panels.flat, networks, strict=False):
        own = data[data["network"] == network].pivot_table(index="depth", columns="step", values="mean")
        steps, layers = own.columns, own.index
        extent = (min(steps) - 0.5, max(steps) + 0.5, max(layers) + 0.5, min(layers) - 0.5)
        image = axes.imshow(own, vmin=0, vmax=1, aspect="auto", extent=extent, cmap="cividis", interpolation="nearest")
        axes.set_title(_name(network), fontsize="medium")
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in list(panels.flat)[len(networks) :]:
        axes.set_visible(False)
    canvas.supxlabel("epoch", fontsize="medium")
    canvas.supylabel("layer, from the input", fontsize="medium")
    if image is not None:
        canvas.colorbar(image, ax=panels, label=axis, shrink=0.9, aspect=30)


def _cycle(count: int) -> list[str]:
    return [_PALETTE[index % len(_PALETTE)] for index in range(count)]
