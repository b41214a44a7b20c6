"""This package is the Python API: what is asked for, and what the command line and a notebook alike do with it.

A script calls `plan`, `run`, `results`, `table`, `verdicts` and `report`, which are in `runners.api.verbs`
(docs/python.md). The verbs of `runners.cli` parse options and print; what they do to carry them out is here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.api.verbs import PlannedStudies, plan, report, results, run, table, verdicts

__all__ = ["PlannedStudies", "plan", "report", "results", "run", "table", "verdicts"]


def __getattr__(name: str) -> Any:
    # When a name is first used: the command line imports modules of this package that need none of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("runners.api.verbs"), name)
