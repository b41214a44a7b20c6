"""This module draws figures of lines: a training over its epochs, entropy along the depth, a metric along a column."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.figures.style import DASHES, PALETTE, WIDTH, colour_of, distinct, short_name

_SHORT_LABEL = 12
"""Characters of a label of which three fit beside each other in half a page."""


def draw_curves(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw a panel per measure over the epochs, a line per variant with a band from the lowest to the highest seed.

    Panels stand side by side, or one above the other in a figure of half the width.
    """
    measures, variants = distinct(data["measure"]), distinct(data["variant"])
    is_half = canvas.get_figwidth() < WIDTH
    shape = (len(measures), 1) if is_half else (1, len(measures))
    panels = canvas.subplots(*shape, sharex=True, squeeze=False)
    for axes, measure in zip(panels.flat, measures, strict=True):
        _paint_curves(axes, data[data["measure"] == measure], variants)
        # In two lines, as a panel in half a page is low.
        axes.set_ylabel(measure.replace(" ", "\n", 1), fontsize="small")
    for axes in panels[-1]:
        axes.set_xlabel(axis)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    if is_half:
        longest = max(map(len, labels))
        columns = 3 if longest <= _SHORT_LABEL else 2 if longest <= 2 * _SHORT_LABEL else 1
        lines = math.ceil(len(labels) / columns)
        canvas.set_figheight(0.42 + 0.72 * len(measures) + 0.15 * lines)
        canvas.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small", columnspacing=1.0)
    else:
        canvas.set_figheight(2.1)
        # Fourteen names are as high as the axes.
        canvas.legend(handles, labels, loc="outside right center", ncols=1 + (len(variants) - 1) // 14)


def _paint_curves(axes: Axes, data: pd.DataFrame, variants: list[str]) -> None:
    for index, variant in enumerate(variants):
        curve, colour, label = data[data["variant"] == variant], colour_of(index), short_name(variant)
        # Markers show single epochs while there are few; more would hide the line.
        marker = "o" if len(curve) < 15 else ""
        # Colours begin anew after the palette, and other dashes tell the lines apart then.
        dashes = DASHES[(index // len(PALETTE)) % len(DASHES)]
        axes.plot(curve["step"], curve["mean"], dashes, color=colour, lw=1.3, marker=marker, ms=3, label=label)
        axes.fill_between(curve["step"], curve["low"], curve["high"], color=colour, alpha=0.12, lw=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def draw_grid(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw a metric along the column that lies across, a line per row; published lines in a panel of their own."""
    sources, rows = distinct(data["source"]), distinct(data["row"])
    levels = data.drop_duplicates("level").sort_values("position")
    # A single line needs no height.
    canvas.set_figheight(2.2 if len(rows) < 8 else 2.6)
    panels = canvas.subplots(1, len(sources), squeeze=False)[0]
    for axes, source in zip(panels, sources, strict=True):
        for index, row in enumerate(rows):
            line = data[(data["source"] == source) & (data["row"] == row)]
            if len(line):
                dashes = DASHES[(index // len(PALETTE)) % len(DASHES)]
                colour = colour_of(index)
                axes.plot(line["position"], line["mean"], dashes, color=colour, lw=1.2, marker="o", ms=3.4)
                axes.vlines(line["position"], line["low"], line["high"], color=colour, lw=1.2)
        axes.set_xticks(levels["position"], list(map(short_name, levels["level"])))
        axes.set_xlim(levels["position"].min() - 0.3, levels["position"].max() + 0.3)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        if len(sources) > 1:
            axes.set_title(short_name(source), fontsize="medium")
    panels[0].set_ylabel(axis)
    canvas.supxlabel(short_name(data["across"].iloc[0]), fontsize="medium")
    handles = []
    for index, row in enumerate(rows):
        dashes = DASHES[(index // len(PALETTE)) % len(DASHES)]
        handles.append(
            Line2D([], [], ls=dashes, color=colour_of(index), marker="o", ms=3.4, lw=1.2, label=short_name(row))
        )
    canvas.legend(handles=handles, loc="outside right center", fontsize="small")


def draw_profile(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw the entropy of each layer along the depth, a line per variant, with the resolutions above."""
    canvas.set_figheight(2.3)
    axes = canvas.subplots()
    variants = distinct(data["variant"])
    for index, variant in enumerate(variants):
        profile, colour, label = data[data["variant"] == variant], colour_of(index), short_name(variant)
        # Profiles often lie on each other: their dashes differ as well as their colours.
        dashes = DASHES[index % len(DASHES)]
        axes.plot(profile["index"], profile["mean"], dashes, color=colour, lw=1.3, marker="o", ms=2.6, label=label)
        axes.fill_between(profile["index"], profile["low"], profile["high"], color=colour, alpha=0.18, lw=0)
    axes.set_xlabel("layer, from the input")
    axes.set_ylabel(axis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _mark_resolutions(axes, data[data["variant"] == variants[0]])
    canvas.legend(loc="outside right center")


def _mark_resolutions(axes: Axes, layers: pd.DataFrame) -> None:
    """Draw a line where the input resolution changes, and the resolutions above, between the lines."""
    axes.set_xlim(layers["index"].min() - 0.5, layers["index"].max() + 0.5)
    # Neighbouring layers of one resolution get one number: the sum rises where the resolution changes.
    runs = (layers["resolution"] != layers["resolution"].shift()).cumsum()
    for _, run in layers.groupby(runs):
        begin, end = run["index"].min(), run["index"].max()
        if begin > layers["index"].min():
            axes.axvline(begin - 0.5, color="#999999", lw=0.6, ls=":")
        position = ((begin + end) / 2, 1.01)
        label = str(run["resolution"].iloc[0])
        # Above a single layer there is no room for the unit.
        if end > begin:
            label += " px"
        axes.annotate(label, position, xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=7)
