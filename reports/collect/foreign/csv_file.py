"""This module reads results from a CSV file: a row per repeat, with the variant, the seed and at least one metric.

A comma, a semicolon or a tab may separate the columns; the first line names them. Each message has the line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ablations.errors import ResultsError
from reports.collect.foreign.images import CORRECT, read_correct
from reports.collect.foreign.measurements import (
    LARGEST,
    Columns,
    ForeignResults,
    Measurement,
    Source,
    checked_seed,
    checked_variant,
    no_such_name,
    the_only_metric,
)
from reports.collect.tracked_runs import FINISHED

CHECKPOINT = "checkpoint"
"""The column that says which network was evaluated: rows that share one are evaluations of the same network."""

_MOST_BYTES = 64_000_000
_DELIMITERS = (",", ";", "\t")
_NO_VALUE = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})
_STATUS = ("status", "state")
"""Columns in which exports say whether a run is over (W&B writes `State`)."""
_OVER = frozenset({"finished", "completed", "complete", "success", "succeeded", "ok", "done"})
_NOT_OVER = frozenset({"running", "failed", "crashed", "killed", "queued", "pending", "preempted", "preempting"})

Row = Mapping[str, str]


def read_csv(path: Path, columns: Columns) -> ForeignResults:
    """Return the results in a CSV file.

    Raises:
        ResultsError: If it cannot be read, has not the columns, or a seed or a value is none.
    """
    content = _content(path)
    text = _text(content, path)
    header, rows = _table(text, path)
    for name, option in ((columns.variant, "--variant-from"), (columns.seed, "--seed-from")):
        _check_column(name, header, path, option)
    metric = columns.metric
    if metric is None:
        metric = the_only_metric(_number_columns(header, rows, columns), str(path))
    _check_column(metric, header, path, "--metric")
    status = _status_column(header, rows)
    measurements = tuple(_measurements(rows, path, columns, metric, status))
    if not any(measurement.status == FINISHED for measurement in measurements):
        raise ResultsError(f"{path} has no value of {metric!r} in any of its {len(measurements)} rows.")
    source = Source("csv", path.name, hashlib.sha256(content).hexdigest())
    return ForeignResults(source, columns, metric, measurements)


def _content(path: Path) -> bytes:
    try:
        # Asked first: a device or a pipe has no end.
        if path.exists() and not path.is_file():
            raise ResultsError(f"{path} is not a file. Name a CSV file, or mlflow:URI/EXPERIMENT.")
        if path.exists() and path.stat().st_size > _MOST_BYTES:
            raise ResultsError(f"{path} is larger than {_MOST_BYTES // 1_000_000} MB. Leave out what is no result.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ResultsError(f"{path} cannot be read: {reason}. Name a CSV file, or mlflow:URI/EXPERIMENT.") from None


def _text(content: bytes, path: Path) -> str:
    try:
        # Excel writes a mark in front, which is no part of the first column's name.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ResultsError(f"{path}:{line}: not UTF-8 text. Save it as CSV in UTF-8.") from None


def _table(text: str, path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Return the names of the columns, and the rows with their lines."""
    first_line = text.lstrip("\r\n").partition("\n")[0]
    # The one that occurs most often in the heading; without any there is one column.
    delimiter = max(_DELIMITERS, key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[tuple[int, Row]] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                continue
            if len(cells) != len(header):
                raise ResultsError(
                    f"{path}:{reader.line_num}: {len(cells)} cells for {len(header)} columns ({', '.join(header)})."
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise ResultsError(f"{path}:{reader.line_num}: not CSV: {error}.") from None
    if not header:
        raise ResultsError(f"{path} is empty. Its first line names the columns: variant, seed and a metric.")
    if not rows:
        raise ResultsError(f"{path} has no row below the names of its columns ({', '.join(header)}).")
    return header, rows


def _check_column(name: str, header: Sequence[str], path: Path, option: str) -> None:
    if name not in header:
        raise no_such_name("column", name, header, str(path), option)
    if header.count(name) > 1:
        raise ResultsError(f"{path}:1: {header.count(name)} columns are called {name!r}. Rename all but one.")


def _number_columns(header: Sequence[str], rows: Sequence[tuple[int, Row]], columns: Columns) -> dict[str, None]:
    """Return the columns of numbers that may be a metric: not the seed, and not the numbering that pandas adds."""
    others = [name for name in header if name and name not in (columns.variant, columns.seed, CHECKPOINT, CORRECT)]
    candidates: dict[str, None] = {}
    for name in others:
        texts = [row[name].strip().lower() for _, row in rows]
        values = [text for text in texts if text not in _NO_VALUE]
        # Most will do: a cell that is no number is told with its line, when the column is read.
        if values and sum(map(_is_number, values)) > len(values) / 2:
            candidates[name] = None
    # A single column must be the metric, whatever stands in it.
    return candidates or (dict.fromkeys(others) if len(others) == 1 else {})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _status_column(header: Sequence[str], rows: Sequence[tuple[int, Row]]) -> str | None:
    """Return the column that says whether a run is over: by its name, and only if all its words are known."""
    for name in header:
        if name.lower() in _STATUS:
            words = {row[name].strip().lower() for _, row in rows}
            if words <= _OVER | _NOT_OVER:
                return name
    return None


def _measurements(
    rows: Sequence[tuple[int, Row]], path: Path, columns: Columns, metric: str, status_column: str | None
) -> Iterator[Measurement]:
    for line, row in rows:
        place = f"{path}:{line}"
        variant = checked_variant(row[columns.variant], place)
        seed = checked_seed(row[columns.seed], place)
        status, value = FINISHED, math.nan
        if status_column is not None and row[status_column].strip().lower() in _NOT_OVER:
            # What a run that is not over has logged so far is no result.
            status = row[status_column].strip().lower()
        else:
            value = _value(row[metric], metric, place)
        if status == FINISHED and math.isnan(value):
            status = f"without a value ({row[metric].strip() or 'empty'})"
        checkpoint, correctness = row.get(CHECKPOINT, "").strip(), None
        if row.get(CORRECT, "").strip() and status == FINISHED:
            correctness = read_correct(path.parent / row[CORRECT].strip(), metric, value, place)
        yield Measurement(variant, seed, status, value, f"line {line}", checkpoint, correctness)


def _value(text: str, metric: str, place: str) -> float:
    """Return a value of the metric, NaN for one that is not there."""
    stripped = text.strip()
    if stripped.lower() in _NO_VALUE:
        return math.nan
    try:
        # Python reads 1_000 as a number, which no other program does.
        value = math.nan if "_" in stripped else float(stripped)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        hint = ""
        if _is_number(stripped.replace(",", ".")):
            hint = " Write a point in place of the comma."
        elif stripped.endswith("%") and _is_number(stripped[:-1]):
            hint = " Leave out the sign, and say unit: per cent in the study file."
        raise ResultsError(f"{place}: {metric} is {stripped[:40]!r}, which is no number.{hint}")
    if abs(value) > LARGEST:
        raise ResultsError(f"{place}: {metric} is {value:g}. Leave the cell empty if the run has diverged.")
    return value
