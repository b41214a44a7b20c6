"""This module measures the table of choices: the seconds of every algorithm at the shapes of the networks' layers.

Shares of the peak are fitted to the measurements, so that a shape that is not in the table is estimated by what this
device does. Tiles of the Triton programs are timed for a few shapes, to see whether others would be faster.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.clock import medians
from benchmarks.gpu.parts import Case, Result, arguments_of, drawn, shapes, title_of
from benchmarks.gpu.setting import Setting
from benchmarks.timing import Step
from dyconv.functional import dynamic_conv2d
from dyconv.kernels.cuda import choices, launching, roofline
from dyconv.kernels.cuda.choices import algorithms_for, geometry_of, row_of
from dyconv.kernels.cuda.roofline import Device
from dyconv.kernels.geometry import Geometry

_SHARES: tuple[float, ...] = tuple(0.01 * 1.1**step for step in range(49))
"""Shares of the peak that are tried, from a hundredth to all of it."""
_GOOD_ENOUGH = 20.0
"""Times the fastest: an algorithm this slow at the first try is not timed again."""


def cases(setting: Setting) -> Iterator[Case]:
    """Yield every shape of the table, in half precision first, as trainings on a GPU run in it."""
    listed = shapes(setting) if setting.tiny else _listed()
    for dtype in (torch.bfloat16, torch.float32):
        for g in listed:
            name = str(dtype).removeprefix("torch.")
            yield Case(f"{title_of(g)}, batch {g.batch}, {name}", partial(_measure, g, dtype, setting))


def _listed() -> list[Geometry]:
    """Return every shape of the table, of all devices: a part that was measured in too little time lacks some."""
    table = json.loads(choices.TABLE.read_text())
    rows = [row for part in table["devices"].values() for row in part["rows"]]
    # A dictionary as an ordered set.
    return list(dict.fromkeys(geometry_of(row) for row in rows))


def _measure(g: Geometry, dtype: torch.dtype, setting: Setting) -> Result:
    """Return a row of the table."""
    torch.manual_seed(0)
    tensors = drawn(g, dtype, setting)
    steps = {name: _step(tensors, g, name) for name in algorithms_for(g)}
    first = medians(steps, setting.device, 0.0)
    near = {name: step for name, step in steps.items() if first[name] <= _GOOD_ENOUGH * min(first.values())}
    return row_of(g, str(dtype).removeprefix("torch."), {**first, **medians(near, setting.device, setting.seconds / 4)})


def _step(tensors: tuple[torch.Tensor, ...], g: Geometry, name: str) -> Step:
    images, weight, attention = tensors
    output = dynamic_conv2d(images, weight, attention, algorithm=name, **arguments_of(g))
    gradient = torch.randn_like(output)

    def step() -> None:
        result = dynamic_conv2d(images, weight, attention, algorithm=name, **arguments_of(g))
        torch.autograd.grad(result, tensors, gradient)

    return step


def tiles(setting: Setting) -> Iterator[Case]:
    """Yield shapes for which every tile of the Triton programs is timed."""
    for g in shapes(setting):
        yield Case(title_of(g), partial(_tiles, g, setting))


def _tiles(g: Geometry, setting: Setting) -> Result:
    """Return the seconds of a step by tile, the one that is taken unasked among them."""
    tensors = drawn(g, torch.bfloat16, setting)
    name = "direct" if g.depthwise else "tiled"
    step = _step(tensors, g, name)
    listed: dict[str, Sequence[launching.Tile]] = {
        "product": launching.PRODUCT_TILES,
        "gradient": launching.GRADIENT_TILES,
    }
    if g.depthwise:
        listed = {"depthwise": launching.DEPTHWISE_TILES}
    steps: dict[str, Callable[[], object]] = {"chosen": step}
    for program, candidates in listed.items():
        for tile in candidates:
            steps[f"{program} {'×'.join(map(str, tile[:3]))}"] = _with_tile(step, program, tile)
    return {"seconds": medians(steps, setting.device, setting.seconds / 2)}


def _with_tile(step: Step, program: str, tile: launching.Tile) -> Step:
    def forced_step() -> None:
        with launching.forced(**{program: tile}):
            step()

    return forced_step


def fitted_shares(rows: Sequence[dict[str, Any]], sheet: Device) -> dict[str, float]:
    """Return for each measured algorithm the share of the peak whose estimates are nearest to its times.

    Nearest in the mean of the absolute logarithm, so that twice and half the time are equally far.
    """
    times: dict[str, list[tuple[Geometry, str, float]]] = {}
    for row in rows:
        for name, seconds in row["seconds"].items():
            times.setdefault(name, []).append((geometry_of(row), row["dtype"], seconds))
    return {name: _nearest_share(name, measured, sheet) for name, measured in times.items()}


def _nearest_share(name: str, measured: Sequence[tuple[Geometry, str, float]], sheet: Device) -> float:
    def distance(share: float) -> float:
        # A grouped layer's mixing is estimated by the share of grouped convolutions: both are tried together.
        shares = {name: share, "grouped": share}
        return sum(
            abs(math.log(roofline.seconds(name, g, sheet, dtype, shares) / seconds)) for g, dtype, seconds in measured
        )

    nearest: float = min(_SHARES, key=distance)
    return round(nearest, 4)


def table_part(name: str, rows: Sequence[dict[str, Any]], sheet: Device, origin: dict[str, str]) -> dict[str, Any]:
    """Return the part of the table for a device that was measured."""
    return {
        "measured": origin,
        "note": "measured by python -m benchmarks.gpu: seconds of a step, forward and backward",
        "sheet": sheet._asdict(),
        "shares": fitted_shares(rows, sheet),
        "rows": list(rows),
    }


def is_known(name: str) -> bool:
    """Return True if there is a data sheet of a device."""
    return any(name.startswith(known) for known in roofline.DEVICES)


def sheet_of(name: str, measured: dict[str, Any]) -> Device:
    """Return the data sheet of a device, or what was measured where none is known."""
    for known, sheet in roofline.DEVICES.items():
        if name.startswith(known):
            return sheet
    rates: dict[str, float] = measured["operations_per_second"]
    tensor = {**rates, "float16": rates["bfloat16"]}
    return Device(tensor, measured["vector"], measured["bytes_per_second"], measured["start_seconds"])


def write_table(name: str, part: dict[str, Any], path: Path) -> None:
    """Write the part of a device into the table, in place of its last one and of the estimate for all of its name."""
    table: dict[str, Any] = json.loads(choices.TABLE.read_text())
    others = {}
    for known, other in table["devices"].items():
        is_estimate = other["measured"] is None and name.startswith(known)
        if known != name and not is_estimate:
            others[known] = other
    # The first part is for devices that nobody knows: better a measured one.
    choices.write({name: part, **others}, path)


def triton_version() -> str:
    """Return the version of Triton, or "none"."""
    try:
        return version("triton")
    except PackageNotFoundError:
        return "none"
