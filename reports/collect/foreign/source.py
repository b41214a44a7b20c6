"""This module reads foreign results by their address: the path of a CSV file, or `mlflow:URI/EXPERIMENT`."""

from __future__ import annotations

from pathlib import Path

from reports.collect.foreign.csv_file import read_csv
from reports.collect.foreign.experiment import read_experiment, split_address
from reports.collect.foreign.measurements import Columns, ForeignResults, SourceKind

SCHEME = "mlflow:"
"""The beginning of the address of an MLflow experiment."""


def read_results(address: str, columns: Columns) -> ForeignResults:
    """Return the results at an address.

    Raises:
        ResultsError: If they cannot be read, or do not say what they must.
        TrackingError: If a tracking store cannot be read.
    """
    if address.startswith(SCHEME):
        uri, experiment = split_address(address.removeprefix(SCHEME))
        return read_experiment(uri, experiment, columns)
    return read_csv(Path(address).expanduser(), columns)


def kind_of(address: str) -> SourceKind:
    """Return the kind of source that an address names."""
    return "mlflow" if address.startswith(SCHEME) else "csv"


def default_name(address: str) -> str:
    """Return the name of a study that only its results name: the file's without its ending, or the experiment's."""
    if address.startswith(SCHEME):
        return split_address(address.removeprefix(SCHEME))[1]
    return Path(address).stem or "results"
