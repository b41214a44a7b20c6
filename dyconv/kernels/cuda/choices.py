"""This module chooses the algorithm for a shape on a CUDA device: by a table, or by the estimate in `roofline`.

The table is `choices.json`. `python -m benchmarks.gpu choices` measures the device it runs on and writes its part anew;
the part of a device that nobody has measured says so, and was made by the estimate. A choice depends on the device's
name, the dtype and the shape alone, so two runs on one kind of device compute alike. A shape that is not in the table
is estimated, by shares of the peak that were fitted to the measured ones. Batches share the row of the next power of
two.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dyconv.kernels.cuda import dense, depthwise, device
from dyconv.kernels.cuda.roofline import DEVICES, SHARES, Device, seconds
from dyconv.kernels.geometry import Geometry
from dyconv.kernels.tracing import constant, remembered

TABLE = Path(__file__).with_name("choices.json")
FORMAT = 1
NOT_MEASURED = "not measured yet: made by the roofline of this device"
_PROGRAMS = {"tiled": dense.computes, "direct": depthwise.computes}
"""The algorithms that are Triton programs, and whether they compute a geometry."""


class Target(NamedTuple):
    """The device and dtype that a choice is for, and whether the Triton programs compute there."""

    name: str
    dtype: str
    has_programs: bool

    def programs(self, g: Geometry) -> frozenset[str]:
        """Return the algorithms among the Triton programs that compute this geometry here."""
        if not self.has_programs:
            return frozenset()
        return frozenset(name for name, computes in _PROGRAMS.items() if computes(g))


class Choices(NamedTuple):
    """A device's part of the table: its data sheet, shares of the peak, and algorithms by shape, the fastest first."""

    device: Device
    shares: dict[str, float]
    rows: dict[tuple[Any, ...], tuple[str, ...]]


def target_of(input: Tensor) -> Target | None:
    """Return the target of a call with this input; None if it is not on a CUDA device."""
    if not device.is_on_device(input):
        return None
    return Target(_name_of(input.device.index), str(input.dtype).removeprefix("torch."), device.computes(input))


@remembered
@constant
def _name_of(index: int | None) -> str:
    """Return the name of a device; of an unknown one where there is none, as tensors without memory may be on it."""
    return torch.cuda.get_device_name(index) if torch.cuda.is_available() else ""


@remembered
@constant
def fastest(shape: tuple[Any, ...], names: tuple[str, ...], device_name: str, dtype: str) -> str:
    """Return the one of the algorithms `names` that is fastest for a shape on a device.

    `shape` are the fields of a `Geometry`, plain, as a compiler does not keep other tuples whole.
    """
    g, choices = Geometry(*shape), choices_of(device_name)
    # float64 has no row and no rate of its own.
    if dtype not in choices.device.tensor:
        dtype = "float32"
    for name in ("plain", *choices.rows.get(key_of(g, dtype), ())):
        if name in names:
            return name
    return min(names, key=lambda name: seconds(name, g, choices.device, dtype, choices.shares))


def key_of(g: Geometry, dtype: str) -> tuple[Any, ...]:
    """Return what a row of the table is found by: everything, with the batch rounded up to a power of two."""
    return g._replace(batch=1 << (g.batch - 1).bit_length()), dtype


@cache
def choices_of(name: str) -> Choices:
    """Return the part of the table for a device: the longest name there that its own begins with, else the first."""
    table = json.loads(TABLE.read_text())
    known = [entry for entry in table["devices"] if name.startswith(entry)]
    entry = max(known, key=len) if known else next(iter(table["devices"]))
    part = table["devices"][entry]
    sheet = Device(**part["sheet"])
    rows = {_row_key(row): tuple(row["seconds"]) for row in part["rows"]}
    return Choices(sheet, {**SHARES, **part["shares"]}, rows)


def _row_key(row: dict[str, Any]) -> tuple[Any, ...]:
    return geometry_of(row), row["dtype"]


def geometry_of(row: dict[str, Any]) -> Geometry:
    """Return the shape of a row, whose batch is a power of two."""
    fields: list[Any] = [tuple(value) if isinstance(value, list) else value for value in row["shape"]]
    return Geometry(*fields)


def row_of(g: Geometry, dtype: str, times: dict[str, float]) -> dict[str, Any]:
    """Return a row of the table: a shape, and seconds of a step by algorithm, the fastest first."""
    ordered = dict(sorted(times.items(), key=lambda item: item[1]))
    return {"shape": list(key_of(g, dtype)[0]), "dtype": dtype, "seconds": ordered}


def estimated(name: str, shapes: Sequence[Geometry]) -> dict[str, Any]:
    """Return the part of the table for a device that was not measured, by its roofline."""
    sheet, rows = DEVICES[name], []
    for g in shapes:
        for dtype in ("bfloat16", "float32"):
            names = algorithms_for(g)
            times = {other: float(f"{seconds(other, g, sheet, dtype, SHARES):.3g}") for other in names}
            rows.append(row_of(g, dtype, times))
    return {"measured": None, "note": NOT_MEASURED, "sheet": sheet._asdict(), "shares": SHARES, "rows": rows}


def algorithms_for(g: Geometry) -> list[str]:
    """Return the algorithms worth measuring for a shape, several images and kernels."""
    names = ["mix_input", "mix_output", "grouped"]
    if g.groups == 1:
        names.append("product")
    if g.depthwise:
        names += ["depthwise", "taps"]
    return names + sorted(name for name, computes in _PROGRAMS.items() if computes(g))


def write(devices: dict[str, Any], path: Path = TABLE) -> None:
    """Write the table, a row a line."""
    parts = []
    for name, part in devices.items():
        rows = ",\n".join(f"    {json.dumps(row)}" for row in part["rows"])
        head = ",\n".join(f"   {json.dumps(key)}: {json.dumps(part[key])}" for key in part if key != "rows")
        parts.append(f'  {json.dumps(name)}: {{\n{head},\n   "rows": [\n{rows}\n   ]\n  }}')
    head = f' "format": {FORMAT},\n "shape": {json.dumps(Geometry._fields)},\n "devices": {{\n'
    path.write_text("{\n" + head + ",\n".join(parts) + "\n }\n}\n")
