"""This module draws figures of lines: a metric over the epochs, and the entropy along the depth of a network."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from reports.figures.style import DASHES, PALETTE, WIDTH, colour_of, distinct, short_name


def draw_curves(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw a metric over the epochs, a line per variant with a band from the lowest to the highest seed."""
    canvas.set_size_inches(WIDTH, 2.3)
    axes = canvas.subplots()
    variants = distinct(data["variant"])
    for index, variant in enumerate(variants):
        curve, colour, label = data[data["variant"] == variant], colour_of(index), short_name(variant)
        # Markers show single epochs while there are few; more would hide the line.
        marker = "o" if len(curve) < 15 else ""
        # Colours begin anew after the palette, and other dashes tell the lines apart then.
        dashes = DASHES[(index // len(PALETTE)) % len(DASHES)]
        axes.plot(curve["step"], curve["mean"], dashes, color=colour, lw=1.3, marker=marker, ms=3, label=label)
        axes.fill_between(curve["step"], curve["low"], curve["high"], color=colour, alpha=0.12, lw=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(axis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Fourteen names are as high as the axes.
    canvas.legend(loc="outside right center", ncols=1 + (len(variants) - 1) // 14)


def draw_profile(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw the entropy of each layer along the depth, a line per variant, with the resolutions above."""
    canvas.set_size_inches(WIDTH, 2.9)
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
