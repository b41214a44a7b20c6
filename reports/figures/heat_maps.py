"""This module draws the entropy of the attention as heat maps: layers by epochs, with lines, and layers by classes."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas
from matplotlib.figure import SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from reports.figures.style import DASHES, PALETTE, PANEL, WIDTH, colour_of, distinct, short_name

_LEAST_LACK = 1e-3
"""The distance of an entropy from 1 below which all colours are alike."""
_MOST_CLASSES = 24
"""Names of more classes would not be legible; their numbers stand instead."""


def draw_entropy(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw a heat map per network, layers by epochs, and beside them a line per network: layers after the last."""
    networks = distinct(data["network"])
    rows = math.ceil(len(networks) / _MAPS_IN_A_ROW)
    # Five maps are three and two, not four and one.
    columns = math.ceil(len(networks) / rows)
    canvas.set_figheight(max(0.65 + 1.05 * rows, 1.85))
    parts: Any = canvas.subfigures(1, 2, width_ratios=(0.6 + columns, 2.6))
    left, right = parts
    panels = left.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    image = None
    for axes, network in zip(panels.flat, networks, strict=False):
        grid = data[data["network"] == network].pivot_table(index="depth", columns="step", values="mean")
        image = _paint_heat_map(axes, network, grid, (min(grid.columns), max(grid.columns)), _NARROW)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes in list(panels.flat)[len(networks) :]:
        axes.set_visible(False)
    _label_panels(left, panels, image, "epoch", axis)
    _paint_last_epochs(right, data, networks, axis)


_MAPS_IN_A_ROW = 4
_NARROW = 14
"""Characters that fit into a line above a heat map beside which there are lines."""


def _paint_last_epochs(canvas: SubFigure, data: pd.DataFrame, networks: list[str], axis: str) -> None:
    """Paint the entropy of each layer after the last epoch, on the scale of the heat maps' colours."""
    axes = canvas.subplots()
    for index, network in enumerate(networks):
        layers = data[data["network"] == network]
        last = layers[layers["step"] == layers["step"].max()]
        lacking = (1 - last["mean"]).clip(lower=_LEAST_LACK)
        dashes = DASHES[(index // len(PALETTE)) % len(DASHES)]
        axes.plot(last["depth"], lacking, dashes, color=colour_of(index), lw=1.2, label=short_name(network))
    axes.set_yscale("log")
    # Uniform attention, entropy 1, is at the top, as in the bar.
    axes.set_ylim(1.3, _LEAST_LACK / 1.3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda lack, _: f"{1 - lack:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel(axis, fontsize="small")
    axes.set_xlabel("layer, after the last epoch")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    # Names are short where there are two columns of them.
    columns = 1 if max(map(len, networks)) > _NARROW and len(networks) <= _MAPS_IN_A_ROW else 2
    canvas.legend(loc="outside lower center", fontsize="x-small", ncols=columns, columnspacing=1.0, handlelength=1.6)


def _paint_heat_map(
    axes: Axes, title: str, grid: pd.DataFrame, ends: tuple[float, float], line: int = PANEL
) -> AxesImage:
    """Paint entropies of layers from top to bottom; `ends` are those of the horizontal axis, `line` is of the title."""
    # Half a step on each side, so that a tick stands in the middle of its cell.
    extent = (ends[0] - 0.5, ends[1] + 0.5, max(grid.index) + 0.5, min(grid.index) - 0.5)
    # Most entropies of a trained network are within a hundredth of 1: only their distance from 1 can be told apart.
    lacking = (1 - grid).clip(lower=_LEAST_LACK)
    norm = LogNorm(_LEAST_LACK, 1.0)
    image = axes.imshow(lacking, norm=norm, aspect="auto", extent=extent, cmap="cividis_r", interpolation="nearest")
    size = "medium" if line >= PANEL else "small"
    axes.set_title("\n".join(textwrap.wrap(short_name(title), line)), fontsize=size)
    axes.grid(visible=False)
    return image


def _label_panels(
    canvas: Canvas | SubFigure, panels: Any, image: AxesImage | None, x_label: str, colour_label: str
) -> None:
    """Label heat maps of layers, which share their axes and a colour bar."""
    canvas.supxlabel(x_label, fontsize="medium")
    canvas.supylabel("layer, from the input", fontsize="medium")
    if image is not None:
        bar = canvas.colorbar(image, ax=panels, label=colour_label, shrink=0.9, aspect=30)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda lack, _: f"{1 - lack:g}"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        # Uniform attention, entropy 1, is at the top.
        bar.ax.invert_yaxis()


def _panels(canvas: Canvas, count: int, height: float) -> Any:
    """Return panels in rows of at most four, those beyond `count` not drawn."""
    columns = min(4, count)
    rows = math.ceil(count / columns)
    # One or two panels as wide as the page would be flat.
    width = WIDTH if columns > 2 else WIDTH * 0.7
    canvas.set_size_inches(width, 0.5 + height * rows)
    panels = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in list(panels.flat)[count:]:
        axes.set_visible(False)
    return panels


def draw_classes(canvas: Canvas, data: pd.DataFrame, axis: str) -> None:
    """Draw a heat map per variant: layers by classes."""
    variants, classes = distinct(data["variant"]), distinct(data["class"])
    panels = _panels(canvas, len(variants), 2.0)
    image = None
    for axes, variant in zip(panels.flat, variants, strict=False):
        grid = data[data["variant"] == variant].pivot_table(index="index", columns="class", values="mean")
        grid = grid.reindex(columns=classes)
        image = _paint_heat_map(axes, variant, grid, (0, len(classes) - 1))
        if len(classes) <= _MOST_CLASSES:
            axes.set_xticks(range(len(classes)), list(map(short_name, classes)), rotation=90, fontsize=7)
    _label_panels(canvas, panels, image, "class", axis)
