"""This package makes reports: it turns studies and their runs into tables, figures, sentences and files.

It never imports torch, and `reports.collect` alone reads MLflow. Importing it is light: what it offers is in
`reports.make`, which is imported with all that it needs (pandas, scipy, MLflow) when a name of it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.analysis.summary import summarize
    from reports.make import canaries, make_report, make_search_report, verdicts

DEFAULT_FORMATS = ("pdf", "html", "tex", "md")

__all__ = ["DEFAULT_FORMATS", "canaries", "make_report", "make_search_report", "summarize", "verdicts"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("reports.make"), name)
