"""Draws the figures of a search with matplotlib; `reports.figures.drawing` sets the style and writes the files."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

WIDTH = 6.3
_BLUE, _GREY, _ORANGE = "#0072B2", "#9A9A9A", "#D55E00"
_COLOURS = (_BLUE, _ORANGE)


def draw_pareto(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draws accuracy against multiply-adds: all trials, the front, its members' intervals over repeats."""
    canvas.set_size_inches(WIDTH, 3.2)
    axes = canvas.subplots()
    axes.plot(data["multiply_adds"], data["top1"], "o", color=_GREY, ms=3.2, ls="none", label="trial")
    front = data[data["in_front"]].sort_values("multiply_adds")
    axes.plot(front["multiply_adds"], front["top1"], "-o", color=_BLUE, mfc="white", ms=4.6, lw=1.2, label="front")
    known = front.dropna(subset=["mean"])
    if len(known):
        axes.vlines(known["multiply_adds"], known["low"], known["high"], color=_ORANGE, lw=1.4)
        axes.plot(known["multiply_adds"], known["mean"], "o", color=_ORANGE, ms=4.2, ls="none", label="front, again")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("multiply-adds (M)")
    axes.set_ylabel(axis)
    canvas.legend(loc="outside right upper")


def draw_importance(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draws a panel per method: the share of each factor, its interval, and what chance gives."""
    factors, methods = list(dict.fromkeys(data["factor"])), list(dict.fromkeys(data["method"]))
    canvas.set_size_inches(WIDTH, 0.9 + 0.32 * len(factors))
    panels = canvas.subplots(1, len(methods), sharey=True, sharex=True, squeeze=False)[0]
    for axes, method, colour in zip(panels, methods, _COLOURS, strict=False):
        _paint_search(axes, data[data["method"] == method], factors, colour)
        axes.set_title(method, fontsize="medium")
    panels[0].set_yticks(range(len(factors)), factors)
    panels[0].set_ylim(len(factors) - 0.5, -0.5)
    canvas.supxlabel(axis, fontsize="medium")


def _paint_search(axes: Axes, data: pd.DataFrame, factors: list[str], colour: str) -> None:
    places = [factors.index(name) for name in data["factor"]]
    axes.hlines(places, data["low"], data["high"], color=colour, lw=1.4)
    axes.plot(data["value"], places, "o", color=colour, ms=4.6, ls="none")
    axes.plot(data["chance"], places, "|", color="#333333", ms=11, mew=1.2, ls="none")
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
